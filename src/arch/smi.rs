//! The Rust side of `protected.s`: callers in virtual-8086 mode and in 16-bit protected mode.
//!
//! System management mode only swaps states; nothing of ours runs in it, and it guards nothing: what it swaps lies in memory that a
//! guest can write. While such a caller is served, the first MiB is what the caller's own page tables show there, so that services
//! find its buffers, its vectors and its BIOS data area. A handler that a service calls runs in the caller's mode.

use super::abi::{Kind, Segment, State, smm};
use super::bridge;
use super::frame::{Frame, Outcome};
use super::hw::{PhysMem, RealRegs};
use super::paging::Paging;
use super::pc::{self, Pc};
use crate::low_memory::{F_SEGMENT, WRITABLE};
use crate::units::{MIB, PAGE, segment};
use core::arch::asm;
use core::ptr::addr_of;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

unsafe extern "C" {
    static dummy_iret: u8;
    static smi_handler: u8;
    static smi_handler_end: u8;
    static smi_handler_return: u8;
    static smi_return: u8;
    static smi_return_end: u8;
    static smi_wait: u8;
}

/// What the first entry uses of memory: code, and the saved state.
const FIRST_CODE: u64 = smm::FIRST_BASE + smm::ENTRY;
const FIRST_STATE: u64 = smm::FIRST_BASE + smm::STATE;
/// Most bytes of `smi_handler`.
const MOST_CODE: usize = 0x200;
/// EFLAGS: CF, TF, IF, IOPL, VM.
const ARITHMETIC: u64 = 0x0cd5;
const TRAP: u64 = 1 << 8;
const INTERRUPTS: u64 = 1 << 9;
const PRIVILEGE: u64 = 3 << 12;
const VIRTUAL_8086: u64 = 1 << 17;
/// First byte that real-mode addresses do not reach, in whole pages.
const REACHED: u64 = 0x11_0000;

/// The general registers but the stack pointer, in pairs of a saved state's and of a caller's.
macro_rules! registers {
    ($state:expr, $caller:expr) => {
        [
            (&mut $state.rax, &mut $caller.eax),
            (&mut $state.rbx, &mut $caller.ebx),
            (&mut $state.rcx, &mut $caller.ecx),
            (&mut $state.rdx, &mut $caller.edx),
            (&mut $state.rsi, &mut $caller.esi),
            (&mut $state.rdi, &mut $caller.edi),
            (&mut $state.rbp, &mut $caller.ebp),
        ]
    };
}

/// Whether the call that is served is a protected one.
static SERVING: AtomicBool = AtomicBool::new(false);

/// Takes system management mode to its place, which the chip set shows there once it is `open`. Returns whether that worked, as it
/// does not where the hypervisor has no such mode. What the first entry uses of memory is as before afterwards if it is to be `keep`t.
pub fn install(keep: bool, open: impl FnOnce() -> bool) -> bool {
    let code = addr_of!(smi_handler) as u64;
    let len = addr_of!(smi_handler_end) as u64 - code;
    debug_assert!(len <= MOST_CODE as u64);
    let before = keep.then(|| {
        let mut before = ([0; MOST_CODE], [0; size_of::<State>()]);
        Pc.read(FIRST_CODE, &mut before.0);
        Pc.read(FIRST_STATE, &mut before.1);
        before
    });
    // First, since opening has KVM forget which pages the guest has.
    Pc.copy(FIRST_CODE, code, len);
    let moved = open() && move_to_place();
    if let Some((code, state)) = before {
        Pc.write(FIRST_CODE, &code);
        Pc.write(FIRST_STATE, &state);
    }
    if moved {
        bridge::finish_smi();
    }
    moved
}

/// The first entry; whether it came.
fn move_to_place() -> bool {
    let answer: u32;
    // SAFETY: the processor goes on here with all of its state as before, but for what the handler leaves in EAX.
    unsafe {
        asm!(
            "out {port}, al",
            // It may come an instruction or more late.
            ".rept 8",
            ".byte 0xeb, 0",
            ".endr",
            port = const smm::PORT,
            inout("eax") u32::from(smm::COMMAND) => answer,
        );
    }
    answer == smm::MOVED
}

