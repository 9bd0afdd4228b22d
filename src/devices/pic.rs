//! The two 8259A interrupt controllers.
//!
//! Source: Intel 8259A data sheet; wiring of the PC/AT: the second controller is on input 2 of the first.

use crate::arch::Ports;

/// Command port of the first one.
pub const MASTER: u16 = 0x20;
/// Command port of the second one.
pub const SLAVE: u16 = 0xa0;
const CASCADE: u8 = 2;
/// Start of the initialisation: edge triggered, cascaded, a fourth word follows.
const ICW1: u8 = 0x11;
/// Fourth initialisation word: 8086 mode, end of interrupt by command.
const ICW4: u8 = 0x01;
/// Command: non-specific end of interrupt.
pub const EOI: u8 = 0x20;
/// Command: the next read of the command port has the lines that are being served (operation command word 3).
pub const READ_IN_SERVICE: u8 = 0x0b;

/// Interrupt lines by number.
pub mod irq {
    /// Timer channel 0.
    pub const TIMER: u8 = 0;
    /// Keyboard.
    pub const KEYBOARD: u8 = 1;
    /// Diskette controller.
    pub const FLOPPY: u8 = 6;
    /// Real-time clock.
    pub const RTC: u8 = 8;
    /// Mouse.
    pub const MOUSE: u8 = 12;
    /// x87 error.
    pub const FPU: u8 = 13;
    /// First IDE channel.
    pub const IDE_PRIMARY: u8 = 14;
}

/// Sets both controllers up with vectors 08h and 70h, and lets through the lines whose bits are set in `enabled`.
///
/// The cascade line is always let through.
pub fn init(hw: &impl Ports, enabled: u16) {
    init_at(hw, [0x08, 0x70], enabled);
}

/// The same with other first `vectors`, multiples of 8.
pub fn init_at(hw: &impl Ports, vectors: [u8; 2], enabled: u16) {
    let masks = !(enabled | 1 << CASCADE);
    for (command, vector, wiring, mask) in [
        (MASTER, vectors[0], 1 << CASCADE, masks as u8),
        (SLAVE, vectors[1], CASCADE, (masks >> 8) as u8),
    ] {
        hw.out8(command, ICW1);
        hw.out8(command + 1, vector);
        hw.out8(command + 1, wiring);
        hw.out8(command + 1, ICW4);
        hw.out8(command + 1, mask);
    }
}

/// Lets line `irq` (0 to 15) through.
pub fn unmask(hw: &impl Ports, irq: u8) {
    let (port, bit) = mask_of(irq);
    let mask = hw.in8(port);
    if mask & bit != 0 {
        hw.out8(port, mask & !bit);
    }
}

/// Holds line `irq` (0 to 15) back.
pub fn mask(hw: &impl Ports, irq: u8) {
    let (port, bit) = mask_of(irq);
    hw.out8(port, hw.in8(port) | bit);
}

/// Ends the service of line `irq` (0 to 15).
pub fn end_of_interrupt(hw: &impl Ports, irq: u8) {
    if irq >= 8 {
        hw.out8(SLAVE, EOI);
    }
    hw.out8(MASTER, EOI);
}

fn mask_of(irq: u8) -> (u16, u8) {
    let port = if irq < 8 { MASTER } else { SLAVE } + 1;
    (port, 1 << (irq % 8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;

    #[test]
    fn initialisation_words_and_masks() {
        let hw = Fake::default();
        init(&hw, 1 << irq::TIMER | 1 << irq::KEYBOARD | 1 << irq::RTC);
        assert_eq!(
            *hw.port_writes.borrow(),
            [
                (0x20, 0x11),
                (0x21, 0x08),
                (0x21, 0x04),
                (0x21, 0x01),
                (0x21, 0xf8),
                (0xa0, 0x11),
                (0xa1, 0x70),
                (0xa1, 0x02),
                (0xa1, 0x01),
                (0xa1, 0xfe),
            ]
        );
    }

    #[test]
    fn end_of_interrupt_reaches_both_controllers() {
        let hw = Fake::default();
        end_of_interrupt(&hw, irq::MOUSE);
        assert_eq!(*hw.port_writes.borrow(), [(0xa0, 0x20), (0x20, 0x20)]);
    }
}
