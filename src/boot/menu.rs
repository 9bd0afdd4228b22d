//! The boot menu: what it looks like and what its keys do. Nothing here touches a device.

use super::candidate::Kind;
use super::canvas::{COLUMNS, Canvas, ROWS, colour};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Keys that choose an entry at once, in the order of the entries: without the letters that have another meaning.
const SHORTCUTS: &[u8; 33] = b"123456789ABCDEFGHJKLMNOPQSTUVWXYZ";
/// First row of the list, and its height.
const LIST: usize = 4;
const LIST_ROWS: usize = 12;
/// First row of what is said about the chosen entry.
const DETAILS: usize = 18;
/// An Esc that comes within so many ticks of the one before comes from a key that is held down: about half a second.
const REPEAT_TICKS: u32 = 10;

/// Keys, as INT 16h gives them: scan code and character.
pub mod key {
    /// Esc.
    pub const ESC: u16 = 0x011b;
    /// Scan code of F12.
    pub const F12_SCAN: u8 = 0x86;
    /// Scan code of Esc.
    pub const ESC_SCAN: u8 = 0x01;
}

/// What can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Model and bus.
    pub name: String,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// What its owner called it.
    pub label: Option<String>,
    /// Where it is.
    pub place: Option<String>,
    /// Why it cannot be booted, or why it was not when it was tried.
    pub problem: Option<String>,
    /// Booting it can be tried.
    pub bootable: bool,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing but a new picture.
    Draw,
    /// To boot the entry of this number.
    Boot(usize),
    /// To go on with the order.
    GoOn,
    /// To show what the firmware knows.
    Information,
    /// To restart the machine.
    Restart,
}

/// The menu.
#[derive(Clone, Debug, Default)]
pub struct Menu {
    entries: Vec<Entry>,
    /// What the last row says.
    title: String,
    chosen: usize,
    /// The first entry that is shown.
    top: usize,
    information: Option<Pages>,
    /// The tick of the last Esc.
    last_escape: Option<u32>,
}

/// A text that is longer than the screen.
#[derive(Clone, Debug)]
struct Pages {
    lines: Vec<String>,
    top: usize,
}

impl Menu {
    /// A menu of these entries at tick `now`, opened by a key that may be held down. `title` says what the firmware is.
    pub fn new(title: String, entries: Vec<Entry>, now: u32) -> Self {
        Self {
            title,
            entries,
            last_escape: Some(now),
            ..Self::default()
        }
    }

    /// Shows a text until Esc.
    pub fn show_information(&mut self, lines: Vec<String>) {
        self.information = Some(Pages { lines, top: 0 });
    }

    /// Takes a key that came at tick `now`.
    pub fn key(&mut self, word: u16, now: u32) -> Action {
        let [ascii, scan] = word.to_le_bytes();
        let step = match (ascii, scan) {
            (0 | 0xe0, 0x48) => Some(Step::Lines(-1)),
            (0 | 0xe0, 0x50) => Some(Step::Lines(1)),
            (0 | 0xe0, 0x49) => Some(Step::Pages(-1)),
            (0 | 0xe0, 0x51) => Some(Step::Pages(1)),
            (0 | 0xe0, 0x47) => Some(Step::Start),
            (0 | 0xe0, 0x4f) => Some(Step::End),
            _ => None,
        };
        if word == key::ESC {
            let last = self.last_escape.replace(now);
            // A clock that goes back at midnight makes a long time of it.
            if last.is_some_and(|last| now.wrapping_sub(last) < REPEAT_TICKS) {
                return Action::Draw;
            }
        } else {
            // Whoever presses another key does not hold this one down.
            self.last_escape = None;
        }
        if let Some(pages) = &mut self.information {
            match step {
                Some(step) => pages.top = step.from(pages.top, PAGE_ROWS, pages.last()),
                None => self.information = None,
            }
            return Action::Draw;
        }
        match (step, ascii.to_ascii_uppercase()) {
            (Some(step), _) => {
                let last = self.entries.len().saturating_sub(1);
                self.chosen = step.from(self.chosen, LIST_ROWS, last);
                self.scroll();
                Action::Draw
            }
            (_, b'\r' | b'\n') => self.boot(self.chosen),
            (_, 0x1b) => Action::GoOn,
            (_, b'I') => Action::Information,
            (_, b'R') => Action::Restart,
            (_, letter) => {
                let index = SHORTCUTS.iter().position(|known| *known == letter);
                match index.filter(|index| *index < self.entries.len()) {
                    Some(index) => {
                        self.chosen = index;
                        self.scroll();
                        self.boot(index)
                    }
                    None => Action::Draw,
                }
            }
        }
    }

    fn boot(&self, index: usize) -> Action {
        match self.entries.get(index) {
            Some(entry) if entry.bootable => Action::Boot(index),
            // What stands in its way is on the screen.
            _ => Action::Draw,
        }
    }

    /// Brings the chosen entry into view.
    fn scroll(&mut self) {
        let lowest = (self.chosen + 1).saturating_sub(LIST_ROWS);
        self.top = self.top.clamp(lowest, self.chosen.max(lowest));
    }

