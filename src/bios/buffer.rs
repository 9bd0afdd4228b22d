//! Where callers' buffers may be: what a service writes to memory that the caller names must not be the firmware.

use crate::arch::linear;
use crate::low_memory::{F_SEGMENT, VIDEO, WRITABLE};
use crate::platform::Machine;
use crate::units::{FOUR_GIB, MIB};
use core::ops::Range;

/// First address that no segment and offset reach.
const REAL_MODE_END: u64 = 0x10_fff0;

/// The memory that buffers may be in.
pub struct Buffers {
    resident: Range<u64>,
    low_end: u64,
    high_end: u64,
}

impl Buffers {
    /// The memory of `machine`.
    pub fn of(machine: &Machine) -> Self {
        Self {
            resident: machine.resident.clone(),
            low_end: machine.low_ram_end,
            high_end: FOUR_GIB + machine.high_ram,
        }
    }

    /// The address of `len` bytes at a caller's `segment:offset`; `None` where part of them is ours or out of reach.
    pub fn real_mode(&self, segment: u16, offset: u16, len: u64) -> Option<u64> {
        let addr = linear(segment, offset);
        let end = addr.checked_add(len)?;
        let ours = addr < F_SEGMENT.end && end > WRITABLE.start;
        if end > REAL_MODE_END || ours {
            return None;
        }
        self.outside_firmware(addr, len)
    }

    /// `addr`, where all `len` bytes there are RAM and none of them is ours.
    pub fn ram(&self, addr: u64, len: u64) -> Option<u64> {
        let end = addr.checked_add(len)?;
        let low = end <= VIDEO.start || addr >= MIB && end <= self.low_end;
        let high = addr >= FOUR_GIB && end <= self.high_end;
        if !low && !high {
            return None;
        }
        self.outside_firmware(addr, len)
    }

    /// `addr`, where none of the `len` bytes there is in the firmware above 1 MiB, whatever else is there.
    pub fn outside_firmware(&self, addr: u64, len: u64) -> Option<u64> {
        let end = addr.checked_add(len)?;
        let hits_us = len != 0 && addr < self.resident.end && end > self.resident.start;
        (!hits_us).then_some(addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOW_END: u64 = 0x800_0000;
    const RESIDENT: Range<u64> = 0x700_0000..0x7f0_0000;

    fn buffers() -> Buffers {
        Buffers {
            resident: RESIDENT,
            low_end: LOW_END,
            high_end: FOUR_GIB + MIB,
        }
    }

    fn overlaps(addr: u64, len: u64, range: &Range<u64>) -> bool {
        len != 0 && addr < range.end && addr + len > range.start
    }

    #[test]
    fn the_firmware_is_kept_to_the_byte() {
        let buffers = buffers();
        for (addr, len, free) in [
            (RESIDENT.start - 4, 4, true),
            (RESIDENT.start - 4, 5, false),
            (RESIDENT.end - 1, 1, false),
            (RESIDENT.end, 1, true),
            (RESIDENT.start + 8, 0, true),
            (0, LOW_END, false),
            (u64::MAX, 2, false),
        ] {
            assert_eq!(
                buffers.outside_firmware(addr, len).is_some(),
                free,
                "{addr:#x} {len}"
            );
        }
    }

    #[test]
    fn segments_reach_no_firmware_and_not_beyond_64_kib_above_1_mib() {
        let buffers = buffers();
        assert_eq!(buffers.real_mode(0x1000, 0x10, 0x200), Some(0x1_0010));
        assert_eq!(buffers.real_mode(0xec00, 0, 1), None);
        assert_eq!(buffers.real_mode(0xebe0, 0, 0x200), Some(0xe_be00));
        assert_eq!(buffers.real_mode(0xffff, 0x10, 0x200), Some(MIB));
        assert_eq!(buffers.real_mode(0xffff, 0xffff, 2), None);
    }

    proptest! {
        #[test]
        fn flat_addresses_are_ram_that_is_not_ours(addr in 0..3 * FOUR_GIB / 2, len in 0..2 * LOW_END) {
            if buffers().ram(addr, len).is_some() {
                prop_assert!(!overlaps(addr, len, &RESIDENT));
                prop_assert!(!overlaps(addr, len, &(VIDEO.start..MIB)));
                prop_assert!(!overlaps(addr, len, &(LOW_END..FOUR_GIB)));
                prop_assert!(addr + len <= FOUR_GIB + MIB);
            }
        }
    }
}
