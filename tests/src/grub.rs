//! Disks that start GRUB with commands of a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use xtask::command::run_quietly;
use xtask::image::boot_sector::{PARTITION_START, boot_area};

/// Sectors of the partition.
const SECTORS: u32 = 8192;
/// What GRUB's commands in tests need.
const MODULES: [&str; 10] = [
    "biosdisk",
    "part_msdos",
    "ext2",
    "serial",
    "terminal",
    "echo",
    "cat",
    "loadenv",
    "search",
    "sleep",
];
/// An environment block (GRUB manual, section "The GRUB environment block").
const ENVIRONMENT: &str = "# GRUB Environment Block\n";
const ENVIRONMENT_LEN: usize = 1024;

/// Makes a disk in `directory` that starts GRUB with `commands`, whose output goes to the serial port. Its partition, `(hd0,msdos1)`
/// where it is the first disk, has an empty environment block in `/grubenv`.
///
/// # Errors
/// GRUB's tools (Debian packages grub-common, grub-pc-bin) or mke2fs are missing, or the file cannot be written.
pub fn disk(directory: &Path, commands: &str) -> Result<PathBuf> {
    let [config, core, path] =
        ["grub.cfg", "core.img", "grub.img"].map(|name| directory.join(name));
    fs::write(
        &config,
        format!("serial\nterminal_output serial\n{commands}"),
    )?;
    let mut command = Command::new("grub-mkimage");
    command
        .args(["-O", "i386-pc", "-p", "/", "-c"])
        .arg(&config)
        .arg("-o")
        .arg(&core)
        .args(MODULES);
    run_quietly(&mut command)?;
    let boot = fs::read("/usr/lib/grub/i386-pc/boot.img").context("GRUB's boot.img")?;
    let mut disk = boot_area(&boot, &fs::read(&core)?, 0x4652_4c54, SECTORS)?;
    disk.resize(PARTITION_START as usize * 512, 0);
    let environment = format!("{ENVIRONMENT:#<ENVIRONMENT_LEN$}");
    let partition = file_system(directory, "grubenv", environment.as_bytes())?;
    disk.extend(fs::read(partition)?);
    fs::write(&path, disk)?;
    Ok(path)
}

/// Makes an ext2 file system with one file in `directory`.
///
/// # Errors
/// mke2fs (Debian package e2fsprogs) is missing, or the file cannot be written.
pub fn file_system(directory: &Path, name: &str, content: &[u8]) -> Result<PathBuf> {
    let files = directory.join(format!("{name}.d"));
    fs::create_dir(&files)?;
    fs::write(files.join(name), content)?;
    let path = directory.join(format!("{name}.img"));
    fs::File::create(&path)?.set_len(u64::from(SECTORS) * 512)?;
    let mut command = Command::new("/sbin/mke2fs");
    command.args(["-q", "-t", "ext2", "-b", "4096", "-d"]);
    run_quietly(command.arg(&files).arg(&path))?;
    Ok(path)
}
