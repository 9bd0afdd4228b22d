//! Leaving for a kernel that does not come back: the entries of `kernel.s`.

use super::bridge;

unsafe extern "C" {
    fn kernel_long(entry: u64, rsi: u64) -> !;
    fn kernel_protected(entry: u32, esi: u32, ebx: u32, eax: u32) -> !;
}

/// Jumps to 64-bit code with RSI set, the way the Linux boot protocol's 64-bit entry wants it.
pub fn long(entry: u64, rsi: u64) -> ! {
    bridge::mark_booted();
    // SAFETY: the firmware's own state is given up; what it keeps for BIOS calls lies in memory that E820 reserves.
    unsafe { kernel_long(entry, rsi) }
}

/// Jumps to 32-bit flat code, paging off.
pub fn protected(entry: u32, esi: u32, ebx: u32, eax: u32) -> ! {
    bridge::mark_booted();
    // SAFETY: as in `long`.
    unsafe { kernel_protected(entry, esi, ebx, eax) }
}
