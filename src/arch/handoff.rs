//! Giving the machine to other firmware for good.

use super::abi::control;
use super::hw::PhysMem;
use super::pc::Pc;
use crate::low_memory::{F_SEGMENT, HANDOFF};
use crate::units::segment;
use core::ptr::addr_of;

core::arch::global_asm!(
    ".set HERE, {HERE}",
    ".set F_SEGMENT, {F_SEGMENT}",
    ".set CR0_REAL, {CR0_REAL}",
    ".set CR0_PROTECTED, {CR0_PROTECTED}",
    ".set MSR_EFER, {MSR_EFER}",
    include_str!("handoff.s"),
    HERE = const HANDOFF.start,
    F_SEGMENT = const segment(F_SEGMENT.start),
    CR0_REAL = const control::CR0_REAL,
    CR0_PROTECTED = const control::CR0_PROTECTED,
    MSR_EFER = const control::MSR_EFER,
    options(att_syntax)
);

unsafe extern "C" {
    static handoff_start: u8;
    static handoff_end: u8;
}

/// Jumps to F000:FFF0 in real mode, with everything else as after reset. The firmware there is in place.
pub fn enter_firmware() -> ! {
    let start = addr_of!(handoff_start) as u64;
    Pc.copy(HANDOFF.start, start, addr_of!(handoff_end) as u64 - start);
    // SAFETY: the bytes at HANDOFF.start are the code that was just copied there; it never returns and touches no memory.
    unsafe {
        let enter: extern "C" fn() -> ! = core::mem::transmute(HANDOFF.start);
        enter()
    }
}
