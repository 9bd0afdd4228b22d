//! Shows a [`Canvas`] on the screen and on a terminal behind a serial port, both at once, and sends only what has changed.
//!
//! A card that still waits for its ROM's start is put into text mode, the picture goes straight into its memory, and the ROM keeps
//! waiting. On any other card INT 10h draws.

use super::canvas::{COLUMNS, Canvas, cell, colour};
use crate::arch::{Hardware, RealRegs};
use crate::bios::bda::Bda;
use crate::bios::int10::{self, Video, VideoRom};
use crate::bios::{Bios, console};
use crate::devices::serial::PORTS;
use crate::devices::vga::Vga;
use crate::settings::SerialConsole;
use alloc::vec::Vec;
use spin::Mutex;

/// Where INT 10h finds the text that it is to draw: where boot sectors are loaded, of which none runs now.
const TEXT: u16 = 0x7c00;
/// INT 10h: set text mode 3, set the cursor's shape, write a string with its colours and leave the cursor.
const TEXT_MODE: u32 = 0x0003;
const CURSOR_SHAPE: u32 = 0x0100;
const STRING: u32 = 0x1302;
/// A cursor that is not shown, and the usual one.
const HIDDEN: u32 = 0x2000;
const UNDERLINE: u32 = 0x0607;

/// The way to the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Screen {
    /// The card's memory.
    Memory(Vga),
    /// The video ROM.
    Calls,
    /// There is no card.
    None,
}

/// What is shown at the moment, and where.
#[derive(Debug)]
pub struct Display {
    /// What the screen has; nothing is known before the first picture.
    shown: Option<Canvas>,
    screen: Screen,
    port: Option<u8>,
}

impl Display {
    /// Takes the screen and the terminal over.
    pub fn open<H: Hardware>(bios: &Mutex<Bios>, hw: &H) -> Self {
        int10::show_text(bios, hw);
        let (screen, port) = {
            let bios = &mut *bios.lock();
            // What INT 10h draws now goes to the terminal from here.
            bios.services.console.mute(true);
            let screen = match bios.services.video {
                Video::Waiting(VideoRom {
                    card: Some(card), ..
                }) => Screen::Memory(card.vga),
                Video::Nobody => Screen::None,
                _ => Screen::Calls,
            };
            (screen, terminal(hw, bios.settings.serial_console))
        };
        match screen {
            Screen::Memory(vga) => vga.show_cursor(hw, false),
            Screen::Calls => {
                call(hw, TEXT_MODE, 0);
                call(hw, CURSOR_SHAPE, HIDDEN);
            }
            Screen::None => {}
        }
        console::clear(bios, hw, port, false);
        Self {
            shown: None,
            screen,
            port,
        }
    }

    /// The port of the terminal; COM1 is 0.
    pub fn port(&self) -> Option<u8> {
        self.port
    }

    /// Shows a picture.
    pub fn show<H: Hardware>(&mut self, bios: &Mutex<Bios>, hw: &H, canvas: Canvas) {
        let blank = Canvas::new();
        let before = self.shown.as_ref();
        // The terminal was cleared; what stands in a card's memory is not known.
        let on_terminal = changes(before.unwrap_or(&blank), &canvas);
        console::draw(bios, hw, self.port, &on_terminal);
        let on_screen = match before {
            Some(before) => changes(before, &canvas),
            None => canvas
                .rows()
                .enumerate()
                .map(|(row, cells)| (row, 0, cells))
                .collect(),
        };
        for (row, column, cells) in on_screen {
            match self.screen {
                Screen::Memory(vga) => vga.draw(hw, row * COLUMNS + column, cells),
                Screen::Calls => draw_by_call(hw, row, column, cells),
                Screen::None => {}
            }
        }
        self.shown = Some(canvas);
    }

