//! The QEMU that a test bed runs on: newer than the one that is installed, in the cache.
//!
//! With 10.0.2 beds stood still and guests with several processors reset; with 11.1.3 none did. As it enters and leaves a guest, the
//! former changes the word of pending interrupts without the lock that other threads take (`helper_vmrun`, `do_vmexit`), so that what they
//! raise in that moment can get lost: that this is the reason is likely and not proved.

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

/// The Debian release, and those of its packages that are newer.
const SUITES: [&str; 2] = ["trixie", "trixie-backports"];
/// Where the packages keep libraries, below their root.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// Where they keep firmware and option ROMs.
const DATA: [&str; 3] = ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"];

/// Returns the words of a command that runs it, with its own libraries. It is downloaded now if it is not in the cache.
///
/// # Errors
/// The packages cannot be downloaded or unpacked.
pub fn program() -> Result<Vec<OsString>> {
    let root = cache::made("bed-qemu.d", &SUITES, make)?;
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
    let [_, newer] = SUITES;
    progress.step(&format!("packages of {newer}"));
    let packages = work.join("packages.tar");
    let options = [
        "--variant=extract",
        "--include=qemu-system-x86",
        &format!("--aptopt=APT::Default-Release \"{newer}\""),
    ];
    run_quietly(&mut image::mmdebstrap(&SUITES, &options, &packages))?;
    fs::create_dir(product)?;
    let mut unpack = Command::new("tar");
    unpack.arg("-C").arg(product).arg("-xf").arg(&packages);
    run_quietly(unpack.arg("./usr"))?;
    progress.done();
    Ok(())
}