    /// The picture.
    pub fn draw(&self) -> Canvas {
        let mut canvas = Canvas::new();
        match &self.information {
            Some(pages) => {
                canvas.bar(0, &self.title, "Information");
                pages.draw(&mut canvas);
                canvas.bar(ROWS - 1, "↑ ↓ scroll   Esc back to the menu", "");
            }
            None => {
                canvas.bar(0, &self.title, "Boot menu");
                self.draw_list(&mut canvas);
                let keys = "↑ ↓ choose   Enter boot   I information   R restart   Esc go on";
                canvas.bar(ROWS - 1, keys, "");
            }
        }
        canvas
    }

    fn draw_list(&self, canvas: &mut Canvas) {
        if self.entries.is_empty() {
            canvas.put(2, 2, colour::STRONG, "There is nothing to boot from.");
            return;
        }
        canvas.put(2, 2, colour::STRONG, "Choose what to boot this time:");
        let shown = self.entries.iter().enumerate();
        for (row, (index, entry)) in (LIST..).zip(shown.skip(self.top).take(LIST_ROWS)) {
            self.draw_entry(canvas, row, index, entry);
        }
        if self.top > 0 {
            canvas.put_right(
                LIST - 1,
                COLUMNS - 2,
                colour::DIM,
                &format!("↑ {} more", self.top),
            );
        }
        let below = self.entries.len().saturating_sub(self.top + LIST_ROWS);
        if below > 0 {
            let row = LIST + LIST_ROWS;
            canvas.put_right(row, COLUMNS - 2, colour::DIM, &format!("↓ {below} more"));
        }
        canvas.fill(DETAILS - 1, 2..COLUMNS - 2, colour::DIM, '─');
        if let Some(entry) = self.entries.get(self.chosen) {
            draw_details(canvas, entry);
        }
    }

    fn draw_entry(&self, canvas: &mut Canvas, row: usize, index: usize, entry: &Entry) {
        const NAME: usize = 5;
        const NAME_WIDTH: usize = 40;
        const SIZE_END: usize = 56;
        const LABEL: usize = 58;
        const LABEL_WIDTH: usize = COLUMNS - 3 - LABEL;
        let chosen = index == self.chosen;
        let colour = match (chosen, entry.bootable) {
            (true, _) => colour::CHOSEN,
            (_, true) => colour::TEXT,
            (_, false) => colour::DIM,
        };
        if chosen {
            canvas.fill(row, 1..COLUMNS - 1, colour, ' ');
        }
        if let Some(key) = SHORTCUTS.get(index) {
            let colour = if chosen { colour } else { colour::STRONG };
            canvas.put(row, 2, colour, char::from(*key).encode_utf8(&mut [0; 4]));
        }
        canvas.put_short(row, NAME, colour, &entry.name, NAME_WIDTH);
        if let Some(size) = entry.size {
            canvas.put_right(row, SIZE_END, colour, &size_text(size));
        }
        let label = entry.label.as_deref().unwrap_or_default();
        canvas.put_short(row, LABEL, colour, label, LABEL_WIDTH);
    }
}

fn draw_details(canvas: &mut Canvas, entry: &Entry) {
    const WIDTH: usize = COLUMNS - 4;
    let mut text = entry.name.clone();
    if let Some(label) = &entry.label {
        text += &format!(" · {label}");
    }
    let mut row = canvas.put_lines((DETAILS, 2), colour::TEXT, &text, WIDTH, 2);
    if let Some(place) = &entry.place {
        canvas.put_short(row, 2, colour::DIM, place, WIDTH);
        row += 1;
    }
    if let Some(problem) = &entry.problem {
        canvas.put_lines((row, 2), colour::STRONG, problem, WIDTH, ROWS - 2 - row);
    }
}

/// Rows of a page of text.
const PAGE_ROWS: usize = ROWS - 4;

impl Pages {
    /// The last line that can be the first on the screen.
    fn last(&self) -> usize {
        self.lines.len().saturating_sub(PAGE_ROWS)
    }

    fn draw(&self, canvas: &mut Canvas) {
        let lines = self.lines.iter().skip(self.top).take(PAGE_ROWS);
        for (row, line) in (2..).zip(lines) {
            canvas.put_short(row, 2, colour::TEXT, line, COLUMNS - 4);
        }
    }
}

/// How far a cursor key goes.
#[derive(Clone, Copy)]
enum Step {
    Lines(isize),
    Pages(isize),
    Start,
    End,
}

impl Step {
    fn from(self, at: usize, page: usize, last: usize) -> usize {
        let to = match self {
            Self::Lines(by) => at.saturating_add_signed(by),
            Self::Pages(by) => at.saturating_add_signed(by * page as isize),
            Self::Start => 0,
            Self::End => last,
        };
        to.min(last)
    }
}

