//! INT 16h: the keyboard.
//!
//! Source: IBM PS/2 and PC BIOS Interface Technical Reference, interrupt 16h; Ralf Brown's interrupt list.

use super::bda::{self, Bda};
use super::{Bios, console, keyboard};
use crate::arch::{Frame, Hardware, Outcome, PhysMem};
use spin::Mutex;

/// Functions that AH=09h reports: none of the optional ones, but 10h to 12h by way of AH=0Ah's identity.
const FUNCTIONS: u8 = 0x30;
/// An MF2 keyboard behind a translating controller.
const KEYBOARD_ID: u16 = 0x41ab;

/// Serves one call.
pub fn serve<H: Hardware>(bios: &Mutex<Bios>, hw: &H, frame: &mut Frame) -> Outcome {
    let serial_console = bios.lock().settings.console_port().is_some();
    if serial_console && matches!(frame.ah(), 0x00 | 0x01 | 0x10 | 0x11) {
        console::poll_keys(bios, hw);
    }
    answer(hw, frame)
}

fn answer(hw: &impl PhysMem, frame: &mut Frame) -> Outcome {
    match frame.ah() {
        0x00 => return read(hw, frame, false),
        0x10 => return read(hw, frame, true),
        0x01 => peek(hw, frame, false),
        0x11 => peek(hw, frame, true),
        0x02 => frame.set_al(Bda::shift().get(hw)),
        0x12 => frame.set_ax(extended_shift(hw)),
        // The typematic rate: no virtual keyboard has one worth setting.
        0x03 => {}
        0x05 => {
            let stored = keyboard::store(hw, frame.cx());
            frame.set_al(u8::from(!stored));
        }
        0x09 => frame.set_al(FUNCTIONS),
        0x0a => frame.set_bx(KEYBOARD_ID),
        // Presence checks of the 122-key keyboard's functions.
        0x92 => frame.set_ah(0x80),
        _ => {}
    }
    Outcome::Return
}

fn read(hw: &impl PhysMem, frame: &mut Frame, extended: bool) -> Outcome {
    match keyboard::take(hw) {
        Some(key) => {
            frame.set_ax(key_for_caller(key, extended));
            Outcome::Return
        }
        None => Outcome::WaitForInterrupt,
    }
}

fn peek(hw: &impl PhysMem, frame: &mut Frame, extended: bool) {
    let key = keyboard::peek(hw);
    frame.set_zero(key.is_none());
    if let Some(key) = key {
        frame.set_ax(key_for_caller(key, extended));
    }
}

/// What a caller of the enhanced (`extended`) or of the original functions sees of a stored key.
fn key_for_caller(key: u16, extended: bool) -> u16 {
    let [ascii, scan] = key.to_le_bytes();
    match (scan, ascii) {
        (0, _) => key,
        // F0h marks keys that the original keyboard could not produce; its byte is nothing to anybody.
        (_, 0xf0) => u16::from(scan) << 8,
        _ if extended => key,
        (0xe0, 0x0d | 0x0a) => 0x1c00 | u16::from(ascii),
        (0xe0, b'/') => 0x3500 | u16::from(ascii),
        (_, 0xe0) => u16::from(scan) << 8,
        _ => key,
    }
}

/// Shift states with left and right keys apart: the answer of AH=12h.
fn extended_shift(hw: &impl PhysMem) -> u16 {
    let held = Bda::held().get(hw);
    let state = Bda::keyboard_state().get(hw);
    let right = state & (bda::KEYBOARD_RIGHT_CTRL | bda::KEYBOARD_RIGHT_ALT);
    let left = held & (bda::HELD_LEFT_CTRL | bda::HELD_LEFT_ALT);
    let locks = held & (bda::HELD_SCROLL | bda::HELD_NUM | bda::HELD_CAPS);
    let sysreq = if held & bda::HELD_SYSREQ == 0 {
        0
    } else {
        0x80
    };
    u16::from_le_bytes([Bda::shift().get(hw), left | right | locks | sysreq])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::arch::frame;

    fn machine() -> Fake {
        let hw = Fake::default();
        bda::init(&hw, 0x9fc0, 639);
        hw
    }

    fn call(hw: &Fake, ax: u32) -> (Frame, Outcome) {
        let mut frame = Frame {
            eax: ax,
            ..Frame::default()
        };
        let outcome = answer(hw, &mut frame);
        (frame, outcome)
    }

    #[test]
    fn reading_waits_for_a_key() {
        let hw = machine();
        assert_eq!(call(&hw, 0).1, Outcome::WaitForInterrupt);
        keyboard::store(&hw, 0x1e61);
        assert_eq!(call(&hw, 0x100).0.ax(), 0x1e61);
        let (frame, outcome) = call(&hw, 0);
        assert_eq!((frame.ax(), outcome), (0x1e61, Outcome::Return));
        assert_ne!(call(&hw, 0x100).0.flags & frame::ZERO, 0);
    }

    #[test]
    fn original_functions_hide_enhanced_keys() {
        assert_eq!(key_for_caller(0x47e0, false), 0x4700);
        assert_eq!(key_for_caller(0x47e0, true), 0x47e0);
        assert_eq!(key_for_caller(0xe00d, false), 0x1c0d);
        assert_eq!(key_for_caller(0xe02f, false), 0x352f);
        assert_eq!(key_for_caller(0x00e0, false), 0x00e0);
    }

    #[test]
    fn storing_reports_a_full_buffer() {
        let hw = machine();
        for _ in 0..15 {
            assert_eq!(call(&hw, 0x500).0.al(), 0);
        }
        assert_eq!(call(&hw, 0x500).0.al(), 1);
    }
}
