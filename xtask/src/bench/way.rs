//! From reset to the first instruction of Debian's kernel, through GRUB: what a user waits for.

use super::disks;
use super::efi;
use super::guest;
use super::measure::{Bench, Contestant, Guest};
use super::rows::{RUNS, Rows};
use crate::command::run_quietly;
use crate::image;
use anyhow::{Context, Result, ensure};
use firstlight_vm::Bus;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The place of the number of setup sectors in a kernel's image (Documentation/arch/x86/boot.rst).
const SETUP_SECTORS: usize = 0x1f1;
/// The place of the distance from the 32-bit program to the entry that GRUB 2.06 takes for EFI, less [`HANDOVER_64`].
const HANDOVER: usize = 0x264;
/// What is added to it for 64 bits.
const HANDOVER_64: usize = 0x200;
/// The place of the PE header's place (PE format, section 2.1), and in that header the place of the entry, which newer ones take.
const PE: usize = 0x3C;
const PE_ENTRY: usize = 40;
/// File systems put a file's bytes at multiples of this.
const BLOCK: usize = 4096;

/// A copy of the demo disk in `directory` whose kernel, at its first instruction, says so and ends QEMU. OVMF starts it, too.
///
/// # Errors
/// As [`disk`], or GRUB for EFI is not installed.
pub fn disk_for_all(directory: &Path) -> Result<PathBuf> {
    let disk = disk(directory)?;
    efi::add_partition(&disk, directory)?;
    Ok(disk)
}

/// A copy of the demo disk in `directory` whose kernel, at its first instruction, says so and ends QEMU.
///
/// # Errors
/// The demo disk cannot be made or read, or its kernel is not found on it.
pub fn disk(directory: &Path) -> Result<PathBuf> {
    let demo = image::demo_disk()?;
    let kernel_file = directory.join("vmlinuz");
    image::copy_out(&demo, "/vmlinuz", &kernel_file)?;
    let kernel = fs::read(&kernel_file)?;
    let program = guest::kernel_program(directory)?;
    let mut changed = kernel.clone();
    for start in entries(&kernel)? {
        let end = start + program.len();
        let place = changed.get_mut(start..end).context("an odd kernel")?;
        place.copy_from_slice(&program);
    }
    let disk = directory.join("way.img");
    run_quietly(
        Command::new("cp")
            .arg("--sparse=always")
            .args([&demo, &disk]),
    )?;
    let file = File::options().read(true).write(true).open(&disk)?;
    for (old, new) in kernel.chunks(BLOCK).zip(changed.chunks(BLOCK)) {
        if old != new {
            ensure!(old.len() == BLOCK, "an odd kernel");
            let found = find(&file, old)?.context("the kernel is not on the demo disk")?;
            file.write_all_at(new, found)?;
        }
    }
    Ok(disk)
}

/// Where in its file a kernel starts, for each way that loaders have: the 32-bit entry, which a BIOS's take, and those for EFI, of which
/// a PE image's is as far into the file as into memory here.
fn entries(kernel: &[u8]) -> Result<[usize; 3]> {
    let number = |at: usize| -> Result<usize> {
        let bytes = kernel.get(at..).and_then(|rest| rest.first_chunk());
        Ok(u32::from_le_bytes(*bytes.context("a short kernel")?) as usize)
    };
    let setup = number(SETUP_SECTORS)? & 0xFF;
    let start = (setup + 1) * 512;
    let handover = start + number(HANDOVER)? + HANDOVER_64;
    let pe = number(number(PE)? + PE_ENTRY)?;
    Ok([start, handover, pe])
}

/// Where a block lies on a disk.
fn find(disk: &File, wanted: &[u8]) -> Result<Option<u64>> {
    let mut piece = vec![0; 256 * BLOCK];
    let mut at = 0;
    loop {
        let read = disk.read_at(&mut piece, at)?;
        if read == 0 {
            return Ok(None);
        }
        let block = piece[..read]
            .chunks(BLOCK)
            .position(|block| block == wanted);
        if let Some(block) = block {
            return Ok(Some(at + (block * BLOCK) as u64));
        }
        at += read as u64;
    }
}

/// Measures these buses, with OVMF as the third.
pub fn rows(bench: &Bench, rows: &mut Rows, buses: &[Bus], disk: &Path, ovmf: &Contestant) {
    let firmwares = rows.and(ovmf);
    for &bus in buses {
        let name = disks::name(bus);
        let guest = Guest::Image(bus, disk);
        rows.begin(&format!("Debian's kernel by {name}"));
        let what = format!("{name}: million instructions to Debian's kernel");
        let instructions = rows.each(&what, firmwares, |firmware| {
            bench.instructions(firmware, guest)
        });
        let millions = instructions.map(|count| count.map(|count| count as f64 / 1e6));
        rows.add_with_ovmf(what, millions, 1, false);
        let what = format!("{name}: seconds to Debian's kernel");
        let seconds = rows.each_in_turns(&what, firmwares, RUNS, |firmware| {
            bench.seconds(firmware, guest)
        });
        rows.add_with_ovmf(what, seconds, 2, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_starts_where_its_headers_say() {
        let mut kernel = vec![0; 0x300];
        let mut put =
            |at: usize, value: u32| kernel[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(SETUP_SECTORS, 0xABCD_EF27);
        put(HANDOVER, 0x7C_30F0);
        put(PE, 0x80);
        put(0x80 + PE_ENTRY, 0x7C_DA97);
        let entries = entries(&kernel).expect("entries");
        assert_eq!(entries, [0x5000, 0x7C_82F0, 0x7C_DA97]);
        kernel.truncate(0x200);
        assert!(super::entries(&kernel).is_err());
    }
}
