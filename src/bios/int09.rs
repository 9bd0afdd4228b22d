//! INT 09h: the keyboard's interrupt, which turns scan codes into keys.
//!
//! Source: IBM PS/2 and PC BIOS Interface Technical Reference, interrupt 09h.

use super::Bios;
use super::bda::{self, Bda};
use super::int15::wait::Waiter;
use super::ivt::{self, entry};
use super::keyboard::{self, keymap};
use crate::arch::{Frame, Hardware, Outcome, RealRegs, frame};
use crate::devices::{pic, ps2, reset};
use keymap::Level;
use spin::Mutex;

const RELEASE: u8 = 1 << 7;
const EXTENDED: u8 = 0xe0;
const EXTENDED_PAUSE: u8 = 0xe1;

/// Scan codes of set 1 that do more than to give a key.
mod code {
    pub const CTRL: u8 = 0x1d;
    pub const LEFT_SHIFT: u8 = 0x2a;
    pub const RIGHT_SHIFT: u8 = 0x36;
    pub const KEYPAD_TIMES: u8 = 0x37;
    pub const ALT: u8 = 0x38;
    pub const CAPS: u8 = 0x3a;
    pub const NUM: u8 = 0x45;
    pub const SCROLL: u8 = 0x46;
    pub const INSERT: u8 = 0x52;
    pub const DELETE: u8 = 0x53;
    pub const SYSREQ: u8 = 0x54;
}

/// What 40:72 holds when Ctrl-Alt-Del asked for the restart.
pub const WARM_START: u16 = 0x1234;

/// What has to be done after a key besides storing it, in real mode or by waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Nothing,
    /// Raise an interrupt with this AX.
    Interrupt(u8, u16),
    /// Ctrl-Break: INT 1Bh, then an empty key.
    Break,
    /// Wait for any key.
    Pause,
    /// Ctrl-Alt-Del.
    Restart,
}

/// Serves the interrupt.
pub fn serve<H: Hardware>(bios: &Mutex<Bios>, hw: &H, frame: &mut Frame) -> Outcome {
    let me = Some(Waiter::of(frame));
    if bios.lock().services.paused == me {
        if Bda::held().get(hw) & bda::HELD_PAUSE != 0 {
            return Outcome::WaitForInterrupt;
        }
        bios.lock().services.paused = None;
        return Outcome::Return;
    }
    let action = match ps2::status(hw) {
        Some(status) if status & (ps2::OUTPUT_FULL | ps2::FROM_MOUSE) == ps2::OUTPUT_FULL => {
            match intercept(hw, ps2::data(hw)) {
                Some(byte) => scan_code(hw, byte),
                None => Action::Nothing,
            }
        }
        // An answer to a command that was read before its interrupt came.
        _ => Action::Nothing,
    };
    pic::end_of_interrupt(hw, pic::irq::KEYBOARD);
    match action {
        Action::Nothing => {}
        Action::Interrupt(vector, ax) => hw.call_int(vector, &mut with_ax(ax)),
        Action::Break => {
            hw.call_int(0x1b, &mut RealRegs::default());
            keyboard::store(hw, 0);
        }
        Action::Pause => {
            bios.lock().services.paused = me;
            return Outcome::WaitForInterrupt;
        }
        Action::Restart => {
            Bda::reset_flag().set(hw, WARM_START);
            reset::machine(hw);
        }
    }
    Outcome::Return
}

fn with_ax(ax: u16) -> RealRegs {
    RealRegs {
        eax: ax.into(),
        flags: frame::CARRY,
        ..RealRegs::default()
    }
}

/// Shows the byte to whoever hooks INT 15h AH=4Fh, who may change or drop it.
fn intercept(hw: &impl Hardware, byte: u8) -> Option<u8> {
    if ivt::is_ours(hw, 0x15, entry::INT_15) {
        return Some(byte);
    }
    let mut regs = with_ax(0x4f00 | u16::from(byte));
    hw.call_int(0x15, &mut regs);
    (regs.flags & frame::CARRY != 0).then_some(regs.eax as u8)
}

