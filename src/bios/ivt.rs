//! The interrupt vector table and the entry points it starts with.
//!
//! Programs jump to some entry points by address, so those keep the place they had in the first PC BIOS (IBM PS/2 and PC BIOS
//! Interface Technical Reference, "Compatibility addresses"). The others are wherever the assembler put them: [`Entries`].

use crate::arch::{Entries, PhysMem};
use crate::low_memory::F_SEGMENT;
use crate::units::segment;

/// The segment of every entry point.
pub const SEGMENT: u16 = segment(F_SEGMENT.start);

/// Entry points at addresses that programs know, as offsets in segment F000h.
pub mod entry {
    /// INT 02h, non-maskable interrupt.
    pub const INT_02: u16 = 0xe2c3;
    /// INT 13h, disks.
    pub const INT_13: u16 = 0xe3fe;
    /// INT 19h, bootstrap.
    pub const INT_19: u16 = 0xe6f2;
    /// System configuration table of INT 15h AH=C0h.
    pub const CONFIG_TABLE: u16 = 0xe6f5;
    /// INT 14h, serial ports.
    pub const INT_14: u16 = 0xe739;
    /// INT 16h, keyboard.
    pub const INT_16: u16 = 0xe82e;
    /// INT 09h, keyboard interrupt.
    pub const INT_09: u16 = 0xe987;
    /// INT 40h, diskettes.
    pub const INT_40: u16 = 0xec59;
    /// INT 0Eh, diskette interrupt.
    pub const INT_0E: u16 = 0xef57;
    /// Diskette parameter table (INT 1Eh).
    pub const DISKETTE_TABLE: u16 = 0xefc7;
    /// INT 17h, printers.
    pub const INT_17: u16 = 0xefd2;
    /// INT 10h, video.
    pub const INT_10: u16 = 0xf065;
    /// INT 12h, memory size.
    pub const INT_12: u16 = 0xf841;
    /// INT 11h, equipment.
    pub const INT_11: u16 = 0xf84d;
    /// INT 15h, system services.
    pub const INT_15: u16 = 0xf859;
    /// 8 × 8 font of characters 00h to 7Fh.
    pub const FONT: u16 = 0xfa6e;
    /// INT 1Ah, time of day and PCI.
    pub const INT_1A: u16 = 0xfe6e;
    /// INT 08h, timer interrupt.
    pub const INT_08: u16 = 0xfea5;
    /// A lone IRET, for vectors that nothing serves.
    pub const IRET: u16 = 0xff53;
    /// INT 05h, print screen.
    pub const INT_05: u16 = 0xff54;
}

/// The far pointer in vector `vector`: offset, segment.
pub fn get(hw: &impl PhysMem, vector: u8) -> [u16; 2] {
    hw.read_as(u64::from(vector) * 4)
}

/// Points vector `vector` at `segment:offset`.
pub fn set(hw: &impl PhysMem, vector: u8, segment: u16, offset: u16) {
    hw.write_as(u64::from(vector) * 4, &[offset, segment]);
}

/// Whether vector `vector` still leads to our entry point `offset`.
pub fn is_ours(hw: &impl PhysMem, vector: u8, offset: u16) -> bool {
    get(hw, vector) == [offset, SEGMENT]
}

/// Writes all 256 vectors: what we serve, a lone IRET for the rest, and zero where programs expect nothing (60h to 66h are
/// the user's; 79h is found unused by a zero).
pub fn init(hw: &impl PhysMem, entries: &Entries) {
    use entry::*;
    let mut vectors = [[IRET, SEGMENT]; 256];
    vectors[0x60..0x67].fill([0, 0]);
    vectors[0x79] = [0, 0];
    vectors[0x0a..0x10].copy_from_slice(&entries.master_irqs.map(|offset| [offset, SEGMENT]));
    vectors[0x70..0x78].fill([entries.slave_irq, SEGMENT]);
    let ours = [
        (0x00, entries.int00),
        (0x02, INT_02),
        (0x05, INT_05),
        (0x06, entries.int06),
        (0x08, INT_08),
        (0x09, INT_09),
        (0x0e, INT_0E),
        (0x10, INT_10),
        (0x11, INT_11),
        (0x12, INT_12),
        (0x13, INT_13),
        (0x14, INT_14),
        (0x15, INT_15),
        (0x16, INT_16),
        (0x17, INT_17),
        (0x18, entries.int18),
        (0x19, INT_19),
        (0x1a, INT_1A),
        (0x1e, DISKETTE_TABLE),
        (0x40, INT_40),
        (0x70, entries.int70),
        (0x74, entries.int74),
        (0x75, entries.int75),
        (0x76, entries.int76),
        (0x77, entries.int76),
    ];
    for (vector, offset) in ours {
        vectors[vector] = [offset, SEGMENT];
    }
    hw.write_as(0, &vectors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;

    #[test]
    fn vectors_lead_to_entry_points_or_an_iret() {
        let hw = Fake::default();
        let entries = Entries {
            int00: 12,
            int06: 13,
            master_irqs: [20, 21, 22, 23, 24, 25],
            slave_irq: 2,
            int18: 3,
            int08_console: 12,
            int70: 4,
            int74: 5,
            int75: 6,
            int76: 7,
            pmm: 9,
            pnp: 10,
            bios32: 11,
            ..Entries::default()
        };
        init(&hw, &entries);
        assert!(is_ours(&hw, 0x13, 0xe3fe));
        assert!(is_ours(&hw, 0x0b, 21));
        assert!(is_ours(&hw, 0x71, 2));
        assert!(is_ours(&hw, 0xff, 0xff53));
        assert_eq!(get(&hw, 0x60), [0, 0]);
        assert_eq!(get(&hw, 0x67), [0xff53, 0xf000]);
    }
}
