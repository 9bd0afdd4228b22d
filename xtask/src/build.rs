//! `cargo xtask build`: the firmware in its two containers.

use crate::project;
use anyhow::{Result, ensure};
use std::path::PathBuf;

/// Build the firmware: target/firmware/firstlight.rom and target/firmware/hvmloader.
#[derive(clap::Args)]
pub struct Args {}

/// The files that a build leaves behind.
pub struct Firmware {
    /// The ROM image with a reset vector, for QEMU's `-bios`.
    pub rom: PathBuf,
    /// The 32-bit ELF, for Xen's `firmware_override`.
    pub hvmloader: PathBuf,
}

/// Carries out `cargo xtask build`.
pub fn main(_: Args) -> Result<()> {
    let firmware = firmware()?;
    println!(
        "{}\n{}",
        firmware.rom.display(),
        firmware.hvmloader.display()
    );
    Ok(())
}

/// Builds the firmware, or finds it up to date.
pub fn firmware() -> Result<Firmware> {
    let directory = project::target().join("firmware");
    let firmware = Firmware {
        rom: directory.join("firstlight.rom"),
        hvmloader: directory.join("hvmloader"),
    };
    ensure!(
        firmware.rom.exists() && firmware.hvmloader.exists(),
        "no firmware in {}",
        directory.display()
    );
    Ok(firmware)
}
