//! The 8042 keyboard controller with its keyboard and mouse.
//!
//! Source: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and auxiliary device controller".
//!
//! Every wait has a deadline, so that a machine without a controller (all ports read FFh) costs one access.

use crate::arch::{Clock, Ports};

pub const DATA: u16 = 0x60;
const STATUS: u16 = 0x64;
pub const COMMAND: u16 = 0x64;

/// Status: a byte waits in the output buffer.
pub const OUTPUT_FULL: u8 = 1 << 0;
const INPUT_FULL: u8 = 1 << 1;
/// Status: the byte that waits is the mouse's.
pub const FROM_MOUSE: u8 = 1 << 5;

/// Status of a controller, and so of a keyboard, that nobody has used since the machine's reset: not locked, the last access a
/// command, no self test yet, nothing waits.
const AFTER_RESET: u8 = 1 << 4 | 1 << 3;

const READ_MODE: u8 = 0x20;
const WRITE_MODE: u8 = 0x60;
const ENABLE_MOUSE: u8 = 0xa8;
const SELF_TEST: u8 = 0xaa;
const SELF_TEST_PASSED: u8 = 0x55;
const TO_MOUSE: u8 = 0xd4;
pub const RESET_CPU: u8 = 0xfe;

/// Mode: raise IRQ 1.
const KEYBOARD_INTERRUPT: u8 = 1 << 0;
/// Mode: raise IRQ 12.
const MOUSE_INTERRUPT: u8 = 1 << 1;
/// Mode: the self test has passed.
const SYSTEM: u8 = 1 << 2;
/// Mode: the keyboard's clock is off.
const KEYBOARD_OFF: u8 = 1 << 4;
/// Mode: the mouse's clock is off.
const MOUSE_OFF: u8 = 1 << 5;
/// Mode: scan codes are translated to set 1.
const TRANSLATE: u8 = 1 << 6;

const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const BAT_PASSED: u8 = 0xaa;
const SET_LAMPS: u8 = 0xed;
const RESET: u8 = 0xff;

/// How long the controller may take to accept a byte.
const INPUT_TIMEOUT_US: u64 = 10_000;
/// How long a device may take to answer a command.
const ANSWER_TIMEOUT_US: u64 = 200_000;
/// How long a device's self test after a reset may take.
const BAT_TIMEOUT_US: u64 = 1_000_000;
/// The bytes that a controller's and a device's buffers hold together, and more.
const MOST_STALE_BYTES: u32 = 64;

/// Why the controller or a device does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no controller.
    Absent,
    /// No answer within the deadline.
    Timeout,
    /// The device asks to send again, which it may do once.
    Resend,
    /// An answer that means nothing here.
    Unexpected(u8),
}

/// The status register, or `None` where there is no controller.
pub fn status(hw: &impl Ports) -> Option<u8> {
    let status = hw.in8(STATUS);
    (status != 0xff).then_some(status)
}

/// The byte in the output buffer.
pub fn data(hw: &impl Ports) -> u8 {
    hw.in8(DATA)
}

/// Discards what waits in the output buffer.
fn drain(hw: &impl Ports) -> Result<(), Error> {
    for _ in 0..MOST_STALE_BYTES {
        if status(hw).ok_or(Error::Absent)? & OUTPUT_FULL == 0 {
            return Ok(());
        }
        data(hw);
    }
    Err(Error::Timeout)
}

fn wait_input(hw: &(impl Ports + Clock)) -> Result<(), Error> {
    hw.wait_for(INPUT_TIMEOUT_US, || {
        (hw.in8(STATUS) & INPUT_FULL == 0).then_some(())
    })
    .ok_or(Error::Timeout)
}

fn command(hw: &(impl Ports + Clock), command: u8) -> Result<(), Error> {
    wait_input(hw)?;
    hw.out8(COMMAND, command);
    Ok(())
}

fn send(hw: &(impl Ports + Clock), byte: u8) -> Result<(), Error> {
    wait_input(hw)?;
    hw.out8(DATA, byte);
    Ok(())
}

/// The next byte from the keyboard or the controller (`mouse` false) or from the mouse; the other's bytes are dropped.
fn receive(hw: &(impl Ports + Clock), mouse: bool, timeout_us: u64) -> Result<u8, Error> {
    hw.wait_for(timeout_us, || {
        let status = hw.in8(STATUS);
        if status & OUTPUT_FULL == 0 {
            return None;
        }
        let byte = data(hw);
        ((status & FROM_MOUSE != 0) == mouse).then_some(byte)
    })
    .ok_or(Error::Timeout)
}

fn acknowledged(hw: &(impl Ports + Clock), mouse: bool) -> Result<(), Error> {
    match receive(hw, mouse, ANSWER_TIMEOUT_US)? {
        ACK => Ok(()),
        RESEND => Err(Error::Resend),
        other => Err(Error::Unexpected(other)),
    }
}

fn write_mode(hw: &(impl Ports + Clock), mode: u8) -> Result<(), Error> {
    command(hw, WRITE_MODE)?;
    send(hw, mode)
}

