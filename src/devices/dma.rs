//! Memory that devices read and write on their own: descriptor tables and bounce buffers of the drivers.

use alloc::boxed::Box;
use alloc::vec;

/// Hands out physical memory below 4 GiB, for as long as the firmware lives.
#[derive(Debug)]
pub struct DmaPool {
    next: u64,
    end: u64,
}

impl DmaPool {
    /// A pool over `len` bytes of physical memory at `start`, which nothing else uses.
    pub const fn at(start: u64, len: u64) -> Self {
        Self {
            next: start,
            end: start.saturating_add(len),
        }
    }

    /// A pool over `len` bytes of the firmware's heap, where addresses are physical addresses.
    pub fn from_heap(len: usize) -> Self {
        let memory = Box::leak(vec![0u8; len].into_boxed_slice());
        Self::at(memory.as_mut_ptr().expose_provenance() as u64, len as u64)
    }

    /// `len` bytes at a multiple of `align`, a power of two; `None` when the pool has no more.
    pub fn take(&mut self, len: u64, align: u64) -> Option<u64> {
        let start = self.next.checked_next_multiple_of(align)?;
        let end = start.checked_add(len)?;
        if end > self.end {
            return None;
        }
        self.next = end;
        Some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns_and_runs_out() {
        let mut pool = DmaPool::at(0x1001, 0x2000);
        assert_eq!(pool.take(0x800, 0x1000), Some(0x2000));
        assert_eq!(pool.take(1, 4), Some(0x2800));
        assert_eq!(pool.take(0x1000, 0x1000), None);
        assert_eq!(pool.take(4, 4), Some(0x2804));
    }

    #[test]
    fn the_heap_gives_what_was_asked_for() {
        let mut pool = DmaPool::from_heap(0x1000);
        assert!(pool.take(0x1000, 1).is_some());
        assert_eq!(pool.take(1, 1), None);
    }
}
