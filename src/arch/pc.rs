//! The machine behind the traits of [`hw`](super::hw).

use super::abi::page;
use super::clock::Timekeeper;
use super::hw::{Clock, DmaMemory, Handle, PhysMem, Ports, RealMode, RealRegs};
use super::sizes::page_tables;
use super::window::{self, Reach};
use super::{bridge, cpu, dma, smi};
use crate::units::{FOUR_GIB, GIB, PAGE};
use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use x86_64::structures::port::{PortRead, PortWrite};

/// The machine we run on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pc;

fn port_in<T: PortRead>(port: u16) -> T {
    // SAFETY: port accesses do not touch memory that Rust owns, except DMA that a driver starts, whose buffers it vouches for.
    unsafe { T::read_from_port(port) }
}

fn port_out<T: PortWrite>(port: u16, value: T) {
    // SAFETY: as in `port_in`.
    unsafe { T::write_to_port(port, value) }
}

impl Ports for Pc {
    fn in8(&self, port: u16) -> u8 {
        port_in(port)
    }
    fn in16(&self, port: u16) -> u16 {
        port_in(port)
    }
    fn in32(&self, port: u16) -> u32 {
        port_in(port)
    }
    fn out8(&self, port: u16, value: u8) {
        port_out(port, value);
    }
    fn out16(&self, port: u16, value: u16) {
        port_out(port, value);
    }
    fn out32(&self, port: u16, value: u32) {
        port_out(port, value);
    }
    fn in8_repeated(&self, port: u16, bytes: &mut [u8]) {
        // SAFETY: writes exactly the slice, forwards.
        unsafe {
            asm!("cld", "rep insb", in("dx") port, inout("rdi") bytes.as_mut_ptr() => _,
                inout("rcx") bytes.len() => _, options(nostack));
        }
    }
    fn in16_repeated(&self, port: u16, words: &mut [u16]) {
        // SAFETY: writes exactly the slice, forwards.
        unsafe {
            asm!("cld", "rep insw", in("dx") port, inout("rdi") words.as_mut_ptr() => _,
                inout("rcx") words.len() => _, options(nostack));
        }
    }
    fn in32_repeated(&self, port: u16, bytes: &mut [u8]) {
        // SAFETY: writes the whole 32-bit words of the slice and nothing else, forwards.
        unsafe {
            asm!("cld", "rep insd", in("dx") port, inout("rdi") bytes.as_mut_ptr() => _,
                inout("rcx") bytes.len() / 4 => _, options(nostack));
        }
    }
    fn out8_repeated(&self, port: u16, bytes: &[u8]) {
        // SAFETY: reads exactly the slice, forwards.
        unsafe {
            asm!("cld", "rep outsb", in("dx") port, inout("rsi") bytes.as_ptr() => _,
                inout("rcx") bytes.len() => _, options(nostack));
        }
    }
    fn out16_repeated(&self, port: u16, words: &[u16]) {
        // SAFETY: reads exactly the slice, forwards.
        unsafe {
            asm!("cld", "rep outsw", in("dx") port, inout("rsi") words.as_ptr() => _,
                inout("rcx") words.len() => _, options(nostack));
        }
    }
    fn out32_repeated(&self, port: u16, bytes: &[u8]) {
        // SAFETY: reads the whole 32-bit words of the slice and nothing else, forwards.
        unsafe {
            asm!("cld", "rep outsd", in("dx") port, inout("rsi") bytes.as_ptr() => _,
                inout("rcx") bytes.len() / 4 => _, options(nostack));
        }
    }
}

const PRESENT_WRITABLE: u64 = page::PRESENT | page::WRITABLE;
const PRESENT_WRITABLE_LARGE: u64 = page::LARGE | PRESENT_WRITABLE;

/// What the window shows; all ones when nothing yet.
static WINDOW_SHOWS: AtomicU64 = AtomicU64::new(u64::MAX);

/// Moves bytes with one instruction, which may be at address zero: the interrupt vector table is there.
fn move_bytes(dst: u64, src: u64, len: u64) {
    // SAFETY: callers pass ranges that the page tables map. The ranges hold guest memory, registers of devices, or a Rust
    // slice that the caller owns; services check guest-supplied ranges against the resident memory before they come here.
    unsafe {
        asm!("cld", "rep movsq", "mov ecx, {rest:e}", "rep movsb", rest = in(reg) len & 7,
            inout("rdi") dst => _, inout("rsi") src => _, inout("rcx") len >> 3 => _, options(nostack));
    }
}

/// An address at which `addr` can be reached, and how many bytes can be reached from there.
#[inline]
fn reach(addr: u64) -> (u64, u64) {
    if addr < FOUR_GIB {
        return (addr, FOUR_GIB - addr);
    }
    reach_above(addr)
}

#[cold]
#[inline(never)]
fn reach_above(addr: u64) -> (u64, u64) {
    let pdpt = pointers();
    let first_gib = match ALL_MEMORY.load(Ordering::Relaxed) {
        0 => PlainMemory.get64(pdpt),
        before => before,
    };
    let large_pages = first_gib & page::LARGE != 0;
    match window::reach(addr, large_pages) {
        Reach::Mapped { bytes } => (addr, bytes),
        Reach::Window { at, shows, bytes } => {
            show(pdpt, at, shows);
            (at + (addr - shows), bytes)
        }
    }
}

