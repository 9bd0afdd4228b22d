//! Memory for tables, out of the machine's own.

use core::ops::Range;

use firstlight_tables::e820::E820Map;
use firstlight_tables::place::{Block, Placer, Space, Zone};

/// Hands out memory of the machine.
pub struct RamPlacer<'a>(Space<'a>);

impl<'a> RamPlacer<'a> {
    /// Takes RAM from `map` that ends at or below `limit`, and of the F segment what is in `f_segment`. Make one only once
    /// a boot, with the map of this machine: the F segment has no other owner.
    pub fn new(map: &'a mut E820Map, limit: u64, f_segment: Range<u64>) -> Self {
        Self(Space::new(map, limit, f_segment))
    }
}

impl Placer for RamPlacer<'_> {
    fn allocate(&mut self, zone: Zone, size: usize, align: usize) -> Option<Block> {
        let addr = self.0.find(zone, size as u64, align as u64)?;
        // SAFETY: the range was free RAM below 4 GiB by the machine's own map, or lies in the shadow RAM of the F segment that
        // is kept for tables. Memory is identity-mapped, no Rust object lives there, and each byte is given out once.
        let bytes = unsafe { core::slice::from_raw_parts_mut(addr as *mut u8, size) };
        Some(Block { addr, bytes })
    }
}
