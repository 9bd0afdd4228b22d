//! The processor itself: where the image lies, CPUID, MSRs, the other processors.

use super::bridge;
use super::hw::{Clock, PhysMem};
use super::pc::Pc;
use crate::low_memory::AP_START;
use crate::units::PAGE;
use alloc::vec::Vec;
use core::ops::Range;
use core::ptr::addr_of;
use spin::Once;
use x86_64::registers::model_specific::Msr;

unsafe extern "C" {
    static image_start: u8;
    static heap_extra: i32;
    #[link_name = "page_tables"]
    static page_tables_start: u8;
    #[link_name = "stack_top"]
    static stack_end: u8;
    static heap_start: u8;
    static heap_end: u8;
}

/// Physical addresses that the firmware occupies while it starts. Of the heap, which is their end, it gives a part back.
pub fn resident() -> Range<u64> {
    addr_of!(image_start) as u64..heap().end
}

/// Touches every page of the image, so that none has to be copied from the ROM any more.
pub fn read_image() {
    let image = addr_of!(image_start) as u64..addr_of!(page_tables_start) as u64;
    for page in image.step_by(PAGE as usize) {
        Pc.read8(page);
    }
}

/// Physical addresses of the heap while the firmware starts.
pub fn heap() -> Range<u64> {
    // SAFETY: `entry.s` has written it, and nothing does later.
    let extra = unsafe { addr_of!(heap_extra).read() };
    let end = addr_of!(heap_end) as u64;
    addr_of!(heap_start) as u64..end.saturating_add_signed(extra.into())
}

/// Physical address of the PML4 table, below 4 GiB.
pub fn page_tables() -> u64 {
    addr_of!(page_tables_start) as u64
}

/// Where a fresh 64-bit stack starts.
pub fn stack_top() -> u64 {
    addr_of!(stack_end) as u64
}

/// Stops this processor for good.
pub fn halt() -> ! {
    x86_64::instructions::interrupts::disable();
    loop {
        x86_64::instructions::hlt();
    }
}

/// Leaves that several steps ask for.
const ASKED_OFTEN: [u32; 2] = [1, 0x8000_0008];

/// CPUID: EAX, EBX, ECX, EDX of `leaf`, `subleaf`. Each is an exit to a hypervisor, so some are asked for once.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    static ANSWERS: [Once<[u32; 4]>; ASKED_OFTEN.len()] = [const { Once::new() }; _];
    let ask = || {
        let r = core::arch::x86_64::__cpuid_count(leaf, subleaf);
        [r.eax, r.ebx, r.ecx, r.edx]
    };
    match ASKED_OFTEN.iter().position(|often| *often == leaf) {
        Some(index) => *ANSWERS[index].call_once(ask),
        None => ask(),
    }
}

/// Reads the time stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: RDTSC has no memory effects; nothing here restricts it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Reads a model specific register that the caller knows to exist.
pub fn read_msr(msr: u32) -> u64 {
    // SAFETY: reading changes nothing; a register that does not exist is a reported exception.
    unsafe { Msr::new(msr).read() }
}

/// Writes a model specific register that the caller knows to exist.
///
/// Registers that change what memory the running code sees (EFER, the paging ones) are the bridge's business alone.
pub fn write_msr(msr: u32, value: u64) {
    // SAFETY: callers write MTRRs, the APIC base and platform registers, which do not move or unmap memory that Rust uses.
    unsafe { Msr::new(msr).write(value) }
}

/// Local APIC registers (Intel SDM volume 3, 11.4.1).
const LOCAL_APIC: u64 = 0xfee0_0000;
const ICR_LOW: u64 = LOCAL_APIC + 0x300;
/// INIT, asserted, to all but self.
const ICR_INIT: u32 = 0x000c_4500;
/// Start-up at the page of `ap_start`, to all but self.
const ICR_STARTUP: u32 = 0x000c_4600 | (AP_START / PAGE) as u32;
/// How long the other processors may take, in microseconds: 255 of them on a loaded host.
const AP_DEADLINE_US: u64 = 10_000_000;

/// Starts all other processors once, loads `msrs` on each, and parks them. Returns how many came.
///
/// They halt in the F segment with interrupts off, until the guest sends them INIT and a start-up message of its own.
pub fn start_others(expected: u32, msrs: &[(u32, u64)]) -> u32 {
    if expected == 0 {
        return 0;
    }
    bridge::set_ap_msrs(msrs);
    Pc.write32(ICR_LOW, ICR_INIT);
    Pc.write32(ICR_LOW, ICR_STARTUP);
    let all = || (bridge::aps_parked() >= expected).then_some(());
    if Pc.wait_for(AP_DEADLINE_US, all).is_none() {
        log::warn!("{} of {expected} other CPUs started", bridge::aps_parked());
    }
    bridge::aps_parked()
}

/// Local APIC IDs below 256 of this processor and of those that [`start_others`] found, this one's first.
pub fn apic_ids() -> Vec<u32> {
    let own = cpuid(1, 0)[1] >> 24;
    let mut ids = alloc::vec![own];
    for (base, byte) in (0..).step_by(8).zip(bridge::ap_ids()) {
        if byte != 0 {
            ids.extend(
                (0..8)
                    .filter(|bit| byte & 1 << bit != 0)
                    .map(|bit| base + bit),
            );
        }
    }
    ids
}
