//! INT 10h calls as text for a terminal (ECMA-48).

use super::cp437::glyph;
use crate::arch::{Frame, PhysMem, linear};
use crate::bios::bda::Bda;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

/// A cursor position: row, column, from zero.
pub type Position = (u8, u8);

/// What is known of the terminal.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    /// Where its cursor is.
    cursor: Option<Position>,
    /// The attribute it writes with.
    attribute: Option<u8>,
    /// What it shows, which is what the screen shows as long as programs draw by INT 10h. Empty before the first use.
    shown: Vec<u16>,
}

/// Light grey on black.
const NORMAL: u8 = 0x07;
/// The largest screen that is followed: 80 × 50.
const COLUMNS: usize = 80;
const ROWS: usize = 50;
const BLANK: u16 = 0x0720;
/// In the cursor's start line: it is not shown.
const HIDDEN_CURSOR: u8 = 0x20;
/// The most characters that one call draws: an 80 × 50 screen.
const MOST_REPEATS: u16 = 4000;

impl Screen {
    /// Writes what the INT 10h call in `frame` draws to `out`. Without a `card`, does the call's work on the data area as well.
    pub fn call(&mut self, hw: &impl PhysMem, frame: &mut Frame, card: bool, out: &mut String) {
        match frame.ah() {
            0x00 => self.set_mode(hw, frame.al(), card, out),
            0x01 => cursor_shape(frame.ch(), out),
            0x02 if !card => set_cursor(hw, (frame.dh(), frame.dl())),
            0x03 if !card => {
                let (row, column) = cursor(hw);
                frame.set_dh(row);
                frame.set_dl(column);
                frame.set_cx(0x0607);
            }
            0x06 | 0x07 => self.scroll(hw, frame, out),
            0x09 => {
                self.repeat(hw, frame.al(), frame.cx(), Some(frame.bl()), out);
            }
            0x0a => self.repeat(hw, frame.al(), frame.cx(), None, out),
            0x0e => {
                let end = self.teletype(hw, cursor(hw), frame.al(), None, out);
                if !card {
                    set_cursor(hw, end);
                }
            }
            0x0f if !card => {
                frame.set_al(Bda::video_mode().get(hw));
                frame.set_ah(columns(hw));
                frame.set_bh(0);
            }
            0x13 => self.string(hw, frame, card, out),
            _ => {}
        }
    }

    /// Draws cells (colours in the high byte) at `at`, all in one row.
    pub fn draw(&mut self, at: Position, cells: &[u16], out: &mut String) {
        self.go_to(at, out);
        for cell in cells {
            let [character, attribute] = cell.to_le_bytes();
            self.set_attribute(attribute, out);
            out.push(glyph(character));
        }
        self.note(at, cells.iter().copied());
        let end = usize::from(at.1) + cells.len();
        // Behind the last column terminals differ.
        self.cursor = (end < COLUMNS).then_some((at.0, end as u8));
    }

    /// Draws what is on the screen and not on the terminal. `cells` are rows of 80.
    pub fn follow(&mut self, hw: &impl PhysMem, cells: &[u16], out: &mut String) {
        self.shown.resize(COLUMNS * ROWS, BLANK);
        for (row, cells) in (0u8..).zip(cells.chunks(COLUMNS)) {
            let differs = |index: &usize| {
                let at = usize::from(row) * COLUMNS + index;
                self.shown
                    .get(at)
                    .is_some_and(|shown| !looks_like(*shown, cells[*index]))
            };
            let first = (0..cells.len()).find(differs);
            let last = (0..cells.len()).rfind(differs);
            if let Some((first, last)) = first.zip(last) {
                self.draw((row, first as u8), &cells[first..=last], out);
            }
        }
        if !out.is_empty() {
            self.go_to(cursor(hw), out);
        }
    }

    /// Notes that `cells` are shown from `at` on.
    fn note(&mut self, at: Position, cells: impl Iterator<Item = u16>) {
        self.shown.resize(COLUMNS * ROWS, BLANK);
        let start = usize::from(at.0) * COLUMNS + usize::from(at.1);
        let places = self.shown.iter_mut().skip(start);
        for (place, cell) in places.zip(cells) {
            *place = cell;
        }
    }

