//! The Plug and Play BIOS's header, which option ROMs and old systems look for. Of its functions, only those that tell of the boot
//! are served (`boot/bbs.rs`).
//!
//! Source: Plug and Play BIOS Specification 1.0A, section 4.4.

use crate::low_memory::F_SEGMENT;
use crate::units::segment;
use firstlight_tables::place::checksum;

const LENGTH: usize = 0x21;

/// The installation structure, for a multiple of 16 in the F segment; `entry` is the offset in segment F000h of both entry points.
pub fn header(entry: u16) -> [u8; LENGTH] {
    const VERSION: u8 = 0x10;
    const SEGMENT: u16 = segment(F_SEGMENT.start);
    const BASE: u32 = F_SEGMENT.start as u32;
    let mut bytes = [0; LENGTH];
    bytes[0..4].copy_from_slice(b"$PnP");
    bytes[4] = VERSION;
    bytes[5] = LENGTH as u8;
    bytes[0x0d..0x0f].copy_from_slice(&entry.to_le_bytes());
    bytes[0x0f..0x11].copy_from_slice(&SEGMENT.to_le_bytes());
    bytes[0x11..0x13].copy_from_slice(&entry.to_le_bytes());
    bytes[0x13..0x17].copy_from_slice(&BASE.to_le_bytes());
    bytes[0x1b..0x1d].copy_from_slice(&SEGMENT.to_le_bytes());
    bytes[0x1d..0x21].copy_from_slice(&BASE.to_le_bytes());
    bytes[8] = checksum(&bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_tables::place::sum;

    #[test]
    fn the_sum_is_zero() {
        assert_eq!(sum(&header(0xd148)), 0);
    }
}
