//! Processor exceptions in 64-bit code: print why and where on the log, and stop.

use super::cpu;
use core::ptr::addr_of;
use spin::Once;
use x86_64::registers::control::Cr2;

unsafe extern "C" {
    static exception_stubs: u8;
}

/// Vectors that have a handler: the processor's own.
const VECTORS: usize = 32;
/// Distance of two stubs in `entry.s`.
const STUB_SIZE: u64 = 16;

/// A 64-bit interrupt gate (AMD64 manual volume 2, 4.8.4).
#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    offset_low: u16,
    selector: u16,
    attributes: u16,
    offset_middle: u16,
    offset_high: u32,
    reserved: u32,
}

impl Gate {
    fn to(address: u64) -> Self {
        Gate {
            offset_low: address as u16,
            selector: super::bridge::code_segment(),
            attributes: 0x8e00,
            offset_middle: (address >> 16) as u16,
            offset_high: (address >> 32) as u32,
            reserved: 0,
        }
    }
}

static GATES: Once<[Gate; VECTORS]> = Once::new();

/// The interrupt descriptor table: limit and linear address.
pub(super) fn table() -> (u16, u64) {
    let gates = GATES.call_once(|| {
        core::array::from_fn(|vector| {
            Gate::to(addr_of!(exception_stubs) as u64 + STUB_SIZE * vector as u64)
        })
    });
    (size_of_val(gates) as u16 - 1, gates.as_ptr() as u64)
}

/// What `exception_common` of `entry.s` pushed, and the processor before it.
#[repr(C)]
struct Registers {
    general: [u64; 15],
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

const NAMES: [&str; 15] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

fn name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug",
        2 => "NMI",
        3 => "breakpoint",
        6 => "invalid opcode",
        8 => "double fault",
        12 => "stack fault",
        13 => "general protection fault",
        14 => "page fault",
        16 => "x87 error",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD error",
        _ => "exception",
    }
}

#[unsafe(no_mangle)]
extern "C" fn firstlight_exception(registers: &Registers) -> ! {
    log::error!(
        "firmware stopped: {} (vector {}, error {:#x}) at {:#x} (image + {:#x}), rsp {:#x}, rflags {:#x}, cr2 {:#x}",
        name(registers.vector),
        registers.vector,
        registers.error,
        registers.rip,
        registers.rip.wrapping_sub(cpu::resident().start),
        registers.rsp,
        registers.rflags,
        Cr2::read_raw(),
    );
    for (name, value) in NAMES.iter().zip(registers.general) {
        log::error!("{name:>3} {value:#018x}");
    }
    cpu::halt()
}
