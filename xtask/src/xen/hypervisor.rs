//! The hypervisor alone, for tests that start it as a Multiboot kernel: one small package of this machine's release.

use crate::{cache, command};
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the package is called, as a regular expression.
const PACKAGE: &str = "^xen-hypervisor-[0-9.]+-amd64$";

/// Returns Xen as an ELF file, from the cache or from the newest package that apt knows.
///
/// # Errors
/// There is no such package, it cannot be downloaded, or there is no Xen in it.
pub fn file() -> Result<PathBuf> {
    cache::made("xen-hypervisor.elf", &[PACKAGE], make)
}

fn make(work: &Path, product: &Path) -> Result<()> {
    let output = Command::new("apt-cache")
        .args(["search", "--names-only", PACKAGE])
        .output()
        .context("cannot start apt-cache")?;
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let package = names
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .max()
        .context("apt knows no package of Xen's hypervisor")?;
    command::run_quietly(
        Command::new("apt-get")
            .args(["-q", "download", package])
            .current_dir(work),
    )?;
    let package = only(work, |name| name.ends_with(".deb"))?;
    let tree = work.join("tree");
    command::run_quietly(Command::new("dpkg-deb").arg("-x").args([&package, &tree]))?;
    let xen = only(&tree.join("boot"), |name| {
        name.starts_with("xen-") && name.ends_with(".gz")
    })?;
    let status = Command::new("gzip")
        .arg("-dc")
        .stdin(File::open(&xen)?)
        .stdout(Stdio::from(File::create(product)?))
        .status()
        .context("cannot start gzip")?;
    ensure!(status.success(), "{} cannot be unpacked", xen.display());
    Ok(())
}

/// The one file of a directory whose name fits.
fn only(directory: &Path, fits: impl Fn(&str) -> bool) -> Result<PathBuf> {
    fs::read_dir(directory)?
        .filter_map(Result::ok)
        .find(|entry| fits(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .with_context(|| {
            format!(
                "{} does not have what the package should have",
                directory.display()
            )
        })
}
