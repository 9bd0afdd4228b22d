//! Where configurations are, and which one a disk is booted by.

use crate::grub::{Machine, Opened};
use crate::menu::{Action, Boot, Entry, Menu};
use crate::volumes::{Kind, Location, VolumeId};
use crate::{bls, legacy, syslinux};

/// The kinds of configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Grub,
    Syslinux,
    Legacy,
}

/// The places in the order in which they are tried: pygrub's come first, in its order.
const PLACES: &[(Format, &str)] = &[
    (Format::Grub, "/boot/grub/grub.cfg"),
    (Format::Grub, "/grub/grub.cfg"),
    (Format::Grub, "/boot/grub2/grub.cfg"),
    (Format::Grub, "/grub2/grub.cfg"),
    (Format::Syslinux, "/boot/isolinux/isolinux.cfg"),
    (Format::Syslinux, "/boot/extlinux/extlinux.conf"),
    (Format::Syslinux, "/boot/extlinux.conf"),
    (Format::Syslinux, "/extlinux/extlinux.conf"),
    (Format::Syslinux, "/extlinux.conf"),
    (Format::Legacy, "/boot/grub/menu.lst"),
    (Format::Legacy, "/boot/grub/grub.conf"),
    (Format::Legacy, "/grub/menu.lst"),
    (Format::Legacy, "/grub/grub.conf"),
    (Format::Syslinux, "/boot/syslinux/extlinux.conf"),
    (Format::Syslinux, "/boot/syslinux/syslinux.cfg"),
    (Format::Syslinux, "/syslinux/extlinux.conf"),
    (Format::Syslinux, "/syslinux/syslinux.cfg"),
    (Format::Syslinux, "/syslinux.cfg"),
    (Format::Syslinux, "/isolinux/isolinux.cfg"),
    (Format::Syslinux, "/isolinux.cfg"),
];

/// A kernel that Novell's NetWare has at a place of its own.
const NETWARE: &str = "/nwserver/xnloader.sys";

/// What boots a disk.
pub struct Found {
    /// Where the configuration is; the text is for people.
    pub place: String,
    pub opened: Opened,
}

/// Looks for the configuration on one volume.
///
/// # Errors
/// Why what is there cannot be booted by. Nothing: there is no configuration.
pub fn on_volume(machine: &mut Machine, volume: VolumeId) -> Result<Found, Option<String>> {
    let mut why = None;
    let netware = Location::new(volume, NETWARE);
    if machine.volumes.is_file(&netware) {
        return Ok(found(NETWARE.to_owned(), Opened::Boot(only(netware))));
    }
    let roots = roots(machine, volume);
    for root in &roots {
        for (format, path) in PLACES {
            let file = root.join(path.trim_start_matches('/'));
            if machine.volumes.is_file(&file) {
                match read(machine, *format, &file) {
                    Ok(opened) => return Ok(found(file.path, opened)),
                    Err(error) => why = Some(format!("{}: {error}", file.path)),
                }
            }
        }
        let menu = bls::menu(machine.volumes, root, &mut machine.notes);
        let boot = root.join("boot");
        let menu = menu.or_else(|| bls::menu(machine.volumes, &boot, &mut machine.notes));
        if let Some(menu) = menu {
            return Ok(found("/loader/entries".to_owned(), Opened::Menu(menu)));
        }
        for file in of_efi(machine, root) {
            match read(machine, Format::Grub, &file) {
                Ok(opened) => return Ok(found(file.path, opened)),
                Err(error) => why = Some(format!("{}: {error}", file.path)),
            }
        }
        if machine.volumes.is_file(&root.join("etc/lilo.conf")) && why.is_none() {
            why = Some("/etc/lilo.conf: LILO's configuration is not supported".to_owned());
        }
    }
    Err(why)
}

fn found(place: String, opened: Opened) -> Found {
    Found { place, opened }
}

fn only(kernel: Location) -> Boot {
    Boot {
        kernel,
        initrds: Vec::new(),
        args: String::new(),
    }
}

/// The volume's root, and the subvolumes in which distributions put theirs.
fn roots(machine: &Machine, volume: VolumeId) -> Vec<Location> {
    let root = Location::new(volume, "/");
    let subvolumes = &machine.volumes.info(volume).subvolumes;
    let subvolumes = subvolumes.iter().map(|name| Location::new(volume, name));
    std::iter::once(root).chain(subvolumes).collect()
}

/// GRUB's configurations in an EFI system partition: most lead to the real one.
fn of_efi(machine: &Machine, root: &Location) -> Vec<Location> {
    let mut files = Vec::new();
    for efi in ["EFI", "efi", "boot/efi/EFI"] {
        let directory = root.join(efi);
        let mut vendors = machine.volumes.list(&directory).unwrap_or_default();
        vendors.sort();
        vendors.truncate(64);
        let configs = vendors
            .iter()
            .map(|vendor| directory.join(&format!("{vendor}/grub.cfg")));
        files.extend(configs.filter(|file| machine.volumes.is_file(file)));
        if !files.is_empty() {
            break;
        }
    }
    files
}

/// Reads a configuration. One that boots nothing and has no entries is an error.
///
/// # Errors
/// A text that says why.
pub fn read(machine: &mut Machine, format: Format, file: &Location) -> Result<Opened, String> {
    let opened = match format {
        Format::Grub => machine.start(file)?,
        Format::Syslinux => {
            Opened::Menu(syslinux::menu(machine.volumes, file, &mut machine.notes)?)
        }
        Format::Legacy => Opened::Menu(legacy::menu(machine.volumes, file, &mut machine.notes)?),
    };
    match &opened {
        Opened::Menu(menu) if menu.entries.is_empty() => Err("it has no entries".to_owned()),
        _ => Ok(opened),
    }
}

