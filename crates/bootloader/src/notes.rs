//! What the bootloader says beside its result: statements that it left out, and why something cannot be booted.

use std::collections::BTreeSet;
use std::io::Write;

/// How many different notes are kept; a guest's configuration must not fill the host's log.
const LIMIT: usize = 200;

/// Notes, each said once.
#[derive(Debug, Default)]
pub struct Notes {
    said: BTreeSet<String>,
    order: Vec<String>,
    /// Write notes to standard error as they come.
    pub shown: bool,
    /// Say what commands do, too.
    pub verbose: bool,
}

impl Notes {
    /// Says something that the user should know.
    pub fn say(&mut self, note: impl AsRef<str>) {
        let note = printable(note.as_ref());
        if self.order.len() >= LIMIT || !self.said.insert(note.clone()) {
            return;
        }
        if self.shown {
            let _ = write!(std::io::stderr(), "{note}\r\n");
        }
        self.order.push(note);
    }

    /// Says something that helps to find out why.
    pub fn detail(&mut self, note: impl AsRef<str>) {
        if self.verbose {
            self.say(note);
        }
    }

    /// All that was said, in order.
    pub fn all(&self) -> &[String] {
        &self.order
    }
}

/// The text on one line and without control characters: a guest's text must not steer the terminal that shows it. At most 400
/// characters are kept.
pub fn printable(text: &str) -> String {
    text.chars()
        .take(400)
        .map(|character| match character {
            '\t' | '\n' | '\r' => ' ',
            // Bidirectional controls can make a title look like another one.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '?',
            other if other.is_control() => '?',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_bounded_and_harmless() {
        let mut notes = Notes::default();
        for number in 0..2 * LIMIT {
            notes.say(format!("\u{1b}[2J{number}\u{9b}"));
            notes.say("again");
        }
        assert_eq!(notes.all().len(), LIMIT);
        assert_eq!(notes.all()[0], "?[2J0?");
    }
}