/// Address of the page directory pointer table.
fn pointers() -> u64 {
    cpu::page_tables() + page_tables::POINTERS as u64 * PAGE
}

/// Lets the gigabyte at `at` show the physical one at `shows`, through a page directory of its own.
fn show(pdpt: u64, at: u64, shows: u64) {
    if WINDOW_SHOWS.swap(shows, Ordering::Relaxed) == shows {
        return;
    }
    let directory = cpu::page_tables() + page_tables::WINDOW as u64 * PAGE;
    for page in 0..512 {
        let entry = (shows + (page << 21)) | PRESENT_WRITABLE_LARGE;
        PlainMemory.set64(directory + 8 * page, entry);
    }
    PlainMemory.set64(pdpt + 8 * (at / GIB), directory | PRESENT_WRITABLE);
    x86_64::instructions::tlb::flush_all();
}

/// A page directory and a page table for the first 2 MiB, and a page for what a caller has no memory at.
#[repr(C, align(4096))]
struct FirstPages(UnsafeCell<[[u64; 512]; 3]>);

// SAFETY: only [`show_first_mib`] writes it, and the processor reads it.
unsafe impl Sync for FirstPages {}

#[unsafe(link_section = ".noinit.first_pages")]
static FIRST_PAGES: FirstPages = FirstPages(UnsafeCell::new([[0; 512]; 3]));
/// What shows the first GiB otherwise; zero while it does.
static ALL_MEMORY: AtomicU64 = AtomicU64::new(0);
/// What a page table shows: 2 MiB.
const TABLE_SHOWS: u64 = 512 * PAGE;

/// Lets each page of the first 2 MiB show the physical one that `page` gives for it. Everything else stays. All page addresses are
/// asked for before anything changes.
pub fn show_first_mib(page: impl Fn(u64) -> Option<u64>) {
    let [directory, table, nothing] =
        [0, 1, 2].map(|index| FIRST_PAGES.0.get() as u64 + index * PAGE);
    let first_gib = pointers();
    let before = PlainMemory.get64(first_gib);
    for index in 0..512 {
        let shows = page(index * PAGE).unwrap_or(nothing);
        PlainMemory.set64(table + 8 * index, shows | PRESENT_WRITABLE);
        let entry = match before & page::LARGE {
            // Pages of ours may still have to be copied from ROM, which their entries say.
            0 => PlainMemory.get64((before & !(PAGE - 1)) + 8 * index),
            _ => (index * TABLE_SHOWS) | PRESENT_WRITABLE_LARGE,
        };
        PlainMemory.set64(directory + 8 * index, entry);
    }
    PlainMemory.set64(directory, table | PRESENT_WRITABLE);
    ALL_MEMORY.store(before, Ordering::Relaxed);
    PlainMemory.set64(first_gib, directory | PRESENT_WRITABLE);
    x86_64::instructions::tlb::flush_all();
}

/// Shows all memory where it is again.
pub fn show_all_memory() {
    let before = ALL_MEMORY.swap(0, Ordering::Relaxed);
    if before != 0 {
        PlainMemory.set64(pointers(), before);
        x86_64::instructions::tlb::flush_all();
    }
}

/// Memory below 4 GiB, where an address is where it says.
struct PlainMemory;

impl PlainMemory {
    fn get64(&self, addr: u64) -> u64 {
        let value: u64;
        // SAFETY: a load from mapped memory.
        unsafe {
            asm!("mov {}, [{}]", out(reg) value, in(reg) addr, options(nostack, preserves_flags))
        };
        value
    }
    fn set64(&self, addr: u64, value: u64) {
        // SAFETY: callers name page tables of ours.
        unsafe {
            asm!("mov [{}], {}", in(reg) addr, in(reg) value, options(nostack, preserves_flags))
        };
    }
}

macro_rules! access {
    ($read:ident $write:ident $type:ty, $class:ident, $load:literal, $store:literal) => {
        fn $read(&self, addr: u64) -> $type {
            let (at, _) = reach(addr);
            let value: $type;
            // SAFETY: a load from mapped memory or a device register.
            unsafe { asm!($load, out($class) value, in(reg) at, options(nostack, preserves_flags)) };
            value
        }
        fn $write(&self, addr: u64, value: $type) {
            let (at, _) = reach(addr);
            // SAFETY: a store to guest memory or a device register; see `move_bytes` for what keeps it off Rust's own.
            unsafe { asm!($store, in(reg) at, in($class) value, options(nostack, preserves_flags)) };
        }
    };
}

