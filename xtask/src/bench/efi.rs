//! The same disk for EFI: OVMF, and the system partition that it starts GRUB from.

use super::measure::Contestant;
use crate::command::run_quietly;
use crate::image;
use crate::image::boot_sector::{SECTOR, efi_entry};
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

/// Debian's OVMF for 64 bits, in one piece.
const OVMF: &str = "/usr/share/ovmf/OVMF.fd";
/// OVMF asks timers over and over for seconds, 3.5 in Debian 13's, at first for a TPM that is not there. At a nanosecond an instruction that
/// would be three times all else that it does, and take minutes to count; at 128, it is a fortieth of it.
const SHIFT: u32 = 7;
/// The partition's size in bytes.
const SIZE: u64 = 4 << 20;
/// What EFI starts from a disk that it has no other word of (UEFI 2.10, section 3.5.1.1).
const LOADER: &str = "::/EFI/BOOT/BOOTX64.EFI";

/// OVMF.
///
/// # Errors
/// It is not installed.
pub fn ovmf() -> Result<Contestant> {
    ensure!(
        Path::new(OVMF).exists(),
        "there is no {OVMF} (package ovmf)"
    );
    Ok(Contestant {
        shift: SHIFT,
        ..Contestant::new("OVMF", Some(OVMF.into()))
    })
}

/// Adds a system partition with GRUB to `disk`, behind all that it has; `directory` is for files on the way.
///
/// # Errors
/// GRUB for EFI, dosfstools or mtools are not installed, or the disk cannot be written.
pub fn add_partition(disk: &Path, directory: &Path) -> Result<()> {
    let [grub, partition] = ["grub.efi", "efi.img"].map(|name| directory.join(name));
    image::grub("x86_64-efi", &grub)?;
    File::create(&partition)?.set_len(SIZE)?;
    let mut format = Command::new("mkfs.vfat");
    format.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    run_quietly(format.args(["-F", "12"]).arg(&partition))?;
    let mtools = |program: &str| {
        let mut command = Command::new(program);
        command.arg("-i").arg(&partition);
        command
    };
    run_quietly(mtools("mmd").args(["::/EFI", "::/EFI/BOOT"]))?;
    run_quietly(mtools("mcopy").arg(&grub).arg(LOADER))?;

    let file = File::options().write(true).open(disk)?;
    let end = file.metadata()?.len();
    file.write_all_at(&fs::read(&partition)?, end)?;
    let sectors = |bytes: u64| u32::try_from(bytes / SECTOR as u64).context("too large a disk");
    let (place, entry) = efi_entry(sectors(end)?, sectors(SIZE)?);
    file.write_all_at(&entry, place)?;
    Ok(())
}
