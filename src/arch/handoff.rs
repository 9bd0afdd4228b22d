//! Giving the machine to other firmware for good.

use super::hw::PhysMem;
use super::pc::Pc;
use crate::low_memory::HANDOFF;
use core::ptr::addr_of;

core::arch::global_asm!(include_str!("handoff.s"), options(att_syntax, raw));

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
