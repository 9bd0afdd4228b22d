//! Configurations of GRUB before version 1, `menu.lst` (GNU GRUB Manual 0.97).

use crate::menu::{Action, Boot, Entry, Menu};
use crate::notes::Notes;
use crate::volumes::{Location, Volumes};

const SIZE: u64 = 1 << 20;
const ENTRIES: usize = 4096;

/// The commands of an entry so far.
struct Title {
    title: String,
    root: Option<usize>,
    kernel: Option<(Location, String)>,
    /// The kernel is Xen, and modules follow: a kernel and its initial RAM disk.
    xen: bool,
    initrds: Vec<Location>,
    refused: Option<String>,
}

/// Reads the configuration `file`.
///
/// # Errors
/// A text that says why it cannot be read.
pub fn menu(volumes: &dyn Volumes, file: &Location, notes: &mut Notes) -> Result<Menu, String> {
    let text = volumes.read_text(file, SIZE);
    let text = text.map_err(|error| format!("{}: {error}", file.path))?;
    let mut menu = Menu::default();
    let mut title: Option<Title> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, value) = split(line);
        if word == "title" {
            menu.entries.extend(title.take().map(Title::finish));
            if menu.entries.len() >= ENTRIES {
                notes.say("the menu has too many entries");
                return Ok(menu);
            }
            title = Some(Title::new(value));
            continue;
        }
        let place = format!("{}:{}", file.path, index + 1);
        match &mut title {
            Some(title) => title.command(volumes, file, word, value, notes, &place),
            None => global(&mut menu, volumes, file, word, value, notes, &place),
        }
    }
    menu.entries.extend(title.map(Title::finish));
    Ok(menu)
}

/// A line's first word, and the rest. `=` may stand between them.
fn split(line: &str) -> (&str, &str) {
    let (word, value) = line
        .split_once(|next: char| next.is_whitespace() || next == '=')
        .unwrap_or((line, ""));
    (word, value.trim().trim_start_matches('=').trim())
}

/// A command before the first title.
fn global(
    menu: &mut Menu,
    volumes: &dyn Volumes,
    file: &Location,
    word: &str,
    value: &str,
    notes: &mut Notes,
    place: &str,
) {
    match word {
        "default" if value == "saved" => {
            // GRUB writes the entry's number to the file `default`, with lines of `#` after it.
            let saved = volumes.read_text(&file.parent().join("default"), SIZE);
            let saved = saved.ok().and_then(|text| {
                let line = text.lines().next()?.trim();
                line.parse::<usize>().ok()
            });
            menu.default = Some(saved.unwrap_or(0).to_string());
        }
        "default" => menu.default = Some(value.to_owned()),
        "fallback" => menu.fallback = Some(value.to_owned()),
        "timeout" => menu.timeout = value.parse().ok(),
        "hiddenmenu" => menu.hidden = true,
        "bootp" | "color" | "device" | "dhcp" | "foreground" | "background" | "gfxmenu"
        | "hide" | "ifconfig" | "lock" | "pager" | "partnew" | "parttype" | "password" | "rarp"
        | "root" | "serial" | "setkey" | "splashimage" | "terminal" | "terminfo" | "tftpserver"
        | "unhide" | "viewport" => {}
        _ => notes.say(format!("{place}: left out: unknown statement «{word}»")),
    }
}

impl Title {
    fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            root: None,
            kernel: None,
            xen: false,
            initrds: Vec::new(),
            refused: None,
        }
    }

    fn command(
        &mut self,
        volumes: &dyn Volumes,
        file: &Location,
        word: &str,
        value: &str,
        notes: &mut Notes,
        place: &str,
    ) {
        let mut find = |title: &Self, name: &str| {
            let found = title.locate(volumes, file, name);
            if found.is_none() {
                notes.say(format!("{place}: {name}: no such file"));
            }
            found
        };
        match word {
            "root" | "rootnoverify" => self.root = device(volumes, value),
            "uuid" => self.root = by_uuid(volumes, value),
            "kernel" => {
                let value = value
                    .split_whitespace()
                    .filter(|word| !word.starts_with("--"));
                let words: Vec<&str> = value.collect();
                let Some((name, args)) = words.split_first() else {
                    return;
                };
                self.xen = name
                    .rsplit('/')
                    .next()
                    .is_some_and(|name| name.starts_with("xen"));
                self.kernel = find(self, name).map(|place| (place, args.join(" ")));
                if self.kernel.is_none() {
                    self.refused = Some(format!("kernel {name}: no such file"));
                }
            }
            "initrd" => {
                let names = value.split_whitespace();
                self.initrds = names.filter_map(|name| find(self, name)).collect();
            }
            "module" => {
                let (name, args) = value.split_once([' ', '\t']).unwrap_or((value, ""));
                let Some(place) = find(self, name) else {
                    return;
                };
                if std::mem::take(&mut self.xen) {
                    self.kernel = Some((place, args.trim().to_owned()));
                } else {
                    self.initrds = vec![place];
                }
            }
            "chainloader" => self.refused = Some(format!("«chainloader {value}» is no Linux")),
            "boot" | "quiet" | "savedefault" | "lock" | "password" | "makeactive" | "map"
            | "modulenounzip" | "pause" | "hide" | "unhide" | "setkey" => {}
            _ => notes.say(format!("{place}: left out: unknown statement «{word}»")),
        }
    }

    /// The place of a file: in the device that its name or `root` says, or beside the configuration.
    fn locate(&self, volumes: &dyn Volumes, file: &Location, name: &str) -> Option<Location> {
        let (volume, path) = match name.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            Some((name, path)) => (device(volumes, &format!("({name})")), path),
            None => (self.root, name),
        };
        let candidates = [volume, Some(file.volume)];
        let mut places = candidates
            .into_iter()
            .flatten()
            .map(|volume| Location::new(volume, path));
        places.find(|place| volumes.has(place))
    }

    fn finish(self) -> Entry {
        let action = match (self.kernel, self.refused) {
            (Some((kernel, args)), None) => Action::Boot(Boot {
                kernel,
                initrds: self.initrds,
                args,
            }),
            (_, Some(why)) => Action::Refuse(why),
            (None, None) => Action::Refuse("it loads no kernel".to_owned()),
        };
        Entry {
            title: self.title,
            id: None,
            action,
        }
    }
}

/// The volume of a device's name: `(hd0,0)` is the first partition. Which disk it says does not matter: there is one.
fn device(volumes: &dyn Volumes, name: &str) -> Option<usize> {
    let name = name.split_whitespace().next()?;
    let name = name.trim_start_matches('(').trim_end_matches(')');
    match name.split_once(',') {
        Some((_, partition)) => {
            let number: u32 = partition.split(',').next()?.parse().ok()?;
            volumes.find(&format!("hd0,{}", number.checked_add(1)?))
        }
        None => volumes.find("hd0"),
    }
}

fn by_uuid(volumes: &dyn Volumes, uuid: &str) -> Option<usize> {
    (0..volumes.count()).find(|volume| {
        let known = volumes.info(*volume).uuid.as_deref();
        known.is_some_and(|known| known.eq_ignore_ascii_case(uuid))
    })
}
