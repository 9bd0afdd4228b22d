//! `firstlight xl`: a domain's configuration for Xen.

use crate::domain::Domain;
use crate::smbios;
use anyhow::{Context, Result, ensure};
use firstlight_vm::xl::{self, Files};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program of ours that each kind of guest is started by: the loader where there is a BIOS, else what picks the kernel.
#[derive(Clone, Debug)]
pub enum Starter {
    /// In place of Xen's hvmloader.
    Loader(PathBuf),
    /// In place of whatever the domain names, which is not run.
    Bootloader(PathBuf),
}

/// Writes `xl.cfg`, and `smbios.bin` where there is something to say, into `directory`, which is made if it is not there.
/// Returns the configuration's path.
///
/// # Errors
/// The domain has something that Xen has no place for, or a file cannot be written.
pub fn write(domain: &Domain, starter: Starter, directory: &Path) -> Result<PathBuf> {
    let made = fs::create_dir_all(directory);
    made.with_context(|| format!("cannot make {}", directory.display()))?;
    let directory = fs::canonicalize(directory)?;
    let mut files = Files {
        links: directory.clone(),
        ..Files::default()
    };
    match starter {
        Starter::Loader(loader) => {
            files.loader = Some(loader);
            let blob = smbios::of_domain(domain, smbios::HOST_TABLE.as_ref())?;
            if !blob.is_empty() {
                let file = directory.join("smbios.bin");
                save(&file, &blob)?;
                files.smbios = Some(file);
            }
        }
        Starter::Bootloader(bootloader) => files.bootloader = Some(bootloader),
    }
    let configuration = xl::configuration(&domain.guest, &files)?;
    for (link, target) in &configuration.links {
        // One of an earlier run; that it is not there is as well.
        let _ = fs::remove_file(link);
        symlink(target, link).with_context(|| format!("cannot make {}", link.display()))?;
    }
    let file = directory.join("xl.cfg");
    save(&file, configuration.text.as_bytes())?;
    Ok(file)
}

fn save(file: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
}

/// Has xl create the guest.
///
/// # Errors
/// There is no xl, or it refuses.
pub fn start(configuration: &Path) -> Result<()> {
    let status = Command::new("xl").arg("create").arg(configuration).status();
    let status = status.context("cannot start xl: is this a dom0 of Xen?")?;
    ensure!(status.success(), "xl failed ({status})");
    Ok(())
}
