//! The master boot record and its logical partitions.
//!
//! Source: UEFI 2.10, section 5.2; for extended partitions, the Linux kernel's documentation of CONFIG_MSDOS_PARTITION and fdisk(8).

use super::{Partition, Type};
use crate::error::{Error, Result};
use crate::source::Source;
use alloc::string::String;
use alloc::vec::Vec;

const ENTRIES: usize = 446;
const ENTRY: usize = 16;
const SIGNATURE: [u8; 2] = [0x55, 0xaa];
/// The type of the partition that protects a GPT.
const PROTECTIVE: u8 = 0xee;
/// Logical partitions at most. Linux has 256 device numbers a disk.
const MAX_LOGICAL: u32 = 251;

/// What the first sector holds.
pub(super) enum Found {
    /// No table.
    Nothing,
    /// Only a guard for a GPT.
    Protective,
    /// Partitions, and a complaint about them.
    Table(Vec<Partition>, Option<&'static str>),
}

/// One entry of a table, in sectors.
#[derive(Clone, Copy)]
struct Slot {
    active: u8,
    kind: u8,
    start: u32,
    count: u32,
}

impl Slot {
    fn is_used(self) -> bool {
        self.kind != 0 && self.count != 0
    }

    fn is_extended(self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    fn partition(self, number: u32, first: u64, sector: u32) -> Partition {
        Partition {
            number,
            start: first.saturating_mul(sector.into()),
            size: u64::from(self.count) * u64::from(sector),
            kind: Type::Mbr(self.kind),
            active: self.active & 0x80 != 0,
            attributes: 0,
            name: String::new(),
            uuid: None,
        }
    }
}

/// Reads the table of the first sector and follows its extended partition.
pub(super) fn read(disk: &Source, sector: u32) -> Result<Found> {
    let Some(slots) = slots(disk, 0)? else {
        return Ok(Found::Nothing);
    };
    if slots.iter().any(|slot| slot.active & 0x7f != 0) {
        return Ok(Found::Nothing);
    }
    if slots.iter().any(|slot| slot.kind == PROTECTIVE) {
        return Ok(Found::Protective);
    }
    let mut partitions = Vec::new();
    let mut complaint = None;
    for (slot, number) in slots.into_iter().zip(1..) {
        if slot.is_used() && !slot.is_extended() {
            partitions.push(slot.partition(number, slot.start.into(), sector));
        }
    }
    if let Some(extended) = slots
        .iter()
        .find(|slot| slot.is_used() && slot.is_extended())
    {
        complaint = logical(disk, sector, extended.start, &mut partitions)?;
    }
    partitions.retain(|partition| partition.start < disk.size());
    if partitions.is_empty() {
        return Ok(Found::Nothing);
    }
    Ok(Found::Table(partitions, complaint))
}

/// Follows the chain of tables in the extended partition at `base`. A chain that is cut off or goes in a circle ends, with a complaint.
fn logical(
    disk: &Source,
    sector: u32,
    base: u32,
    partitions: &mut Vec<Partition>,
) -> Result<Option<&'static str>> {
    let mut at = u64::from(base);
    let mut seen = Vec::new();
    let mut number = 5;
    while number < 5 + MAX_LOGICAL && seen.len() < MAX_LOGICAL as usize {
        if seen.contains(&at) {
            return Ok(Some("the chain of logical partitions goes in a circle"));
        }
        seen.push(at);
        let slots = match slots(disk, at * u64::from(sector)) {
            Ok(Some(slots)) => slots,
            Ok(None) | Err(Error::OutOfRange) => {
                return Ok(Some("the chain of logical partitions is cut off"));
            }
            Err(error) => return Err(error),
        };
        for slot in slots {
            if slot.is_used() && !slot.is_extended() && number < 5 + MAX_LOGICAL {
                partitions.push(slot.partition(number, at + u64::from(slot.start), sector));
                number += 1;
            }
        }
        match slots
            .iter()
            .find(|slot| slot.is_used() && slot.is_extended())
        {
            Some(next) => at = u64::from(base) + u64::from(next.start),
            None => return Ok(None),
        }
    }
    Ok(Some("more logical partitions than are read"))
}

/// The four entries of the table at byte `at`, if it has the signature.
fn slots(disk: &Source, at: u64) -> Result<Option<[Slot; 4]>> {
    if disk.size() < 512 {
        return Ok(None);
    }
    let record: [u8; 512] = disk.array(at)?;
    if record[510..] != SIGNATURE {
        return Ok(None);
    }
    Ok(Some([0, 1, 2, 3].map(|index| {
        let slot = &record[ENTRIES + index * ENTRY..][..ENTRY];
        Slot {
            active: slot[0],
            kind: slot[4],
            start: u32::from_le_bytes([slot[8], slot[9], slot[10], slot[11]]),
            count: u32::from_le_bytes([slot[12], slot[13], slot[14], slot[15]]),
        }
    })))
}