/// Follows shift states and prefixes, and stores the key of a press.
fn scan_code(hw: &impl Hardware, byte: u8) -> Action {
    let state = Bda::keyboard_state();
    let prefixes = bda::KEYBOARD_LAST_E0 | bda::KEYBOARD_LAST_E1;
    match byte {
        EXTENDED => {
            state.update(hw, |s| s | bda::KEYBOARD_LAST_E0);
            return Action::Nothing;
        }
        EXTENDED_PAUSE => {
            state.update(hw, |s| s | bda::KEYBOARD_LAST_E1);
            return Action::Nothing;
        }
        _ => {}
    }
    let before = state.get(hw);
    let pressed = byte & RELEASE == 0;
    let key = byte & !RELEASE;
    if before & bda::KEYBOARD_LAST_E1 != 0 {
        // E1 1D 45 is Pause; E1 9D C5, its release, follows at once.
        if key == code::CTRL {
            return Action::Nothing;
        }
        state.set(hw, before & !prefixes);
        return if key == code::NUM && pressed {
            pause(hw)
        } else {
            Action::Nothing
        };
    }
    let extended = before & bda::KEYBOARD_LAST_E0 != 0;
    state.set(hw, before & !prefixes);
    if let Some(action) = modifier(hw, key, extended, pressed) {
        return action;
    }
    if pressed {
        press(hw, key, extended)
    } else {
        if key == code::INSERT {
            Bda::held().update(hw, |h| h & !bda::HELD_INSERT);
        }
        Action::Nothing
    }
}

fn pause(hw: &impl Hardware) -> Action {
    if Bda::held().get(hw) & bda::HELD_PAUSE != 0 {
        return Action::Nothing;
    }
    Bda::held().update(hw, |h| h | bda::HELD_PAUSE);
    Action::Pause
}

fn with_bit(value: u8, bit: u8, on: bool) -> u8 {
    if on { value | bit } else { value & !bit }
}

/// Handles shift and lock keys; `None` for any other key.
fn modifier(hw: &impl Hardware, key: u8, extended: bool, pressed: bool) -> Option<Action> {
    let shift = Bda::shift();
    match key {
        // E0 2A and E0 36 come with cursor keys and mean nothing.
        code::LEFT_SHIFT | code::RIGHT_SHIFT if extended => {}
        code::LEFT_SHIFT => drop(shift.update(hw, |s| with_bit(s, bda::SHIFT_LEFT, pressed))),
        code::RIGHT_SHIFT => drop(shift.update(hw, |s| with_bit(s, bda::SHIFT_RIGHT, pressed))),
        code::CTRL => side_key(hw, extended, pressed, CTRL_KEYS),
        code::ALT => {
            side_key(hw, extended, pressed, ALT_KEYS);
            if !pressed {
                finish_alt_number(hw);
            }
        }
        code::CAPS => lock(hw, bda::SHIFT_CAPS, bda::HELD_CAPS, pressed),
        code::NUM if pressed && shift.get(hw) & bda::SHIFT_CTRL != 0 => return Some(pause(hw)),
        code::NUM => lock(hw, bda::SHIFT_NUM, bda::HELD_NUM, pressed),
        // Ctrl-Break
        code::SCROLL if extended || shift.get(hw) & bda::SHIFT_CTRL != 0 => {
            return Some(if pressed {
                control_break(hw)
            } else {
                Action::Nothing
            });
        }
        code::SCROLL => lock(hw, bda::SHIFT_SCROLL, bda::HELD_SCROLL, pressed),
        code::SYSREQ => return Some(sysreq(hw, pressed)),
        _ => return None,
    }
    Some(Action::Nothing)
}

/// A key that there is twice: its bits in 40:17, for the left one in 40:18, and for the right one in 40:96.
struct SideKey {
    either: u8,
    left: u8,
    right: u8,
}

const CTRL_KEYS: SideKey = SideKey {
    either: bda::SHIFT_CTRL,
    left: bda::HELD_LEFT_CTRL,
    right: bda::KEYBOARD_RIGHT_CTRL,
};

const ALT_KEYS: SideKey = SideKey {
    either: bda::SHIFT_ALT,
    left: bda::HELD_LEFT_ALT,
    right: bda::KEYBOARD_RIGHT_ALT,
};

fn side_key(hw: &impl Hardware, extended: bool, pressed: bool, bits: SideKey) {
    if extended {
        Bda::keyboard_state().update(hw, |s| with_bit(s, bits.right, pressed));
    } else {
        Bda::held().update(hw, |h| with_bit(h, bits.left, pressed));
    }
    let down =
        Bda::held().get(hw) & bits.left != 0 || Bda::keyboard_state().get(hw) & bits.right != 0;
    Bda::shift().update(hw, |s| with_bit(s, bits.either, down));
}

