//! Reads from a CD, by a boot image without emulation (El Torito 1.0, section 2).

use super::disks;
use super::guest;
use super::measure::{Bench, Guest};
use super::rows::{RUNS, Rows};
use crate::command::run_quietly;
use anyhow::Result;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The sectors of 2,048 bytes that one read transfers: as many as fit in 64 KiB less one.
pub const SECTORS_PER_READ: u16 = 31;
/// A sector's size in bytes.
pub const SECTOR: u32 = 2048;
/// The size in bytes of what the medium has to be read.
const CONTENT: u64 = 160 << 20;

/// A medium in `directory`, made at the first call, whose boot image makes `reads` reads.
///
/// # Errors
/// The assembler, the linker or xorriso failed.
pub fn medium(directory: &Path, reads: u16) -> Result<PathBuf> {
    let image = directory.join(format!("cd-{reads}.iso"));
    if image.exists() {
        return Ok(image);
    }
    let tree = directory.join("cd");
    fs::create_dir_all(&tree)?;
    let boot = guest::boot_sector(directory, reads, SECTORS_PER_READ)?;
    fs::write(tree.join("boot.bin"), boot)?;
    File::create(tree.join("content"))?.set_len(CONTENT)?;
    let options = "-as mkisofs -quiet -b boot.bin -no-emul-boot -boot-load-size 1 -o";
    let mut xorriso = Command::new("xorriso");
    xorriso.args(options.split(' ')).arg(&image).arg(&tree);
    run_quietly(&mut xorriso)?;
    Ok(image)
}

/// Measures the CD drive of the machine's own controller.
pub fn rows(bench: &Bench, rows: &mut Rows) {
    let bus = disks::own_bus(bench.machine);
    let what = format!("CD by {}: MB/s by INT 13h", disks::name(bus));
    rows.begin(&what);
    let speeds = rows.in_turns(&what, RUNS, |firmware| {
        let times = bench.times(firmware, Guest::cd(bus))?;
        Ok(times.throughput / 1e6)
    });
    rows.add(what, speeds, 1, true);
}
