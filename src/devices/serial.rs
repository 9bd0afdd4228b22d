//! 16550 serial ports: finding them, and a console on one by way of the crate `uart_16550`.
//!
//! Source: National Semiconductor PC16550D data sheet.

use crate::arch::Ports;
use uart_16550::backend::Backend;
use uart_16550::{BaudRate, Config, InitError, Uart16550};

/// The I/O ports where a PC has COM1 to COM4.
pub const PORTS: [u16; 4] = [0x3f8, 0x2f8, 0x3e8, 0x2e8];

/// Offsets of the registers.
pub mod register {
    pub const DATA: u16 = 0;
    pub const INTERRUPT_ENABLE: u16 = 1;
    pub const INTERRUPT_IDENTIFICATION: u16 = 2;
    pub const LINE_CONTROL: u16 = 3;
    pub const MODEM_CONTROL: u16 = 4;
    pub const LINE_STATUS: u16 = 5;
    pub const MODEM_STATUS: u16 = 6;
}

/// Interrupt enable: room for a byte to send.
const IER_TRANSMIT: u8 = 0x02;
/// Interrupt identification: the bits that are always zero without, or equal with, a FIFO that nobody turned on.
const IIR_FIFO: u8 = 0xc0;
/// Line control: the divisor of the clock is at offsets 0 and 1.
pub const DIVISOR_LATCH: u8 = 1 << 7;
/// Line control: eight data bits, no parity, one stop bit.
pub const EIGHT_BITS: u8 = 3;
/// Line status: a byte has come.
pub const DATA_READY: u8 = 1 << 0;
/// Line status: there is room for a byte to send.
pub const TRANSMIT_EMPTY: u8 = 1 << 5;
/// Modem control: data terminal ready, request to send.
pub const DTR_RTS: u8 = 0x03;

/// What a port reads as that nobody answers; two of these bits are always zero in a port's interrupt identification.
const NOTHING: u8 = 0xff;

/// Whether something answers where the serial port at `base` has its status.
pub fn answers(hw: &impl Ports, base: u16) -> bool {
    hw.in8(base + register::LINE_STATUS) != NOTHING
}

/// Whether a serial port answers at `base`; it is left with its interrupts off.
pub fn is_present(hw: &impl Ports, base: u16) -> bool {
    if hw.in8(base + register::INTERRUPT_IDENTIFICATION) == NOTHING {
        return false;
    }
    hw.out8(base + register::INTERRUPT_ENABLE, IER_TRANSMIT);
    if hw.in8(base + register::INTERRUPT_ENABLE) != IER_TRANSMIT {
        return false;
    }
    let identification = hw.in8(base + register::INTERRUPT_IDENTIFICATION) & !IIR_FIFO;
    hw.out8(base + register::INTERRUPT_ENABLE, 0);
    // Room to send is pending, as nothing has been sent.
    identification == 0x02
}

/// A port's registers, for the crate.
struct Registers<'a, H> {
    hw: &'a H,
    base: u16,
}

impl<H: Ports> Backend for Registers<'_, H> {
    unsafe fn read(&mut self, register_offset: u8) -> u8 {
        self.hw.in8(self.base + u16::from(register_offset & 7))
    }

    unsafe fn write(&mut self, register_offset: u8, value: u8) {
        self.hw
            .out8(self.base + u16::from(register_offset & 7), value);
    }
}

/// A serial port that somebody has set up.
pub struct Serial<'a, H: Ports>(Uart16550<Registers<'a, H>>);

impl<'a, H: Ports> Serial<'a, H> {
    /// The port at I/O address `base`, one of [`PORTS`].
    pub fn new(hw: &'a H, base: u16) -> Self {
        // SAFETY: `base` is a serial port's, and port accesses by way of `Ports` are sound at any address.
        Self(unsafe { Uart16550::new_with_backend(Registers { hw, base }) })
    }

    /// Sets 115,200 baud, eight data bits, no parity, one stop bit, FIFO on.
    ///
    /// # Errors
    /// There is no such port.
    pub fn init(&mut self) -> Result<(), InitError> {
        self.0.init(Config {
            baud_rate: BaudRate::Baud115200,
            ..Config::default()
        })
    }

    /// Sends `bytes` and returns whether all have gone. What is left when the port has taken nothing for a long time is dropped, or at
    /// once where the caller does not want to wait for a first byte to go.
    pub fn send(&mut self, bytes: &[u8], wait: bool) -> bool {
        /// Looks for room in a row, at 1 µs and more each: hundreds of milliseconds, since whoever reads may be slow.
        const MOST_POLLS: u32 = 50_000;
        /// Between two of them: who polls without a break keeps QEMU from the work that makes room.
        const BREAK: u32 = 100;
        let mut rest = bytes;
        let mut polls = 0;
        let mut most = if wait { MOST_POLLS } else { 1 };
        while !rest.is_empty() && polls < most {
            let sent = self.0.send_bytes(rest);
            rest = rest.get(sent..).unwrap_or(&[]);
            if sent > 0 {
                (polls, most) = (0, MOST_POLLS);
            } else {
                polls += 1;
                (0..BREAK).for_each(|_| core::hint::spin_loop());
            }
        }
        rest.is_empty()
    }

    /// The next byte that has come, if there is one.
    pub fn receive(&mut self) -> Option<u8> {
        let mut byte = [0];
        (self.0.receive_bytes(&mut byte) == 1).then_some(byte[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;

    #[test]
    fn who_takes_nothing_is_waited_for_once() {
        let hw = Fake::default();
        hw.script_port(PORTS[0] + register::LINE_STATUS, &[0]);
        let mut serial = Serial::new(&hw, PORTS[0]);
        assert!(!serial.send(b"text", true));
        let waited = hw.port_accesses.get();
        assert!(waited > 10_000, "{waited} accesses");
        assert!(!serial.send(b"text", false));
        let more = hw.port_accesses.get() - waited;
        assert!(more < 10, "{more} accesses");
        // A byte at a time, since nobody turned the FIFO on.
        let room = TRANSMIT_EMPTY.into();
        hw.script_port(PORTS[0] + register::LINE_STATUS, &[room]);
        hw.script_port(PORTS[0] + register::MODEM_STATUS, &[0xff]);
        assert!(serial.send(b"text", false));
    }

    #[test]
    fn an_absent_port_costs_one_access() {
        let hw = Fake::default();
        assert!(!is_present(&hw, PORTS[1]));
        assert!(hw.port_writes.borrow().is_empty());
    }

    #[test]
    fn a_present_port_is_left_quiet() {
        let hw = Fake::default();
        hw.script_port(0x3f9, &[2]);
        hw.script_port(0x3fa, &[0xc2]);
        assert!(is_present(&hw, PORTS[0]));
        assert_eq!(*hw.port_writes.borrow(), [(0x3f9, 2), (0x3f9, 0)]);
    }
}
