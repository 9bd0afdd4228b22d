//! Configurations of SYSLINUX, EXTLINUX and ISOLINUX (Syslinux Project, "SYSLINUX configuration file"; "Menu").

use crate::menu::{Action, Boot, Entry, Menu};
use crate::notes::Notes;
use crate::volumes::{Location, Volumes};
use std::rc::Rc;

const SIZE: u64 = 1 << 20;
/// How many files a configuration may include, how deep menus may be nested, and how many entries there may be.
const FILES: u32 = 100;
const DEPTH: usize = 16;
const ENTRIES: usize = 4096;

/// An entry as it is read.
#[derive(Clone, Debug, Default)]
struct Label {
    name: String,
    title: Option<String>,
    kernel: Option<String>,
    append: Option<String>,
    initrd: Vec<String>,
    /// What else it starts, if that is no kernel.
    other: Option<String>,
    config: Option<String>,
    hidden: bool,
}

/// A menu as it is read: the one at hand, or one around it.
#[derive(Debug, Default)]
struct Level {
    title: Option<String>,
    entries: Vec<Entry>,
    default: Option<usize>,
}

struct Reader<'a> {
    volumes: &'a dyn Volumes,
    notes: &'a mut Notes,
    /// The directory that names are relative to.
    directory: Location,
    /// How many files were read for all of this.
    files: &'a mut u32,
    /// How many configurations lead to this one.
    depth: usize,
    levels: Vec<Level>,
    label: Option<Label>,
    /// The last label of all is the default of its menu.
    marked: bool,
    append: Option<String>,
    default: Option<String>,
    ontimeout: Option<String>,
    timeout: Option<u32>,
    prompt: bool,
    interface: bool,
    hidden: bool,
    text: bool,
}

/// Reads the configuration `file`.
///
/// # Errors
/// A text that says why it cannot be read.
pub fn menu(volumes: &dyn Volumes, file: &Location, notes: &mut Notes) -> Result<Menu, String> {
    read(volumes, file, notes, &mut 0, 0)
}

/// Reads a configuration to which `depth` others lead, for which `files` were read so far.
fn read(
    volumes: &dyn Volumes,
    file: &Location,
    notes: &mut Notes,
    files: &mut u32,
    depth: usize,
) -> Result<Menu, String> {
    let mut reader = Reader {
        volumes,
        notes,
        directory: file.parent(),
        files,
        depth,
        levels: vec![Level::default()],
        label: None,
        marked: false,
        append: None,
        default: None,
        ontimeout: None,
        timeout: None,
        prompt: false,
        interface: depth > 0,
        hidden: false,
        text: false,
    };
    reader.file(file)?;
    Ok(reader.finish())
}

