//! What the user sees when nothing could be booted, and while the key that opens the menu is waited for.

use super::candidate::{Candidate, Reason};
use super::canvas::{COLUMNS, Canvas, ROWS, colour};
use super::menu::key;
use alloc::format;
use alloc::string::{String, ToString};

/// Columns of text.
const WIDTH: usize = COLUMNS - 4;

/// What was tried, why each failed, and what happens now. `left` are the seconds until the machine restarts by itself.
pub fn draw(title: &str, failures: &[(Candidate, Reason)], left: Option<u32>) -> Canvas {
    /// First row behind the list.
    const END: usize = ROWS - 4;
    let mut canvas = Canvas::new();
    canvas.bar(0, title, "");
    canvas.put(2, 2, colour::STRONG, "Nothing could be booted.");
    let mut row = 4;
    if failures.is_empty() {
        let text = "This machine has no disk, CD drive or network card to boot from.";
        canvas.put(row, 2, colour::TEXT, text);
    }
    for (index, (candidate, reason)) in failures.iter().enumerate() {
        // Two rows at least, and one for how many more there are.
        if row + 2 > END - usize::from(index + 1 < failures.len()) {
            let more = failures.len() - index;
            canvas.put(row, 2, colour::TEXT, &format!("and {more} more"));
            break;
        }
        canvas.put_short(row, 2, colour::TEXT, &candidate.name.to_string(), WIDTH);
        let reason = reason.to_string();
        row = canvas.put_lines(
            (row + 1, 4),
            colour::STRONG,
            &reason,
            WIDTH - 2,
            END - row - 1,
        );
    }
    let text = match left {
        Some(seconds) => format!("Press a key to restart, or wait {}.", seconds_text(seconds)),
        None => "Press a key to restart.".into(),
    };
    canvas.put(ROWS - 3, 2, colour::TEXT, &text);
    canvas.bar(ROWS - 1, "Esc boot menu   Any other key restart", "");
    canvas
}

/// How to get to the menu. `message` is the user's own, `other_key` the scan code of a key beside Esc and F12, `left` the seconds
/// until the boot goes on.
pub fn draw_prompt(
    title: &str,
    message: Option<&str>,
    other_key: Option<u8>,
    left: Option<u32>,
) -> Canvas {
    let mut canvas = Canvas::new();
    canvas.bar(0, title, "");
    let message = message.map(str::trim).filter(|message| !message.is_empty());
    let own = format!("Press {} for the boot menu.", keys_text(other_key));
    let mut row = 2;
    for line in message.unwrap_or(&own).lines() {
        row = canvas.put_lines(
            (row, 2),
            colour::STRONG,
            line,
            WIDTH,
            ROWS - 4 - row.min(ROWS - 4),
        );
    }
    let now = match left {
        Some(seconds) => format!("The boot goes on in {}.", seconds_text(seconds)),
        None => "The boot waits until then.".into(),
    };
    canvas.put(row + 1, 2, colour::TEXT, &now);
    canvas
}

fn seconds_text(seconds: u32) -> String {
    let unit = if seconds == 1 { "second" } else { "seconds" };
    format!("{seconds} {unit}")
}

/// The names of the keys that open the menu.
fn keys_text(other: Option<u8>) -> String {
    let name = match other {
        Some(code @ 0x3b..=0x44) => format!("F{}, ", code - 0x3a),
        Some(0x85) => "F11, ".into(),
        _ => String::new(),
    };
    format!("{name}Esc or F12")
}

/// Whether a key opens the menu.
pub fn opens_menu(word: u16, other: Option<u8>) -> bool {
    let scan = (word >> 8) as u8;
    scan == key::ESC_SCAN || scan == key::F12_SCAN || Some(scan) == other
}

#[cfg(test)]
mod tests {
    use super::super::candidate::{Kind, Target};
    use super::*;

    fn failure(name: &str, reason: Reason) -> (Candidate, Reason) {
        let candidate = Candidate {
            kind: Kind::HardDisk,
            name: crate::devices::name::Name::new(name.to_owned()),
            place: None,
            target: Target::Drive(0x80),
        };
        (candidate, reason)
    }

    #[test]
    fn why_nothing_boots() {
        let failures = [
            failure("QEMU HARDDISK (primary IDE master)", Reason::NoSignature),
            failure("QEMU DVD-ROM (secondary IDE master)", Reason::NotSupported),
        ];
        let expected = include_str!("expected/report.txt");
        assert_eq!(draw("Firstlight", &failures, Some(59)).text(), expected);
        let nothing = draw("Firstlight", &[], None).text();
        assert!(nothing.contains("no disk") && nothing.contains("restart.\n"));
    }

    #[test]
    fn forty_failures_are_counted() {
        let failures: Vec<_> = (0..40)
            .map(|n| failure(&format!("Disk {n}"), Reason::GaveUp))
            .collect();
        let text = draw("Firstlight", &failures, None).text();
        let shown = text.matches("INT 18h").count();
        assert!(text.contains(&format!("and {} more", 40 - shown)), "{text}");
        assert!(text.contains("Press a key"));
    }

    #[test]
    fn the_way_to_the_menu() {
        let text = draw_prompt("Firstlight", None, Some(0x85), Some(1)).text();
        assert!(text.contains("Press F11, Esc or F12 for"), "{text}");
        assert!(text.contains("goes on in 1 second."), "{text}");
        let own = draw_prompt("Firstlight", Some("\nHit it\nnow\n\n"), None, None).text();
        assert!(own.contains("  Hit it\n  now\n\n  The boot waits"), "{own}");
        let long = "x ".repeat(3000);
        draw_prompt("Firstlight", Some(&long), None, None);
        assert!(opens_menu(0x011b, None) && opens_menu(0x8600, None));
        assert!(opens_menu(0x8500, Some(0x85)) && !opens_menu(0x8500, None));
    }
}