    /// Whether the terminal shows this cell at `at`.
    fn shows(&self, at: Position, cell: u16) -> bool {
        let index = usize::from(at.0) * COLUMNS + usize::from(at.1);
        self.shown.get(index) == Some(&cell)
    }

    /// The attribute of the cell at `at`, which a teletype keeps.
    fn attribute_at(&self, at: Position) -> u8 {
        let index = usize::from(at.0) * COLUMNS + usize::from(at.1);
        let cell = self.shown.get(index).copied().unwrap_or(BLANK);
        (cell >> 8) as u8
    }

    /// Notes that rows `top` to `bottom` have moved by `lines`, up if `up`, and that `blank` came after them.
    fn note_scroll(&mut self, (top, bottom): (u8, u8), lines: u8, up: bool, blank: u16) {
        self.shown.resize(COLUMNS * ROWS, BLANK);
        let rows = usize::from(top) * COLUMNS..(usize::from(bottom) + 1) * COLUMNS;
        let Some(rows) = self.shown.get_mut(rows) else {
            return;
        };
        let step = (usize::from(lines) * COLUMNS).min(rows.len());
        let end = rows.len() - step;
        if up {
            rows.copy_within(step.., 0);
            rows[end..].fill(blank);
        } else {
            rows.copy_within(..end, step);
            rows[..step].fill(blank);
        }
    }

    /// Empties the terminal, and shows or hides its cursor.
    pub fn clear_all(&mut self, cursor: bool, out: &mut String) {
        out.push_str("\x1b[0m\x1b[2J\x1b[H");
        self.shown = vec![BLANK; COLUMNS * ROWS];
        cursor_shape(if cursor { 0 } else { HIDDEN_CURSOR }, out);
        self.cursor = Some((0, 0));
        self.attribute = Some(NORMAL);
    }

    fn set_mode(&mut self, hw: &impl PhysMem, mode: u8, card: bool, out: &mut String) {
        const KEEP_SCREEN: u8 = 1 << 7;
        if !card {
            Bda::video_mode().set(hw, mode & !KEEP_SCREEN);
            Bda::video_columns().set(hw, 80);
            Bda::video_rows().set(hw, 24);
            set_cursor(hw, (0, 0));
        }
        if mode & KEEP_SCREEN == 0 {
            out.push_str("\x1b[0m\x1b[2J\x1b[H");
            self.shown = vec![BLANK; COLUMNS * ROWS];
            self.cursor = Some((0, 0));
            self.attribute = Some(NORMAL);
        }
    }

    /// Scrolls rows CH to DH, where they are whole rows; part of a row cannot be scrolled on a terminal.
    fn scroll(&mut self, hw: &impl PhysMem, frame: &Frame, out: &mut String) {
        let (top, bottom) = (frame.ch(), frame.dh().min(last_row(hw)));
        let whole_rows = frame.cl() == 0 && frame.dl().saturating_add(1) >= columns(hw);
        if top > bottom {
            return;
        }
        self.set_attribute(frame.bh(), out);
        let height = bottom - top + 1;
        let lines = frame.al();
        if lines == 0 || lines >= height {
            self.clear(hw, frame, (top, bottom), whole_rows, out);
        } else if whole_rows {
            let command = if frame.ah() == 0x06 { 'S' } else { 'T' };
            put(
                out,
                format_args!(
                    "\x1b[{};{}r\x1b[{lines}{command}\x1b[r",
                    top + 1,
                    bottom + 1
                ),
            );
            let blank = u16::from(frame.bh()) << 8 | u16::from(b' ');
            self.note_scroll((top, bottom), lines, frame.ah() == 0x06, blank);
        }
        self.cursor = None;
    }

