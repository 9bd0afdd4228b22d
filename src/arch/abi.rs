//! What Rust and the assembly have to agree on: layouts, and what numbers mean. `src/assembly.rs` gives it the names that the
//! assembly knows it by.

use super::calls;
use super::frame::Frame;
use super::hw::RealRegs;
use crate::low_memory::{HANDLER_STACK, ROM_STACK, VARIABLES};
use crate::units::KIB;
use core::mem::offset_of;
use x86_64::structures::tss::TaskStateSegment;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// [`Frame::vector`] of a far call to the POST memory manager's entry.
pub const PMM: u16 = 0x101;
/// [`Frame::vector`] of a far call to the Plug and Play BIOS's entry, in real mode.
pub const PNP: u16 = 0x103;
/// [`Frame::vector`] of a machine that wakes up from S3.
pub const WAKE: u16 = 0x102;
/// [`Frame::vector`] of a vector that exceptions and hardware interrupts share, if no interrupt is being served: this plus the
/// vector.
pub const NO_INTERRUPT: u16 = 0x200;

/// Bytes from one entry of `master_irqs` to the next.
pub const MASTER_IRQ_SIZE: u16 = 8;
/// Bytes from one entry of `exception_stubs` to the next.
pub const STUB_SIZE: u64 = 16;
/// The vector of page faults, whose handler brings pages of the image to their place.
pub const PAGE_FAULT: usize = 14;
/// The interrupt stack of page faults, by its number in a gate, from 1.
pub const PAGE_STACK: u16 = 2;

/// Bytes of a task state segment.
pub const TASK_SIZE: usize = size_of::<TaskStateSegment>();
/// Where it has the interrupt stack of page faults.
pub const TASK_PAGE_STACK: usize =
    offset_of!(TaskStateSegment, interrupt_stack_table) + 8 * (PAGE_STACK as usize - 1);

/// Segments of `bridge_gdt`.
pub mod selector {
    /// 64-bit code.
    pub const CODE_64: u16 = 0x08;
    /// 16-bit code at [`VARIABLES`](crate::low_memory::VARIABLES).
    pub const CODE_16: u16 = 0x10;
    /// Flat 32-bit code.
    pub const CODE_32: u16 = 0x18;
    /// Flat 32-bit data.
    pub const DATA_32: u16 = 0x20;
    /// 16-bit data with a limit of 4 GiB.
    pub const DATA_16: u16 = 0x28;
    /// The task state segment, which takes two entries.
    pub const TASK_STATE: u16 = 0x30;
    /// Entries of the table.
    pub const COUNT: usize = 8;
}

/// Control registers (Intel SDM volume 3, 2.5), bit by bit: the flags of the crate `x86_64` bring `std` into a build of the whole
/// workspace. A test compares them.
pub mod control {
    /// CR0: protected mode.
    pub const CR0_PE: u32 = 1 << 0;
    /// CR0: paging.
    pub const CR0_PAGING: u32 = 1 << 31;
    /// CR0: memory is not cached (CD, NW).
    pub const CR0_NOT_CACHED: u32 = 3 << 29;
    /// CR0 in real mode (ET).
    pub const CR0_REAL: u32 = 1 << 4;
    /// CR0 in protected mode without paging.
    pub const CR0_PROTECTED: u32 = CR0_REAL | CR0_PE;
    /// CR0 of our 64-bit code (with NE and MP).
    pub const CR0_LONG: u32 = CR0_PROTECTED | CR0_PAGING | 1 << 5 | 1 << 1;
    /// CR4 of our 64-bit code, which uses SSE (PAE, OSFXSR, OSXMMEXCPT).
    pub const CR4_LONG: u32 = 1 << 5 | 1 << 9 | 1 << 10;
    /// Number of the register EFER.
    pub const MSR_EFER: u32 = 0xc000_0080;
    /// The bit of EFER that enables long mode.
    pub const EFER_LME: u32 = 8;

    #[cfg(test)]
    mod tests {
        use super::*;
        use x86_64::registers::control::{Cr0Flags, Cr4Flags};
        use x86_64::registers::model_specific::EferFlags;

