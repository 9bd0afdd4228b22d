//! The end of the log, kept in memory for the menu to show.

use alloc::string::String;
use core::fmt;

/// Bytes that are kept.
const SIZE: usize = 2048;

/// The last bytes that were written.
pub struct Tail {
    bytes: [u8; SIZE],
    /// Bytes written so far.
    written: usize,
}

impl Tail {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            bytes: [0; SIZE],
            written: 0,
        }
    }

    /// What is kept, from the first whole line on.
    pub fn text(&self) -> String {
        let at = self.written % SIZE;
        let (newer, older) = self.bytes.split_at(at);
        if self.written <= SIZE {
            return String::from_utf8_lossy(&self.bytes[..self.written]).into_owned();
        }
        let bytes = [older, newer].concat();
        let start = bytes.iter().position(|byte| *byte == b'\n');
        String::from_utf8_lossy(&bytes[start.map_or(0, |start| start + 1)..]).into_owned()
    }
}

impl Default for Tail {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Write for Tail {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.bytes[self.written % SIZE] = byte;
            self.written = self.written.wrapping_add(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;

    #[test]
    fn the_last_whole_lines_are_kept() {
        let mut tail = Tail::new();
        assert_eq!(tail.text(), "");
        let lines = |range: core::ops::Range<u32>| range.map(|n| format!("line {n:04}\n"));
        for line in lines(0..10) {
            tail.write_str(&line).unwrap();
        }
        assert_eq!(tail.text(), lines(0..10).collect::<String>());
        for line in lines(10..1000) {
            tail.write_str(&line).unwrap();
        }
        let text = tail.text();
        assert!(text.starts_with("line 0") && text.ends_with("line 0999\n"));
        assert!(text.len() > SIZE - 20 && text.len() <= SIZE);
    }
}
