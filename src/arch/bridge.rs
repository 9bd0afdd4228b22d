//! The Rust side of `bridge.s`: real-mode callers come in through [`install`]'s dispatcher, and [`call_handler`]
//! and its like go out to them.

use super::abi::{
    AP_MSRS, Call, Caller, HANDLER_STACK_SHARE, Kind, MASTER_IRQ_SIZE, Saved, Variables, selector,
    state,
};
use super::calls::Calls;
use super::frame::{Entries, Frame, Outcome};
use super::hw::{PhysMem, RealRegs};
use super::pc::Pc;
use super::smi::{self, Prepared};
use crate::low_memory::{CODE, F_SEGMENT, HANDLER_STACK, ROM_STACK, VARIABLES, f_offset};
use crate::units::segment;
use core::arch::asm;
use core::mem::offset_of;
use core::ptr::addr_of;
use spin::{Mutex, Once};

unsafe extern "C" {
    static fseg_start: u8;
    static bridge_gdt: u8;
    static fseg_state: u8;
    static start_guest: u8;
    static start_program: u8;
    static start_linux: u8;
    static awake: u8;
    fn bridge_call();
    static int00: u8;
    static int06: u8;
    static master_irqs: u8;
    static slave_irq: u8;
    static int08_console: u8;
    static int18: u8;
    static int70: u8;
    static int74: u8;
    static int75: u8;
    static int76: u8;
    static pmm_entry: u8;
    static pnp_entry: u8;
    static pending_interrupts: u8;
    static bios32_entry: u8;
    static apm16_entry: u8;
    static apm32_entry: u8;
    static apm_pm1_control: u8;
    static to_protected_mode: u8;
    static pci32_last_bus: u8;
    static post: u8;
    static reset_vector: u8;
}

/// Where `bridge.s` put the entries that have no fixed address.
pub fn entries() -> Entries {
    Entries {
        int00: fseg_offset(addr_of!(int00)),
        int06: fseg_offset(addr_of!(int06)),
        master_irqs: core::array::from_fn(|index| {
            fseg_offset(addr_of!(master_irqs)) + MASTER_IRQ_SIZE * index as u16
        }),
        slave_irq: fseg_offset(addr_of!(slave_irq)),
        int08_console: fseg_offset(addr_of!(int08_console)),
        int18: fseg_offset(addr_of!(int18)),
        int70: fseg_offset(addr_of!(int70)),
        int74: fseg_offset(addr_of!(int74)),
        int75: fseg_offset(addr_of!(int75)),
        int76: fseg_offset(addr_of!(int76)),
        pmm: fseg_offset(addr_of!(pmm_entry)),
        pnp: fseg_offset(addr_of!(pnp_entry)),
        bios32: fseg_offset(addr_of!(bios32_entry)),
        apm16: fseg_offset(addr_of!(apm16_entry)),
        apm32: fseg_offset(addr_of!(apm32_entry)),
        to_protected_mode: fseg_offset(addr_of!(to_protected_mode)),
    }
}

const HANDLER_SEGMENT: u16 = segment(HANDLER_STACK.start);

static DISPATCH: Once<fn(&mut Frame) -> Outcome> = Once::new();

/// Offset in the F segment of a symbol of `bridge.s`, given its address in the image.
pub fn fseg_offset<T>(symbol: *const T) -> u16 {
    let distance = symbol as u64 - addr_of!(fseg_start) as u64;
    f_offset(CODE.start) + distance as u16
}

/// Address of a field of the variables that the bridge uses at run time.
fn variable(offset: usize) -> u64 {
    VARIABLES.start + offset as u64
}

