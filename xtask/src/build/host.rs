//! The host's programs, each as one file that needs no library of the system that runs it.

use crate::project;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A program for the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `firstlight`.
    Tool,
    /// `firstlight-bootloader`.
    Bootloader,
}

impl Program {
    /// Its name, and the package of this workspace that has it.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Program::Tool => ("firstlight", "firstlight-host"),
            Program::Bootloader => ("firstlight-bootloader", "firstlight-bootloader"),
        }
    }
}

/// Carries out `cargo xtask build --bootloader`.
pub(super) fn main() -> Result<()> {
    let directory = project::target().join("firmware");
    fs::create_dir_all(&directory)?;
    let (name, _) = Program::Bootloader.names();
    let copy = directory.join(name);
    let size = fs::copy(file(Program::Bootloader)?, &copy)?;
    println!("{}: {} KiB", copy.display(), size >> 10);
    Ok(())
}

/// Builds a program, or finds it up to date.
///
/// # Errors
/// It does not compile.
pub fn file(program: Program) -> Result<PathBuf> {
    let (name, package) = program.names();
    let directory = project::target().join("host-build");
    // With a target that is named, the flags are for it alone, and not for what the compiler itself loads.
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet"])
        .args(["--package", package, "--bin", name])
        .args(["--target", &target, "--target-dir"])
        .arg(&directory)
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static -Cstrip=symbols")
        .current_dir(project::root())
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "{name} does not compile");
    Ok(directory.join(target).join("release").join(name))
}
