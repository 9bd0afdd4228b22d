//! The serial console: what a guest writes by INT 10h also goes to a serial port, as UTF-8 with ANSI sequences, and what arrives there
//! is typed on the keyboard.
//!
//! INT 10h itself stays the video ROM's; [`mirror`] looks at a call before it gets there. Where there is no video card, it also
//! keeps the cursor in the BIOS data area, which is all that most programs ask of a screen.
//!
//! Programs that draw straight into text memory are followed by the timer: at each tick in which INT 10h had nothing to do, what is
//! on the screen is compared with what the terminal shows. The timer's vector leads here only while there is a console.

pub mod cp437;
mod keys;
mod screen;

pub use keys::Decoder;
pub use screen::Screen;

use super::Bios;
use super::bda::{self, Bda};
use super::ivt;
use super::keyboard;
use crate::arch::{Frame, Hardware, Outcome, PhysMem};
use crate::devices::serial::{PORTS, Serial};
use crate::devices::vga::Vga;
use crate::low_memory::{COLOUR_TEXT, MONOCHROME_TEXT};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use spin::Mutex;

/// The timer's interrupt vector.
const TIMER: u8 = 0x08;

/// What the console remembers.
#[derive(Clone, Debug, Default)]
pub struct Console {
    /// The port that has been set up, as an index into [`PORTS`].
    ready: Option<u8>,
    /// The port that could not be set up.
    failed: Option<u8>,
    /// Nobody took what was sent last.
    stalled: bool,
    /// The firmware draws by itself, and what INT 10h draws for it is not for the terminal.
    muted: bool,
    /// INT 10h was called since the last tick, and may not have finished.
    busy: bool,
    /// The card, where its memory is known.
    card: Option<Vga>,
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

    /// Sends `text` to port number `port`. Where nobody takes it, it is dropped after a wait, and what follows without one, until somebody
    /// does again.
    fn send<H: Hardware>(&mut self, hw: &H, port: Option<u8>, text: &str) {
        if let Some(mut serial) = self.port(hw, port).filter(|_| !text.is_empty()) {
            self.stalled = !serial.send(text.as_bytes(), !self.stalled);
        }
    }

    /// Takes note of the video card.
    pub fn set_card(&mut self, card: Option<Vga>) {
        self.card = card;
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
    console.busy = true;
    let mut out = String::new();
    console.screen.call(hw, frame, card, &mut out);
    console.send(hw, port, &out);
}

/// Begins a console: there is a text screen, whether or not there is a card, and the timer comes here before its own handler, `entry`
/// in segment F000h.
pub fn begin(hw: &impl PhysMem, entry: u16) {
    bda::video_at_start(hw);
    ivt::set(hw, TIMER, ivt::SEGMENT, entry);
}

/// INT 08h: takes keys, and shows what a program has drawn without INT 10h.
pub fn tick<H: Hardware>(bios: &Mutex<Bios>, hw: &H) -> Outcome {
    poll_keys(bios, hw);
    show_drawn(&mut bios.lock(), hw);
    Outcome::Chain {
        segment: ivt::SEGMENT,
        offset: ivt::entry::INT_08,
    }
}

fn show_drawn<H: Hardware>(bios: &mut Bios, hw: &H) {
    let port = bios.settings.console_port();
    let shows = bios.services.video.shows();
    let console = &mut bios.services.console;
    let busy = core::mem::take(&mut console.busy);
    if busy || console.muted || !shows {
        return;
    }
    let Some(cells) = text_screen(hw, console.card) else {
        return;
    };
    let mut out = String::new();
    console.screen.follow(hw, &cells, &mut out);
    console.send(hw, port, &out);
}

/// The cells of the screen, where it is in a text mode of 80 columns.
fn text_screen(hw: &impl PhysMem, card: Option<Vga>) -> Option<Vec<u16>> {
    const MOST_ROWS: u8 = 50;
    const PAGES_END: usize = 16 << 10;
    let memory = match Bda::video_mode().get(hw) & 0x7f {
        0x02 | 0x03 => COLOUR_TEXT,
        0x07 => MONOCHROME_TEXT,
        _ => return None,
    };
    let rows = Bda::video_rows().get(hw).saturating_add(1).min(MOST_ROWS);
    if Bda::video_columns().get(hw) != 80 {
        return None;
    }
    let count = 80 * usize::from(rows);
    let first = usize::from(Bda::video_page_start().get(hw) / 2).min(PAGES_END - count);
    if let Some(card) = card {
        return Some(card.cells(hw, first, count));
    }
    let mut bytes = vec![0; 2 * count];
    hw.read(memory + 2 * first as u64, &mut bytes);
    let cells = bytes.chunks_exact(2);
    Some(
        cells
            .map(|cell| u16::from_le_bytes([cell[0], cell[1]]))
            .collect(),
    )
}

/// Draws parts of rows on the terminal behind `port`: row, column, cells.
pub fn draw<H: Hardware>(
    bios: &Mutex<Bios>,
    hw: &H,
    port: Option<u8>,
    parts: &[(usize, usize, &[u16])],
) {
    let console = &mut bios.lock().services.console;
    let mut out = String::new();
    for (row, column, cells) in parts {
        let at = (*row as u8, *column as u8);
        console.screen.draw(at, cells, &mut out);
    }
    console.send(hw, port, &out);
}

/// Empties the terminal behind `port`, with or without a cursor.
pub fn clear<H: Hardware>(bios: &Mutex<Bios>, hw: &H, port: Option<u8>, cursor: bool) {
    let console = &mut bios.lock().services.console;
    let mut out = String::new();
    console.screen.clear_all(cursor, &mut out);
    console.send(hw, port, &out);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::bios::int10::Video;
    use crate::bios::tests::bios;
    use crate::settings::SerialConsole;

    #[test]
    fn what_is_drawn_directly_is_shown_at_the_next_quiet_tick() {
        let (hw, bios) = (Fake::default(), bios());
        bda::init(&hw, 0x9fc0, 639);
        bda::video_at_start(&hw);
        hw.fill(0xb_8000, 4000, 0);
        {
            let bios = &mut *bios.lock();
            bios.settings.serial_console = Some(SerialConsole::Port(1));
            bios.services.video = Video::Ready([0, 0xc000]);
            // It works as it is.
            bios.services.console.ready = Some(1);
        }
        hw.script_port(0x2fd, &[0x60]);
        hw.write16(0xb_8000 + 2 * 81, 0x0741);
        let sent = || {
            let writes = hw.port_writes.borrow();
            let bytes = writes.iter().filter(|(port, _)| *port == 0x2f8);
            bytes
                .map(|(_, byte)| char::from(*byte as u8))
                .collect::<String>()
        };
        bios.lock().services.console.busy = true;
        tick(&bios, &hw);
        assert_eq!(sent(), "");
        let outcome = tick(&bios, &hw);
        assert_eq!(sent(), "\x1b[2;2H\x1b[0mA\x1b[1;1H");
        let chain = Outcome::Chain {
            segment: 0xf000,
            offset: 0xfea5,
        };
        assert_eq!(outcome, chain);
        Bda::video_mode().set(&hw, 0x12);
        hw.write16(0xb_8000, 0x0742);
        tick(&bios, &hw);
        assert_eq!(sent(), "\x1b[2;2H\x1b[0mA\x1b[1;1H");
    }
}
