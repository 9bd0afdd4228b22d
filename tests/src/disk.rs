//! Disk images for the guests: sparse raw files, filled so that every sector can be told from every other.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::script::Script;

/// Bytes in a sector of every disk here.
pub const SECTOR: u64 = 512;

/// Where `guest/boot.s` has the number of sectors to load, in bytes from its start.
const BOOT_COUNT_OFFSET: u64 = 0x1b6;

/// The executor's place and size on the disk, in sectors: the script follows it, at 0x18000 in memory.
const EXECUTOR_LBA: u64 = 1;
const EXECUTOR_SECTORS: u64 = 64;

/// Most bytes the executor may have: its record buffer follows (`RECORD` in executor.s).
const EXECUTOR_LIMIT: usize = 0x6000;

/// Most sectors a script may have: it ends below the buffers at 0x40000.
const SCRIPT_SECTORS: u64 = 320;

/// First of the sectors with known contents, and their number: see [`pattern`].
pub const PATTERN_LBA: u64 = 1024;
/// Number of sectors with known contents.
pub const PATTERN_SECTORS: u64 = 1024;

static BOOT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/boot.bin"));
static EXECUTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/executor.bin"));

/// A raw disk image in a directory of its own, removed when dropped.
#[derive(Debug)]
pub struct Disk {
    directory: TempDir,
    file: File,
}

impl Disk {
    /// A sparse image of `bytes` zero bytes.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn blank(bytes: u64) -> Result<Self> {
        let directory = TempDir::with_prefix("firstlight-disk-")?;
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(directory.path().join("disk.img"))?;
        file.set_len(bytes)?;
        Ok(Self { directory, file })
    }

    /// A sparse image with known contents in the sectors from [`PATTERN_LBA`].
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn patterned(bytes: u64) -> Result<Self> {
        let disk = Self::blank(bytes)?;
        for lba in PATTERN_LBA..PATTERN_LBA + PATTERN_SECTORS {
            disk.write(lba * SECTOR, &pattern(lba))?;
        }
        Ok(disk)
    }

    /// A patterned disk that boots and runs `script`.
    ///
    /// # Errors
    /// The file cannot be made or the script is too long.
    pub fn running(script: &Script, bytes: u64) -> Result<Self> {
        let disk = Self::patterned(bytes)?;
        disk.install(script)?;
        Ok(disk)
    }

    /// Puts the boot sector, the executor and `script` on the disk.
    ///
    /// # Errors
    /// The script is too long.
    pub fn install(&self, script: &Script) -> Result<()> {
        let script = script.bytes();
        let sectors = (script.len() as u64).div_ceil(SECTOR);
        ensure!(EXECUTOR.len() <= EXECUTOR_LIMIT, "the executor is too long");
        ensure!(
            sectors <= SCRIPT_SECTORS,
            "the script has {sectors} sectors, at most {SCRIPT_SECTORS} fit"
        );
        let count = u16::try_from(EXECUTOR_SECTORS + sectors)?;
        self.write(0, BOOT)?;
        self.write(BOOT_COUNT_OFFSET, &count.to_le_bytes())?;
        self.write(EXECUTOR_LBA * SECTOR, EXECUTOR)?;
        self.write((EXECUTOR_LBA + EXECUTOR_SECTORS) * SECTOR, &script)
    }

    /// Writes at a byte offset.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.file.write_all_at(bytes, offset)?)
    }

    /// Reads at a byte offset.
    ///
    /// # Errors
    /// The file ends before that.
    pub fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// The image.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("disk.img")
    }

    /// Where the image and anything made beside it lies.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// The known contents of a sector: its number and bytes that depend on it.
pub fn pattern(lba: u64) -> [u8; SECTOR as usize] {
    let mut sector = [0; SECTOR as usize];
    let mut state = lba.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for byte in &mut sector {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state as u8;
    }
    sector[..8].copy_from_slice(&lba.to_le_bytes());
    sector
}

/// The hash `Script::sum` reports: 32-bit FNV-1a.
pub fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}
