//! Where tables go: memory that the guest keeps for them, given out by whoever owns the memory map.

/// Which part of memory a table has to be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// RAM below 4 GiB that the memory map keeps from the guest's allocator.
    High,
    /// 0xf0000 to 0xfffff, where guests scan for entry points.
    FSegment,
}

/// Memory given to a table for good.
#[derive(Debug)]
pub struct Block {
    /// Physical address of its first byte.
    pub addr: u64,
    /// Its bytes, zero at first.
    pub bytes: &'static mut [u8],
}

/// Gives out memory for tables.
pub trait Placer {
    /// `size` bytes (at least 1) at a multiple of `align`, which is a power of two. `None` where the zone has no room.
    fn allocate(&mut self, zone: Zone, size: usize, align: usize) -> Option<Block>;
}

/// The byte that makes the sum of `bytes` zero when it is put in place of one that is zero now.
pub fn checksum(bytes: &[u8]) -> u8 {
    sum(bytes).wrapping_neg()
}

/// The sum of `bytes` modulo 256.
pub fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// Memory for host tests: addresses as on a machine, bytes from the host's heap.
#[cfg(test)]
pub(crate) mod fake {
    use super::*;

    /// Gives out `high` downwards and `fseg` upwards, as the firmware does.
    pub struct FakePlacer {
        pub high: u64,
        pub fseg: core::ops::Range<u64>,
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
            let bytes = vec![0; size].leak();
            Some(Block { addr, bytes })
        }
    }
}