    fn clear(
        &mut self,
        hw: &impl PhysMem,
        frame: &Frame,
        (top, bottom): (u8, u8),
        whole_rows: bool,
        out: &mut String,
    ) {
        let blank = u16::from(frame.bh()) << 8 | u16::from(b' ');
        if whole_rows && top == 0 && bottom == last_row(hw) {
            out.push_str("\x1b[2J");
            self.shown = vec![blank; COLUMNS * ROWS];
            return;
        }
        let width = frame.dl().min(columns(hw).saturating_sub(1)) as usize + 1;
        let width = width.saturating_sub(frame.cl().into());
        for row in top..=bottom {
            self.go_to((row, frame.cl()), out);
            self.note((row, frame.cl()), core::iter::repeat_n(blank, width));
            if whole_rows {
                out.push_str("\x1b[K");
            } else {
                put(out, format_args!("{:width$}", ""));
                self.cursor = None;
            }
        }
    }

    /// Draws a character some times at the cursor, which stays.
    fn repeat(
        &mut self,
        hw: &impl PhysMem,
        character: u8,
        count: u16,
        attribute: Option<u8>,
        out: &mut String,
    ) {
        let (row, column) = cursor(hw);
        let count = count.min(MOST_REPEATS);
        if count == 0 {
            return;
        }
        self.go_to((row, column), out);
        let attribute = attribute.unwrap_or(self.attribute_at((row, column)));
        self.set_attribute(attribute, out);
        for _ in 0..count {
            out.push(glyph(character));
        }
        let cell = u16::from_le_bytes([character, attribute]);
        self.note((row, column), core::iter::repeat_n(cell, count.into()));
        let end = u16::from(column) + count;
        self.cursor = (end < columns(hw).into()).then_some((row, end as u8));
    }

    /// Writes a character at `at` as a teletype does, with the attribute that is there or another one, and says where the cursor
    /// goes.
    fn teletype(
        &mut self,
        hw: &impl PhysMem,
        at: Position,
        character: u8,
        attribute: Option<u8>,
        out: &mut String,
    ) -> Position {
        let (row, column) = at;
        let last = last_row(hw);
        let next_row = row.saturating_add(1).min(last);
        let attribute = attribute.unwrap_or(self.attribute_at(at));
        let cell = u16::from_le_bytes([character, attribute]);
        let behind = (row, column.saturating_add(1));
        let moves = matches!(character, 0x07 | 0x08 | b'\n' | b'\r');
        if !moves && self.cursor == Some(behind) && self.shows(at, cell) {
            // It was drawn by AH=09h, as iPXE does to give it a colour.
            return behind;
        }
        if character != 0x07 {
            self.go_to(at, out);
        }
        let end = match character {
            0x07 => {
                out.push('\x07');
                return at;
            }
            0x08 if column == 0 => at,
            0x08 => {
                out.push('\x08');
                (row, column - 1)
            }
            b'\n' => {
                out.push('\n');
                self.line_feed(row, last, attribute);
                (next_row, column)
            }
            b'\r' => {
                out.push('\r');
                (row, 0)
            }
            _ => {
                self.set_attribute(attribute, out);
                out.push(glyph(character));
                self.note(at, [cell].into_iter());
                if column.saturating_add(1) >= columns(hw) {
                    out.push_str("\r\n");
                    self.line_feed(row, last, attribute);
                    (next_row, 0)
                } else {
                    (row, column + 1)
                }
            }
        };
        self.cursor = Some(end);
        end
    }

    /// A line feed in the last row moves everything up.
    fn line_feed(&mut self, row: u8, last: u8, attribute: u8) {
        if row >= last {
            let blank = u16::from_le_bytes([b' ', attribute]);
            self.note_scroll((0, last), 1, true, blank);
        }
    }

    /// AH=13h: a string at ES:BP; AL bit 0 moves the cursor, bit 1 says that attributes are in the string.
    fn string(&mut self, hw: &impl PhysMem, frame: &Frame, card: bool, out: &mut String) {
        let with_attributes = frame.al() & 2 != 0;
        let step = if with_attributes { 2 } else { 1 };
        let start = linear(frame.es, frame.bp());
        let mut at = (frame.dh(), frame.dl());
        for index in 0..u64::from(frame.cx().min(MOST_REPEATS)) {
            let place = start + index * step;
            let attribute = if with_attributes {
                hw.read8(place + 1)
            } else {
                frame.bl()
            };
            at = self.teletype(hw, at, hw.read8(place), Some(attribute), out);
        }
        if !card && frame.al() & 1 != 0 {
            set_cursor(hw, at);
        }
    }