impl Reader<'_> {
    fn file(&mut self, file: &Location) -> Result<(), String> {
        *self.files += 1;
        if *self.files > FILES {
            return Err("it includes too many files".to_owned());
        }
        let text = self.volumes.read_text(file, SIZE);
        let text = text.map_err(|error| format!("{}: {error}", file.path))?;
        for (index, line) in text.lines().enumerate() {
            self.line(line.trim(), &format!("{}:{}", file.path, index + 1));
        }
        Ok(())
    }

    fn line(&mut self, line: &str, place: &str) {
        if line.is_empty() || line.starts_with('#') {
            return;
        }
        let (word, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let (word, value) = (word.to_ascii_lowercase(), value.trim());
        if self.text {
            self.text = word != "endtext";
            return;
        }
        match word.as_str() {
            "label" => {
                self.end_label();
                self.label = Some(Label {
                    name: value.to_owned(),
                    ..Label::default()
                });
            }
            "kernel" | "linux" | "append" | "initrd" | "config" | "localboot" | "com32"
            | "boot" | "bss" | "pxe" | "fdimage" => self.of_label(&word, value),
            "default" => self.default = Some(value.to_owned()),
            "ontimeout" => self.ontimeout = Some(value.to_owned()),
            "timeout" => self.timeout = value.parse().ok(),
            "prompt" => self.prompt = value != "0",
            "ui" => self.interface = true,
            "menu" => self.menu_line(value, place),
            "include" => self.include(value),
            "text" => self.text = true,
            "totaltimeout" | "allowoptions" | "noescape" | "nocomplete" | "nohalt" | "implicit"
            | "serial" | "console" | "font" | "kbdmap" | "display" | "say" | "ipappend"
            | "sysappend" | "fdt" | "fdtdir" | "devicetree" | "devicetreedir" | "onerror"
            | "path" | "f1" | "f2" | "f3" | "f4" | "f5" | "f6" | "f7" | "f8" | "f9" | "f10"
            | "f11" | "f12" | "sendcookies" | "endtext" => {}
            _ => self
                .notes
                .say(format!("{place}: left out: unknown statement «{word}»")),
        }
    }

    /// What belongs to a label; before the first one, `append` is for all that have none.
    fn of_label(&mut self, word: &str, value: &str) {
        let value = unquoted(value);
        let Some(label) = &mut self.label else {
            if word == "append" {
                self.append = Some(value.to_owned());
            }
            return;
        };
        match word {
            "kernel" | "linux" => label.kernel = Some(value.to_owned()),
            "append" => label.append = Some(value.to_owned()),
            "initrd" => label.initrd = value.split(',').map(str::to_owned).collect(),
            "config" => label.config = Some(value.to_owned()),
            "com32" => label.kernel = Some(value.to_owned()),
            other => label.other = Some(format!("«{other} {value}» is no Linux")),
        }
    }

    fn include(&mut self, value: &str) {
        let name = value.split_whitespace().next().unwrap_or_default();
        let file = self.directory.join(name);
        if let Err(error) = self.file(&file) {
            self.notes.say(format!("include {error}"));
        }
    }

    fn menu_line(&mut self, line: &str, place: &str) {
        let (word, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let value = value.trim();
        match word.to_ascii_lowercase().as_str() {
            "label" => {
                if let Some(label) = &mut self.label {
                    label.title = Some(value.replace('^', ""));
                }
            }
            "default" => self.marked = self.label.is_some(),
            "hide" => {
                if let Some(label) = &mut self.label {
                    label.hidden = true;
                }
            }
            "title" => {
                if let Some(level) = self.levels.last_mut() {
                    level.title = Some(value.to_owned());
                }
            }
            "hidden" => self.hidden = true,
            "include" => self.include(value),
            "begin" if self.levels.len() < DEPTH => {
                self.end_label();
                self.levels.push(Level {
                    title: (!value.is_empty()).then(|| value.to_owned()),
                    ..Level::default()
                });
            }
            "begin" => self.notes.say(format!("{place}: menus nested too deep")),
            "end" => self.end_menu(),
            // How it looks, passwords, and what leads back.
            _ => {}
        }
    }

    fn end_label(&mut self) {
        let marked = std::mem::take(&mut self.marked);
        let Some(label) = self.label.take() else {
            return;
        };
        let action = self.action(&label);
        let Some(level) = self.levels.last_mut() else {
            return;
        };
        if level.entries.len() >= ENTRIES {
            self.notes.say("the menu has too many entries");
            return;
        }
        if marked {
            level.default = Some(level.entries.len());
        }
        if label.hidden && !marked && self.default.as_deref() != Some(&label.name) {
            return;
        }
        level.entries.push(Entry {
            title: label.title.unwrap_or_else(|| label.name.clone()),
            id: Some(label.name),
            action,
        });
    }

    fn end_menu(&mut self) {
        self.end_label();
        if self.levels.len() < 2 {
            return;
        }
        let Some(level) = self.levels.pop() else {
            return;
        };
        let menu = Menu {
            title: level.title.clone(),
            default: level.default.map(|index| index.to_string()),
            entries: level.entries,
            ..Menu::default()
        };
        if let Some(outer) = self.levels.last_mut()
            && !menu.entries.is_empty()
        {
            outer.entries.push(Entry {
                title: level.title.unwrap_or_else(|| "More".to_owned()),
                id: None,
                action: Action::Menu(Rc::new(menu)),
            });
        }
    }

    fn action(&mut self, label: &Label) -> Action {
        if let Some(why) = &label.other {
            return Action::Refuse(why.clone());
        }
        if let Some(config) = &label.config {
            let file = self.directory.join(config);
            if self.depth >= DEPTH {
                return Action::Refuse("configurations lead to each other".to_owned());
            }
            let depth = self.depth + 1;
            return match read(self.volumes, &file, self.notes, self.files, depth) {
                Ok(menu) => Action::Menu(Rc::new(menu)),
                Err(error) => Action::Refuse(error),
            };
        }
        let append = match (&label.append, &self.append) {
            (Some(append), _) if append == "-" => String::new(),
            (Some(append), _) | (None, Some(append)) => append.clone(),
            (None, None) => String::new(),
        };
        // Without KERNEL, the label's own name is the command line.
        let line = label.kernel.as_deref().unwrap_or(&label.name);
        self.boot(line, &append, &label.initrd)
    }

    /// What a kernel with arguments, more arguments and initial RAM disks boots.
    fn boot(&mut self, line: &str, append: &str, initrds: &[String]) -> Action {
        let (kernel, arguments) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        if kernel.to_ascii_lowercase().ends_with("mboot.c32") {
            return self.multiboot(append);
        }
        if kernel.to_ascii_lowercase().ends_with(".c32") {
            return Action::Refuse(format!("«{kernel}» is a module of SYSLINUX, not a Linux"));
        }
        let mut initrds: Vec<&str> = initrds.iter().map(String::as_str).collect();
        let mut args = Vec::new();
        for word in arguments
            .split_whitespace()
            .chain(append.split_whitespace())
        {
            match word.split_once('=') {
                Some((name, files)) if name.eq_ignore_ascii_case("initrd") => {
                    initrds = files.split(',').collect();
                }
                _ => args.push(word),
            }
        }
        let kernel = self.directory.join(kernel);
        if !self.volumes.has(&kernel) {
            return Action::Refuse(format!("kernel {}: no such file", kernel.path));
        }
        let initrds = initrds.iter().filter(|name| !name.is_empty());
        Action::Boot(Boot {
            kernel,
            initrds: initrds.map(|name| self.directory.join(name)).collect(),
            args: args.join(" "),
        })
    }

    /// `mboot.c32`: files with arguments, separated by `---`. The first is Xen; kernel and initial RAM disk follow.
    fn multiboot(&mut self, append: &str) -> Action {
        let modules: Vec<&str> = append.split("---").map(str::trim).collect();
        let modules: &[&str] = match modules.as_slice() {
            [xen, rest @ ..] if is_xen(xen) => rest,
            all => all,
        };
        let Some((kernel, rest)) = modules.split_first() else {
            return Action::Refuse("it starts Xen without a kernel".to_owned());
        };
        let initrd = rest.first().and_then(|line| line.split_whitespace().next());
        let initrds: Vec<String> = initrd.map(str::to_owned).into_iter().collect();
        self.boot(kernel, "", &initrds)
    }

    fn finish(mut self) -> Menu {
        self.end_label();
        while self.levels.len() > 1 {
            self.end_menu();
        }
        let Level {
            title,
            mut entries,
            default,
        } = self.levels.pop().unwrap_or_default();
        let mut default = default;
        let (first, timed) = (self.default.take(), self.ontimeout.take());
        if let Some(line) = first {
            let found = self.line_entry(&line, &mut entries);
            default = default.or(found);
        }
        if let Some(line) = timed {
            default = self.line_entry(&line, &mut entries).or(default);
        }
        // Without a menu or a prompt SYSLINUX boots at once. TIMEOUT is in tenths of a second; 0 is no timeout.
        let timeout = match self.timeout {
            Some(0) | None if self.prompt || self.interface => None,
            None => Some(0),
            Some(tenths) => Some(tenths.div_ceil(10)),
        };
        Menu {
            title,
            entries,
            default: default.map(|index| index.to_string()),
            timeout,
            hidden: self.hidden,
            ..Menu::default()
        }
    }

    /// The entry that DEFAULT or ONTIMEOUT means: a label with more arguments, or a command line, which then is an entry of its own.
    /// One that names a menu's program is none: MENU DEFAULT counts.
    fn line_entry(&mut self, line: &str, entries: &mut Vec<Entry>) -> Option<usize> {
        let (name, arguments) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        if name.to_ascii_lowercase().ends_with(".c32") {
            self.interface = true;
            return None;
        }
        let found = entries.iter().position(|entry| {
            let id = entry.id.as_deref();
            id.is_some_and(|id| id.eq_ignore_ascii_case(name))
        });
        if let Some(index) = found {
            if let Action::Boot(boot) = &mut entries[index].action {
                boot.args = format!("{} {arguments}", boot.args).trim().to_owned();
            }
            return Some(index);
        }
        let append = self.append.clone().unwrap_or_default();
        let action = self.boot(line, &append, &[]);
        if !entries.is_empty() && !matches!(action, Action::Boot(_)) {
            return None;
        }
        entries.push(Entry {
            title: name.to_owned(),
            id: None,
            action,
        });
        Some(entries.len() - 1)
    }
}

fn is_xen(line: &str) -> bool {
    let file = line.split_whitespace().next().unwrap_or_default();
    file.rsplit('/')
        .next()
        .is_some_and(|name| name.starts_with("xen"))
}

fn unquoted(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value)
}
