//! Units of memory, and far pointers.

pub use firstlight_tables::units::{FOUR_GIB, GIB, KIB, MIB, PAGE};

/// Physical address of `segment:offset`, without wrapping at 1 MiB.
pub const fn linear(segment: u16, offset: u16) -> u64 {
    ((segment as u64) << 4) + offset as u64
}

/// The segment that begins at physical address `addr`, a multiple of 16 below 1 MiB.
pub const fn segment(addr: u64) -> u16 {
    assert!(addr < MIB && addr.is_multiple_of(16));
    (addr >> 4) as u16
}
