//! Entries of the Boot Loader Specification (uapi-group.org), type 1: a small text file for each kernel.

use crate::menu::{Action, Boot, Entry, Menu};
use crate::notes::Notes;
use crate::uki;
use crate::volumes::{Location, Volumes};
use std::cmp::Ordering;

/// How many bytes an entry may have, and how many entries a directory.
const SIZE: u64 = 64 << 10;
const COUNT: usize = 1024;

/// An entry, as its file has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Specified {
    /// The file's name without `.conf` and without the counters of boot counting.
    pub id: String,
    pub title: Option<String>,
    pub version: Option<String>,
    pub machine_id: Option<String>,
    pub sort_key: Option<String>,
    pub linux: Option<String>,
    pub initrd: Vec<String>,
    pub options: Vec<String>,
    /// An EFI program instead of a kernel.
    pub efi: Option<String>,
    /// What it boots, where it is no file of texts.
    pub boot: Option<Boot>,
    /// Boot counting: no tries are left.
    pub bad: bool,
}

impl Specified {
    /// What a menu shows.
    pub fn title(&self) -> String {
        match (&self.title, &self.version) {
            (Some(title), _) => title.clone(),
            (None, Some(version)) => format!("Linux {version}"),
            (None, None) => self.id.clone(),
        }
    }
}

/// The entries in a directory, the newest first, as Fedora's GRUB sorts them: by the files' names.
pub fn entries(volumes: &dyn Volumes, directory: &Location, notes: &mut Notes) -> Vec<Specified> {
    let mut names = volumes.list(directory).unwrap_or_default();
    names.retain(|name| name.ends_with(".conf") && !name.starts_with('.'));
    names.sort();
    if names.len() > COUNT {
        notes.say(format!("{}: too many entries", directory.path));
        names.truncate(COUNT);
    }
    let mut entries: Vec<Specified> = names
        .iter()
        .filter_map(|name| {
            let file = directory.join(name);
            match volumes.read_text(&file, SIZE) {
                Ok(text) => Some(parse(name, &text)),
                Err(error) => {
                    notes.say(format!("{}: {error}", file.path));
                    None
                }
            }
        })
        .collect();
    entries.sort_by(|a, b| compare(&b.id, &a.id));
    entries
}

/// Reads an entry: a key, blanks and a value on each line. Keys of others are passed over.
fn parse(name: &str, text: &str) -> Specified {
    let (id, bad) = counted(name.strip_suffix(".conf").unwrap_or(name));
    let mut entry = Specified {
        id: id.to_owned(),
        bad,
        ..Specified::default()
    };
    for line in text.lines() {
        let line = line.trim();
        let Some((key, value)) = line.split_once([' ', '\t']) else {
            continue;
        };
        let value = value.trim().to_owned();
        match key {
            "title" => entry.title = Some(value),
            "version" => entry.version = Some(value),
            "machine-id" => entry.machine_id = Some(value),
            "sort-key" => entry.sort_key = Some(value),
            "linux" => entry.linux = Some(value),
            "initrd" => entry
                .initrd
                .extend(value.split_whitespace().map(str::to_owned)),
            "options" => entry.options.push(value),
            "efi" => entry.efi = Some(value),
            _ => {}
        }
    }
    entry
}

/// A file's name without `+LEFT` or `+LEFT-DONE` at its end, and whether no tries are left.
pub(crate) fn counted(name: &str) -> (&str, bool) {
    let Some((id, counters)) = name.rsplit_once('+') else {
        return (name, false);
    };
    let (left, done) = counters.split_once('-').unwrap_or((counters, "0"));
    match (left.parse::<u32>(), done.parse::<u32>()) {
        (Ok(left), Ok(_)) => (id, left == 0),
        _ => (name, false),
    }
}