        #[test]
        fn the_bits_are_those_of_the_processor() {
            let real = Cr0Flags::EXTENSION_TYPE;
            let protected = real | Cr0Flags::PROTECTED_MODE_ENABLE;
            let long = protected
                | Cr0Flags::PAGING
                | Cr0Flags::NUMERIC_ERROR
                | Cr0Flags::MONITOR_COPROCESSOR;
            let not_cached = Cr0Flags::CACHE_DISABLE | Cr0Flags::NOT_WRITE_THROUGH;
            let flags = [real, protected, long, not_cached];
            let bits = [CR0_REAL, CR0_PROTECTED, CR0_LONG, CR0_NOT_CACHED];
            assert_eq!(flags.map(|flags| flags.bits()), bits.map(u64::from));
            let sse = Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE;
            let long = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION | sse;
            assert_eq!(long.bits(), CR4_LONG.into());
            assert_eq!(EferFlags::LONG_MODE_ENABLE.bits(), 1 << EFER_LME);
        }
    }
}

/// Bits of `fseg_state`.
pub mod state {
    /// RAM has the firmware.
    pub const INSTALLED: u32 = 1 << 0;
    /// The machine is set up: a jump to F000:FFF0 is a reset.
    pub const BOOTED: u32 = 1 << 1;
    /// `protected.s` has its way to 64-bit code.
    pub const SMI_WORKS: u32 = 1 << 2;
}

/// Bits of [`Variables::pending`].
pub mod pending {
    /// A breakpoint of the guest's.
    pub const DEBUG: u32 = 1 << 0;
    /// A non-maskable interrupt.
    pub const NMI: u32 = 1 << 1;
}

/// System management mode.
pub mod smm {
    use crate::low_memory::VIDEO;

    /// A write to this port enters it.
    pub const PORT: u16 = 0xb2;
    /// Any value but those by which systems switch ACPI on and off at this port (QEMU: 02h, 03h, F0h, F1h).
    pub const COMMAND: u8 = 0x46;
    /// Where it is after a reset.
    pub const FIRST_BASE: u64 = 0x3_0000;
    /// Where it is from then on, in memory that only it sees.
    pub const BASE: u64 = VIDEO.start;
    /// Where its code begins, from its base.
    pub const ENTRY: u64 = 0x8000;
    /// The state in which 64-bit code is entered, from its base: in the page of the code, since each page is an exit to KVM.
    pub const OURS: u64 = 0x8400;
    /// What its code leaves in EAX when it has moved to its place.
    pub const MOVED: u32 = 1;
    /// Where the processor saves its state, from its base.
    pub const STATE: u64 = 0xfe00;
}

/// Bits of a page table's entry.
pub mod page {
    /// It shows something.
    pub const PRESENT: u64 = 1 << 0;
    /// It can be written.
    pub const WRITABLE: u64 = 1 << 1;
    /// What it shows is a page and not a table.
    pub const LARGE: u64 = 1 << 7;
}

/// What of [`HANDLER_STACK`] each handler can rely on. One that goes on to a stack of its own does not say how far it came.
pub const HANDLER_STACK_SHARE: u64 = KIB;
/// Calls into real mode that can be out at a time.
pub const MOST_CALLS: usize = calls::MOST;
/// Most MSRs that application processors load.
pub const AP_MSRS: usize = 48;

/// The variables of the 16-bit code, at [`VARIABLES`].
#[repr(C)]
pub struct Variables {
    /// The caller that is being served.
    pub caller: Caller,
    /// The call into real mode that is being made.
    pub call: Call,
    /// Top of the 64-bit stack that the next entry uses.
    pub stack: u64,
    /// `fn(&mut Caller) -> u32`, which serves a caller: 0 return, 1 wait for an interrupt and call again, 2 go on at `chain`.
    pub dispatch: u64,
    /// `fn() -> !`, for a call that returns although it was given up.
    pub lost: u64,
    /// CR3 of 64-bit code.
    pub cr3: u32,
    /// What came while a service ran, and the guest has to hear of: see [`pending`].
    pub pending: u32,
    /// Offset and segment of the handler that a caller goes on at.
    pub chain: [u16; 2],
    /// What `dispatch` returned.
    pub outcome: u32,
    /// The interrupt table of 64-bit code, as LIDT wants it: limit, address.
    pub idtr: [u16; 8],
    /// Application processors that have parked themselves.
    pub ap_count: u32,
    /// How many of `ap_msrs` there are.
    pub ap_msr_count: u32,
    /// A bit for each APIC ID that was seen.
    pub ap_ids: [u8; 32],
    /// The copy of `bridge_gdt` that is used, since the processor writes to it.
    pub segments: [u64; selector::COUNT],
    /// Calls into real mode that are out.
    pub saved: [Saved; MOST_CALLS],
    /// MSRs for application processors: number, low half, high half.
    pub ap_msrs: [[u32; 3]; AP_MSRS],
    /// `fn() -> u32`, which serves a protected caller: 1 a handler returned, 0 go on with what is in `smi_state`.
    pub smi_serve: u64,
    /// A protected caller, as the processor saved it.
    pub smi_state: State,
}

