//! Keys from a terminal's bytes (ECMA-48 control sequences as xterm and VT220 send them).

use crate::bios::keyboard::keymap;

const ESC: u8 = 0x1b;

/// Timer ticks after which an ESC that nothing follows is the Esc key: at most 110 ms.
const ESC_TICKS: u32 = 2;

/// Turns bytes into keys, a byte at a time.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    pending: [u8; 6],
    len: usize,
    since: u32,
}

impl Decoder {
    /// The most keys that one byte completes.
    pub const MOST_KEYS: u16 = 6;

    /// Takes a byte that came at timer tick `now`, and gives the keys that it completes to `key`.
    pub fn byte(&mut self, byte: u8, now: u32, mut key: impl FnMut(u16)) {
        if self.len == 0 {
            match byte {
                ESC => {
                    self.pending[0] = byte;
                    self.len = 1;
                    self.since = now;
                }
                // Terminals send DEL for the backspace key, and may end lines with LF.
                0x7f => key(keymap::word_for_ascii(0x08)),
                b'\n' => key(keymap::word_for_ascii(b'\r')),
                _ => key(keymap::word_for_ascii(byte)),
            }
            return;
        }
        self.pending[self.len] = byte;
        self.len += 1;
        let sequence = &self.pending[1..self.len];
        if let Some(word) = complete(sequence) {
            key(word);
            self.len = 0;
        } else if !may_grow(sequence) || self.len == self.pending.len() {
            self.flush(key);
        }
    }

    /// Timer tick `now` has come: an ESC that has waited long enough is a key.
    pub fn time(&mut self, now: u32, key: impl FnMut(u16)) {
        if self.len > 0 && now.wrapping_sub(self.since) >= ESC_TICKS {
            self.flush(key);
        }
    }

    fn flush(&mut self, key: impl FnMut(u16)) {
        self.pending[..self.len]
            .iter()
            .map(|byte| keymap::word_for_ascii(*byte))
            .for_each(key);
        self.len = 0;
    }
}

/// Whether what followed ESC can still become a sequence.
fn may_grow(sequence: &[u8]) -> bool {
    match sequence {
        [b'[' | b'O'] => true,
        [b'[', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// The key of a whole sequence, without its ESC.
fn complete(sequence: &[u8]) -> Option<u16> {
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
        // F1 to F4, F5 to F12.
        [b'O', f @ b'P'..=b'S'] => 0x3b00 + (u16::from(f - b'P') << 8),
        [b'[', b'1', f @ b'1'..=b'5', b'~'] => 0x3b00 + (u16::from(f - b'1') << 8),
        [b'[', b'1', f @ b'7'..=b'9', b'~'] => 0x4000 + (u16::from(f - b'7') << 8),
        [b'[', b'2', f @ b'0'..=b'1', b'~'] => 0x4300 + (u16::from(f - b'0') << 8),
        [b'[', b'2', f @ b'3'..=b'4', b'~'] => 0x8500 + (u16::from(f - b'3') << 8),
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
        decoder.time(ESC_TICKS, |key| keys.push(key));
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
