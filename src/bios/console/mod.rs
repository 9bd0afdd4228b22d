//! The serial console: what a guest writes by INT 10h also goes to COM1, as UTF-8 with ANSI sequences, and what arrives on COM1
//! is typed on the keyboard.
//!
//! INT 10h itself stays the video ROM's; [`mirror`] looks at a call before it gets there. Where there is no video card, it also
//! keeps the cursor in the BIOS data area, which is all that most programs ask of a screen.

mod keys;
mod screen;

pub use keys::Decoder;
pub use screen::Screen;

use super::Bios;
use super::bda::Bda;
use super::keyboard;
use crate::arch::{Frame, Hardware};
use crate::devices::serial::{PORTS, Serial};
use alloc::string::String;
use spin::Mutex;

/// What the console remembers.
#[derive(Clone, Debug, Default)]
pub struct Console {
    /// COM1 has been set up; false as well where that failed.
    ready: bool,
    /// Setting COM1 up failed.
    failed: bool,
    screen: Screen,
    keys: Decoder,
}

impl Console {
    /// COM1, set up on first use.
    fn port<'a, H: Hardware>(&mut self, hw: &'a H) -> Option<Serial<'a, H>> {
        if self.failed {
            return None;
        }
        let mut serial = Serial::new(hw, PORTS[0]);
        if !self.ready {
            if let Err(error) = serial.init() {
                log::warn!("no serial console on COM1: {error:?}");
                self.failed = true;
                return None;
            }
            self.ready = true;
        }
        Some(serial)
    }
}

/// Sends what the INT 10h call in `frame` writes to COM1. Without a `card`, also answers what a cursor needs.
pub fn mirror<H: Hardware>(bios: &Mutex<Bios<H>>, hw: &H, frame: &mut Frame, card: bool) {
    let console = &mut bios.lock().services.console;
    let mut out = String::new();
    console.screen.call(hw, frame, card, &mut out);
    if out.is_empty() {
        return;
    }
    if let Some(mut serial) = console.port(hw) {
        serial.send(out.as_bytes());
    }
}

/// Types what has come on COM1 on the keyboard, as far as its buffer has room.
pub fn poll_keys<H: Hardware>(bios: &Mutex<Bios<H>>, hw: &H) {
    /// Bytes a poll takes at most: a FIFO's worth.
    const MOST: usize = 16;
    let console = &mut bios.lock().services.console;
    let now = Bda::ticks().get(hw);
    let Some(mut serial) = console.port(hw) else {
        return;
    };
    for _ in 0..MOST {
        if keyboard::free(hw) < Decoder::MOST_KEYS {
            return;
        }
        match serial.receive() {
            Some(byte) => console.keys.byte(byte, now, |key| {
                keyboard::store(hw, key);
            }),
            None => break,
        }
    }
    console.keys.time(now, |key| {
        keyboard::store(hw, key);
    });
}
