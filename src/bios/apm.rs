//! INT 15h AH=53h, Advanced Power Management: the real-mode interface, with which DOS and boot loaders switch a machine off. Those
//! for protected mode, which systems without ACPI use, are in `protected.s`; here they are connected.
//!
//! Connecting is not asked for before the other functions, because programs leave it out; nor is the BIOS's own device number for
//! the installation check.
//! Source: Advanced Power Management BIOS Interface Specification 1.2, section 4.

use super::Bios;
use super::int15::wait::Waiter;
use super::ivt;
use crate::arch::{Frame, Hardware, Outcome};
use crate::devices::reset;
use spin::Mutex;

/// What is served, in BCD: 1.2.
pub const VERSION: u16 = 0x0102;
/// CX of the installation check: 16-bit and 32-bit protected-mode interfaces.
pub const INTERFACES: u16 = 1 << 0 | 1 << 1;
/// Bytes of the F segment, as far as a word counts.
const SEGMENT_LENGTH: u16 = 0xfff0;

/// Devices, in BX.
pub mod device {
    /// All that the BIOS manages.
    pub const ALL: u16 = 0x0001;
}

/// Power states, in CX.
pub mod state {
    pub const ENABLED: u16 = 0;
    pub const STANDBY: u16 = 1;
    pub const SUSPEND: u16 = 2;
    pub const OFF: u16 = 3;
}

/// Errors, in AH.
pub mod error {
    pub const UNKNOWN_DEVICE: u8 = 0x09;
    pub const OUT_OF_RANGE: u8 = 0x0a;
    pub const NOT_SUPPORTED: u8 = 0x0c;
    pub const CANNOT_ENTER_STATE: u8 = 0x60;
    pub const NO_EVENT: u8 = 0x80;
}

/// Serves one call.
pub fn serve<H: Hardware>(bios: &Mutex<Bios>, hw: &H, frame: &mut Frame) -> Outcome {
    match frame.al() {
        0x00 => {
            frame.set_ax(VERSION);
            frame.set_bx(u16::from_be_bytes(*b"PM"));
            frame.set_cx(INTERFACES);
            frame.set_carry(false);
        }
        // Connect, disconnect, busy, enable, restore defaults, device management, engage.
        0x01 | 0x04 | 0x06 | 0x08 | 0x09 | 0x0d | 0x0f => frame.set_carry(false),
        0x02 | 0x03 => connect(bios, frame),
        0x05 => return idle(bios, frame),
        0x07 => return set_state(bios, hw, frame),
        0x0a => power_status(frame),
        0x0b => frame.fail(error::NO_EVENT),
        0x0c => {
            frame.set_carry(false);
            frame.set_cx(state::ENABLED);
        }
        0x0e => {
            frame.set_carry(false);
            frame.set_ax(VERSION);
        }
        0x10 => {
            // No batteries, nothing that wakes it from a sleep.
            frame.set_carry(false);
            frame.set_bl(0);
            frame.set_cx(0);
        }
        _ => frame.fail(error::NOT_SUPPORTED),
    }
    Outcome::Return
}

/// Says where the protected-mode interface is that AL asks for: all of it lies in the F segment, which is its code and its data.
fn connect(bios: &Mutex<Bios>, frame: &mut Frame) {
    let entries = &bios.lock().services.entries;
    if frame.al() == 0x02 {
        frame.set_bx(entries.apm16);
        frame.set_si(SEGMENT_LENGTH);
    } else {
        frame.ebx = entries.apm32.into();
        frame.set_dx(ivt::SEGMENT);
        frame.esi = u32::from(SEGMENT_LENGTH) << 16 | u32::from(SEGMENT_LENGTH);
    }
    frame.set_ax(ivt::SEGMENT);
    frame.set_cx(ivt::SEGMENT);
    frame.set_di(SEGMENT_LENGTH);
    frame.set_carry(false);
}

/// Waits for one interrupt.
fn idle(bios: &Mutex<Bios>, frame: &mut Frame) -> Outcome {
    let idler = &mut bios.lock().services.idler;
    if idler.take() == Some(Waiter::of(frame)) {
        frame.set_carry(false);
        return Outcome::Return;
    }
    *idler = Some(Waiter::of(frame));
    Outcome::WaitForInterrupt
}

