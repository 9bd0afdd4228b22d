//! From reset to the first instruction of Debian's kernel, through GRUB: what a user waits for.

use super::disks;
use super::guest;
use super::measure::{Bench, Guest};
use super::rows::Rows;
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
/// File systems put a file's bytes at multiples of this.
const BLOCK: usize = 4096;
/// How often each firmware is timed.
const RUNS: u32 = 3;

/// A copy of the demo disk in `directory` whose kernel, at its first instruction, says so and ends QEMU.
///
/// # Errors
/// The demo disk cannot be made or read, or its kernel is not found on it.
pub fn disk(directory: &Path) -> Result<PathBuf> {
    let demo = image::demo_disk()?;
    let kernel_file = directory.join("vmlinuz");
    image::copy_out(&demo, "/vmlinuz", &kernel_file)?;
    let kernel = fs::read(&kernel_file)?;
    let setup = kernel.get(SETUP_SECTORS).context("a short kernel")?;
    let start = (usize::from(*setup) + 1) * 512;
    let disk = directory.join("way.img");
    run_quietly(
        Command::new("cp")
            .arg("--sparse=always")
            .args([&demo, &disk]),
    )?;
    let at = start / BLOCK * BLOCK;
    let wanted = kernel.get(at..at + BLOCK).context("a short kernel")?;
    let file = File::options().read(true).write(true).open(&disk)?;
    let found = find(&file, wanted)?.context("the kernel is not on the demo disk")?;
    let program = guest::kernel_program(directory)?;
    ensure!(start % BLOCK + program.len() <= BLOCK, "an odd kernel");
    file.write_all_at(&program, found + (start - at) as u64)?;
    Ok(disk)
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

/// Measures these buses.
pub fn rows(bench: &Bench, rows: &mut Rows, buses: &[Bus], disk: &Path) {
    for &bus in buses {
        let name = disks::name(bus);
        let guest = Guest::Image(bus, disk);
        rows.begin(&format!("Debian's kernel by {name}"));
        let what = format!("{name}: million instructions to Debian's kernel");
        let instructions = rows.both(&what, |firmware| bench.instructions(firmware, guest));
        let millions = instructions.map(|count| count.map(|count| count as f64 / 1e6));
        rows.add(what, millions, 1, false);
        let what = format!("{name}: seconds to Debian's kernel");
        let seconds = rows.in_turns(&what, RUNS, |firmware| bench.seconds(firmware, guest));
        rows.add(what, seconds, 2, false);
    }
}
