//! The QEMU that a test bed runs on: newer than the one that is installed, in the cache.
//!
//! Up to version 10 a processor thread that enters or leaves a guest of its own changed the word with its pending interrupts without
//! holding a lock (`helper_vmrun`, `do_vmexit`), so that an interrupt which another thread raised in that moment was lost. A bed then
//! stood still, or did what it should not.

use super::image;
use crate::cache;
use crate::command::run_quietly;
use crate::progress::Progress;
use crate::setup::{self, Consent, Need};
use anyhow::Result;
use firstlight_vm::qemu;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The Debian release, and which of its archives has the packages.
const SUITE: &str = "trixie";
const ARCHIVE: &str = "trixie-backports";
/// Debian's own archive, where the machine has another distribution's.
const MIRROR: &str = "http://deb.debian.org/debian";
/// Where the packages keep libraries, below their root.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// Where they keep firmware and option ROMs.
const DATA: [&str; 3] = ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"];

/// Returns the words of a command that runs it, with its own libraries. It is downloaded now if it is not in the cache.
///
/// # Errors
/// The packages cannot be downloaded or unpacked.
pub fn program() -> Result<Vec<OsString>> {
    let root = cache::made("bed-qemu.d", &[SUITE, ARCHIVE], make)?;
    let libraries = root.join(LIBRARIES);
    let mut words = vec![
        libraries.join("ld-linux-x86-64.so.2").into(),
        "--library-path".into(),
        libraries.into(),
        root.join("usr/bin").join(qemu::PROGRAM).into(),
    ];
    for data in DATA {
        words.extend(["-L".into(), root.join(data).into()]);
    }
    Ok(words)
}

fn make(work: &Path, product: &Path) -> Result<()> {
    setup::ensure(&[Need::Bed], Consent::Ask)?;
    let mut progress = Progress::new("Getting QEMU for test beds", 1);
    progress.step(&format!("packages of {ARCHIVE}"));
    let packages = work.join("packages.tar");
    let mut download = image::mmdebstrap(
        SUITE,
        &[
            "--variant=extract",
            "--include=qemu-system-x86",
            &format!("--aptopt=APT::Default-Release \"{ARCHIVE}\""),
        ],
        &packages,
    );
    let mirror = match setup::debian_archive() {
        Some(archive) => archive.uri,
        None => {
            download.arg(MIRROR);
            MIRROR.to_owned()
        }
    };
    download.arg(format!("deb {mirror} {ARCHIVE} main"));
    run_quietly(&mut download)?;
    fs::create_dir(product)?;
    let mut unpack = Command::new("tar");
    unpack.arg("-C").arg(product).arg("-xf").arg(&packages);
    run_quietly(unpack.arg("./usr"))?;
    progress.done();
    Ok(())
}
