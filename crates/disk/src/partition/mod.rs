//! Partitions of a disk: MBR with logical partitions, and GPT with its backup.

mod gpt;
mod mbr;

use crate::error::Result;
use crate::source::Source;
use alloc::string::String;
use alloc::vec::Vec;

/// The kind of a partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Master boot record.
    Mbr,
    /// GUID partition table.
    Gpt,
}

/// What a partition is for, by its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// The type byte of an MBR entry.
    Mbr(u8),
    /// The type GUID of a GPT entry, as text.
    Gpt(String),
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// As Linux and GRUB number it: from 1; logical partitions from 5.
    pub number: u32,
    /// The first byte.
    pub start: u64,
    /// The size in bytes, as the table claims: [`Source::part`] cuts it at the disk's end.
    pub size: u64,
    /// What it is for.
    pub kind: Type,
    /// Marked active (MBR) or bootable by legacy BIOS (GPT).
    pub active: bool,
    /// The attributes in a GPT, else 0.
    pub attributes: u64,
    /// The name in a GPT, else empty.
    pub name: String,
    /// The partition's own GUID in a GPT, as text.
    pub uuid: Option<String>,
}

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its kind.
    pub scheme: Scheme,
    /// The size in bytes of the sectors that it counts in.
    pub sector_size: u32,
    /// The partitions in the table's order. Those beyond the end of the disk are left out.
    pub partitions: Vec<Partition>,
    /// Something is wrong with the table that a log should say, such as a bad primary header.
    pub complaint: Option<&'static str>,
}

/// The sizes of sectors that there are.
pub const SECTOR_SIZES: [u32; 2] = [512, 4096];

/// Reads the partition table in sectors of `sector_size` bytes, 512 or 4,096.
///
/// A GPT counts where the MBR is protective or missing; an MBR with partitions of its own counts itself, as under Linux. That is
/// how hybrid ISO images, which have both, are read.
///
/// # Errors
/// The disk cannot be read. That it has no table is no error.
pub fn table(disk: &Source, sector_size: u32) -> Result<Option<Table>> {
    let mbr = match mbr::read(disk, sector_size)? {
        mbr::Found::Table(partitions, complaint) => Some(Table {
            scheme: Scheme::Mbr,
            sector_size,
            partitions,
            complaint,
        }),
        mbr::Found::Protective | mbr::Found::Nothing => gpt::read(disk, sector_size)?,
    };
    Ok(mbr)
}