    /// Leaves an empty screen to what comes now.
    pub fn close<H: Hardware>(self, bios: &Mutex<Bios>, hw: &H) {
        match self.screen {
            Screen::Memory(vga) => {
                let blank = [cell(b' ', colour::TEXT); COLUMNS];
                for row in 0..25 {
                    vga.draw(hw, row * COLUMNS, &blank);
                }
                vga.show_cursor(hw, true);
            }
            Screen::Calls => {
                call(hw, TEXT_MODE, 0);
                call(hw, CURSOR_SHAPE, UNDERLINE);
            }
            Screen::None => {}
        }
        console::clear(bios, hw, self.port, true);
        bios.lock().services.console.mute(false);
    }
}

/// The serial port that the menu is shown on: the console's, or COM1 where the machine has one and the user has not said no.
fn terminal(hw: &impl Hardware, setting: Option<SerialConsole>) -> Option<u8> {
    match setting {
        Some(SerialConsole::Port(port)) => Some(port),
        Some(SerialConsole::Off) => None,
        None => Bda::com_ports().get(hw).contains(&PORTS[0]).then_some(0),
    }
}

/// The rows that differ, each from its first cell that does to its last: row, column, cells.
fn changes<'a>(before: &Canvas, after: &'a Canvas) -> Vec<(usize, usize, &'a [u16])> {
    let rows = before.rows().zip(after.rows()).enumerate();
    rows.filter_map(|(row, (before, after))| {
        let differs = |(old, new): (&u16, &u16)| old != new;
        let first = before.iter().zip(after).position(differs)?;
        let last = before.iter().zip(after).rposition(differs)?;
        Some((row, first, &after[first..=last]))
    })
    .collect()
}

fn call(hw: &impl Hardware, eax: u32, ecx: u32) {
    let mut regs = RealRegs {
        eax,
        ecx,
        ..RealRegs::default()
    };
    hw.call_int(0x10, &mut regs);
}

fn draw_by_call(hw: &impl Hardware, row: usize, column: usize, cells: &[u16]) {
    for (cell, at) in cells.iter().zip((u64::from(TEXT)..).step_by(2)) {
        hw.write16(at, *cell);
    }
    let mut regs = RealRegs {
        eax: STRING,
        ecx: cells.len() as u32,
        edx: (row as u32) << 8 | column as u32,
        ebp: TEXT.into(),
        ..RealRegs::default()
    };
    hw.call_int(0x10, &mut regs);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::bios::int10::TextCard;
    use crate::bios::tests::bios;
    use crate::devices::pci::Bdf;

    #[test]
    fn only_what_changes_is_drawn() {
        let (hw, bios) = (Fake::default(), bios());
        bios.lock().services.video = Video::Ready([0, 0xc000]);
        let mut display = Display::open(&bios, &hw);
        let mut canvas = Canvas::new();
        canvas.put(3, 5, 7, "one two");
        display.show(&bios, &hw, canvas.clone());
        let before = hw.real_calls.borrow().len();
        assert_eq!(before, 2 + 24);
        canvas.put(3, 5, 7, "one ten");
        display.show(&bios, &hw, canvas);
        let calls = hw.real_calls.borrow();
        assert_eq!(calls.len(), before + 1);
        let regs = calls[before].1;
        assert_eq!((regs.eax, regs.ecx, regs.edx), (0x1302, 2, 3 << 8 | 10));
    }

    #[test]
    fn a_card_that_waits_is_left_waiting() {
        let (hw, bios) = (Fake::default(), bios());
        let vga = Vga::at(0xe000_0000);
        bios.lock().services.video = Video::Waiting(VideoRom {
            segment: 0xc000,
            bdf: Some(Bdf(0x10)),
            pnp_header: 0,
            card: Some(TextCard {
                vga,
                font: 0xc_1000,
                shown: true,
            }),
        });
        let mut display = Display::open(&bios, &hw);
        let mut canvas = Canvas::new();
        canvas.put(1, 2, 0x1f, "A");
        display.show(&bios, &hw, canvas);
        use crate::arch::PhysMem;
        assert_eq!(hw.read32(0xe000_0000 + 4 * 82), 0x1f41);
        display.close(&bios, &hw);
        assert_eq!(hw.read32(0xe000_0000 + 4 * 82), 0x0720);
        assert!(hw.real_calls.borrow().is_empty());
    }
}