/// What kind of configuration a text is, where no place tells.
pub fn format_of(name: &str, text: &str) -> Format {
    let first_words: Vec<String> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_ascii_lowercase)
        .collect();
    let has = |word: &str| first_words.iter().any(|first| first == word);
    if name.ends_with("menu.lst") || (has("title") && !has("menuentry") && !has("label")) {
        return Format::Legacy;
    }
    if has("label") && !has("menuentry") {
        return Format::Syslinux;
    }
    Format::Grub
}

/// Follows defaults until there is something to boot.
///
/// # Errors
/// A text that says why the default, and what is to stand in for it, boots nothing.
pub fn default(machine: &mut Machine, menu: &Menu) -> Result<Boot, String> {
    let first = follow(machine, menu, menu.default.as_deref().unwrap_or("0"));
    let mut error = match first {
        Ok(boot) => return Ok(boot),
        Err(error) => error,
    };
    let fallback = menu.fallback.clone().unwrap_or_default();
    for choice in fallback.split_whitespace().take(16) {
        match follow(machine, menu, choice) {
            Ok(boot) => {
                machine.notes.say(format!("{error}: the fallback is taken"));
                return Ok(boot);
            }
            Err(next) => error = format!("{error}; {next}"),
        }
    }
    Err(error)
}

/// What the entry boots that a default leads to.
///
/// # Errors
/// A text with the entry's title that says why it boots nothing.
pub fn follow(machine: &mut Machine, menu: &Menu, default: &str) -> Result<Boot, String> {
    let mut menu = menu.clone();
    let mut steps = crate::menu::steps(default).into_iter();
    // Menus may lead to each other.
    for _ in 0..32 {
        let choice = steps
            .next()
            .or_else(|| menu.default.clone())
            .unwrap_or_default();
        let index = menu.position(&choice).unwrap_or_else(|| {
            if !choice.is_empty() && choice != "saved" {
                let note = format!("there is no entry «{choice}»: the first is taken");
                machine.notes.say(note);
            }
            0
        });
        let title = menu.entries.get(index).map(|entry| entry.title.clone());
        let title = title.ok_or("the menu has no entries")?;
        let opened = machine.open(&menu, index);
        match opened.map_err(|why| format!("«{title}» cannot be booted: {why}"))? {
            Opened::Boot(boot) => return Ok(boot),
            Opened::Menu(inner) => menu = inner,
        }
    }
    Err("menus lead to each other".to_owned())
}

/// An entry of all menus, in the order of the text, as pygrub counts them: submenus' entries stand in the place of these.
pub struct Flat {
    pub entry: Entry,
    pub opened: Result<Boot, String>,
}

/// All entries of a menu and of the menus in it.
pub fn flatten(machine: &mut Machine, menu: &Menu) -> Vec<Flat> {
    let mut flat = Vec::new();
    descend(machine, menu, 0, &mut flat);
    flat
}

fn descend(machine: &mut Machine, menu: &Menu, depth: u32, flat: &mut Vec<Flat>) {
    for (index, entry) in menu.entries.iter().enumerate() {
        if flat.len() >= 1000 {
            return;
        }
        let opened = match machine.open(menu, index) {
            Ok(Opened::Menu(inner)) if depth < 8 => {
                descend(machine, &inner, depth + 1, flat);
                continue;
            }
            Ok(Opened::Menu(_)) => Err("menus nested too deep".to_owned()),
            Ok(Opened::Boot(boot)) => Ok(boot),
            Err(why) => Err(why),
        };
        flat.push(Flat {
            entry: entry.clone(),
            opened,
        });
    }
}

/// The entry that `--entry` means: a number among all entries, as pygrub counts; or a title or id, or a path of them as GRUB's
/// defaults have it.
///
/// # Errors
/// A text that says that there is no such entry, or why it boots nothing.
pub fn entry(machine: &mut Machine, menu: &Menu, choice: &str) -> Result<Boot, EntryError> {
    let flat = flatten(machine, menu);
    let found = match choice.trim().parse::<usize>() {
        Ok(number) => flat.into_iter().nth(number),
        Err(_) => flat
            .into_iter()
            .find(|flat| flat.entry.title == choice || flat.entry.id.as_deref() == Some(choice)),
    };
    match found {
        Some(flat) => {
            let title = flat.entry.title;
            flat.opened
                .map_err(|why| EntryError::Refused(format!("«{title}» cannot be booted: {why}")))
        }
        None if choice.contains('>') && leads(machine, menu, choice) => {
            follow(machine, menu, choice).map_err(EntryError::Refused)
        }
        None => Err(EntryError::Missing),
    }
}

/// Why `--entry` gives nothing to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryError {
    Missing,
    Refused(String),
}

/// Whether each step of a default names an entry.
fn leads(machine: &mut Machine, menu: &Menu, default: &str) -> bool {
    let mut menu = menu.clone();
    for step in crate::menu::steps(default) {
        let Some(index) = menu.position(&step) else {
            return false;
        };
        match machine.open(&menu, index) {
            Ok(Opened::Menu(inner)) => menu = inner,
            _ => menu = Menu::default(),
        }
    }
    true
}

/// Whether the action of an entry leads to a menu.
pub fn is_menu(entry: &Entry) -> bool {
    matches!(
        entry.action,
        Action::Menu(_) | Action::Script { submenu: true, .. }
    )
}

/// The first volume that has all of `files`, for a kernel that the caller names.
pub fn with_files(machine: &Machine, files: &[&str]) -> Option<VolumeId> {
    (0..machine.volumes.count()).find(|volume| {
        files.iter().all(|file| {
            let place = Location::new(*volume, file);
            matches!(machine.volumes.kind(&place), Ok(Kind::File { .. }))
        })
    })
}