/// Whether `addr` is where devices find it, too.
pub fn is_plain(addr: u64) -> bool {
    addr >= REACHED || !SERVING.load(Relaxed)
}

impl State {
    fn read() -> Self {
        Pc.read_as(bridge::smi_state())
    }

    fn write(&self) {
        Pc.write_as(bridge::smi_state(), self);
    }

    fn paging(&self) -> Paging {
        Paging {
            cr0: self.cr0,
            cr3: self.cr3,
            cr4: self.cr4,
            efer: self.efer,
        }
    }

    fn is_virtual_8086(&self) -> bool {
        self.rflags & VIRTUAL_8086 != 0
    }

    /// Goes on at `offset` of segment F000h, as seen by the caller.
    fn go_to(&mut self, offset: u16) {
        self.rip = F_SEGMENT.start + u64::from(offset) - self.cs.base;
    }

    /// Address of the word at SS:SP + `offset`.
    fn stack(&self, offset: u16) -> u64 {
        self.ss.base + u64::from((self.rsp as u16).wrapping_add(offset))
    }

    fn push(&mut self, word: u16) {
        let sp = (self.rsp as u16).wrapping_sub(2);
        self.rsp = self.rsp & !0xffff | u64::from(sp);
        Pc.write16(self.stack(0), word);
    }

    fn pop(&mut self) -> u16 {
        let word = Pc.read16(self.stack(0));
        let sp = (self.rsp as u16).wrapping_add(2);
        self.rsp = self.rsp & !0xffff | u64::from(sp);
        word
    }

    /// The caller as the services see it. Where its data segments lie matters only to services that use them.
    fn frame(&mut self) -> Option<Frame> {
        let data = |register| real(register).unwrap_or(0);
        let mut frame = Frame {
            esp: self.rsp as u32,
            ds: data(&self.ds),
            es: data(&self.es),
            fs: data(&self.fs),
            gs: data(&self.gs),
            ss: real(&self.ss)?,
            ..Frame::default()
        };
        for (saved, caller) in registers!(self, frame) {
            *caller = *saved as u32;
        }
        Some(frame)
    }

    /// Takes over what a service has made of the caller, which was `before`.
    fn set(&mut self, mut frame: Frame, before: &Frame) {
        self.rsp = frame.esp.into();
        for (saved, caller) in registers!(self, frame) {
            *saved = (*caller).into();
        }
        if self.is_virtual_8086() {
            for (register, now, before) in [
                (&mut self.ds, frame.ds, before.ds),
                (&mut self.es, frame.es, before.es),
                (&mut self.ss, frame.ss, before.ss),
            ] {
                if now != before {
                    set_segment(register, now);
                }
            }
        }
    }
}

/// What stands for the segment in real mode; `None` where nothing does.
fn real(register: &Segment) -> Option<u16> {
    let fits = register.base < MIB && register.base.is_multiple_of(16);
    fits.then_some((register.base >> 4) as u16)
}

fn set_segment(register: &mut Segment, selector: u16) {
    register.selector = selector;
    register.base = super::linear(selector, 0);
}

/// Lets the first MiB be the caller's, but for what is the firmware's own there.
fn show(state: &State) {
    SERVING.store(true, Relaxed);
    let paging = state.paging();
    if paging.is_off() {
        return;
    }
    pc::show_first_mib(|page| {
        if (WRITABLE.start..F_SEGMENT.end).contains(&page) || page >= REACHED {
            return Some(page);
        }
        paging.page(&Pc, page as u32)
    });
}

fn hide() {
    pc::show_all_memory();
    SERVING.store(false, Relaxed);
}