/// Puts our part of the F segment into RAM, which must be writable there, and opens the bridge.
pub fn install(dispatch: fn(&mut Frame) -> Outcome) {
    DISPATCH.call_once(|| dispatch);
    Pc.copy(
        CODE.start,
        addr_of!(fseg_start) as u64,
        CODE.end - CODE.start,
    );
    set_state(state::INSTALLED);
    Pc.fill(VARIABLES.start, VARIABLES.end - VARIABLES.start, 0);
    Pc.copy(
        variable(offset_of!(Variables, segments)),
        segments(),
        size_of::<[u64; selector::COUNT]>() as u64,
    );
    Pc.write64(
        variable(offset_of!(Variables, dispatch)),
        enter as *const () as u64,
    );
    Pc.write64(
        variable(offset_of!(Variables, smi_serve)),
        super::smi::serve as *const () as u64,
    );
    Pc.write32(
        variable(offset_of!(Variables, cr3)),
        super::cpu::page_tables() as u32,
    );
    Pc.write64(
        variable(offset_of!(Variables, lost)),
        lost as *const () as u64,
    );
    /// JMP with a 16-bit offset and a segment behind it.
    const FAR_JUMP: u8 = 0xea;
    let vector = F_SEGMENT.start + u64::from(fseg_offset(addr_of!(reset_vector)));
    Pc.write8(vector, FAR_JUMP);
    Pc.write16(vector + 1, fseg_offset(addr_of!(post)));
    Pc.write16(vector + 3, segment(F_SEGMENT.start));
    let (limit, base) = super::exception::table();
    let idtr = variable(offset_of!(Variables, idtr));
    Pc.write16(idtr, limit);
    Pc.write64(idtr + 2, base);
    Pc.write64(
        variable(offset_of!(Variables, stack)),
        super::cpu::stack_top(),
    );
}

/// Tells `bridge.s` how far the firmware has come. The F segment must be writable.
fn set_state(bits: u32) {
    let place = F_SEGMENT.start + u64::from(fseg_offset(addr_of!(fseg_state)));
    Pc.write32(place, Pc.read32(place) | bits);
}

/// Has protected callers served.
pub(super) fn finish_smi() {
    set_state(state::SMI_WORKS);
}

/// Where the state of a protected caller is.
pub(super) fn smi_state() -> u64 {
    variable(offset_of!(Variables, smi_state))
}

/// Leaves what a handler returned with, and its ticket, where `bridge.s` takes them from.
pub(super) fn returned(regs: &RealRegs, ticket: u16) {
    let call = variable(offset_of!(Variables, call));
    Pc.write_as(call, regs);
    Pc.write64(call + offset_of!(Call, ticket) as u64, ticket.into());
}

/// Tells the 32-bit PCI BIOS the highest bus number.
pub fn set_last_pci_bus(bus: u8) {
    let place = F_SEGMENT.start + u64::from(fseg_offset(addr_of!(pci32_last_bus)));
    Pc.write8(place, bus);
}

/// Tells the protected-mode APM the port that switches the machine off, 0 for none.
pub fn set_pm1_control(port: u16) {
    let place = F_SEGMENT.start + u64::from(fseg_offset(addr_of!(apm_pm1_control)));
    Pc.write16(place, port);
}

/// Marks the machine as set up: from now on a jump to F000:FFF0 resets it. The F segment must be writable.
pub fn mark_booted() {
    set_state(state::BOOTED);
}

/// Where `bridge.s` calls us, interrupts off, on the 64-bit stack.
extern "C" fn enter(caller: &mut Caller) -> u32 {
    let frame = &mut caller.frame;
    let selectors = [frame.fs, frame.gs];
    take_pushed(frame);
    let outcome = dispatched(frame);
    put_pushed(frame);
    // A selector that a service did not touch keeps a base that may be of the caller's own making.
    let now = [frame.fs, frame.gs];
    for (index, base) in [&mut caller.fs_base, &mut caller.gs_base]
        .into_iter()
        .enumerate()
    {
        if now[index] != selectors[index] {
            *base = super::linear(now[index], 0) as u32;
        }
    }
    match outcome {
        Outcome::Return => 0,
        Outcome::WaitForInterrupt => 1,
        Outcome::Chain { segment, offset } => {
            let chain = variable(offset_of!(Variables, chain));
            Pc.write16(chain, offset);
            Pc.write16(chain + 2, segment);
            2
        }
    }
}

/// Serves a protected caller, of which `frame` has everything but what the interrupt pushed.
pub(super) fn dispatch(frame: &mut Frame) -> Outcome {
    take_pushed(frame);
    let outcome = dispatched(frame);
    put_pushed(frame);
    outcome
}

fn dispatched(frame: &mut Frame) -> Outcome {
    match DISPATCH.get() {
        Some(dispatch) => dispatch(frame),
        None => Outcome::Return,
    }
}