/// A lock key toggles when it goes down, once however long it is held, and its lamp follows.
fn lock(hw: &impl Hardware, state_bit: u8, held_bit: u8, pressed: bool) {
    let held = Bda::held().get(hw);
    Bda::held().set(hw, with_bit(held, held_bit, pressed));
    if !pressed || held & held_bit != 0 {
        return;
    }
    let shift = Bda::shift().update(hw, |s| s ^ state_bit);
    let lamps = shift >> 4 & 7;
    Bda::keyboard_lamps().update(hw, |l| l & !7 | lamps);
    if let Err(error) = ps2::set_lamps(hw, lamps) {
        log::debug!("keyboard lamps: {error:?}");
    }
}

fn control_break(hw: &impl Hardware) -> Action {
    if Bda::shift().get(hw) & bda::SHIFT_CTRL == 0 {
        return Action::Nothing;
    }
    Bda::break_flag().update(hw, |flag| flag | 0x80);
    keyboard::clear(hw);
    Action::Break
}

fn sysreq(hw: &impl Hardware, pressed: bool) -> Action {
    let was_down = Bda::held().get(hw) & bda::HELD_SYSREQ != 0;
    Bda::held().update(hw, |h| with_bit(h, bda::HELD_SYSREQ, pressed));
    if pressed == was_down {
        Action::Nothing
    } else {
        Action::Interrupt(0x15, 0x8500 | u16::from(!pressed))
    }
}

fn press(hw: &impl Hardware, key: u8, extended: bool) -> Action {
    let held = Bda::held().get(hw);
    if held & bda::HELD_PAUSE != 0 {
        // The key that ends a pause is lost on purpose.
        Bda::held().set(hw, held & !bda::HELD_PAUSE);
        return Action::Nothing;
    }
    let shift = Bda::shift().get(hw);
    let (ctrl, alt) = (shift & bda::SHIFT_CTRL != 0, shift & bda::SHIFT_ALT != 0);
    if key == code::DELETE && ctrl && alt {
        return Action::Restart;
    }
    if key == code::KEYPAD_TIMES && extended {
        if !ctrl {
            return Action::Interrupt(0x05, 0);
        }
        keyboard::store(hw, 0x7200);
        return Action::Nothing;
    }
    if key == code::INSERT && held & bda::HELD_INSERT == 0 {
        Bda::held().set(hw, held | bda::HELD_INSERT);
        Bda::shift().set(hw, shift ^ bda::SHIFT_INSERT);
    }
    if alt
        && !extended
        && let Some(digit) = keymap::keypad_digit(key)
    {
        Bda::alt_number().update(hw, |n| n.wrapping_mul(10).wrapping_add(digit));
        return Action::Nothing;
    }
    if let Some(word) = keymap::word(key, extended, level(key, shift)) {
        keyboard::store(hw, word);
    }
    Action::Nothing
}

fn level(key: u8, shift: u8) -> Level {
    let shifted = shift & (bda::SHIFT_LEFT | bda::SHIFT_RIGHT) != 0;
    let locked = (keymap::is_letter(key) && shift & bda::SHIFT_CAPS != 0)
        || (keymap::is_keypad(key) && shift & bda::SHIFT_NUM != 0);
    if shift & bda::SHIFT_ALT != 0 {
        Level::Alt
    } else if shift & bda::SHIFT_CTRL != 0 {
        Level::Ctrl
    } else if shifted != locked {
        Level::Shift
    } else {
        Level::Plain
    }
}

