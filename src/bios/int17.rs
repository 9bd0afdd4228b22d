//! INT 17h: printers on parallel ports.
//!
//! Source: IBM PS/2 and PC BIOS Interface Technical Reference, interrupt 17h.

use super::Bios;
use super::bda::Bda;
use super::int15::wait::Deadline;
use crate::arch::{Frame, Hardware, Outcome};
use spin::Mutex;

/// Status register: the printer is ready for a byte.
const NOT_BUSY: u8 = 1 << 7;
/// Bits of the status register that INT 17h returns the other way round: acknowledge, error.
const INVERTED: u8 = 0x48;
/// Status in AH: the time is over.
const TIMEOUT: u8 = 1 << 0;
/// Control: strobe.
const STROBE: u8 = 1 << 0;
/// Control: not in reset.
const NOT_RESET: u8 = 1 << 2;
/// Control: printer selected, not in reset.
const SELECTED: u8 = 0x0c;
/// A reset and a strobe take at least this long.
const RESET_US: u64 = 2_000;
const STROBE_US: u64 = 1;

/// Serves one call. A port that is not there leaves the registers alone.
pub fn serve<H: Hardware>(bios: &Mutex<Bios>, hw: &H, frame: &mut Frame) -> Outcome {
    let port = usize::from(frame.dx());
    let base = match Bda::lpt_ports().element(port).map(|field| field.get(hw)) {
        Some(base) if base != 0 => base,
        _ => return Outcome::Return,
    };
    match frame.ah() {
        0x00 => {
            let ticks = Bda::lpt_timeouts()
                .element(port)
                .map_or(0, |field| field.get(hw));
            return print(bios, hw, frame, base, ticks);
        }
        0x01 => {
            hw.out8(base + 2, SELECTED & !NOT_RESET);
            hw.delay_us(RESET_US);
            hw.out8(base + 2, SELECTED);
            report(hw, frame, base, 0);
        }
        0x02 => report(hw, frame, base, 0),
        _ => frame.set_carry(true),
    }
    Outcome::Return
}

fn report(hw: &impl Hardware, frame: &mut Frame, base: u16, extra: u8) {
    frame.set_ah((hw.in8(base + 1) ^ INVERTED) & !0x07 | extra);
    frame.set_carry(false);
}

fn print<H: Hardware>(
    bios: &Mutex<Bios>,
    hw: &H,
    frame: &mut Frame,
    base: u16,
    ticks: u8,
) -> Outcome {
    let ready = || (hw.in8(base + 1) & NOT_BUSY != 0).then_some(());
    match Deadline::poll(bios, hw, frame, ticks, ready) {
        Ok(()) => {}
        Err(Some(wait)) => return wait,
        Err(None) => {
            report(hw, frame, base, TIMEOUT);
            return Outcome::Return;
        }
    }
    hw.out8(base, frame.al());
    let control = hw.in8(base + 2) & !STROBE;
    hw.out8(base + 2, control | STROBE);
    hw.delay_us(STROBE_US);
    hw.out8(base + 2, control);
    report(hw, frame, base, 0);
    Outcome::Return
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::bios::tests::bios;

    fn call(hw: &Fake, ax: u32) -> (Frame, Outcome) {
        let mut frame = Frame {
            eax: ax,
            ..Frame::default()
        };
        let outcome = serve(&bios(), hw, &mut frame);
        (frame, outcome)
    }

    #[test]
    fn prints_with_a_strobe() {
        let hw = Fake::default();
        Bda::lpt_ports().set(&hw, [0x378, 0, 0]);
        hw.script_port(0x379, &[0xdf]);
        hw.script_port(0x37a, &[0x0c]);
        assert_eq!(call(&hw, 0x0041).0.ax(), 0x9041);
        let writes = [(0x378, 0x41), (0x37a, 0x0d), (0x37a, 0x0c)];
        assert_eq!(*hw.port_writes.borrow(), writes);
    }

    #[test]
    fn a_busy_printer_is_waited_for_and_an_absent_one_is_not() {
        let hw = Fake::default();
        assert_eq!(call(&hw, 0x0041).0.ax(), 0x0041);
        Bda::lpt_ports().set(&hw, [0x378, 0, 0]);
        hw.script_port(0x379, &[0x5f]);
        assert_eq!(call(&hw, 0x0041).1, Outcome::WaitForInterrupt);
    }
}