    fn go_to(&mut self, at: Position, out: &mut String) {
        if self.cursor != Some(at) {
            put(
                out,
                format_args!("\x1b[{};{}H", u16::from(at.0) + 1, u16::from(at.1) + 1),
            );
            self.cursor = Some(at);
        }
    }

    fn set_attribute(&mut self, attribute: u8, out: &mut String) {
        if self.attribute == Some(attribute) {
            return;
        }
        // Bits of a PC colour are blue, green, red; of a terminal's, red, green, blue.
        let colour = |bits: u8| (bits & 1) << 2 | bits & 2 | (bits & 4) >> 2;
        let (text, ground) = (colour(attribute), colour(attribute >> 4));
        let bold = if attribute & 8 == 0 { "" } else { ";1" };
        if attribute == NORMAL {
            out.push_str("\x1b[0m");
        } else {
            put(out, format_args!("\x1b[0{bold};3{text};4{ground}m"));
        }
        self.attribute = Some(attribute);
    }
}

/// Whether two cells look the same: of a blank, only the background is seen.
fn looks_like(one: u16, other: u16) -> bool {
    let blank = |cell: u16| matches!(cell as u8, 0 | b' ' | 0xff);
    one == other || blank(one) && blank(other) && (one ^ other) & 0x7000 == 0
}

/// Writes to a string, which cannot fail.
fn put(out: &mut String, text: core::fmt::Arguments) {
    let _ = out.write_fmt(text);
}

fn cursor_shape(start: u8, out: &mut String) {
    out.push_str(if start & HIDDEN_CURSOR == 0 {
        "\x1b[?25h"
    } else {
        "\x1b[?25l"
    });
}

fn page(hw: &impl PhysMem) -> usize {
    usize::from(Bda::video_page().get(hw) & 7)
}

fn cursor(hw: &impl PhysMem) -> Position {
    let [column, row] = Bda::cursor_positions().get(hw)[page(hw)].to_le_bytes();
    (row, column)
}

fn set_cursor(hw: &impl PhysMem, (row, column): Position) {
    if let Some(field) = Bda::cursor_positions().element(page(hw)) {
        field.set(hw, u16::from_le_bytes([column, row]));
    }
}

/// Text columns; 80 where the data area says nothing.
fn columns(hw: &impl PhysMem) -> u8 {
    match Bda::video_columns().get(hw) {
        0 => 80,
        columns => columns.min(255) as u8,
    }
}

