//! OVMF, as a guest's firmware module.

use super::dom0::Version;
use crate::bed::image::mmdebstrap;
use crate::setup::{self, Need};
use crate::{cache, command};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Debian 13 is the first whose OVMF for 32 bits does without the system management mode, which Xen's guests do not have.
const VERSION: Version = Version::V4_20;
const PACKAGE: &str = "ovmf-ia32";
/// The variables and the code, in the order in which they lie in the flash memory that ends at 4 GiB.
const PARTS: [&str; 2] = [
    "./usr/share/OVMF/OVMF32_VARS_4M.fd",
    "./usr/share/OVMF/OVMF32_CODE_4M.fd",
];

/// Returns the OVMF that runs in the test bed, from the cache or from Debian's package. It is the one for 32 bits: the other reads CR8
/// in its interrupt handler, which QEMU reports to Xen as a read of CR0.
///
/// # Errors
/// The package cannot be downloaded, or does not have what it should have.
pub fn file() -> Result<PathBuf> {
    let recipe = [VERSION.suite(), PACKAGE, PARTS[0], PARTS[1]];
    cache::made("ovmf.fd", &recipe, make)
}

fn make(work: &Path, product: &Path) -> Result<()> {
    setup::ensure(&[Need::Bed], setup::Consent::Ask)?;
    let packages = work.join("packages.tar");
    let include = format!("--include={PACKAGE}");
    command::run_quietly(&mut mmdebstrap(
        &[VERSION.suite()],
        &["--variant=extract", &include],
        &packages,
    ))?;
    let mut tar = std::process::Command::new("tar");
    tar.arg("-C").arg(work).arg("-xf").arg(&packages);
    command::run_quietly(tar.args(PARTS))?;
    let mut image = Vec::new();
    for part in PARTS {
        let file = work.join(part);
        image.extend(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    fs::write(product, image).context("cannot write OVMF's image")
}
