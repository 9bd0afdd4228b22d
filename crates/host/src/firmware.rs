//! Where the firmware's files are.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Where a package puts them.
pub const DIRECTORY: &str = "/usr/share/firstlight";

/// The ROM for QEMU.
pub const ROM: &str = "firstlight.rom";
/// The loader for Xen.
pub const HVMLOADER: &str = "hvmloader";

/// The program that picks a paravirtual guest's kernel.
pub const BOOTLOADER: &str = "firstlight-bootloader";

/// A file of the firmware, or the bootloader: `given`, or `name` where a package puts it, or beside this program, as in the archive that `cargo xtask
/// dist` makes and in the build's own directory.
///
/// # Errors
/// There is none.
pub fn find(given: Option<&Path>, name: &str) -> Result<PathBuf> {
    let file = match given {
        Some(file) => Some(file.to_owned()),
        None => candidates(name).into_iter().find(|file| file.is_file()),
    };
    let file = file.with_context(|| {
        let places: Vec<String> = candidates(name)
            .iter()
            .map(|place| place.display().to_string())
            .collect();
        format!("there is no {name}: looked for {}", places.join(", "))
    })?;
    // xl and QEMU start elsewhere, perhaps.
    let absolute = std::path::absolute(&file)?;
    anyhow::ensure!(absolute.is_file(), "{} is no file", file.display());
    Ok(absolute)
}

fn candidates(name: &str) -> Vec<PathBuf> {
    let mut places = Vec::new();
    let program = std::env::current_exe().ok();
    let prefix = program
        .as_deref()
        .and_then(Path::parent)
        .and_then(Path::parent);
    if let Some(prefix) = prefix {
        places.push(prefix.join("share/firstlight").join(name));
        places.push(prefix.join("bin").join(name));
        // Where `cargo xtask build` puts them, for a program of the same build.
        places.push(prefix.join("firmware").join(name));
    }
    for directory in [DIRECTORY, "/usr/bin"] {
        let installed = Path::new(directory).join(name);
        if !places.contains(&installed) {
            places.push(installed);
        }
    }
    // A program is not where files for guests are, nor they where programs are.
    places.retain(|place| {
        let program = place.parent().is_some_and(|parent| parent.ends_with("bin"));
        let own_build = place
            .parent()
            .is_some_and(|parent| parent.ends_with("firmware"));
        own_build || program == (name == BOOTLOADER)
    });
    places
}
