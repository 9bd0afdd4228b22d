//! What a Multiboot kernel is told (Multiboot 0.6.96, section 3.3).

use alloc::vec::Vec;
use firstlight_tables::units::MIB;

use firstlight_tables::e820::{E820Map, ENTRY_SIZE};

/// EAX at the entry of a Multiboot kernel (section 3.2).
pub const MAGIC: u32 = 0x2bad_b002;

/// Memory sizes and memory map are valid.
const FLAGS: u8 = 1 | 1 << 6;
const MEM_LOWER: usize = 4;
const MEM_UPPER: usize = 8;
const MMAP_LENGTH: usize = 44;
const MMAP_ADDR: usize = 48;
/// An entry of the map, and its size in front of it.
const MAP_ENTRY: usize = 4 + ENTRY_SIZE;
/// The structure as far as the last of these fields.
const MIN_SIZE: usize = MMAP_ADDR + 4;

/// The information structure is too short for the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooShort;

/// Bytes of an information structure of `info` bytes with `map` behind it.
pub fn size_with(info: usize, map: &E820Map) -> usize {
    info + map.entries().len() * MAP_ENTRY
}

/// Adds the sizes of memory and `map` to an information structure that lies at `address` and has nothing behind it.
///
/// # Errors
/// [`TooShort`]; nothing is changed then.
pub fn add_memory(info: &mut Vec<u8>, address: u64, map: &E820Map) -> Result<(), TooShort> {
    if info.len() < MIN_SIZE {
        return Err(TooShort);
    }
    let mut entries = Vec::new();
    for entry in map.entries() {
        let bytes = entry.to_bytes();
        entries.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        entries.extend_from_slice(&bytes);
    }
    let above = map.entries().iter().find(|e| e.start <= MIB && e.end > MIB);
    let upper = above.map_or(0, |e| (e.end - MIB) >> 10) as u32;
    let lower = map.entries().first().map_or(0, |e| e.end.min(MIB) >> 10) as u32;
    let map_at = address + info.len() as u64;
    info[0] |= FLAGS;
    put(info, MEM_LOWER, lower);
    put(info, MEM_UPPER, upper);
    put(info, MMAP_LENGTH, entries.len() as u32);
    put(info, MMAP_ADDR, map_at as u32);
    info.append(&mut entries);
    Ok(())
}

fn put(info: &mut [u8], offset: usize, value: u32) {
    info[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_tables::e820::Kind;

    #[test]
    fn the_map_follows_the_structure() {
        let mut map = E820Map::new();
        map.insert(0..0x9fc00, Kind::Ram).unwrap();
        map.insert(MIB..0x1000_0000, Kind::Ram).unwrap();
        let mut info = vec![0; 60];
        add_memory(&mut info, 0x1_0000, &map).unwrap();
        let word = |at: usize| u32::from_le_bytes(info[at..at + 4].try_into().unwrap());
        assert_eq!((word(MEM_LOWER), word(MEM_UPPER)), (639, 255 << 10));
        assert_eq!((word(MMAP_LENGTH), word(MMAP_ADDR)), (48, 0x1_003c));
        assert_eq!((word(60), info.len()), (20, size_with(60, &map)));
        assert_eq!(add_memory(&mut vec![0; 51], 0, &map), Err(TooShort));
    }
}
