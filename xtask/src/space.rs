//! Room on the disks. Tests that run out of it fail one after the other, each for a reason of its own.

use crate::project;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const GIB: u64 = 1 << 30;

/// Makes sure that there is room for what `cargo xtask test` writes: what is compiled, fixtures, and the disks of guests.
///
/// # Errors
/// There is not, or nobody can tell.
pub fn for_tests() -> Result<()> {
    let target = project::target();
    // This program itself is there already.
    let compiled = target.join("firmware").is_dir();
    let needs = [
        (target, if compiled { GIB } else { 6 * GIB }),
        (project::cache()?, GIB),
        (std::env::temp_dir(), 2 * GIB),
    ];
    let mut disks: BTreeMap<u64, Disk> = BTreeMap::new();
    for (directory, size) in needs {
        let place = existing(&directory);
        let dev = place.metadata().map(|metadata| metadata.dev());
        let dev = dev.with_context(|| format!("cannot look at {}", place.display()))?;
        let disk = disks.entry(dev).or_default();
        disk.size += size;
        disk.directories.push(directory);
    }
    disks.values().try_for_each(Disk::check)
}

/// One file system.
#[derive(Default)]
struct Disk {
    directories: Vec<PathBuf>,
    /// Bytes to be written there.
    size: u64,
}

impl Disk {
    fn check(&self) -> Result<()> {
        let names = self.directories.iter().map(|at| at.display().to_string());
        let names = names.collect::<Vec<_>>().join(", ");
        let place = self.directories.first().context("no directory")?;
        let status = rustix::fs::statvfs(existing(place));
        let status = status.with_context(|| format!("cannot tell how much room {names} has"))?;
        let free = status.f_bavail.saturating_mul(status.f_frsize);
        ensure!(
            free >= self.size,
            "the tests write up to {} GiB to {names}, where {:.1} GiB are free",
            self.size / GIB,
            free as f64 / GIB as f64
        );
        Ok(())
    }
}

/// The directory, or the nearest one above it that is there.
fn existing(directory: &Path) -> &Path {
    let there = directory.ancestors().find(|at| at.exists());
    there.unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_is_told_with_the_places() {
        let disk = |size| Disk {
            directories: vec!["/tmp/not/there".into(), "/tmp".into()],
            size,
        };
        disk(0).check().expect("no byte finds room");
        let error = disk(u64::MAX).check().expect_err("no disk is so large");
        let error = error.to_string();
        assert!(error.contains("to /tmp/not/there, /tmp, where"), "{error}");
    }
}
