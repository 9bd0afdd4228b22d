//! Processor exceptions in 64-bit code: print why and where on the log, and stop. Breakpoints and non-maskable interrupts are the
//! guest's, which hears of them after the service (`bridge.s`).

use super::abi::{PAGE_FAULT, PAGE_STACK, STUB_SIZE, selector};
use super::cpu;
use super::hw::PhysMem;
use super::pc::Pc;
use core::cell::UnsafeCell;
use core::ptr::addr_of;
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables;
use x86_64::registers::control::Cr2;
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

unsafe extern "C" {
    static exception_stubs: u8;
    static page_stack_top: u8;
}

/// Vectors that have a handler: the processor's own.
const VECTORS: usize = 32;

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
    fn to(address: u64, stack: u16) -> Self {
        Gate {
            offset_low: address as u16,
            selector: selector::CODE_64,
            attributes: 0x8e00 | stack,
            offset_middle: (address >> 16) as u16,
            offset_high: (address >> 32) as u32,
            reserved: 0,
        }
    }
}

static GATES: Once<[Gate; VECTORS]> = Once::new();

/// The vectors whose handlers return, and so need a stack of their own: Rust writes below RSP.
const RETURNING: [usize; 2] = [1, 2];
/// Number of that stack in a gate, from 1.
const OWN_STACK: u16 = 1;

#[repr(C, align(16))]
struct Stack(UnsafeCell<[u8; 512]>);

// SAFETY: only the processor writes it, when it takes one of [`RETURNING`].
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(UnsafeCell::new([0; 512]));
static TASK: Once<TaskStateSegment> = Once::new();

/// The interrupt descriptor table: limit and linear address.
pub(super) fn table() -> (u16, u64) {
    let gates = GATES.call_once(|| {
        core::array::from_fn(|vector| {
            let stack = match vector {
                PAGE_FAULT => PAGE_STACK,
                vector if RETURNING.contains(&vector) => OWN_STACK,
                _ => 0,
            };
            Gate::to(
                addr_of!(exception_stubs) as u64 + STUB_SIZE * vector as u64,
                stack,
            )
        })
    });
    (size_of_val(gates) as u16 - 1, gates.as_ptr() as u64)
}

/// Takes exceptions from now on. `bridge.s` does it again at each call.
pub fn load() {
    let task = TASK.call_once(|| {
        let mut task = TaskStateSegment::new();
        let top = STACK.0.get() as u64 + size_of::<Stack>() as u64;
        task.interrupt_stack_table[usize::from(OWN_STACK) - 1] = VirtAddr::new(top);
        let top = addr_of!(page_stack_top) as u64;
        task.interrupt_stack_table[usize::from(PAGE_STACK) - 1] = VirtAddr::new(top);
        task
    });
    if let Descriptor::SystemSegment(low, high) = Descriptor::tss_segment(task) {
        let at = super::bridge::segments() + u64::from(selector::TASK_STATE);
        Pc.write64(at, low);
        Pc.write64(at + 8, high);
    }
    let (limit, base) = table();
    let base = VirtAddr::new(base);
    // SAFETY: both tables are static and describe handlers that exist; the segment's descriptor has just been written.
    unsafe {
        tables::load_tss(SegmentSelector(selector::TASK_STATE));
        tables::lidt(&DescriptorTablePointer { limit, base });
    }
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