/// The menu of a boot partition with `/loader/entries` or unified kernel images, and no other configuration: systemd-boot's. Nothing,
/// if there are none.
pub fn menu(volumes: &dyn Volumes, root: &Location, notes: &mut Notes) -> Option<Menu> {
    let mut found = entries(volumes, &root.join("loader/entries"), notes);
    found.extend(uki::entries(volumes, root, notes));
    if found.is_empty() {
        return None;
    }
    found.sort_by(order);
    let mut menu = Menu::default();
    let mut default = None;
    let config = volumes.read_text(&root.join("loader/loader.conf"), SIZE);
    for line in config.unwrap_or_default().lines() {
        match line.trim().split_once([' ', '\t']) {
            Some(("timeout", value)) => {
                menu.timeout = match value.trim() {
                    "menu-force" => None,
                    "menu-hidden" | "menu-disabled" => Some(0),
                    seconds => seconds.parse().ok(),
                };
            }
            Some(("default", value)) => default = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let chosen = default.and_then(|pattern| {
        let pattern = pattern.strip_suffix(".conf").unwrap_or(&pattern);
        found.iter().position(|entry| glob(pattern, &entry.id))
    });
    let chosen = chosen.or_else(|| found.iter().position(|entry| !entry.bad));
    menu.default = chosen.map(|index| index.to_string());
    menu.entries = found
        .iter()
        .map(|entry| ready(volumes, root, entry))
        .collect();
    Some(menu)
}

/// The order of a menu: by sort key, machine and version, the newest first; entries without tries left last.
fn order(a: &Specified, b: &Specified) -> Ordering {
    let keys = match (&a.sort_key, &b.sort_key) {
        (Some(x), Some(y)) => x
            .cmp(y)
            .then_with(|| a.machine_id.cmp(&b.machine_id))
            .then_with(|| {
                let version = |entry: &Specified| entry.version.clone().unwrap_or_default();
                compare(&version(b), &version(a))
            }),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    };
    a.bad
        .cmp(&b.bad)
        .then(keys)
        .then_with(|| compare(&b.id, &a.id))
}

fn ready(volumes: &dyn Volumes, root: &Location, entry: &Specified) -> Entry {
    let action = match (&entry.linux, &entry.efi) {
        (None, None) if let Some(boot) = &entry.boot => Action::Boot(boot.clone()),
        (None, Some(efi)) => match uki::boot(volumes, &root.join(efi)) {
            Ok(boot) => Action::Boot(Boot {
                args: [vec![boot.args], entry.options.clone()]
                    .concat()
                    .join(" ")
                    .trim()
                    .to_owned(),
                ..boot
            }),
            Err(why) => Action::Refuse(format!("«efi {efi}»: {why}")),
        },
        (None, None) => Action::Refuse(format!("{} names no kernel", entry.id)),
        (Some(linux), _) => {
            let initrds = entry.initrd.iter().map(|name| root.join(name)).collect();
            let kernel = root.join(linux);
            match volumes.has(&kernel) {
                true => Action::Boot(Boot {
                    kernel,
                    initrds,
                    args: entry.options.join(" "),
                }),
                false => Action::Refuse(format!("kernel {linux}: no such file")),
            }
        }
    };
    Entry {
        title: entry.title(),
        id: Some(entry.id.clone()),
        action,
    }
}

fn glob(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => match name.strip_prefix(start) {
            None => false,
            Some(tail) => (0..=tail.len())
                .filter(|at| tail.is_char_boundary(*at))
                .take(256)
                .any(|at| match rest.contains('*') {
                    true => false,
                    false => tail[at..] == *rest,
                }),
        },
    }
}

/// Compares versions (the specification's "Version comparison", which is RPM's with more signs): runs of digits as numbers, letters
/// as texts, `~` before all else.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        (a, b) = (significant(a), significant(b));
        // The lowest sign first; the others end a part.
        for sign in ['~', '-', '^', '.'] {
            let (in_a, in_b) = (a.strip_prefix(sign), b.strip_prefix(sign));
            match (in_a, in_b) {
                (Some(rest_a), Some(rest_b)) => {
                    (a, b) = (rest_a, rest_b);
                    break;
                }
                (Some(_), None) if sign == '~' || !b.is_empty() => return Ordering::Less,
                (Some(_), None) => return Ordering::Greater,
                (None, Some(_)) if sign == '~' || !a.is_empty() => return Ordering::Greater,
                (None, Some(_)) => return Ordering::Less,
                (None, None) => {}
            }
        }
        match (a.is_empty(), b.is_empty()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        let digit = |text: &str| text.starts_with(|next: char| next.is_ascii_digit());
        let digits = digit(a) || digit(b);
        let (in_a, in_b) = (run(a, digits), run(b, digits));
        let (part_a, part_b) = (&a[..in_a], &b[..in_b]);
        let order = match digits {
            true => numbers(part_a, part_b),
            false => part_a.cmp(part_b),
        };
        if order != Ordering::Equal {
            return order;
        }
        if in_a == 0 && in_b == 0 {
            return a.cmp(b);
        }
        (a, b) = (&a[in_a..], &b[in_b..]);
    }
}

