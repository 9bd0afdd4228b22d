//! From reset to the first instruction of Debian's kernel, through GRUB: what a user waits for.

use super::guest;
use super::measure::{Bench, Contestant, Guest};
use super::{Figure, disks, median};
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
const RUNS: usize = 3;

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

/// Measures each bus.
///
/// # Errors
/// A guest does not start.
pub fn figures(
    bench: &Bench,
    firstlight: &Contestant,
    seabios: &Contestant,
    disk: &Path,
) -> Result<Vec<Figure>> {
    let machine = bench.machine;
    let mut figures = Vec::new();
    for bus in [disks::own_bus(machine), Bus::Virtio, Bus::Scsi, Bus::Nvme] {
        let name = disks::name(bus);
        eprintln!("Measuring on {}: Debian's kernel by {name}", machine.name());
        let both = [firstlight, seabios];
        let guest = Guest::Image(bus, disk);
        let mut instructions = [None; 2];
        let mut seconds = [Vec::new(), Vec::new()];
        for run in 0..RUNS {
            for (who, firmware) in both.into_iter().enumerate() {
                // Now and then SeaBIOS waits for ever for its disk; it has no figure then.
                let mut measure = || -> Result<()> {
                    if run == 0 {
                        let count = bench.instructions(firmware, guest)?;
                        instructions[who] = Some(count as f64 / 1e6);
                    }
                    seconds[who].push(bench.seconds(firmware, guest)?);
                    Ok(())
                };
                match measure() {
                    Err(error) if who == 1 => eprintln!("{error}"),
                    result => result?,
                }
            }
        }
        let seconds = seconds.map(|times| (!times.is_empty()).then(|| median(times)));
        let mut add = |what: &str, [firstlight, seabios]: [Option<f64>; 2], digits| {
            figures.extend(firstlight.map(|firstlight| Figure {
                machine,
                what: format!("{name}: {what} to Debian's kernel"),
                firstlight,
                seabios,
                qboot: None,
                digits,
                more_is_better: false,
            }));
        };
        add("million instructions", instructions, 1);
        add("seconds", seconds, 2);
    }
    Ok(figures)
}
