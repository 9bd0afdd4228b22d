//! The serial console: what a guest writes by INT 10h also goes to a serial port, as UTF-8 with ANSI sequences, and what arrives there
//! is typed on the keyboard.
//!
//! INT 10h itself stays the video ROM's; [`mirror`] looks at a call before it gets there. Where there is no video card, it also
//! keeps the cursor in the BIOS data area, which is all that most programs ask of a screen.

pub mod cp437;
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
    /// The port that has been set up, as an index into [`PORTS`].
    ready: Option<u8>,
    /// The port that could not be set up.
    failed: Option<u8>,
    /// The firmware draws by itself, and what INT 10h draws for it is not for the terminal.
    muted: bool,
    screen: Screen,
    keys: Decoder,
}

impl Console {
    /// Port number `port`, set up on first use.
    fn port<'a, H: Hardware>(&mut self, hw: &'a H, port: Option<u8>) -> Option<Serial<'a, H>> {
        let index = port?;
        let base = *PORTS.get(usize::from(index))?;
        if self.failed == port {
            return None;
        }
        let mut serial = Serial::new(hw, base);
        if self.ready != port {
            if let Err(error) = serial.init() {
                log::warn!("no serial console on COM{}: {error:?}", index + 1);
                self.failed = port;
                return None;
            }
            self.ready = port;
        }
        Some(serial)
    }

    /// Whether the firmware draws by itself now.
    pub fn mute(&mut self, muted: bool) {
        self.muted = muted;
    }
}

/// Sends what the INT 10h call in `frame` writes to the terminal. Without a `card`, also answers what a cursor needs.
pub fn mirror<H: Hardware>(bios: &Mutex<Bios>, hw: &H, frame: &mut Frame, card: bool) {
    let bios = &mut *bios.lock();
    let port = bios.settings.console_port();
    let console = &mut bios.services.console;
    if console.muted {
        return;
    }
    let mut out = String::new();
    console.screen.call(hw, frame, card, &mut out);
    if out.is_empty() {
        return;
    }
    if let Some(mut serial) = console.port(hw, port) {
        serial.send(out.as_bytes());
    }
}

/// Draws parts of rows on the terminal behind `port`: row, column, cells.
pub fn draw<H: Hardware>(
    bios: &Mutex<Bios>,
    hw: &H,
    port: Option<u8>,
    parts: &[(usize, usize, &[u16])],
) {
    let console = &mut bios.lock().services.console;
    let Some(mut serial) = console.port(hw, port) else {
        return;
    };
    let mut out = String::new();
    for (row, column, cells) in parts {
        let at = (*row as u8, *column as u8);
        console.screen.draw(at, cells, &mut out);
    }
    serial.send(out.as_bytes());
}

/// Empties the terminal behind `port`, with or without a cursor.
pub fn clear<H: Hardware>(bios: &Mutex<Bios>, hw: &H, port: Option<u8>, cursor: bool) {
    let console = &mut bios.lock().services.console;
    let Some(mut serial) = console.port(hw, port) else {
        return;
    };
    let mut out = String::new();
    console.screen.clear_all(cursor, &mut out);
    serial.send(out.as_bytes());
}

/// Types what has come on the console's port on the keyboard, as far as its buffer has room.
pub fn poll_keys<H: Hardware>(bios: &Mutex<Bios>, hw: &H) {
    let port = bios.lock().settings.console_port();
    poll_keys_of(bios, hw, port);
}

/// The same for any port.
pub fn poll_keys_of<H: Hardware>(bios: &Mutex<Bios>, hw: &H, port: Option<u8>) {
    /// Bytes a poll takes at most: a FIFO's worth.
    const MOST: usize = 16;
    let console = &mut bios.lock().services.console;
    let now = Bda::ticks().get(hw);
    let Some(mut serial) = console.port(hw, port) else {
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
