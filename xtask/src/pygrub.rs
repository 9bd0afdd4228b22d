//! The real pygrub, to compare with.

use crate::cache;
use crate::command::run_quietly;
use crate::setup::{self, Consent, Need};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Returns a command that runs pygrub of the machine's own release: it fits the Python here. Its packages are unpacked to the
/// cache, and not installed.
///
/// # Errors
/// There is no package of it, or it cannot be downloaded.
pub fn command() -> Result<Command> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .unwrap_or("unknown");
    let root = cache::made("pygrub.d", &["xen-utils", codename], make)?;
    let xen = fs::read_dir(root.join("usr/lib"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.join("bin/pygrub").exists())
        .context("the package has no pygrub")?;
    let libraries = fs::read_dir(xen.join("lib"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.join("xenfsimage").exists())
        .context("the package has no libxenfsimage")?;
    let program = xen.join("bin/pygrub");
    // Not the one that comes first on the path, which may be a script that looks for another.
    let text = fs::read_to_string(&program)?;
    let python = text.lines().next().and_then(|line| line.strip_prefix("#!"));
    let python = python.context("pygrub does not say what runs it")?;
    let mut words = python.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("python3"));
    command
        .args(words)
        .arg(&program)
        .env("LD_LIBRARY_PATH", &libraries)
        .env("XEN_FSIMAGE_FSDIR", libraries.join("xenfsimage"));
    Ok(command)
}

fn make(work: &Path, product: &Path) -> Result<()> {
    setup::ensure(&[Need::Pygrub], Consent::Ask)?;
    let names = Command::new("apt-cache")
        .args(["pkgnames", "xen-utils-4"])
        .output()
        .context("cannot start apt-cache")?;
    let names = String::from_utf8_lossy(&names.stdout).into_owned();
    // Another package has the debugging symbols.
    let name = names
        .lines()
        .filter(|name| name.ends_with(|last: char| last.is_ascii_digit()))
        .max()
        .context("there is no package xen-utils")?;
    let libraries = name.replace("xen-utils-", "libxenmisc");
    let download = work.join("download");
    fs::create_dir(&download)?;
    run_quietly(
        Command::new("apt-get")
            .args(["-q", "download", name, &libraries])
            .current_dir(&download),
    )?;
    for package in fs::read_dir(&download)? {
        let package = package?.path();
        run_quietly(Command::new("dpkg-deb").arg("-x").arg(package).arg(product))?;
    }
    Ok(())
}