/// Alt is up: the number typed on the keypad becomes a character without a scan code.
fn finish_alt_number(hw: &impl Hardware) {
    let number = Bda::alt_number().get(hw);
    if number != 0 {
        Bda::alt_number().set(hw, 0);
        keyboard::store(hw, number.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::PhysMem;
    use crate::arch::fake::Fake;
    use crate::bios::tests::bios;
    use proptest::prelude::*;

    fn machine() -> Fake {
        let hw = Fake::default();
        bda::init(&hw, 0x9fc0, 639);
        ivt::set(&hw, 0x15, ivt::SEGMENT, entry::INT_15);
        hw.script_port(0x64, &[0x1d]);
        hw
    }

    /// The keys that a row of scan codes gives.
    fn typed(codes: &[u8]) -> Vec<u16> {
        let hw = machine();
        let mut keys = Vec::new();
        for &byte in codes {
            hw.script_port(0x60, &[byte.into()]);
            let outcome = serve(&bios(), &hw, &mut Frame::default());
            assert_eq!(outcome, Outcome::Return);
            keys.extend(keyboard::take(&hw));
        }
        keys
    }

    #[test]
    fn shift_caps_and_ctrl() {
        assert_eq!(typed(&[0x1e, 0x9e]), [0x1e61]);
        assert_eq!(typed(&[0x2a, 0x1e, 0x9e, 0xaa, 0x1e]), [0x1e41, 0x1e61]);
        assert_eq!(typed(&[0x1d, 0x2e]), [0x2e03]);
        assert_eq!(typed(&[0x38, 0x1e, 0xb8, 0x1e]), [0x1e00, 0x1e61]);
    }

    #[test]
    fn locks_toggle_once_a_press() {
        let hw = machine();
        for byte in [0x3a, 0x3a, 0xba] {
            scan_code(&hw, byte);
        }
        assert_eq!(Bda::shift().get(&hw), bda::SHIFT_CAPS);
        scan_code(&hw, 0x1e);
        scan_code(&hw, 0x02);
        scan_code(&hw, 0x2a);
        scan_code(&hw, 0x1e);
        assert_eq!(keyboard::take(&hw), Some(0x1e41));
        assert_eq!(keyboard::take(&hw), Some(0x0231));
        assert_eq!(keyboard::take(&hw), Some(0x1e61));
    }

    #[test]
    fn extended_keys_and_their_false_shifts() {
        assert_eq!(
            typed(&[0xe0, 0x2a, 0xe0, 0x48, 0xe0, 0xc8, 0xe0, 0xaa, 0x1e]),
            [0x48e0, 0x1e61]
        );
        assert_eq!(
            typed(&[0xe0, 0x1d, 0x1e, 0xe0, 0x9d, 0x1e]),
            [0x1e01, 0x1e61]
        );
    }

    #[test]
    fn alt_and_the_keypad_type_a_number() {
        assert_eq!(typed(&[0x38, 0x4d, 0xcd, 0x4c, 0xb8]), [65]);
    }

    #[test]
    fn pause_waits_for_another_key() {
        let hw = machine();
        let bios = bios();
        let mut frame = Frame {
            esp: 0x1000,
            ..Frame::default()
        };
        let send = |byte: u8, frame: &mut Frame| {
            hw.script_port(0x60, &[byte.into()]);
            serve(&bios, &hw, frame)
        };
        send(0xe1, &mut frame);
        send(0x1d, &mut frame);
        assert_eq!(send(0x45, &mut frame), Outcome::WaitForInterrupt);
        let mut nested = Frame {
            esp: 0xff0,
            ..Frame::default()
        };
        for byte in [0xe1, 0x9d, 0xc5] {
            send(byte, &mut nested);
        }
        assert_eq!(serve(&bios, &hw, &mut frame), Outcome::WaitForInterrupt);
        send(0x1e, &mut nested);
        assert_eq!(serve(&bios, &hw, &mut frame), Outcome::Return);
        assert_eq!(keyboard::take(&hw), None);
        assert_eq!(bios.lock().services.paused, None);
    }

    #[test]
    fn break_print_screen_and_sysreq_reach_the_guest() {
        let hw = machine();
        let bios = bios();
        for byte in [0x1d, 0xe0, 0x46, 0xe0, 0xc6, 0x9d, 0xe0, 0x37, 0x54, 0xd4] {
            hw.script_port(0x60, &[byte]);
            serve(&bios, &hw, &mut Frame::default());
        }
        let calls: Vec<_> = hw
            .real_calls
            .borrow()
            .iter()
            .map(|(vector, regs)| (vector.unwrap_or(0), regs.eax))
            .collect();
        assert_eq!(calls, [(0x1b, 0), (5, 0), (0x15, 0x8500), (0x15, 0x8501)]);
        assert_eq!(Bda::break_flag().get(&hw), 0x80);
        assert_eq!(keyboard::take(&hw), Some(0));
    }

    #[test]
    fn a_hook_may_drop_a_key() {
        let hw = machine();
        ivt::set(&hw, 0x15, 0x2000, 0);
        // The fake's handler changes nothing, so that CF stays set and the key goes on.
        assert_eq!(intercept(&hw, 0x1e), Some(0x1e));
        assert_eq!(hw.real_calls.borrow()[0].1.eax, 0x4f1e);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let hw = machine();
            for byte in bytes {
                scan_code(&hw, byte);
            }
            prop_assert!(hw.read16(0x41a) < 0x40);
        }
    }
}