/// The text from its first character on that counts.
fn significant(text: &str) -> &str {
    text.trim_start_matches(|next: char| !next.is_ascii_alphanumeric() && !"~^-.".contains(next))
}

/// How many bytes of digits, or else of letters, a text begins with.
fn run(text: &str, digits: bool) -> usize {
    let of_run = |next: char| match digits {
        true => next.is_ascii_digit(),
        false => next.is_ascii_alphabetic(),
    };
    text.find(|next| !of_run(next)).unwrap_or(text.len())
}

/// Compares numbers of any length; none at all is less than 0.
fn numbers(a: &str, b: &str) -> Ordering {
    let (x, y) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    let values = x.len().cmp(&y.len()).then(x.cmp(y));
    values.then(b.is_empty().cmp(&a.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let mut names = [
            "m-0-rescue",
            "m-5.9.0-1.fc33",
            "m-5.10.0-1.fc33",
            "m-5.10.0~rc1-1.fc33",
        ];
        names.sort_by(|a, b| compare(b, a));
        assert_eq!((names[0], names[3]), ("m-5.10.0-1.fc33", "m-0-rescue"));
        assert_eq!(compare("1.0~rc1", "1.0"), Ordering::Less);
        assert_eq!(compare("1.0", "1.0.1"), Ordering::Less);
        assert_eq!(compare("007", "7"), Ordering::Equal);
        assert_eq!(compare("a", "a"), Ordering::Equal);
    }

    #[test]
    fn boot_counters_are_no_part_of_the_name() {
        assert_eq!(counted("linux-6.1+3-1"), ("linux-6.1", false));
        assert_eq!(counted("linux-6.1+0-3"), ("linux-6.1", true));
        assert_eq!(counted("linux-6.1+deb12"), ("linux-6.1+deb12", false));
    }

    #[test]
    fn a_partition_of_systemd_boot_has_a_menu() {
        let tree = Tree::with(&[
            ("/loader/loader.conf", "timeout 3\ndefault arch-lts*\n"),
            (
                "/loader/entries/arch.conf",
                "title Arch\nlinux /vmlinuz\ninitrd /ucode.img\ninitrd /a.img\noptions root=LABEL=a\noptions quiet\n",
            ),
            (
                "/loader/entries/arch-lts.conf",
                "title LTS\nlinux /missing\n",
            ),
            ("/loader/entries/win.conf", "title Windows\nefi /w.efi\n"),
            ("/vmlinuz", "k"),
        ]);
        let menu = menu(&tree, &Location::new(0, "/"), &mut Notes::default());
        let menu = menu.expect("there are entries");
        assert_eq!(menu.timeout, Some(3));
        let position = |title| menu.entries.iter().position(|entry| entry.title == title);
        assert_eq!(
            menu.default.clone().and_then(|step| menu.position(&step)),
            position("LTS")
        );
        let arch = &menu.entries[position("Arch").expect("it is there")];
        let Action::Boot(boot) = &arch.action else {
            panic!("{arch:?}");
        };
        assert_eq!(boot.args, "root=LABEL=a quiet");
        assert_eq!(boot.initrds.len(), 2);
        let windows = &menu.entries[position("Windows").expect("it is there")];
        assert!(matches!(windows.action, Action::Refuse(_)));
    }
}