impl PhysMem for Pc {
    fn is_plain(&self, addr: u64) -> bool {
        smi::is_plain(addr)
    }
    fn read(&self, addr: u64, buf: &mut [u8]) {
        let mut done = 0;
        while done < buf.len() {
            let (at, reachable) = reach(addr + done as u64);
            let step = reachable.min((buf.len() - done) as u64);
            move_bytes(buf[done..].as_mut_ptr() as u64, at, step);
            done += step as usize;
        }
    }
    fn write(&self, addr: u64, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let (at, reachable) = reach(addr + done as u64);
            let step = reachable.min((data.len() - done) as u64);
            move_bytes(at, data[done..].as_ptr() as u64, step);
            done += step as usize;
        }
    }
    fn fill(&self, addr: u64, len: u64, byte: u8) {
        let mut done = 0;
        while done < len {
            let (at, reachable) = reach(addr + done);
            let step = reachable.min(len - done);
            let pattern = u64::from(byte) * 0x0101_0101_0101_0101;
            // SAFETY: as in `move_bytes`.
            unsafe {
                asm!("cld", "rep stosq", "mov ecx, {rest:e}", "rep stosb", rest = in(reg) step & 7,
                    inout("rdi") at => _, inout("rcx") step >> 3 => _, in("rax") pattern, options(nostack));
            }
            done += step;
        }
    }
    fn copy(&self, dst: u64, src: u64, len: u64) {
        const CHUNK: usize = 4096;
        if dst + len <= FOUR_GIB && src + len <= FOUR_GIB {
            return move_bytes(dst, src, len);
        }
        let mut chunk = [0; CHUNK];
        let mut done = 0;
        while done < len {
            let step = (len - done).min(CHUNK as u64) as usize;
            self.read(src + done, &mut chunk[..step]);
            self.write(dst + done, &chunk[..step]);
            done += step as u64;
        }
    }
    access!(read8 write8 u8, reg_byte, "mov {}, [{}]", "mov [{}], {}");
    access!(read16 write16 u16, reg, "mov {:x}, [{}]", "mov [{}], {:x}");
    access!(read32 write32 u32, reg, "mov {:e}, [{}]", "mov [{}], {:e}");
    access!(read64 write64 u64, reg, "mov {}, [{}]", "mov [{}], {}");
}

static CLOCK: Timekeeper = Timekeeper::new();

/// Tells the port of the ACPI PM timer, zero where there is none.
pub fn set_pm_timer(port: u16) {
    CLOCK.set(port);
}

impl Clock for Pc {
    fn now_us(&self) -> u64 {
        CLOCK.now_us(self, cpu::tsc)
    }
}

impl RealMode for Pc {
    fn call_rom(&self, regs: &mut RealRegs) {
        bridge::call_rom(regs);
    }
    fn call_far_with(&self, regs: &mut RealRegs, words: &[u16; 4]) {
        bridge::call_with(regs, words);
    }
    fn call_int(&self, vector: u8, regs: &mut RealRegs) {
        regs.ip = self.read16(4 * u64::from(vector));
        regs.cs = self.read16(4 * u64::from(vector) + 2);
        bridge::call_handler(regs);
    }
    fn serve_interrupts(&self) {
        // Not again from a service that a handler calls.
        if self.allow_interrupts(false) {
            bridge::serve_interrupts();
            self.allow_interrupts(true);
        }
    }
    fn allow_interrupts(&self, allowed: bool) -> bool {
        INTERRUPTS_ALLOWED.swap(allowed, Ordering::Relaxed)
    }
}

static INTERRUPTS_ALLOWED: AtomicBool = AtomicBool::new(false);

impl Handle for Pc {
    #[cfg(feature = "xen")]
    type Xen = super::xen::Xen;

    #[cfg(feature = "xen")]
    fn xen(&self) -> Option<Self::Xen> {
        super::xen::Xen::found()
    }
}

impl DmaMemory for Pc {
    fn dma_buffer(&self, len: usize, align: usize) -> Option<u64> {
        dma::take(len, align)
    }
}

#[cfg(test)]
mod tests {
    /// KVM emulates the instruction that touches a device, and knows few of them. Nothing but this file touches devices, and what
    /// it does is spelled out.
    #[test]
    fn devices_are_touched_by_plain_instructions() {
        const KNOWN: [&str; 11] = [
            "cld",
            "mov",
            "rep insb",
            "rep insw",
            "rep insd",
            "rep outsb",
            "rep outsw",
            "rep movsb",
            "rep movsq",
            "rep stosb",
            "rep stosq",
        ];
        let source = include_str!("pc.rs");
        let (code, _) = source.split_once("#[cfg(test)]").unwrap();
        let lines = code.lines().filter(|line| !line.trim().starts_with("//"));
        let mut found = 0;
        for line in lines.filter(|line| line.contains("asm!(") || line.contains("access!(")) {
            let parts: Vec<&str> = line.split('"').collect();
            for pair in parts.windows(2).step_by(2) {
                let [before, text] = pair else { continue };
                // Names of registers are in quotes, too.
                if before.ends_with("in(") || before.ends_with("out(") {
                    continue;
                }
                let operation = match text.strip_prefix("rep ") {
                    Some(_) => *text,
                    None => text.split(' ').next().unwrap_or(""),
                };
                assert!(KNOWN.contains(&operation), "{line}");
                found += 1;
            }
        }
        assert!(found > 20, "{found} instructions");
    }
}
