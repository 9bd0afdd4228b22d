//! The benchmarks' guest: a disk with the boot sector of guest.s.

use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = include_str!("guest.s");
/// Where the boot sector has the number of reads to make, 16 bits.
const READS: usize = 0x1B6;
/// The disk's size in bytes.
const DISK_SIZE: u64 = 64 << 20;

/// The port to which the boot sector writes.
pub const PORT: u64 = 0x4E9;
/// The sectors of 512 bytes that one read of the boot sector transfers.
pub const SECTORS_PER_READ: u32 = 127;

/// A disk whose boot sector makes `reads` reads, in `directory`.
///
/// # Errors
/// The assembler or the linker (Debian package binutils) failed, or the disk cannot be written.
pub fn disk(directory: &Path, reads: u16) -> Result<PathBuf> {
    let mut sector = assemble(directory)?;
    sector[READS..READS + 2].copy_from_slice(&reads.to_le_bytes());
    let path = directory.join(format!("reads-{reads}.img"));
    let mut disk = File::create(&path)?;
    disk.write_all(&sector)?;
    disk.set_len(DISK_SIZE)?;
    Ok(path)
}

fn assemble(directory: &Path) -> Result<Vec<u8>> {
    let [source, object, binary] =
        ["guest.s", "guest.o", "guest.bin"].map(|name| directory.join(name));
    fs::write(&source, SOURCE)?;
    run(Command::new("as")
        .args(["--32", "-o"])
        .args([&object, &source]))?;
    let link = ["-m", "elf_i386", "-Ttext=0x7C00", "--oformat=binary", "-o"];
    run(Command::new("ld").args(link).args([&binary, &object]))?;
    let sector = fs::read(&binary)?;
    ensure!(
        sector.len() == 512,
        "the boot sector has {} bytes",
        sector.len()
    );
    Ok(sector)
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("cannot start {name}"))?;
    ensure!(status.success(), "{name} failed ({status})");
    Ok(())
}

/// What the boot sector wrote, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The time-stamp counter at the boot sector's first instruction.
    pub start: u64,
    /// Whether all reads were made.
    pub reads_done: bool,
}

impl Report {
    /// Parses what the boot sector wrote.
    ///
    /// # Errors
    /// It is not all there, or a read failed.
    pub fn parse(written: &[u8]) -> Result<Self> {
        let start = written
            .strip_prefix(b"T")
            .and_then(|rest| rest.first_chunk::<8>());
        let start = u64::from_le_bytes(*start.context("the boot sector did not start")?);
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
            other => anyhow::bail!("the boot sector wrote {other:02x?}"),
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