/// Tests the controller, and leaves it and the keyboard so that a key press raises IRQ 1 with a set 1 scan code. A keyboard of which
/// a reset of the machine is not known is reset.
///
/// # Errors
/// [`Error::Absent`] without a controller; otherwise what did not answer.
pub fn init(hw: &(impl Ports + Clock)) -> Result<(), Error> {
    let fresh = status(hw).ok_or(Error::Absent)? == AFTER_RESET;
    if !fresh {
        drain(hw)?;
    }
    hw.out8(COMMAND, SELF_TEST);
    match receive(hw, false, ANSWER_TIMEOUT_US)? {
        SELF_TEST_PASSED => {}
        other => return Err(Error::Unexpected(other)),
    }
    let keyboard = if fresh {
        Ok(())
    } else {
        write_mode(hw, SYSTEM | MOUSE_OFF | TRANSLATE)?;
        reset_keyboard(hw)
    };
    // The controller is of use to the guest even where no keyboard is plugged in. One that has just
    // answered takes a command.
    if !fresh {
        wait_input(hw)?;
    }
    hw.out8(COMMAND, WRITE_MODE);
    send(hw, KEYBOARD_INTERRUPT | SYSTEM | MOUSE_OFF | TRANSLATE)?;
    keyboard
}

fn reset_keyboard(hw: &(impl Ports + Clock)) -> Result<(), Error> {
    send(hw, RESET)?;
    acknowledged(hw, false)?;
    match receive(hw, false, BAT_TIMEOUT_US)? {
        BAT_PASSED => Ok(()),
        other => Err(Error::Unexpected(other)),
    }
}

/// Sets the keyboard's lamps: bit 0 Scroll Lock, bit 1 Num Lock, bit 2 Caps Lock.
///
/// # Errors
/// What the keyboard did not answer.
pub fn set_lamps(hw: &(impl Ports + Clock), lamps: u8) -> Result<(), Error> {
    send(hw, SET_LAMPS)?;
    acknowledged(hw, false)?;
    send(hw, lamps & 7)?;
    acknowledged(hw, false)
}

/// Sends `command` to the mouse and fills `answer` with what follows its acknowledgement.
///
/// # Errors
/// What the mouse did not answer, and [`Error::Resend`] where it does not know the command.
pub fn mouse_command(
    hw: &(impl Ports + Clock),
    bytes: &[u8],
    answer: &mut [u8],
) -> Result<(), Error> {
    for &byte in bytes {
        command(hw, TO_MOUSE)?;
        send(hw, byte)?;
        acknowledged(hw, true)?;
    }
    let timeout = if bytes == [RESET] {
        BAT_TIMEOUT_US
    } else {
        ANSWER_TIMEOUT_US
    };
    for byte in answer {
        *byte = receive(hw, true, timeout)?;
    }
    Ok(())
}

/// Runs `work` with the keyboard held back and without interrupts from either device, so that answers are read here and do
/// not reach the interrupt handlers; then puts the mode back, with the mouse's interrupt as `mouse_interrupt` says.
///
/// # Errors
/// Those of `work`, or the controller's own.
pub fn with_mouse<H: Ports + Clock, T>(
    hw: &H,
    mouse_interrupt: bool,
    work: impl FnOnce(&H) -> Result<T, Error>,
) -> Result<T, Error> {
    status(hw).ok_or(Error::Absent)?;
    command(hw, READ_MODE)?;
    let mode = receive(hw, false, ANSWER_TIMEOUT_US)?;
    let quiet = mode & !(KEYBOARD_INTERRUPT | MOUSE_INTERRUPT | MOUSE_OFF) | KEYBOARD_OFF;
    write_mode(hw, quiet)?;
    command(hw, ENABLE_MOUSE)?;
    let result = work(hw);
    let interrupt = if mouse_interrupt { MOUSE_INTERRUPT } else { 0 };
    write_mode(hw, mode & !(MOUSE_INTERRUPT | MOUSE_OFF) | interrupt)?;
    result
}

/// Asks the controller to reset the processor.
pub fn reset_cpu(hw: &(impl Ports + Clock)) {
    // A controller that accepts nothing leaves the reset to the caller's other means.
    let _ = command(hw, RESET_CPU);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;

    #[test]
    fn no_controller_costs_one_access() {
        let hw = Fake::default();
        assert_eq!(init(&hw), Err(Error::Absent));
        assert!(hw.port_writes.borrow().is_empty());
    }

    #[test]
    fn a_controller_that_never_empties_is_given_up() {
        let hw = Fake::default();
        hw.script_port(STATUS, &[OUTPUT_FULL.into()]);
        assert_eq!(init(&hw), Err(Error::Timeout));
    }

    #[test]
    fn initialisation_ends_with_translation_and_interrupt() {
        let hw = Fake::default();
        let (empty, full) = (0, OUTPUT_FULL.into());
        hw.script_port(
            STATUS,
            &[
                empty, empty, full, empty, empty, empty, full, full, empty, empty,
            ],
        );
        hw.script_port(DATA, &[0x55, 0xfa, 0xaa]);
        assert_eq!(init(&hw), Ok(()));
        assert_eq!(
            *hw.port_writes.borrow(),
            [
                (0x64, 0xaa),
                (0x64, 0x60),
                (0x60, 0x64),
                (0x60, 0xff),
                (0x64, 0x60),
                (0x60, 0x65)
            ]
        );
    }
}
