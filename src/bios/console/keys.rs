//! Keys from a terminal's bytes (ECMA-48 control sequences as xterm and VT220 send them).

use crate::bios::keyboard::keymap;

const ESC: u8 = 0x1b;

/// Timer ticks after which an ESC that nothing follows is the Esc key: at most 110 ms.
const ESC_TICKS: u32 = 2;
/// Ticks that a sequence may stop in its middle, on a slow line: at most 0.5 s.
const SEQUENCE_TICKS: u32 = 9;
/// The longest sequence that is remembered; what is longer is none of a key.
const LONGEST: usize = 8;

/// Turns bytes into keys, a byte at a time.
///
/// A sequence that stands for no key here is passed over as a whole: terminals also report what nobody asked for, such as that their
/// window has the focus, and a menu must not take that for an Esc and some letters.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    pending: [u8; LONGEST],
    len: usize,
    /// The tick of the last byte.
    since: u32,
}

impl Decoder {
    /// The most keys that one byte completes.
    pub const MOST_KEYS: u16 = 2;

    /// Takes a byte that came at timer tick `now`, and gives the keys that it completes to `key`.
    pub fn byte(&mut self, byte: u8, now: u32, mut key: impl FnMut(u16)) {
        self.since = now;
        match (self.len, byte) {
            (0, ESC) => self.push(byte),
            // Terminals send DEL for the backspace key, and may end lines with LF.
            (0, 0x7f) => key(keymap::word_for_ascii(0x08)),
            (0, b'\n') => key(keymap::word_for_ascii(b'\r')),
            (0, _) => key(keymap::word_for_ascii(byte)),
            (1, b'[' | b'O') => self.push(byte),
            (1, _) => {
                self.len = 0;
                key(keymap::word_for_ascii(ESC));
                key(keymap::word_for_ascii(byte));
            }
            // A sequence that was broken off by another one.
            (_, ESC) => {
                self.len = 0;
                self.push(byte);
            }
            _ => self.go_on(byte, key),
        }
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.pending.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    /// Takes the next byte of a sequence. One that is too long keeps its start, which is that of no key.
    fn go_on(&mut self, byte: u8, mut key: impl FnMut(u16)) {
        let of_linux = self.pending[1..self.len] == *b"[[";
        let parameter = self.pending[1] == b'[' && matches!(byte, 0x20..=0x3f);
        let first_of_linux = byte == b'[' && self.pending[1..self.len] == *b"[";
        self.push(byte);
        if (parameter || first_of_linux) && !of_linux {
            return;
        }
        if let Some(word) = complete(&self.pending[1..self.len]) {
            key(word);
        }
        self.len = 0;
    }

    /// Timer tick `now` has come: an ESC that has waited long enough is a key, and a sequence that does not end is none.
    pub fn time(&mut self, now: u32, mut key: impl FnMut(u16)) {
        let waited = now.wrapping_sub(self.since);
        match self.len {
            0 => {}
            1 if waited >= ESC_TICKS => {
                self.len = 0;
                key(keymap::word_for_ascii(ESC));
            }
            2.. if waited >= SEQUENCE_TICKS => self.len = 0,
            _ => {}
        }
    }
}

/// The key of a whole sequence, without its ESC. With Shift, Alt or Ctrl (`;` and a number before its end) it is the same key.
fn complete(sequence: &[u8]) -> Option<u16> {
    let (start, end) = match sequence {
        [b'[', b'1', b';', _, end] => (&b"["[..], core::slice::from_ref(end)),
        [start @ .., b';', _, b'~'] => (start, &b"~"[..]),
        _ => (sequence, &b""[..]),
    };
    let mut plain = [0; LONGEST];
    let len = start.len() + end.len();
    plain.get_mut(..start.len())?.copy_from_slice(start);
    plain.get_mut(start.len()..len)?.copy_from_slice(end);
    key_of(&plain[..len])
}

/// The key of a sequence without modifiers.
fn key_of(sequence: &[u8]) -> Option<u16> {
    let function = |number: u8| u16::from(number) << 8;
    Some(match sequence {
        [b'[' | b'O', b'A'] => 0x48e0,
        [b'[' | b'O', b'B'] => 0x50e0,
        [b'[' | b'O', b'C'] => 0x4de0,
        [b'[' | b'O', b'D'] => 0x4be0,
        [b'[' | b'O', b'H'] | [b'[', b'1' | b'7', b'~'] => 0x47e0,
        [b'[' | b'O', b'F'] | [b'[', b'4' | b'8', b'~'] => 0x4fe0,
        [b'[', b'2', b'~'] => 0x52e0,
        [b'[', b'3', b'~'] => 0x53e0,
        [b'[', b'5', b'~'] => 0x49e0,
        [b'[', b'6', b'~'] => 0x51e0,
        // F1 to F4, F1 to F5 of Linux's own console, F5 to F12.
        [b'[' | b'O', f @ b'P'..=b'S'] => 0x3b00 + function(f - b'P'),
        [b'[', b'[', f @ b'A'..=b'E'] => 0x3b00 + function(f - b'A'),
        [b'[', b'1', f @ b'1'..=b'5', b'~'] => 0x3b00 + function(f - b'1'),
        [b'[', b'1', f @ b'7'..=b'9', b'~'] => 0x4000 + function(f - b'7'),
        [b'[', b'2', f @ b'0'..=b'1', b'~'] => 0x4300 + function(f - b'0'),
        [b'[', b'2', f @ b'3'..=b'4', b'~'] => 0x8500 + function(f - b'3'),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(bytes: &[u8]) -> Vec<u16> {
        let mut decoder = Decoder::default();
        let mut keys = Vec::new();
        for byte in bytes {
            decoder.byte(*byte, 0, |key| keys.push(key));
        }
        decoder.time(SEQUENCE_TICKS, |key| keys.push(key));
        keys
    }

    #[test]
    fn characters_and_sequences() {
        assert_eq!(keys(b"a\r\n\x7f"), [0x1e61, 0x1c0d, 0x1c0d, 0x0e08]);
        assert_eq!(keys(b"\x1b[A\x1bOB\x1b[5~"), [0x48e0, 0x50e0, 0x49e0]);
        assert_eq!(keys(b"\x1bOP\x1b[15~\x1b[24~"), [0x3b00, 0x3f00, 0x8600]);
    }

    #[test]
    fn a_lone_escape_is_the_escape_key() {
        assert_eq!(keys(b"\x1b"), [0x011b]);
        assert_eq!(keys(b"\x1bx"), [0x011b, 0x2d78]);
        let mut decoder = Decoder::default();
        decoder.byte(ESC, 100, |_| panic!("too early"));
        decoder.time(101, |_| panic!("too early"));
    }

    #[test]
    fn sequences_with_modifiers_and_of_linux() {
        assert_eq!(
            keys(b"\x1b[1;5A\x1b[5;2~\x1b[24;3~"),
            [0x48e0, 0x49e0, 0x8600]
        );
        assert_eq!(keys(b"\x1b[[A\x1b[[E\x1b[1;2P"), [0x3b00, 0x3f00, 0x3b00]);
    }

    #[test]
    fn what_stands_for_no_key_is_passed_over() {
        // Focus, a paste's start, a mouse's report, where the cursor is, what the terminal is, a sequence broken off.
        for sequence in [
            "\x1b[I",
            "\x1b[200~",
            "\x1b[<0;12;34M",
            "\x1b[24;80R",
            "\x1b[?62;1;6;22c",
            "\x1bOz",
            "\x1b[1",
            "\x1b[[Z",
        ] {
            let with_letter = format!("{sequence}a");
            if sequence != "\x1b[1" {
                assert_eq!(keys(with_letter.as_bytes()), [0x1e61], "{sequence:?}");
            }
            let with_key = format!("{sequence}\x1b[A");
            assert_eq!(keys(with_key.as_bytes()), [0x48e0], "{sequence:?}");
        }
    }

    /// On a line of which nobody knows how slow it is.
    #[test]
    fn sequences_may_come_slowly() {
        let mut decoder = Decoder::default();
        let mut keys = Vec::new();
        let mut now = 100;
        for (byte, ticks) in b"\x1b[24~".iter().zip([0, 1, 8, 8, 8]) {
            now += ticks;
            decoder.time(now, |key| keys.push(key));
            decoder.byte(*byte, now, |key| keys.push(key));
        }
        assert_eq!(keys, [0x8600]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let mut decoder = Decoder::default();
            for byte in bytes {
                let mut count = 0;
                decoder.byte(byte, 0, |_| count += 1);
                prop_assert!(count <= Decoder::MOST_KEYS);
            }
        }
    }
}
