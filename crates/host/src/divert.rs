//! `firstlight divert`: Firstlight's loader in place of the one that Xen has, and back.
//!
//! libvirt's Xen driver has no way to name a loader; libxl takes the file hvmloader of its own directory. dpkg keeps that file under
//! another name then, through updates too.

use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The directories of Xen's firmware files: those of Debian, of Xen's own build, and of other distributions.
const DIRECTORIES: [&str; 5] = [
    "/usr/lib/xen-*/boot",
    "/usr/lib/xen/boot",
    "/usr/libexec/xen/boot",
    "/usr/local/lib/xen/boot",
    "/usr/local/libexec/xen/boot",
];

/// What the file's own is called meanwhile.
const SUFFIX: &str = ".stock";

/// The loaders of the Xen that is installed.
pub fn installed() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for pattern in DIRECTORIES {
        for directory in expand(pattern) {
            let file = directory.join("hvmloader");
            // One directory may be a link to another.
            let real = fs::canonicalize(&directory).map(|directory| directory.join("hvmloader"));
            let real = real.unwrap_or(file);
            if (real.exists() || stock(&real).exists()) && !found.contains(&real) {
                found.push(real);
            }
        }
    }
    found
}

/// The directories of a pattern whose star stands for the rest of a name.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![pattern.into()];
    };
    let (parent, start) = before.rsplit_once('/').unwrap_or((".", before));
    let mut names: Vec<String> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(start))
        .collect();
    names.sort();
    let paths = names
        .iter()
        .map(|name| format!("{parent}/{name}{after}").into());
    paths.collect()
}

fn stock(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(SUFFIX);
    name.into()
}

/// Whether a file is ours: a link that leads to `loader`.
pub fn is_diverted(file: &Path) -> bool {
    file.is_symlink() && stock(file).exists()
}

/// Puts a link to `loader` in place of `file`. What is done already is left so.
///
/// # Errors
/// The file or its directory cannot be changed, or it is diverted by someone else.
pub fn divert(file: &Path, loader: &Path) -> Result<()> {
    if is_diverted(file) {
        return Ok(());
    }
    let kept = stock(file);
    ensure!(file.is_file(), "{} is not there", file.display());
    ensure!(!kept.exists(), "{} is there already", kept.display());
    if has_dpkg() {
        dpkg_divert(&["--add", "--rename", "--divert"], &[&kept, file])?;
    } else {
        fs::rename(file, &kept).with_context(|| format!("cannot rename {}", file.display()))?;
    }
    if let Err(error) = symlink(loader, file) {
        // Back to what was.
        restore(file, &kept)?;
        return Err(error).with_context(|| format!("cannot make {}", file.display()));
    }
    Ok(())
}

/// Puts back what [`divert`] took away. What was not diverted is left so.
///
/// # Errors
/// The file or its directory cannot be changed.
pub fn undo(file: &Path) -> Result<()> {
    let kept = stock(file);
    if !file.is_symlink() && !kept.exists() {
        return Ok(());
    }
    if file.is_symlink() {
        fs::remove_file(file).with_context(|| format!("cannot delete {}", file.display()))?;
    } else if file.exists() {
        bail!("{} is no link of ours", file.display());
    }
    restore(file, &kept)
}

fn restore(file: &Path, kept: &Path) -> Result<()> {
    if has_dpkg() && is_known_to_dpkg(file)? {
        return dpkg_divert(&["--remove", "--rename", "--divert"], &[kept, file]);
    }
    if kept.exists() {
        fs::rename(kept, file).with_context(|| format!("cannot rename {}", kept.display()))?;
    }
    Ok(())
}

fn has_dpkg() -> bool {
    let version = Command::new("dpkg-divert")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

fn is_known_to_dpkg(file: &Path) -> Result<bool> {
    let output = Command::new("dpkg-divert")
        .arg("--truename")
        .arg(file)
        .output()?;
    let name = String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned();
    Ok(Path::new(&name) != file)
}

fn dpkg_divert(options: &[&str], files: &[&Path]) -> Result<()> {
    let mut command = Command::new("dpkg-divert");
    command
        .args(["--quiet", "--local"])
        .args(options)
        .args(files);
    let output = command
        .stdin(Stdio::null())
        .output()
        .context("cannot start dpkg-divert")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "dpkg-divert: {}", said.trim_end());
    Ok(())
}
