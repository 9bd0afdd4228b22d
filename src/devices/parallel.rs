//! Parallel ports: finding them.
//!
//! Source: IBM PC Technical Reference, printer adapter.

use crate::arch::Ports;

/// The I/O ports where a PC has LPT1 and LPT2, and LPT3 of the monochrome adapter.
pub const PORTS: [u16; 3] = [0x378, 0x278, 0x3bc];

/// Control: strobe off, automatic line feed off, printer selected and not in reset.
const CONTROL_IDLE: u8 = 0x0c;
const PATTERN: u8 = 0xaa;
/// Offset of the status register, of which bits 2 to 0 are not all ones where there is a port.
const STATUS: u16 = 1;
const NOTHING: u8 = 0xff;

/// Whether a parallel port at `base` holds what is written to its data lines.
pub fn is_present(hw: &impl Ports, base: u16) -> bool {
    if hw.in8(base + STATUS) == NOTHING {
        return false;
    }
    hw.out8(base, PATTERN);
    if hw.in8(base) != PATTERN {
        return false;
    }
    hw.out8(base + 2, CONTROL_IDLE);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;

    #[test]
    fn finds_what_keeps_its_data() {
        let hw = Fake::default();
        assert!(!is_present(&hw, PORTS[0]));
        hw.script_port(0x278, &[0xaa]);
        hw.script_port(0x279, &[0xdf]);
        assert!(is_present(&hw, PORTS[1]));
    }
}
