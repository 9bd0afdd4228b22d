//! Restarting the machine, and switching it off.

use super::ps2;
use crate::arch::{Clock, Ports};

/// Reset control register of PIIX3 and ICH9 (Intel 82371SB data sheet, section 2.5.4).
pub const RESET_CONTROL: u16 = 0xcf9;
/// Hard reset when [`RESET_CPU`] rises.
pub const HARD_RESET: u8 = 1 << 1;
/// Rises to reset.
pub const RESET_CPU: u8 = 1 << 2;

/// Resets the machine: by the chip set, then by the keyboard controller. Returns only where neither is there.
pub fn machine(hw: &(impl Ports + Clock)) {
    hw.out8(RESET_CONTROL, HARD_RESET);
    hw.out8(RESET_CONTROL, HARD_RESET | RESET_CPU);
    ps2::reset_cpu(hw);
}

/// PM1 control register, from the power management timer's on down (ACPI 6.5, sections 4.8.2 and 4.8.3; QEMU and Xen keep the
/// order of Intel's chip sets).
const PM1_CONTROL_BELOW_TIMER: u16 = 4;
/// Enters the sleep state in bits 12:10, which on these machines is soft off (S5) for zero.
pub const SLEEP: u16 = 1 << 13;
/// Microseconds until a machine that still runs is not one that goes off.
const OFF_WITHIN: u64 = 1_000_000;

/// Switches the machine off. Returns only where that does not work, or where `pm_timer`, the port of the ACPI power
/// management timer, is zero.
pub fn power_off(hw: &(impl Ports + Clock), pm_timer: u16) {
    if let Some(port) = pm1_control(pm_timer) {
        hw.out16(port, SLEEP);
        hw.delay_us(OFF_WITHIN);
    }
}

/// The PM1 control register of a machine whose power management timer is at port `pm_timer`; `None` for 0.
pub fn pm1_control(pm_timer: u16) -> Option<u16> {
    pm_timer.checked_sub(PM1_CONTROL_BELOW_TIMER)
}