/// Where `protected.s` calls us: a service's caller, or a handler that is through.
pub(super) extern "C" fn serve() -> u32 {
    let mut state = State::read();
    let at = state
        .cs
        .base
        .wrapping_add(state.rip)
        .wrapping_sub(F_SEGMENT.start);
    let place = |symbol: *const u8| u64::from(bridge::fseg_offset(symbol));
    let returned = place(addr_of!(smi_return))..=place(addr_of!(smi_return_end));
    show(&state);
    if returned.contains(&at) {
        finish_call(&mut state);
        return 1;
    }
    // What the code before pushed: AX, and the vector.
    let mut served = state;
    let ax = served.pop();
    let vector = served.pop();
    served.rax = served.rax & !0xffff | u64::from(ax);
    if let Some(before) = served.frame() {
        let mut frame = Frame { vector, ..before };
        let outcome = bridge::dispatch(&mut frame);
        // A handler that was called meanwhile may have changed what is not the caller's own, as page tables are.
        let mut state = State::read();
        (state.ds, state.es, state.ss) = (served.ds, served.es, served.ss);
        (state.fs, state.gs) = (served.fs, served.gs);
        state.set(frame, &before);
        leave(&mut state, &frame, outcome);
        state.write();
    }
    hide();
    0
}

fn leave(state: &mut State, frame: &Frame, outcome: Outcome) {
    let offset = |symbol: *const u8| bridge::fseg_offset(symbol);
    match outcome {
        Outcome::Chain { segment, offset } if state.is_virtual_8086() => {
            set_segment(&mut state.cs, segment);
            state.rip = offset.into();
        }
        Outcome::Chain { .. } | Outcome::Return => state.go_to(offset(addr_of!(dummy_iret))),
        Outcome::WaitForInterrupt => {
            state.push(frame.vector);
            state.go_to(offset(addr_of!(smi_wait)));
        }
    }
}

/// Prepares a call of a handler in the caller's mode, for the bridge to go there. `None` where the call that is served is not a
/// protected one, and where it is not in virtual-8086 mode, whose handlers are not called.
pub(super) fn prepare_call(regs: &RealRegs, kind: Kind, words: &[u16; 4], ticket: u16) -> Prepared {
    if !SERVING.load(Relaxed) {
        return Prepared::No;
    }
    let mut state = State::read();
    if !state.is_virtual_8086() {
        return Prepared::Impossible;
    }
    state.push(ticket);
    for word in words {
        state.push(*word);
    }
    let mut flags = state.rflags & !(ARITHMETIC | TRAP) | u64::from(regs.flags) & ARITHMETIC;
    if flags & PRIVILEGE == PRIVILEGE {
        flags &= !INTERRUPTS;
        flags |= match kind {
            Kind::Interrupt => 0,
            _ => u64::from(regs.flags) & INTERRUPTS,
        };
    }
    if let Kind::Interrupt = kind {
        state.push(regs.flags);
    }
    state.push(segment(F_SEGMENT.start));
    state.push(bridge::fseg_offset(addr_of!(smi_handler_return)));
    state.rflags = flags;
    set_segment(&mut state.cs, regs.cs);
    state.rip = regs.ip.into();
    set_segment(&mut state.ds, regs.ds);
    set_segment(&mut state.es, regs.es);
    let mut regs = *regs;
    for (saved, callee) in registers!(state, regs) {
        *saved = (*callee).into();
    }
    state.write();
    Prepared::Yes
}

/// What [`prepare_call`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prepared {
    /// The call that is served came from real mode.
    No,
    /// The state to go to is there.
    Yes,
    /// The caller's mode has no such calls.
    Impossible,
}

/// A handler came back: its registers go to where the bridge takes them from.
fn finish_call(state: &mut State) {
    let ax = state.pop();
    for _ in 0..4 {
        state.pop();
    }
    let ticket = state.pop();
    state.rax = state.rax & !0xffff | u64::from(ax);
    state.write();
    let mut regs = RealRegs {
        ds: state.ds.selector,
        es: state.es.selector,
        flags: state.rflags as u16,
        ..RealRegs::default()
    };
    for (saved, callee) in registers!(state, regs) {
        *callee = *saved as u32;
    }
    bridge::returned(&regs, ticket);
}

/// Puts plain memory back for code in another mode; what to give to [`resume`].
pub(super) fn suspend() -> bool {
    let serving = SERVING.load(Relaxed);
    if serving {
        hide();
    }
    serving
}

/// Goes on where [`suspend`] was.
pub(super) fn resume(serving: bool) {
    if serving {
        show(&State::read());
    }
}

const _: () = assert!(PAGE == 4096);
