//! A VT100 terminal: keys in, text out.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::termios::{
    LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr,
};
use std::io::Write;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Up,
    Down,
    Left,
    Right,
    Home,
    End,
    Delete,
    Backspace,
    Enter,
    Escape,
    Character(char),
    /// A key with Ctrl, by its letter.
    Control(char),
    /// No key came in time.
    None,
    /// There is no terminal any more.
    Gone,
}

/// What a menu is shown on.
pub trait Terminal {
    /// Waits for a key, for ever without a `timeout`.
    fn key(&mut self, timeout: Option<Duration>) -> Key;

    /// Shows text, in which `\n` begins a new line.
    fn write(&mut self, text: &str);

    /// Columns and rows.
    fn size(&self) -> (usize, usize);
}

/// The terminal that this process has.
pub struct Tty {
    input: OwnedFd,
    before: Option<Termios>,
    pending: Vec<u8>,
}

impl Tty {
    /// Takes the terminal at `input`, and lets it hand over each key. Output goes to standard output.
    ///
    /// Nothing, if it is no terminal.
    pub fn new(input: OwnedFd) -> Option<Self> {
        if !isatty(&input) {
            return None;
        }
        let before = tcgetattr(&input).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.local_modes
                .remove(LocalModes::ICANON | LocalModes::ECHO);
            let _ = tcsetattr(&input, OptionalActions::Now, &raw);
        }
        Some(Self {
            input,
            before,
            pending: Vec::new(),
        })
    }

    /// The next byte, if one comes in time. An error is a terminal that is gone.
    fn byte(&mut self, timeout: Option<Duration>) -> Result<Option<u8>, ()> {
        if !self.pending.is_empty() {
            return Ok(Some(self.pending.remove(0)));
        }
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let mut wait = [PollFd::new(&self.input, PollFlags::IN)];
        match poll(&mut wait, timeout.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(_) => return Err(()),
        }
        let mut buffer = [0; 64];
        match rustix::io::read(&self.input, &mut buffer) {
            Ok(0) | Err(_) => Err(()),
            Ok(count) => {
                self.pending.extend_from_slice(&buffer[..count]);
                Ok(Some(self.pending.remove(0)))
            }
        }
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(&self.input, OptionalActions::Now, before);
        }
    }
}

/// How long the rest of a key's sequence may take.
const SEQUENCE: Duration = Duration::from_millis(50);

impl Terminal for Tty {
    fn key(&mut self, timeout: Option<Duration>) -> Key {
        let first = match self.byte(timeout) {
            Ok(Some(first)) => first,
            Ok(None) => return Key::None,
            Err(()) => return Key::Gone,
        };
        let mut sequence = vec![first];
        loop {
            match decode(&sequence) {
                Some(key) => return key,
                None => match self.byte(Some(SEQUENCE)) {
                    Ok(Some(next)) => sequence.push(next),
                    _ => return Key::Escape,
                },
            }
        }
    }

    fn write(&mut self, text: &str) {
        let mut output = std::io::stdout().lock();
        let _ = output.write_all(text.replace('\n', "\r\n").as_bytes());
        let _ = output.flush();
    }

    fn size(&self) -> (usize, usize) {
        match tcgetwinsize(&self.input) {
            Ok(size) if size.ws_col >= 20 && size.ws_row >= 8 => {
                (usize::from(size.ws_col), usize::from(size.ws_row))
            }
            _ => (80, 24),
        }
    }
}

/// The key of a sequence of bytes (VT100 User Guide, "Cursor key codes"; xterm's for the rest), or nothing while it is not complete.
fn decode(bytes: &[u8]) -> Option<Key> {
    Some(match bytes {
        [b'\r' | b'\n'] => Key::Enter,
        [0x7f | 0x08] => Key::Backspace,
        [0x1b] | [0x1b, b'[' | b'O'] => return None,
        [0x1b, b'[' | b'O', code] => match code {
            b'A' => Key::Up,
            b'B' => Key::Down,
            b'C' => Key::Right,
            b'D' => Key::Left,
            b'H' => Key::Home,
            b'F' => Key::End,
            b'0'..=b'9' | b';' => return None,
            _ => Key::None,
        },
        [0x1b, b'[', middle @ .., last] if middle.len() < 8 => match (middle, last) {
            (b"1" | b"7", b'~') => Key::Home,
            (b"4" | b"8", b'~') => Key::End,
            (b"3", b'~') => Key::Delete,
            (_, b'0'..=b'9' | b';') => return None,
            _ => Key::None,
        },
        [0x1b, ..] => Key::None,
        [control @ 1..=26] => Key::Control((b'a' + control - 1) as char),
        [0..=0x1f] => Key::None,
        text => match std::str::from_utf8(text) {
            Ok(text) => text.chars().next().map_or(Key::None, Key::Character),
            Err(error) if error.error_len().is_none() && text.len() < 4 => return None,
            Err(_) => Key::None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_their_sequences() {
        let expected: [(&[u8], Option<Key>); 12] = [
            (b"\x1b", None),
            (b"\x1b[A", Some(Key::Up)),
            (b"\x1bOB", Some(Key::Down)),
            (b"\x1b[3", None),
            (b"\x1b[3~", Some(Key::Delete)),
            (b"\x1b[1;5C", Some(Key::None)),
            (b"\r", Some(Key::Enter)),
            (b"\x05", Some(Key::Control('e'))),
            (b"\x7f", Some(Key::Backspace)),
            (b"\xc3", None),
            (b"\xc3\xa9", Some(Key::Character('é'))),
            (b"\xff", Some(Key::None)),
        ];
        for (bytes, key) in expected {
            assert_eq!(decode(bytes), key, "{bytes:?}");
        }
    }
}
