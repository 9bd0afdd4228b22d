//! The GUID partition table, from its primary or its backup header. Source: UEFI 2.10, section 5.3.

use super::{Partition, Scheme, Table, Type};
use crate::bytes::{Fields, guid, utf16};
use crate::error::{Error, Result};
use crate::source::Source;
use alloc::vec::Vec;

const SIGNATURE: [u8; 8] = *b"EFI PART";
/// Bytes of a header that this reads.
const HEADER: usize = 92;
/// Bytes of an entry that this reads; entries may be longer.
const ENTRY: usize = 128;
/// Bytes of an array of entries at most: 32 times the usual.
const MAX_ARRAY: u64 = 512 << 10;
/// "Legacy BIOS bootable" among an entry's attributes.
const BOOTABLE: u64 = 1 << 2;

/// Reads the table, if there is one.
pub(super) fn read(disk: &Source, sector: u32) -> Result<Option<Table>> {
    let last = (disk.size() / u64::from(sector)).saturating_sub(1);
    if last < 2 {
        return Ok(None);
    }
    let (partitions, complaint) = match entries(disk, sector, 1) {
        Ok(partitions) => (partitions, None),
        Err(error @ (Error::Io | Error::Budget | Error::Memory)) => return Err(error),
        Err(Error::NotFound) => match entries(disk, sector, last) {
            Ok(partitions) => (partitions, Some("no primary GPT; its backup is used")),
            Err(_) => return Ok(None),
        },
        Err(_) => match entries(disk, sector, last) {
            Ok(partitions) => (
                partitions,
                Some("the primary GPT is bad; its backup is used"),
            ),
            Err(_) => (Vec::new(), Some("the GPT and its backup are bad")),
        },
    };
    Ok(Some(Table {
        scheme: Scheme::Gpt,
        sector_size: sector,
        partitions,
        complaint,
    }))
}

/// The entries of the header in sector `lba`. Without a header there, [`Error::NotFound`].
fn entries(disk: &Source, sector: u32, lba: u64) -> Result<Vec<Partition>> {
    let sector = u64::from(sector);
    let block = disk.bytes(lba * sector, sector as usize)?;
    let header = Fields(&block);
    if header.array(0)? != SIGNATURE {
        return Err(Error::NotFound);
    }
    let size = header.le32(12)? as usize;
    if !(HEADER..=block.len()).contains(&size) {
        return Err(Error::Corrupt("the size of a GPT header"));
    }
    let mut sum = crc32fast::Hasher::new();
    sum.update(header.slice(0, 16)?);
    sum.update(&[0; 4]);
    sum.update(header.slice(20, size - 20)?);
    if sum.finalize() != header.le32(16)? {
        return Err(Error::Corrupt("the checksum of a GPT header"));
    }
    if header.le64(24)? != lba {
        return Err(Error::Corrupt("the place of a GPT header"));
    }
    let start = header.le64(72)?;
    let count = header.le32(80)?;
    let entry = header.le32(84)?;
    let len = u64::from(count).saturating_mul(entry.into());
    if (entry as usize) < ENTRY || len > MAX_ARRAY {
        return Err(Error::Corrupt("the size of a GPT"));
    }
    let at = start.checked_mul(sector).ok_or(Error::OutOfRange)?;
    let array = disk.bytes(at, len as usize)?;
    if crc32fast::hash(&array) != header.le32(88)? {
        return Err(Error::Corrupt("the checksum of a GPT"));
    }
    let mut partitions = Vec::new();
    for (bytes, number) in array.chunks_exact(entry as usize).zip(1..) {
        partitions.extend(partition(bytes, number, sector)?);
    }
    partitions.retain(|partition| partition.start < disk.size());
    Ok(partitions)
}

/// One entry, if it is used and has its ends in order.
fn partition(bytes: &[u8], number: u32, sector: u64) -> Result<Option<Partition>> {
    let entry = Fields(bytes);
    let kind: [u8; 16] = entry.array(0)?;
    if kind == [0; 16] {
        return Ok(None);
    }
    let (first, last) = (entry.le64(32)?, entry.le64(40)?);
    let sectors = last
        .checked_sub(first)
        .and_then(|count| count.checked_add(1));
    let place = (first.checked_mul(sector), sectors);
    let (Some(start), Some(sectors)) = place else {
        return Ok(None);
    };
    let name = entry.slice(56, 72)?;
    let units = name
        .chunks_exact(2)
        .map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    Ok(Some(Partition {
        number,
        start,
        size: sectors.saturating_mul(sector),
        kind: Type::Gpt(guid(kind)),
        active: entry.le64(48)? & BOOTABLE != 0,
        attributes: entry.le64(48)?,
        name: utf16(units),
        uuid: Some(guid(entry.array(16)?)),
    }))
}