/// Where the interrupt pushed IP, CS and FLAGS; a stack pointer that wraps at 64 KiB is legal.
fn pushed(frame: &Frame) -> [u64; 3] {
    let place = |word: u16| super::linear(frame.ss, (frame.esp as u16).wrapping_add(2 * word));
    [place(0), place(1), place(2)]
}

fn take_pushed(frame: &mut Frame) {
    [frame.ip, frame.cs, frame.flags] = pushed(frame).map(|place| Pc.read16(place));
}

/// A service may have moved the stack, as a boot hand-off does.
fn put_pushed(frame: &Frame) {
    let words = [frame.ip, frame.cs, frame.flags];
    for (place, word) in pushed(frame).into_iter().zip(words) {
        Pc.write16(place, word);
    }
}

/// Runs an interrupt handler at `regs.cs:regs.ip` until it returns by IRET.
pub fn call_handler(regs: &mut RealRegs) {
    call_guest(regs, Kind::Interrupt, [0; 4]);
}

/// Opens a window for interrupts in real mode, until none is pending.
pub fn serve_interrupts() {
    let mut regs = RealRegs {
        cs: segment(F_SEGMENT.start),
        ip: fseg_offset(addr_of!(pending_interrupts)),
        ..RealRegs::default()
    };
    call_with(&mut regs, &[0; 4]);
}

/// Runs real-mode code at `regs.cs:regs.ip` until it returns by RETF, with `words` on its stack, the last one lowest.
pub fn call_with(regs: &mut RealRegs, words: &[u16; 4]) {
    call_guest(regs, Kind::Words, *words);
}

/// Calls code of the guest's on the stack that is for that.
fn call_guest(regs: &mut RealRegs, kind: Kind, words: [u16; 4]) {
    let mut call = Call {
        regs: *regs,
        esp: 0,
        ss: HANDLER_SEGMENT,
        kind,
        words,
        ticket: 0,
    };
    call_and_return(&mut call);
    *regs = call.regs;
}

/// Runs an option ROM at `regs.cs:regs.ip` until it returns by RETF, with the segments that SeaBIOS gives ROMs.
pub fn call_rom(regs: &mut RealRegs) {
    let lent = ROM_STACK.start;
    let mut before = [0; (ROM_STACK.end - ROM_STACK.start) as usize];
    Pc.read(lent, &mut before);
    let mut call = rom_call(regs);
    call_and_return(&mut call);
    *regs = call.regs;
    Pc.write(lent, &before);
}

fn rom_call(regs: &RealRegs) -> Call {
    Call {
        regs: *regs,
        esp: ROM_STACK.end as u32,
        ss: 0,
        kind: Kind::Rom,
        words: [0; 4],
        ticket: 0,
    }
}

static CALLS: Mutex<Calls> = Mutex::new(Calls::new());

/// Makes a call that may return, and may not. Nothing is called where there is no memory to remember the caller.
#[inline(never)]
fn call_and_return(call: &mut Call) {
    /// What this function and the entry in `bridge.s` add to the stack, at most.
    const MARGIN: u64 = 512;
    let rsp: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags)) };
    let quads = (super::cpu::stack_top() - rsp + MARGIN) / 8;
    let shared = !matches!(call.kind, Kind::Rom);
    let Some(place) = CALLS.lock().begin(quads as usize, shared) else {
        log::error!("no memory for a call into real mode, which is left out");
        return;
    };
    if shared {
        let top = HANDLER_STACK.start + (place.share as u64 + 1) * HANDLER_STACK_SHARE;
        call.esp = (top - HANDLER_STACK.start) as u32;
    }
    call.ticket = place.ticket.into();
    if shared {
        match smi::prepare_call(&call.regs, call.kind, &call.words, place.ticket) {
            Prepared::No => {}
            Prepared::Yes => call.kind = Kind::Prepared,
            Prepared::Impossible => return CALLS.lock().end(&place),
        }
    }
    let serving = smi::suspend();
    let saved = variable(offset_of!(Variables, saved)) + (place.slot * size_of::<Saved>()) as u64;
    let entry = Saved {
        ticket: call.ticket,
        bytes: place.stack,
        quads,
        rsp: 0,
    };
    Pc.write_as(saved, &entry);
    enter_real_mode(call, saved);
    smi::resume(serving);
    Pc.write64(saved, 0);
    CALLS.lock().end(&place);
}

