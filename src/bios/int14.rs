//! INT 14h: serial ports.
//!
//! Source: IBM PS/2 and PC BIOS Interface Technical Reference, interrupt 14h; National Semiconductor PC16550D data sheet.

use super::Bios;
use super::bda::Bda;
use super::int15::wait::Deadline;
use crate::arch::{Frame, Hardware, Outcome, Ports};
use crate::devices::serial::{DATA_READY, DIVISOR_LATCH, DTR_RTS, TRANSMIT_EMPTY, register};
use spin::Mutex;

/// Status in AH: the time is over.
const TIMEOUT: u8 = 1 << 7;

/// Divisors of 1.8432 MHz / 16 for AH=00h: 110, 150, 300, 600, 1200, 2400, 4800 and 9600 baud.
pub const DIVISORS: [u16; 8] = [0x417, 0x300, 0x180, 0xc0, 0x60, 0x30, 0x18, 0x0c];

/// Serves one call. A port that is not there leaves the registers alone.
pub fn serve<H: Hardware>(bios: &Mutex<Bios>, hw: &H, frame: &mut Frame) -> Outcome {
    let port = usize::from(frame.dx());
    let base = match Bda::com_ports().element(port).map(|field| field.get(hw)) {
        Some(base) if base != 0 => base,
        _ => return Outcome::Return,
    };
    let ticks = Bda::com_timeouts()
        .element(port)
        .map_or(0, |field| field.get(hw));
    match frame.ah() {
        0x00 => {
            configure(hw, base, frame.al());
            status(hw, base, frame);
        }
        0x01 => return send(bios, hw, frame, base, ticks),
        0x02 => return receive(bios, hw, frame, base, ticks),
        0x03 => status(hw, base, frame),
        _ => frame.set_carry(true),
    }
    Outcome::Return
}

fn configure(hw: &impl Ports, base: u16, parameters: u8) {
    let [low, high] = DIVISORS[usize::from(parameters >> 5)].to_le_bytes();
    let line = parameters & 0x1f;
    hw.out8(base + register::LINE_CONTROL, line | DIVISOR_LATCH);
    hw.out8(base, low);
    hw.out8(base + 1, high);
    hw.out8(base + register::LINE_CONTROL, line);
    hw.out8(base + register::INTERRUPT_ENABLE, 0);
}

fn status(hw: &impl Ports, base: u16, frame: &mut Frame) {
    frame.set_ah(hw.in8(base + register::LINE_STATUS));
    frame.set_al(hw.in8(base + register::MODEM_STATUS));
    frame.set_carry(false);
}

/// The line status once it has `bit`, or what to do until then: `Err(Some)` go on waiting, `Err(None)` the time is over.
fn await_bit<H: Hardware>(
    bios: &Mutex<Bios>,
    hw: &H,
    frame: &Frame,
    base: u16,
    (bit, ticks): (u8, u8),
) -> Result<u8, Option<Outcome>> {
    Deadline::poll(bios, hw, frame, ticks, || {
        let status = hw.in8(base + register::LINE_STATUS);
        (status & bit != 0).then_some(status)
    })
}

fn send<H: Hardware>(
    bios: &Mutex<Bios>,
    hw: &H,
    frame: &mut Frame,
    base: u16,
    ticks: u8,
) -> Outcome {
    match await_bit(bios, hw, frame, base, (TRANSMIT_EMPTY, ticks)) {
        Ok(status) => {
            hw.out8(base + register::DATA, frame.al());
            frame.set_ah(status & !TIMEOUT);
        }
        Err(Some(wait)) => return wait,
        Err(None) => frame.set_ah(TIMEOUT),
    }
    frame.set_carry(false);
    Outcome::Return
}

fn receive<H: Hardware>(
    bios: &Mutex<Bios>,
    hw: &H,
    frame: &mut Frame,
    base: u16,
    ticks: u8,
) -> Outcome {
    hw.out8(base + register::MODEM_CONTROL, DTR_RTS);
    match await_bit(bios, hw, frame, base, (DATA_READY, ticks)) {
        Ok(status) => {
            frame.set_al(hw.in8(base + register::DATA));
            frame.set_ah(status & !TIMEOUT);
        }
        Err(Some(wait)) => return wait,
        Err(None) => frame.set_ah(TIMEOUT),
    }
    frame.set_carry(false);
    Outcome::Return
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::bios::tests::bios;

    fn call(hw: &Fake, bios: &Mutex<Bios>, ax: u32, dx: u32) -> (Frame, Outcome) {
        let mut frame = Frame {
            eax: ax,
            edx: dx,
            ..Frame::default()
        };
        let outcome = serve(bios, hw, &mut frame);
        (frame, outcome)
    }

    fn machine() -> Fake {
        let hw = Fake::default();
        Bda::com_ports().set(&hw, [0x3f8, 0, 0, 0]);
        Bda::com_timeouts().set(&hw, [2; 4]);
        hw
    }

    #[test]
    fn sets_speed_and_format() {
        let hw = machine();
        call(&hw, &bios(), 0x00e3, 0);
        let writes = [
            (0x3fb, 0x83),
            (0x3f8, 12),
            (0x3f9, 0),
            (0x3fb, 3),
            (0x3f9, 0),
        ];
        assert_eq!(*hw.port_writes.borrow(), writes);
    }

    #[test]
    fn absent_ports_change_nothing() {
        let hw = machine();
        for dx in [1, 4, 0xffff] {
            assert_eq!(call(&hw, &bios(), 0x0341, dx).0.ax(), 0x0341);
        }
    }

    #[test]
    fn receiving_gives_up_in_time() {
        let (hw, bios) = (machine(), bios());
        hw.script_port(0x3fd, &[0x60]);
        assert_eq!(call(&hw, &bios, 0x0200, 0).1, Outcome::WaitForInterrupt);
        Bda::ticks().set(&hw, 3);
        let (frame, outcome) = call(&hw, &bios, 0x0200, 0);
        assert_eq!((frame.ah(), outcome), (TIMEOUT, Outcome::Return));
        hw.script_port(0x3fd, &[0x61]);
        hw.script_port(0x3f8, &[0x41]);
        assert_eq!(call(&hw, &bios, 0x0200, 0).0.ax(), 0x6141);
    }
}
