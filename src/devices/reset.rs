//! Restarting the machine.

use super::ps2;
use crate::arch::{Clock, Ports};

/// Reset control register of PIIX3 and ICH9 (Intel 82371SB data sheet, section 2.5.4).
const RESET_CONTROL: u16 = 0xcf9;
/// Hard reset when [`RESET_CPU`] rises.
const HARD_RESET: u8 = 1 << 1;
const RESET_CPU: u8 = 1 << 2;

/// Resets the machine: by the chip set, then by the keyboard controller. Returns only where neither is there.
pub fn machine(hw: &(impl Ports + Clock)) {
    hw.out8(RESET_CONTROL, HARD_RESET);
    hw.out8(RESET_CONTROL, HARD_RESET | RESET_CPU);
    ps2::reset_cpu(hw);
}
