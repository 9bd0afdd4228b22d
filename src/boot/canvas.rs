//! A text screen in memory, on which the menu and the report are drawn before anything shows it.

use crate::bios::console::cp437;
use alloc::vec;
use alloc::vec::Vec;

/// Columns of the screen.
pub const COLUMNS: usize = 80;
/// Rows that are used: a VGA card has one more, many terminals have not.
pub const ROWS: usize = 24;

/// Colours, as a PC's text screen has them: background in bits 6:4, foreground in bits 3:0.
pub mod colour {
    /// Light grey on black.
    pub const TEXT: u8 = 0x07;
    /// White on black.
    pub const STRONG: u8 = 0x0f;
    /// Dark grey on black.
    pub const DIM: u8 = 0x08;
    /// White on blue, for the bars at the top and at the bottom.
    pub const BAR: u8 = 0x1f;
    /// Black on light grey, for what is chosen.
    pub const CHOSEN: u8 = 0x70;
}

/// The screen: a cell has its character (code page 437) in the low byte and its colours in the high byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canvas(Vec<u16>);

impl Default for Canvas {
    fn default() -> Self {
        Self::new()
    }
}

impl Canvas {
    /// An empty screen.
    pub fn new() -> Self {
        Self(vec![cell(b' ', colour::TEXT); COLUMNS * ROWS])
    }

    /// Its rows, from the top.
    pub fn rows(&self) -> impl Iterator<Item = &[u16]> {
        self.0.chunks(COLUMNS)
    }

    /// Writes `text` from `column` on, and gives the column behind it. What goes beyond the edge is cut.
    pub fn put(&mut self, row: usize, column: usize, colour: u8, text: &str) -> usize {
        let mut at = column;
        let line = self.0.chunks_mut(COLUMNS).nth(row);
        let places = line.into_iter().flatten().skip(column);
        for (place, character) in places.zip(text.chars()) {
            *place = cell(cp437::byte(character), colour);
            at += 1;
        }
        at
    }

    /// Writes `text` in at most `width` columns; one that is longer has two dots in its middle, since devices of a kind differ in the
    /// ends of their names and places.
    pub fn put_short(&mut self, row: usize, column: usize, colour: u8, text: &str, width: usize) {
        let count = text.chars().count();
        if count <= width {
            self.put(row, column, colour, text);
            return;
        }
        let kept = width.saturating_sub(2);
        let (start, end) = (kept - kept / 2, count - kept / 2);
        let at = |index| {
            text.char_indices()
                .nth(index)
                .map_or(text.len(), |(at, _)| at)
        };
        let column = self.put(row, column, colour, &text[..at(start)]);
        let column = self.put(row, column, colour, "..");
        self.put(row, column, colour, &text[at(end)..]);
    }

    /// Writes `text` so that it ends before column `end`.
    pub fn put_right(&mut self, row: usize, end: usize, colour: u8, text: &str) {
        let width = text.chars().count();
        self.put(row, end.saturating_sub(width), colour, text);
    }

    /// Writes `text` in at most `rows` rows of `width` columns, broken between words, and gives the row behind it.
    pub fn put_lines(
        &mut self,
        (row, column): (usize, usize),
        colour: u8,
        text: &str,
        width: usize,
        rows: usize,
    ) -> usize {
        let mut lines = wrap(text, width);
        let cut = lines.len() > rows;
        lines.truncate(rows);
        for (at, line) in (row..).zip(&lines) {
            self.put(at, column, colour, line);
        }
        if cut && rows > 0 {
            self.put(row + rows - 1, column + width - 2, colour, "..");
        }
        row + lines.len()
    }

    /// Fills columns `from` to `to` of a row with one character.
    pub fn fill(&mut self, row: usize, columns: core::ops::Range<usize>, colour: u8, with: char) {
        let line = self.0.chunks_mut(COLUMNS).nth(row);
        let places = line.into_iter().flatten();
        for place in places.skip(columns.start).take(columns.len()) {
            *place = cell(cp437::byte(with), colour);
        }
    }

    /// A bar across the screen with a text at either end.
    pub fn bar(&mut self, row: usize, left: &str, right: &str) {
        self.fill(row, 0..COLUMNS, colour::BAR, ' ');
        self.put(row, 1, colour::BAR, left);
        self.put_right(row, COLUMNS - 1, colour::BAR, right);
    }

    /// The screen as text, without blanks at the ends of its lines.
    #[cfg(test)]
    pub fn text(&self) -> String {
        let line = |row: &[u16]| {
            let line: String = row.iter().map(|cell| cp437::glyph(*cell as u8)).collect();
            line.trim_end().to_owned() + "\n"
        };
        self.rows().map(line).collect()
    }
}

/// A cell.
pub const fn cell(character: u8, colour: u8) -> u16 {
    (colour as u16) << 8 | character as u16
}

/// Breaks a text into lines of at most `width` characters, between words where it can.
fn wrap(text: &str, width: usize) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text.trim();
    while let Some((end, _)) = rest.char_indices().nth(width) {
        let at = match rest[..end].rfind(' ') {
            Some(blank) if blank > 0 => blank,
            _ => end.max(1),
        };
        lines.push(rest[..at].trim_end());
        rest = rest[at..].trim_start();
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_stays_on_the_screen() {
        let mut canvas = Canvas::new();
        canvas.bar(0, "left", "right");
        assert_eq!(canvas.put(1, 78, colour::TEXT, "abc"), 80);
        canvas.put(99, 0, colour::TEXT, "nowhere");
        canvas.put_short(2, 0, colour::TEXT, "Größe und Länge", 9);
        canvas.put_lines((3, 1), colour::TEXT, "one two three four", 9, 2);
        let text = canvas.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], format!(" left{:69}right", ""));
        assert_eq!(lines[1], format!("{:78}ab", ""));
        assert_eq!(lines[2], "Größ..nge");
        assert_eq!(lines[3..5], [" one two", " three  .."]);
        assert_eq!(text.lines().count(), ROWS);
    }

    proptest! {
        #[test]
        fn any_text_fits(text in ".{0,300}", row in 0usize..30, column in 0usize..90, width in 2usize..90, rows in 0usize..5) {
            let mut canvas = Canvas::new();
            canvas.put_short(row, column, 7, &text, width);
            canvas.put_right(row, column, 7, &text);
            canvas.put_lines((row, column), 7, &text, width, rows);
            for line in wrap(&text, width) {
                prop_assert!(line.chars().count() <= width);
            }
        }
    }
}
