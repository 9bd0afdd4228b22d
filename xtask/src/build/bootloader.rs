//! The host bootloader, as one file that needs no library of the system that runs it.

use crate::project;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const NAME: &str = "firstlight-bootloader";

/// Carries out `cargo xtask build --bootloader`.
pub(super) fn main() -> Result<()> {
    let directory = project::target().join("firmware");
    fs::create_dir_all(&directory)?;
    let copy = directory.join(NAME);
    let size = fs::copy(file()?, &copy)?;
    println!("{}: {} KiB", copy.display(), size >> 10);
    Ok(())
}

/// Builds the host bootloader, or finds it up to date.
///
/// # Errors
/// It does not compile.
pub fn file() -> Result<PathBuf> {
    let directory = project::target().join("bootloader-build");
    // With a target that is named, the flags are for it alone, and not for what the compiler itself loads.
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "--quiet",
            "--package",
            NAME,
            "--bin",
            NAME,
        ])
        .args(["--target", &target, "--target-dir"])
        .arg(&directory)
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static -Cstrip=symbols")
        .current_dir(project::root())
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "{NAME} does not compile");
    Ok(directory.join(target).join("release").join(NAME))
}
