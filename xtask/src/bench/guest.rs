//! The benchmarks' guests: a disk with the boot sector of guest.s, and the Linux kernel of kernel.s.

use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const BOOT_SECTOR: &str = include_str!("guest.s");
const KERNEL: &str = include_str!("kernel.s");
const LOADER: &str = include_str!("loader.s");
/// Where the boot sector has the number of sectors in a read, 16 bits.
const SECTORS: usize = 0x1B4;
/// Where it has the number of reads to make, 16 bits.
const READS: usize = 0x1B6;
/// The disk's size in bytes.
const DISK_SIZE: u64 = 64 << 20;

/// The kernel's size in bytes.
const KERNEL_SIZE: usize = 4 << 10;
/// Where it has its 32-bit program, and at most how long that is.
const KERNEL_PROGRAM: usize = 0x400;
const KERNEL_PROGRAM_LEN: usize = 0x80;
/// Its initial RAM disk's size in bytes.
const INITRD_SIZE: u64 = 3_000_000;

/// The port to which the guests write.
pub const PORT: u16 = 0x4E9;
/// The sectors of 512 bytes that one read of the boot sector transfers.
pub const SECTORS_PER_READ: u16 = 127;

/// A disk whose boot sector makes `reads` reads, in `directory`.
///
/// # Errors
/// The assembler or the linker (Debian package binutils) failed, or the disk cannot be written.
pub fn disk(directory: &Path, reads: u16) -> Result<PathBuf> {
    let sector = boot_sector(directory, reads, SECTORS_PER_READ)?;
    let path = directory.join(format!("reads-{reads}.img"));
    let mut disk = File::create(&path)?;
    disk.write_all(&sector)?;
    disk.set_len(DISK_SIZE)?;
    Ok(path)
}

/// A boot sector that makes `reads` reads of `sectors` sectors each from its drive; `directory` is for files on the way.
///
/// # Errors
/// As [`disk`].
pub fn boot_sector(directory: &Path, reads: u16, sectors: u16) -> Result<Vec<u8>> {
    let mut sector = assemble(directory, BOOT_SECTOR, "0x7C00", 512)?;
    sector[SECTORS..SECTORS + 2].copy_from_slice(&sectors.to_le_bytes());
    sector[READS..READS + 2].copy_from_slice(&reads.to_le_bytes());
    Ok(sector)
}

/// A kernel and its initial RAM disk, in `directory`.
///
/// # Errors
/// As [`disk`].
pub fn kernel(directory: &Path) -> Result<[PathBuf; 2]> {
    let kernel = directory.join("kernel");
    let bytes = assemble(directory, KERNEL, "0", KERNEL_SIZE)?;
    fs::write(&kernel, bytes)?;
    let initrd = directory.join("initrd");
    File::create(&initrd)?.set_len(INITRD_SIZE)?;
    Ok([kernel, initrd])
}

/// The 32-bit program with which the kernel starts, in bytes.
///
/// # Errors
/// As [`disk`].
pub fn kernel_program(directory: &Path) -> Result<Vec<u8>> {
    let kernel = assemble(directory, KERNEL, "0", KERNEL_SIZE)?;
    Ok(kernel[KERNEL_PROGRAM..KERNEL_PROGRAM + KERNEL_PROGRAM_LEN].to_vec())
}

/// A loader for Xen's domain builder that says that it runs, and no more: a 32-bit ELF in `directory`.
///
/// # Errors
/// The assembler or the linker failed.
pub fn loader(directory: &Path) -> Result<PathBuf> {
    let [input, object, loader] =
        ["loader.s", "loader.o", "loader"].map(|name| directory.join(name));
    fs::write(&input, LOADER)?;
    run(Command::new("as")
        .args(["--32", "-o"])
        .args([&object, &input]))?;
    run(Command::new("ld")
        .args(["-m", "elf_i386", "-Ttext", "0x100000", "-o"])
        .args([&loader, &object]))?;
    Ok(loader)
}

/// Makes a flat program of `source`, which has to have `size` bytes.
fn assemble(directory: &Path, source: &str, address: &str, size: usize) -> Result<Vec<u8>> {
    let [input, object, binary] =
        ["guest.s", "guest.o", "guest.bin"].map(|name| directory.join(name));
    fs::write(&input, source)?;
    run(Command::new("as")
        .args(["--64", "-o"])
        .args([&object, &input]))?;
    let link = [
        "-m",
        "elf_x86_64",
        "-Ttext",
        address,
        "--oformat=binary",
        "-o",
    ];
    run(Command::new("ld").args(link).args([&binary, &object]))?;
    let program = fs::read(&binary)?;
    ensure!(
        program.len() == size,
        "a guest has {} bytes instead of {size}",
        program.len()
    );
    Ok(program)
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("cannot start {name}"))?;
    ensure!(status.success(), "{name} failed ({status})");
    Ok(())
}

/// What a guest wrote, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The time-stamp counter at the guest's first instruction.
    pub start: u64,
    /// Whether all reads were made.
    pub reads_done: bool,
}

impl Report {
    /// Parses what a guest wrote.
    ///
    /// # Errors
    /// It is not all there, or a read failed.
    pub fn parse(written: &[u8]) -> Result<Self> {
        let start = written
            .strip_prefix(b"T")
            .and_then(|rest| rest.first_chunk::<8>());
        let start = u64::from_le_bytes(*start.context("the guest did not start")?);
        match &written[9..] {
            [] | [b'B'] => Ok(Self {
                start,
                reads_done: false,
            }),
            [b'B', b'E', ..] => Ok(Self {
                start,
                reads_done: true,
            }),
            [b'B', b'X', status, ..] => {
                anyhow::bail!("a read by the boot sector failed with status {status:#04x}")
            }
            other => anyhow::bail!("the guest wrote {other:02x?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_when_the_boot_sector_started_and_whether_it_read() {
        let start = *b"T\x01\x02\0\0\0\0\0\0";
        assert_eq!(
            Report::parse(&start).expect("a report"),
            Report {
                start: 0x201,
                reads_done: false
            }
        );
        let done = [&start[..], b"BE"].concat();
        assert_eq!(
            Report::parse(&done).expect("a report"),
            Report {
                start: 0x201,
                reads_done: true
            }
        );
        assert!(Report::parse(&[&start[..], b"BX\x01"].concat()).is_err());
        assert!(Report::parse(b"").is_err());
        assert!(Report::parse(b"T123").is_err());
    }
}