/// A size as people say it: three digits and a unit.
fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut whole = bytes;
    let mut tenths = 0;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        tenths = (whole % 1024) * 10 / 1024;
        whole /= 1024;
        unit += 1;
    }
    match (whole, tenths) {
        (0..10, 1..) => format!("{whole}.{tenths} {}", UNITS[unit]),
        _ => format!("{whole} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DOWN: u16 = 0x50e0;
    const UP: u16 = 0x48e0;
    const ENTER: u16 = 0x1c0d;
    const LATE: u32 = 1000;

    fn entry(name: &str, bootable: bool) -> Entry {
        Entry {
            kind: Kind::HardDisk,
            name: name.into(),
            size: Some(16 << 20),
            label: None,
            place: Some("/pci@i0cf8/*@1,1/drive@0/disk@0".into()),
            problem: (!bootable).then(|| "booting from it is not supported yet".into()),
            bootable,
        }
    }

    fn menu(entries: Vec<Entry>) -> Menu {
        Menu::new("Firstlight".into(), entries, 0)
    }

    fn many(count: usize) -> Menu {
        menu(
            (0..count)
                .map(|n| entry(&format!("Disk {n}"), true))
                .collect(),
        )
    }

    #[test]
    fn what_it_looks_like() {
        let mut disk = entry("QEMU HARDDISK (primary IDE master)", true);
        disk.label = Some("rootfs".into());
        disk.size = Some(20_000_000_000);
        let cd = entry("QEMU DVD-ROM (secondary IDE master)", false);
        let mut menu = menu(vec![disk, cd]);
        menu.key(DOWN, LATE);
        let expected = include_str!("expected/menu.txt");
        assert_eq!(menu.draw().text(), expected);
    }

    #[test]
    fn keys_choose() {
        let mut menu = menu(vec![entry("a", true), entry("b", false), entry("c", true)]);
        assert_eq!(menu.key(ENTER, LATE), Action::Boot(0));
        assert_eq!(menu.key(0x0433, LATE), Action::Boot(2));
        assert_eq!(menu.key(UP, LATE), Action::Draw);
        assert_eq!(menu.key(ENTER, LATE), Action::Draw);
        assert_eq!(menu.key(0x0534, LATE), Action::Draw);
        assert_eq!(menu.key(0x1769, LATE), Action::Information);
        assert_eq!(menu.key(0x1352, LATE), Action::Restart);
        assert_eq!(menu.key(key::ESC, LATE), Action::GoOn);
    }

    #[test]
    fn a_held_escape_does_not_close_what_it_opened() {
        let mut menu = many(2);
        for tick in 1..50 {
            assert_eq!(menu.key(key::ESC, tick), Action::Draw);
        }
        assert_eq!(menu.key(key::ESC, 49 + REPEAT_TICKS), Action::GoOn);
        // One that comes soon after another key is a new one.
        let mut menu = many(2);
        assert_eq!(menu.key(0x1769, 1), Action::Information);
        assert_eq!(menu.key(key::ESC, 2), Action::GoOn);
    }

    #[test]
    fn forty_devices_scroll() {
        let mut menu = many(40);
        for _ in 0..20 {
            menu.key(DOWN, LATE);
        }
        let text = menu.draw().text();
        assert!(
            text.contains("  M  Disk 20") && text.contains("↑ 9 more"),
            "{text}"
        );
        assert!(
            text.contains("↓ 19 more") && !text.contains("Disk 21"),
            "{text}"
        );
        menu.key(0x4fe0, LATE);
        assert_eq!(menu.key(ENTER, LATE), Action::Boot(39));
        assert!(menu.draw().text().contains("     Disk 39 "));
        assert_eq!(menu.key(0x2c7a, LATE), Action::Boot(32));
        menu.key(0x4700, LATE);
        assert!(menu.draw().text().contains("  1  Disk 0 "));
    }

    #[test]
    fn information_is_read_and_left() {
        let mut menu = many(1);
        menu.show_information((0..50).map(|line| format!("Line {line}")).collect());
        assert!(menu.draw().text().contains("  Line 0\n"));
        menu.key(0x51e0, LATE);
        let text = menu.draw().text();
        assert!(text.contains("  Line 20\n") && text.contains("  Line 39\n"));
        menu.key(0x4fe0, LATE);
        assert!(menu.draw().text().contains("  Line 49\n"));
        menu.key(key::ESC, LATE);
        assert!(menu.draw().text().contains("Choose"));
    }

    #[test]
    fn sizes_as_people_say_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (1_474_560, "1.4 MiB"),
            (16 << 20, "16 MiB"),
            (20_000_000_000, "18 GiB"),
            (u64::MAX, "16383 PiB"),
        ] {
            assert_eq!(size_text(bytes), text);
        }
    }

    proptest! {
        #[test]
        fn any_keys_are_survived(
            keys in proptest::collection::vec(prop_oneof![any::<u16>(), Just(DOWN), Just(UP), Just(0x51e0), Just(0x49e0)], 0..60),
            count in 0usize..50,
            name in ".{0,200}",
        ) {
            let mut menu = menu((0..count).map(|_| entry(&name, true)).collect());
            for (tick, key) in keys.into_iter().enumerate() {
                if let Action::Boot(index) = menu.key(key, tick as u32) {
                    prop_assert!(index < count);
                }
                menu.draw();
                prop_assert!(count == 0 || (menu.top..menu.top + LIST_ROWS).contains(&menu.chosen));
            }
        }
    }
}