/// Where `bridge.s` ends when a call returns that was given up, since too many others had not returned.
extern "C" fn lost() -> ! {
    log::error!("firmware stopped: a handler returned after its caller was given up");
    super::cpu::halt()
}

fn enter_real_mode(call: &mut Call, saved: u64) {
    let address = F_SEGMENT.start + u64::from(fseg_offset(bridge_call as *const u8));
    // SAFETY: the address is that of bridge_call's copy in the F segment, which `install` put there; it keeps the registers
    // that the C calling convention wants kept. When the real-mode code returns, it puts the stack back as it was, which others
    // may have used meanwhile: nothing outside of a stack refers to what is on it, and devices write to memory of their own.
    unsafe {
        let entry: extern "C" fn(*mut Call, u64) = core::mem::transmute(address);
        entry(call, saved);
    }
}

/// Leaves the firmware's own thread of control for ever: real mode, INT 19h, on a stack below 0000:7C00. The machine must be marked as
/// set up before.
pub fn start_guest_boot() -> ! {
    leave_to(addr_of!(start_guest), RealRegs::default())
}

/// Leaves the firmware's own thread of control for ever, for the boot program that `frame` was prepared for by [`Frame::start`].
pub fn start_boot_program(frame: &Frame) -> ! {
    let regs = RealRegs {
        eax: frame.eax,
        ecx: u32::from(frame.cs) << 16 | u32::from(frame.ip),
        edx: frame.edx,
        ..RealRegs::default()
    };
    leave_to(addr_of!(start_program), regs)
}

/// Lets a guest that wakes up go on at `vector`, an address below 1 MiB, once the call with `frame` returns.
pub fn go_on_awake(frame: &mut Frame, vector: u32) {
    frame.eax = (vector >> 4) << 16 | vector & 0xf;
    frame.cs = segment(F_SEGMENT.start);
    frame.ip = fseg_offset(addr_of!(awake));
    frame.flags = 0;
}

/// Leaves for Linux setup code in real mode, which lies at `setup`, below 1 MiB. Its stack is in its segment.
pub fn start_linux_setup(setup: u64, stack: u16) -> ! {
    mark_booted();
    let regs = RealRegs {
        ds: segment(setup),
        ecx: stack.into(),
        ..RealRegs::default()
    };
    leave_to(addr_of!(start_linux), regs)
}

fn leave_to(code: *const u8, regs: RealRegs) -> ! {
    let regs = RealRegs {
        cs: segment(F_SEGMENT.start),
        ip: fseg_offset(code),
        ..regs
    };
    // The real-mode code never returns, so nothing of the stack is kept.
    enter_real_mode(&mut rom_call(&regs), 0);
    super::cpu::halt()
}

/// Hands MSRs to the code that application processors run, none of which has parked itself then. More than fit are cut, which the
/// log says.
pub fn set_ap_msrs(msrs: &[(u32, u64)]) {
    if msrs.len() > AP_MSRS {
        log::warn!("{} MSRs for the other CPUs, room for {AP_MSRS}", msrs.len());
    }
    let table = variable(offset_of!(Variables, ap_msrs));
    let count = msrs.len().min(AP_MSRS);
    for (i, (msr, value)) in msrs[..count].iter().enumerate() {
        Pc.write32(table + 12 * i as u64, *msr);
        Pc.write32(table + 12 * i as u64 + 4, *value as u32);
        Pc.write32(table + 12 * i as u64 + 8, (*value >> 32) as u32);
    }
    Pc.write32(variable(offset_of!(Variables, ap_msr_count)), count as u32);
    Pc.write32(variable(offset_of!(Variables, ap_count)), 0);
}

/// Application processors that have parked themselves.
pub fn aps_parked() -> u32 {
    Pc.read32(variable(offset_of!(Variables, ap_count)))
}

/// APIC IDs of the application processors that have parked themselves, a bit each.
pub fn ap_ids() -> [u8; 32] {
    let mut ids = [0; 32];
    Pc.read(variable(offset_of!(Variables, ap_ids)), &mut ids);
    ids
}

/// Where the table of segments lies that 64-bit code has until [`install`] copies it.
pub(super) fn segments() -> u64 {
    addr_of!(bridge_gdt) as u64
}
