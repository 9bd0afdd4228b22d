//! Where tables go: memory that the guest keeps for them, given out by whoever owns the memory map.

use crate::units::{MIB, PAGE};
use core::ops::Range;

use super::e820::{E820Map, Kind};

/// Which part of memory a table has to be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// RAM between 1 MiB and 4 GiB that the memory map keeps from the guest's allocator.
    High,
    /// 0xf0000 to 0xfffff, where guests scan for entry points.
    FSegment,
}

/// Memory given to a table for good.
#[derive(Debug)]
pub struct Block {
    /// Physical address of its first byte.
    pub addr: u64,
    /// Its bytes, which have to be written all: nobody clears them before.
    pub bytes: &'static mut [u8],
}

/// Gives out memory for tables.
pub trait Placer {
    /// `size` bytes (at least 1) at a multiple of `align`, which is a power of two. `None` where the zone has no room.
    fn allocate(&mut self, zone: Zone, size: usize, align: usize) -> Option<Block>;
}

/// Finds places: takes whole pages out of a memory map, from the top of RAM below a limit, and divides them, and what is
/// free of the F segment.
pub struct Space<'a> {
    map: &'a mut E820Map,
    limit: u64,
    pool: Range<u64>,
    f_segment: Range<u64>,
}

impl<'a> Space<'a> {
    /// Takes RAM from `map` that ends at or below `limit`, and at 4 GiB at the most. Where `f_segment` is empty, what
    /// would go there goes to high memory, for a firmware module that has its own BIOS to copy it from.
    pub fn new(map: &'a mut E820Map, limit: u64, f_segment: Range<u64>) -> Self {
        Self {
            map,
            limit: limit.min(1 << 32),
            pool: 0..0,
            f_segment,
        }
    }

    /// The address of `size` bytes at a multiple of `align`; `None` where there is no room, `size` is 0 or `align` is no
    /// power of two.
    pub fn find(&mut self, zone: Zone, size: u64, align: u64) -> Option<u64> {
        if size == 0 || !align.is_power_of_two() {
            return None;
        }
        if zone == Zone::FSegment && self.f_segment.start != self.f_segment.end {
            let start = self.f_segment.start.checked_next_multiple_of(align)?;
            let end = start.checked_add(size)?;
            // One byte less, so that a full segment is not taken for one that was empty from the start.
            if end >= self.f_segment.end {
                return None;
            }
            self.f_segment.start = end;
            return Some(start);
        }
        if let Some(start) = self.top_of_pool(size, align) {
            return Some(start);
        }
        let pages = size.checked_next_multiple_of(PAGE)?;
        let align_pages = align.max(PAGE);
        let start = self.map.find_ram_top(self.limit, pages, align_pages)?;
        if start < MIB {
            return None;
        }
        self.map.insert(start..start + pages, Kind::Reserved).ok()?;
        let end = if start + pages == self.pool.start {
            self.pool.end
        } else {
            start + pages
        };
        self.pool = start..end;
        self.top_of_pool(size, align)
    }

    fn top_of_pool(&mut self, size: u64, align: u64) -> Option<u64> {
        let start = self.pool.end.checked_sub(size)? & !(align - 1);
        if start < self.pool.start {
            return None;
        }
        self.pool.end = start;
        Some(start)
    }
}

/// The byte that makes the sum of `bytes` zero when it is put in place of one that is zero now.
pub fn checksum(bytes: &[u8]) -> u8 {
    sum(bytes).wrapping_neg()
}

/// The sum of `bytes` modulo 256.
pub fn sum(bytes: &[u8]) -> u8 {
    crate::sum::bytes(bytes)
}

/// Memory for host tests: addresses as on a machine, bytes from the host's heap.
pub mod fake {
    use super::*;
    use alloc::vec;

    /// Gives out `high` downwards and `fseg` upwards, as the firmware does.
    pub struct FakePlacer {
        /// Where the lowest block of high memory begins.
        pub high: u64,
        /// What is left of the F segment.
        pub fseg: Range<u64>,
        /// Allocations left before it says no.
        pub limit: usize,
    }

    impl Default for FakePlacer {
        fn default() -> Self {
            Self {
                high: 0x1000_0000,
                fseg: 0xf5b00..0xfe000,
                limit: usize::MAX,
            }
        }
    }

    impl Placer for FakePlacer {
        fn allocate(&mut self, zone: Zone, size: usize, align: usize) -> Option<Block> {
            self.limit = self.limit.checked_sub(1)?;
            let (size64, align) = (size as u64, align as u64);
            let addr = match zone {
                Zone::High => self.high.checked_sub(size64)? / align * align,
                Zone::FSegment => self.fseg.start.next_multiple_of(align),
            };
            match zone {
                Zone::High => self.high = addr,
                Zone::FSegment if addr + size64 > self.fseg.end => return None,
                Zone::FSegment => self.fseg.start = addr + size64,
            }
            // What was there before is not known.
            let bytes = vec![0xa5; size].leak();
            Some(Block { addr, bytes })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map() -> E820Map {
        let mut map = E820Map::new();
        map.insert(0x10_0000..0x1000_0000, Kind::Ram).unwrap();
        map
    }

    #[test]
    fn finds_places_from_the_top_and_keeps_whole_pages() {
        let mut map = map();
        let mut space = Space::new(&mut map, 1 << 32, 0xf0000..0xfa000);
        assert_eq!(space.find(Zone::High, 100, 64), Some(0xfff_ff80));
        assert_eq!(space.find(Zone::High, 16, 16), Some(0xfff_ff70));
        assert_eq!(space.find(Zone::High, 0x2000, 16), Some(0xfff_df70));
        assert_eq!(space.find(Zone::High, 1 << 40, 16), None);
        assert_eq!(space.find(Zone::High, 0, 16), None);
        assert_eq!(space.find(Zone::High, 1, 3), None);
        assert_eq!(space.find(Zone::FSegment, 20, 16), Some(0xf0000));
        assert_eq!(space.find(Zone::FSegment, 20, 16), Some(0xf0020));
        assert_eq!(space.find(Zone::FSegment, 0xa000, 16), None);
        let taken = map.entries().last().unwrap();
        assert_eq!((taken.start, taken.kind), (0xfff_d000, Kind::Reserved));
    }

    #[test]
    fn conventional_memory_is_the_guests() {
        let mut map = E820Map::new();
        map.insert(0..0x9_fc00, Kind::Ram).unwrap();
        let mut space = Space::new(&mut map, 1 << 32, 0..0);
        assert_eq!(space.find(Zone::High, 36, 16), None);
        assert_eq!(map.entries().len(), 1);
    }

    #[test]
    fn without_an_f_segment_all_is_high() {
        let mut map = map();
        let mut space = Space::new(&mut map, 1 << 32, 0..0);
        assert_eq!(space.find(Zone::FSegment, 36, 16), Some(0xfff_ffd0));
    }

    proptest! {
        #[test]
        fn sums_any_length(bytes in prop::collection::vec(128u8.., 0..5000)) {
            let simple = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
            prop_assert_eq!(sum(&bytes), simple);
            prop_assert_eq!(checksum(&bytes), simple.wrapping_neg());
        }
    }
}
