//! The 8254 interval timer.
//!
//! Source: Intel 8254 data sheet.

use crate::arch::Ports;

const CHANNEL_0: u16 = 0x40;
const CONTROL: u16 = 0x43;
/// Channel 0, low byte then high byte, rate generator, binary.
const CHANNEL_0_RATE_GENERATOR: u8 = 0x34;

/// Input clock in Hz.
pub const FREQUENCY: u32 = crate::arch::clock::PIT_HZ;
/// Timer interrupts in 24 hours, at [`FREQUENCY`] / 65536 Hz: the value at which 40:6C goes back to zero.
pub const TICKS_PER_DAY: u32 = 0x1800b0;

/// Starts the timer interrupt at its slowest rate, 18.2 Hz.
pub fn init(hw: &impl Ports) {
    hw.out8(CONTROL, CHANNEL_0_RATE_GENERATOR);
    hw.out8(CHANNEL_0, 0);
    hw.out8(CHANNEL_0, 0);
}

/// Timer ticks in `seconds`, rounded down.
pub fn ticks(seconds: u32) -> u32 {
    (u64::from(seconds) * u64::from(FREQUENCY) / 65_536) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_the_ticks_that_programs_expect() {
        assert!(ticks(86_400).abs_diff(TICKS_PER_DAY) <= 60);
        assert_eq!(ticks(1), 18);
    }
}
