//! The extended BIOS data area, the last KiB below 640 KiB.
//!
//! The guest may read and write it, and an option ROM may move it down; then 40:0E has its segment. Services therefore ask
//! [`segment`] each time.
//!
//! Source: IBM PS/2 and PC BIOS Interface Technical Reference, section 3; Ralf Brown's memory list, table M0117.

use super::bda::Bda;
use super::layout::{Field, layout};
use crate::arch::{PhysMem, linear};
use crate::low_memory::EBDA;
use crate::units::{self, KIB};

/// Segment of the EBDA at boot.
pub const SEGMENT: u16 = units::segment(EBDA.start);
/// Its size in KiB.
pub const SIZE_KB: u8 = ((EBDA.end - EBDA.start) / KIB) as u8;

layout! {
    /// The part of the EBDA whose place guests know; offsets are relative to its segment.
    Ebda at 0, 0x5d bytes;
    /// Size of the EBDA in KiB.
    0x00 size_kb: u8,
    /// Not used.
    0x01 reserved_01: [u8; 0x21],
    /// Far pointer to the guest's mouse handler: offset, segment.
    0x22 mouse_handler: [u16; 2],
    /// Bits 2:0: bytes of the packet that have come.
    0x26 mouse_index: u8,
    /// Bits 2:0: bytes a packet minus one; bit 7: a handler is installed.
    0x27 mouse_flags: u8,
    /// The packet so far.
    0x28 mouse_data: [u8; 8],
    /// Not used.
    0x30 reserved_30: [u8; 13],
    /// Fixed disk parameter tables of drives 80h and 81h (INT 41h and 46h).
    0x3d disk_parameters: [[u8; 16]; 2],
}

/// EBDA mouse flags: a handler is installed.
pub const MOUSE_HANDLER_SET: u8 = 1 << 7;

/// Clears the EBDA and enters its size.
pub fn init(hw: &impl PhysMem) {
    let base = linear(SEGMENT, 0);
    hw.fill(base, EBDA.end - EBDA.start, 0);
    hw.write8(base, SIZE_KB);
}

/// The segment where the EBDA is now.
pub fn segment(hw: &impl PhysMem) -> u16 {
    Bda::ebda_segment().get(hw)
}

/// `field` of [`Ebda`], where the EBDA is now.
pub fn field<T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable>(
    hw: &impl PhysMem,
    field: Field<T>,
) -> Field<T> {
    Field::at(linear(segment(hw), 0) + field.addr())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;

    #[test]
    fn follows_the_segment_in_the_bda() {
        let hw = Fake::default();
        Bda::ebda_segment().set(&hw, 0x9f80);
        assert_eq!(field(&hw, Ebda::mouse_flags()).addr(), 0x9f827);
    }
}
