//! Giving the machine to other firmware for good.

use super::hw::PhysMem;
use super::pc::Pc;
use core::ptr::addr_of;

core::arch::global_asm!(include_str!("handoff.s"), options(att_syntax, raw));

unsafe extern "C" {
    static handoff_start: u8;
    static handoff_end: u8;
}

/// Where the last instructions run: conventional memory that neither we nor the firmware behind us use then.
const TRAMPOLINE: u64 = 0x2000;

/// Jumps to F000:FFF0 in real mode, with everything else as after reset. The firmware there is in place.
pub fn enter_firmware() -> ! {
    let start = addr_of!(handoff_start) as u64;
    Pc.copy(TRAMPOLINE, start, addr_of!(handoff_end) as u64 - start);
    // SAFETY: the bytes at TRAMPOLINE are the code that was just copied there; it never returns and touches no memory.
    unsafe {
        let enter: extern "C" fn() -> ! = core::mem::transmute(TRAMPOLINE);
        enter()
    }
}