/// The last row; 24 where the data area says nothing.
fn last_row(hw: &impl PhysMem) -> u8 {
    match Bda::video_rows().get(hw) {
        0 => 24,
        rows => rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use proptest::prelude::*;

    fn call(screen: &mut Screen, hw: &Fake, mut frame: Frame) -> String {
        let mut out = String::new();
        screen.call(hw, &mut frame, false, &mut out);
        out
    }

    fn ax(eax: u32) -> Frame {
        Frame {
            eax,
            ..Frame::default()
        }
    }

    #[test]
    fn lines_come_out_plain() {
        let (hw, mut screen) = (Fake::default(), Screen::default());
        call(&mut screen, &hw, ax(3));
        let text: String = b"ok\r\nnext"
            .iter()
            .map(|byte| call(&mut screen, &hw, ax(0x0e00 | u32::from(*byte))))
            .collect();
        assert_eq!(text, "ok\r\nnext");
        assert_eq!(cursor(&hw), (1, 4));
    }

    #[test]
    fn a_moved_cursor_and_colours() {
        let (hw, mut screen) = (Fake::default(), Screen::default());
        call(&mut screen, &hw, ax(3));
        set_cursor(&hw, (4, 9));
        let frame = Frame {
            eax: 0x09b3,
            ebx: 0x1e,
            ecx: 2,
            ..Frame::default()
        };
        assert_eq!(call(&mut screen, &hw, frame), "\x1b[5;10H\x1b[0;1;33;44m││");
    }

    /// A program that gives a character its colour first, and then writes it to move the cursor.
    #[test]
    fn what_is_drawn_twice_is_sent_once() {
        let (hw, mut screen) = (Fake::default(), Screen::default());
        call(&mut screen, &hw, ax(3));
        let coloured = |character: u8| Frame {
            eax: 0x0900 | u32::from(character),
            ebx: 0x0f,
            ecx: 1,
            ..Frame::default()
        };
        let mut text = String::new();
        for character in *b"iPXE\r\n" {
            if character >= b' ' {
                text += &call(&mut screen, &hw, coloured(character));
            }
            text += &call(&mut screen, &hw, ax(0x0e00 | u32::from(character)));
        }
        assert_eq!(text, "\x1b[0;1;37;40miPXE\r\n");
        assert_eq!(cursor(&hw), (1, 0));
    }

    #[test]
    fn clearing_the_screen() {
        let (hw, mut screen) = (Fake::default(), Screen::default());
        let frame = Frame {
            eax: 0x0600,
            ebx: 0x0700,
            edx: 0x184f,
            ..Frame::default()
        };
        assert_eq!(call(&mut screen, &hw, frame), "\x1b[0m\x1b[2J");
    }

    #[test]
    fn what_calls_draw_is_not_drawn_again() {
        let (hw, mut screen) = (Fake::default(), Screen::default());
        call(&mut screen, &hw, ax(3));
        for byte in b"\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\nlast\r\nrow" {
            call(&mut screen, &hw, ax(0x0e00 | u32::from(*byte)));
        }
        let mut cells = vec![BLANK; 80 * 25];
        for (place, character) in cells[80 * 23..].iter_mut().zip(b"last") {
            *place = 0x0700 | u16::from(*character);
        }
        for (place, character) in cells[80 * 24..].iter_mut().zip(b"row") {
            *place = 0x0700 | u16::from(*character);
        }
        let mut out = String::new();
        screen.follow(&hw, &cells, &mut out);
        assert_eq!(out, "");
        // A program draws by itself.
        cells[80 * 2 + 7] = 0x1e00 | u16::from(b'X');
        cells[80 * 2 + 9] = 0x1e00 | u16::from(b'Y');
        screen.follow(&hw, &cells, &mut out);
        assert_eq!(
            out,
            "\x1b[3;8H\x1b[0;1;33;44mX\x1b[0m \x1b[0;1;33;44mY\x1b[25;4H"
        );
        out.clear();
        screen.follow(&hw, &cells, &mut out);
        assert_eq!(out, "");
    }

    #[test]
    fn a_teletype_keeps_the_colours_that_are_there() {
        let (hw, mut screen) = (Fake::default(), Screen::default());
        call(&mut screen, &hw, ax(3));
        let frame = Frame {
            eax: 0x0920,
            ebx: 0x1e,
            ecx: 80,
            ..Frame::default()
        };
        call(&mut screen, &hw, frame);
        assert_eq!(call(&mut screen, &hw, ax(0x0e41)), "\x1b[1;1HA");
        assert_eq!(screen.shown[0], 0x1e41);
    }

    proptest! {
        #[test]
        fn any_screen_is_followed(cells in proptest::collection::vec(any::<u16>(), 2000), calls in proptest::collection::vec(any::<[u32; 4]>(), 0..8)) {
            let (hw, mut screen) = (Fake::default(), Screen::default());
            for [eax, ebx, ecx, edx] in calls {
                let frame = Frame { eax: eax & 0x1fff, ebx, ecx, edx, ..Frame::default() };
                call(&mut screen, &hw, frame);
            }
            screen.follow(&hw, &cells, &mut String::new());
            let mut again = String::new();
            screen.follow(&hw, &cells, &mut again);
            prop_assert_eq!(again, "");
        }

        #[test]
        fn any_call_is_survived(eax: u32, ebx: u32, ecx: u32, edx: u32, rows: u8, columns: u16) {
            let (hw, mut screen) = (Fake::default(), Screen::default());
            Bda::video_rows().set(&hw, rows);
            Bda::video_columns().set(&hw, columns);
            let frame = Frame { eax: eax & 0x1fff, ebx, ecx, edx, ..Frame::default() };
            call(&mut screen, &hw, frame);
        }
    }
}