fn set_state<H: Hardware>(bios: &Mutex<Bios>, hw: &H, frame: &mut Frame) -> Outcome {
    match (frame.bx(), frame.cx()) {
        (device::ALL, state::OFF) => {
            let pm_timer = bios.lock().machine.pm_timer;
            reset::power_off(hw, pm_timer);
            frame.fail(error::CANNOT_ENTER_STATE);
        }
        // What wakes a virtual machine from these is any interrupt.
        (device::ALL, state::STANDBY | state::SUSPEND) => return idle(bios, frame),
        (device::ALL, _) => frame.fail(error::OUT_OF_RANGE),
        _ => frame.fail(error::UNKNOWN_DEVICE),
    }
    Outcome::Return
}

/// A machine on the mains, without a battery.
fn power_status(frame: &mut Frame) {
    const UNKNOWN: u8 = 0xff;
    const MAINS: u8 = 1;
    const NO_BATTERY: u8 = 1 << 7;
    if frame.bx() != device::ALL {
        return frame.fail(error::UNKNOWN_DEVICE);
    }
    frame.set_carry(false);
    frame.set_si(0);
    frame.set_bh(MAINS);
    frame.set_bl(UNKNOWN);
    frame.set_ch(NO_BATTERY);
    frame.set_cl(UNKNOWN);
    frame.set_dx(u16::MAX);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Entries;
    use crate::arch::fake::Fake;
    use crate::arch::frame::CARRY;
    use crate::bios::tests::bios;

    fn call(hw: &Fake, al: u8, bx: u32, cx: u32) -> Frame {
        let mut frame = Frame {
            eax: 0x5300 | u32::from(al),
            ebx: bx,
            ecx: cx,
            ..Frame::default()
        };
        let bios = bios();
        bios.lock().machine.pm_timer = 0x608;
        bios.lock().services.entries = Entries {
            apm16: 0x1616,
            apm32: 0x3232,
            ..Entries::default()
        };
        assert_eq!(serve(&bios, hw, &mut frame), Outcome::Return);
        frame
    }

    #[test]
    fn it_says_where_it_is() {
        let hw = Fake::default();
        let check = call(&hw, 0, 0, 0xffff);
        assert_eq!(
            (check.ax(), check.bx(), check.cx()),
            (0x0102, 0x504d, 3),
            "version 1.2, PM, 16-bit and 32-bit interfaces"
        );
        assert_eq!(call(&hw, 1, 0, 0).flags & CARRY, 0);
        let connected = call(&hw, 2, 0xffff_ffff, 0);
        assert_eq!((connected.ax(), connected.ebx), (0xf000, 0xffff_1616));
        let connected = call(&hw, 3, 0xffff_ffff, 0);
        assert_eq!((connected.ax(), connected.ebx), (0xf000, 0x3232));
        assert_eq!((connected.cx(), connected.dx()), (0xf000, 0xf000));
        assert_eq!((connected.esi, connected.di()), (0xfff0_fff0, 0xfff0));
    }

    #[test]
    fn only_the_whole_machine_goes_off() {
        let hw = Fake::default();
        assert_eq!(call(&hw, 7, 1, 3).ah(), 0x60);
        assert_eq!(hw.port_writes.borrow().last(), Some(&(0x604, 0x2000)));
        hw.port_writes.borrow_mut().clear();
        assert_eq!(call(&hw, 7, 0x200, 3).ah(), 0x09);
        assert_eq!(call(&hw, 7, 1, 9).ah(), 0x0a);
        assert!(hw.port_writes.borrow().is_empty());
    }

    #[test]
    fn an_idle_call_waits_once() {
        let (hw, bios) = (Fake::default(), bios());
        let mut frame = Frame {
            eax: 0x5305,
            ..Frame::default()
        };
        for outcome in [Outcome::WaitForInterrupt, Outcome::Return] {
            assert_eq!(serve(&bios, &hw, &mut frame), outcome);
        }
        assert_eq!(frame.flags & CARRY, 0);
    }
}