/// A caller: the services' part, and what only the bridge restores.
#[repr(C)]
pub struct Caller {
    /// The services' part.
    pub frame: Frame,
    /// CR0.
    pub cr0: u32,
    /// CR3.
    pub cr3: u32,
    /// CR4.
    pub cr4: u32,
    /// EFER.
    pub efer: u64,
    /// GDTR.
    pub gdtr: [u16; 4],
    /// IDTR.
    pub idtr: [u16; 4],
    /// The hidden base of FS.
    pub fs_base: u32,
    /// The hidden base of GS.
    pub gs_base: u32,
}

/// The part of the 64-bit stack that waits for a call into real mode.
#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
pub struct Saved {
    /// Whose it is.
    pub ticket: u64,
    /// Where its bytes are kept.
    pub bytes: u64,
    /// How many there are, by eight.
    pub quads: u64,
    /// RSP.
    pub rsp: u64,
}

/// A call into real mode.
#[repr(C)]
pub struct Call {
    /// What the callee starts with, and then what it returned with.
    pub regs: RealRegs,
    /// Its stack pointer.
    pub esp: u32,
    /// Its stack segment.
    pub ss: u16,
    /// What is called.
    pub kind: Kind,
    /// What is put on its stack.
    pub words: [u16; 4],
    /// What tells the call from others.
    pub ticket: u64,
}

/// What is called in real mode.
#[derive(Clone, Copy)]
#[repr(u16)]
pub enum Kind {
    /// Far-called, with limits of 4 GiB.
    Rom = 0,
    /// An interrupt handler: FLAGS are on its stack.
    Interrupt = 1,
    /// Far-called with words on its stack.
    Words = 2,
    /// What [`Variables::smi_state`] says, in virtual-8086 mode.
    Prepared = 3,
}

/// A segment register as the processor saves it for system management mode.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Segment {
    /// What was loaded.
    pub selector: u16,
    attributes: u16,
    limit: u32,
    /// Where the segment begins.
    pub base: u64,
}

/// What the processor saves when it enters system management mode: the AMD64 layout (AMD64 manual volume 2, 10.2.2).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct State {
    /// ES.
    pub es: Segment,
    /// CS.
    pub cs: Segment,
    /// SS.
    pub ss: Segment,
    /// DS.
    pub ds: Segment,
    /// FS.
    pub fs: Segment,
    /// GS.
    pub gs: Segment,
    tables: [u64; 8],
    reserved: [u64; 6],
    /// EFER.
    pub efer: u64,
    causes: [u64; 5],
    /// Where system management mode is from the next time on.
    pub base: u32,
    not_ours: [u32; 17],
    /// CR4.
    pub cr4: u64,
    /// CR3.
    pub cr3: u64,
    /// CR0.
    pub cr0: u64,
    dr7: u64,
    dr6: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// RIP.
    pub rip: u64,
    upper: [u64; 8],
    /// RDI.
    pub rdi: u64,
    /// RSI.
    pub rsi: u64,
    /// RBP.
    pub rbp: u64,
    /// RSP.
    pub rsp: u64,
    /// RBX.
    pub rbx: u64,
    /// RDX.
    pub rdx: u64,
    /// RCX.
    pub rcx: u64,
    /// RAX.
    pub rax: u64,
}

const _: () = {
    assert!(size_of::<State>() == 512);
    assert!(offset_of!(State, efer) == 0xd0);
    assert!(offset_of!(State, base) == 0x100);
    assert!(offset_of!(State, cr4) == 0x148);
    assert!(offset_of!(State, rip) == 0x178);
    assert!(size_of::<Variables>() as u64 <= VARIABLES.end - VARIABLES.start);
    // These are copied by eight bytes.
    assert!(size_of::<Caller>().is_multiple_of(8) && size_of::<RealRegs>().is_multiple_of(8));
    assert!(size_of::<Call>().is_multiple_of(8));
    // The last word of a part of the stack is found by its size.
    assert!(HANDLER_STACK_SHARE.is_power_of_two());
    assert!(HANDLER_STACK.start.is_multiple_of(HANDLER_STACK_SHARE));
    assert!(HANDLER_STACK.end - HANDLER_STACK.start == calls::SHARES as u64 * HANDLER_STACK_SHARE);
    let rom_stack = ROM_STACK.end - ROM_STACK.start;
    assert!(rom_stack.is_power_of_two() && ROM_STACK.start.is_multiple_of(rom_stack));
};
