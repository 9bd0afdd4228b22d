//! GRUB's commands, by name.

use super::devices::By;
use super::env;
use super::machine::{CONFIG, Executed, Loaded, Machine, Stop};
use super::parser::Script;
use crate::menu::{Action, Entry};
use crate::volumes::Location;
use std::rc::Rc;

/// How many bytes an environment block may have.
const GRUBENV: u64 = 64 << 10;

/// Commands that draw, load modules, drive devices or ask for passwords: nothing to do here, and true.
const NOTHING: &[&str] = &[
    "authenticate",
    "background_color",
    "background_image",
    "badram",
    "bli",
    "clear",
    "cutmem",
    "drivemap",
    "efi-watchdog",
    "gfxmode",
    "gptsync",
    "hdparm",
    "insmod",
    "list_env",
    "lsmod",
    "module_verify",
    "nativedisk",
    "parttool",
    "password",
    "password_pbkdf2",
    "play",
    "rmmod",
    "save_env",
    "serial",
    "setup_serial",
    "sleep",
    "terminal",
    "terminal_input",
    "terminal_output",
    "terminfo",
    "trust",
    "verify_detached",
    "videoinfo",
    "write_file",
    "devicetree",
    "efi_gop",
    "outb",
    "outw",
    "outl",
];

/// Commands that ask for what is not here, and are false: a pressed key, graphics, EFI.
const NEVER: &[&str] = &[
    "cmosclean",
    "cmostest",
    "cryptomount",
    "false",
    "fwsetup",
    "getenv",
    "hwmatch",
    "inl",
    "keystatus",
    "loadfont",
    "read_byte",
    "smbios",
    "zfs-bootfs",
];

/// Commands that start something else than a Linux kernel.
const OTHERS: &[&str] = &[
    "appleloader",
    "chainloader",
    "freedos",
    "kfreebsd",
    "knetbsd",
    "kopenbsd",
    "legacy_kernel",
    "ntldr",
    "plan9",
    "truecrypt",
    "xnu_kernel64",
];

impl Machine<'_> {
    /// Carries out the command `name`.
    pub(super) fn builtin(
        &mut self,
        name: &str,
        words: &[String],
        block: Option<&Rc<Script>>,
        line: u32,
    ) -> Executed {
        let found = match name {
            "[" => self.test(words.strip_suffix(&["]".to_owned()][..]).unwrap_or(words)),
            "test" => self.test(words),
            "true" | ":" => true,
            "set" => self.set_command(words),
            "unset" => {
                words.iter().for_each(|name| self.env.unset(name));
                true
            }
            "export" => {
                words.iter().for_each(|name| self.env.export(name));
                true
            }
            "menuentry" | "submenu" => self.entry(name == "submenu", words, block),
            "search" => self.search(None, words),
            "search.file" => self.search(Some(By::File), words),
            "search.fs_label" => self.search(Some(By::Label), words),
            "search.fs_uuid" => self.search(Some(By::Uuid), words),
            "probe" => self.probe(words),
            "regexp" => self.regexp(words),
            "loopback" => self.loopback(words),
            "gptprio.next" => self.gptprio(words),
            "load_env" => self.load_env(words),
            "blscfg" => self.blscfg(words),
            "increment" => self.count(words, 1),
            "decrement" => self.count(words, -1),
            "echo" => {
                self.notes.detail(words.join(" "));
                true
            }
            "cpuid" => words
                .iter()
                .any(|word| word == "-l" || word == "--long-mode"),
            "read" => {
                let name = words.first().cloned();
                name.iter().for_each(|name| self.set(name, ""));
                true
            }
            "setparams" => {
                self.arguments = words.to_vec();
                true
            }
            "shift" => {
                if !self.arguments.is_empty() {
                    self.arguments.remove(0);
                }
                true
            }
            name if NOTHING.contains(&name) || name.starts_with("gfx") => true,
            name if NEVER.contains(&name) => false,
            _ => return self.loading(name, words, line),
        };
        Ok(found)
    }

    /// Commands that load, or that go on elsewhere.
    fn loading(&mut self, name: &str, words: &[String], line: u32) -> Executed {
        match name {
            "linux" | "linux16" | "linuxefi" | "kernel" => Ok(self.linux(words)),
            "initrd" | "initrd16" | "initrdefi" => Ok(self.initrd(words)),
            "multiboot" | "multiboot2" | "xen_hypervisor" => Ok(self.multiboot(words)),
            "module" | "module2" | "xen_module" => Ok(self.module(words)),
            "configfile" => self.configfile(words),
            "normal" => match words.is_empty() {
                true => {
                    let prefix = self.env.get("prefix");
                    let file = format!("{prefix}/grub.cfg");
                    self.configfile(&[file])
                }
                false => self.configfile(words),
            },
            "source" | "." => self.source(words),
            "eval" => self.eval(&words.join(" ")),
            "boot" => Err(Stop::Boot),
            "exit" | "normal_exit" | "halt" | "reboot" | "poweroff" => {
                self.loaded.refused = Some(format!("it would «{name}»"));
                Err(Stop::Exit)
            }
            "return" => {
                self.status = words.first().is_none_or(|status| status == "0");
                Err(Stop::Return)
            }
            "break" => Err(Stop::Break(loops(words))),
            "continue" => Err(Stop::Continue(loops(words))),
            name if OTHERS.contains(&name) => {
                let what = words.first().map_or("", String::as_str);
                self.loaded.refused = Some(format!("«{name} {what}» is no Linux"));
                Ok(true)
            }
            _ => {
                self.notes
                    .say(format!("line {line}: left out: unknown command «{name}»"));
                Ok(false)
            }
        }
    }

    fn set_command(&mut self, words: &[String]) -> bool {
        for word in words {
            if let Some((name, value)) = word.split_once('=') {
                self.set(name, value);
            }
        }
        true
    }

    /// `menuentry` and `submenu`.
    fn entry(&mut self, submenu: bool, words: &[String], block: Option<&Rc<Script>>) -> bool {
        let mut id = None;
        let mut arguments = Vec::new();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "--id" => id = rest.next().cloned(),
                "--class" | "--users" | "--hotkey" => {
                    rest.next();
                }
                option if option.starts_with("--id=") => {
                    id = Some(option["--id=".len()..].to_owned());
                }
                option if option.starts_with("--") => {}
                _ => arguments.push(word.clone()),
            }
        }
        let (Some(title), Some(body)) = (arguments.first().cloned(), block) else {
            self.notes
                .say("left out: a menu entry without title or block");
            return false;
        };
        self.add(Entry {
            title,
            id,
            action: Action::Script {
                body: body.clone(),
                arguments,
                submenu,
            },
        })
    }

    /// `linux FILE ARGUMENT…`.
    fn linux(&mut self, words: &[String]) -> bool {
        let words: &[String] = match words {
            // Options of GRUB legacy's emulation and of old GRUBs.
            [option, rest @ ..] if option.starts_with("--") => rest,
            all => all,
        };
        self.loaded = Loaded::default();
        let Some((file, arguments)) = words.split_first() else {
            return false;
        };
        match self.existing(file) {
            Ok(kernel) => {
                self.loaded.kernel = Some(kernel);
                self.loaded.args = command_line(arguments);
                true
            }
            Err(error) => self.refuse(format!("kernel {error}")),
        }
    }

    fn refuse(&mut self, why: String) -> bool {
        self.notes.say(&why);
        self.loaded.refused = Some(why);
        self.loaded.kernel = None;
        false
    }

    /// `initrd FILE…`, where FILE may be `newc:NAME:FILE`. A file that is missing is an error that prevents the boot, as in GRUB's menu.
    fn initrd(&mut self, words: &[String]) -> bool {
        if self.loaded.kernel.is_none() {
            return false;
        }
        let mut initrds = Vec::new();
        for word in words {
            let archived = word.strip_prefix("newc:");
            let archived = archived.and_then(|word| word.split_once(':'));
            let (newc, file) = match archived {
                Some((name, file)) => (Some(name.to_owned()), file),
                None => (None, word.as_str()),
            };
            match self.existing(file) {
                Ok(place) => initrds.push(Location { newc, ..place }),
                Err(error) => return self.refuse(format!("initial RAM disk {error}")),
            }
        }
        self.loaded.initrds = initrds;
        true
    }

    /// `multiboot xen.gz …` of an entry for a host: its kernel and initial RAM disk follow as modules, and that kernel can be a
    /// guest's.
    fn multiboot(&mut self, words: &[String]) -> bool {
        let file = words.iter().find(|word| !word.starts_with("--"));
        let name = file.map_or("", |file| file.rsplit('/').next().unwrap_or(file));
        self.loaded = Loaded::default();
        self.loaded.refused = Some(match name.starts_with("xen") {
            true => "it starts Xen without a kernel".to_owned(),
            false => format!("«{name}» is a Multiboot kernel, not a Linux"),
        });
        name.starts_with("xen")
    }

    fn module(&mut self, words: &[String]) -> bool {
        let words: Vec<String> = words
            .iter()
            .filter(|word| *word != "--nounzip")
            .cloned()
            .collect();
        match (&self.loaded.kernel, &self.loaded.refused) {
            (None, Some(why)) if why.starts_with("it starts Xen") => self.linux(&words),
            (Some(_), _) => self.initrd(words.get(..1).unwrap_or_default()),
            _ => false,
        }
    }

    /// `configfile FILE`: its menu takes the place of this one.
    fn configfile(&mut self, words: &[String]) -> Executed {
        let Some(file) = words.first() else {
            return Ok(false);
        };
        let outer = self.env.clone();
        let nested = self.env.nested();
        let opened = self.locate(file).and_then(|place| {
            self.env = nested;
            self.nest(|machine| machine.configuration(&place))
        });
        match opened {
            Ok(super::Opened::Menu(menu)) if menu.entries.is_empty() => {
                self.notes.say(format!("{file} defines no entries"));
                self.env = outer;
                Ok(false)
            }
            Ok(opened) => Err(Stop::Enter(Box::new(opened))),
            Err(error) => {
                self.notes.say(format!("configfile: {error}"));
                self.env = outer;
                Ok(false)
            }
        }
    }

    /// `source FILE`: as if its text stood here.
    fn source(&mut self, words: &[String]) -> Executed {
        let Some(file) = words.first() else {
            return Ok(false);
        };
        let text = self.locate(file).and_then(|place| {
            let text = self.volumes.read_text(&place, CONFIG);
            text.map_err(|error| format!("{file}: {error}"))
        });
        match text {
            Ok(text) => {
                let script = Rc::new(self.parse(&text, file));
                let arguments = words.get(1..).unwrap_or_default().to_vec();
                self.call(&script, arguments)
            }
            Err(error) => {
                self.notes.say(format!("source: {error}"));
                Ok(false)
            }
        }
    }

    fn eval(&mut self, text: &str) -> Executed {
        let script = Rc::new(self.parse(text, "eval"));
        let arguments = self.arguments.clone();
        self.call(&script, arguments)
    }

    /// `load_env [--file FILE] [VARIABLE…]`.
    fn load_env(&mut self, words: &[String]) -> bool {
        let mut file = format!("{}/grubenv", self.env.get("prefix"));
        let mut only = Vec::new();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "--file" | "-f" => file = rest.next().cloned().unwrap_or_default(),
                option if option.starts_with("--file=") => {
                    file = option["--file=".len()..].to_owned();
                }
                option if option.starts_with('-') => {}
                name => only.push(name),
            }
        }
        let text = self.locate(&file).and_then(|place| {
            let text = self.volumes.read_text(&place, GRUBENV);
            text.map_err(|error| error.to_string())
        });
        match text {
            Ok(text) => {
                for (name, value) in env::block(&text) {
                    if only.is_empty() || only.contains(&name.as_str()) {
                        self.set(&name, &value);
                    }
                }
                true
            }
            Err(error) => {
                self.notes.detail(format!("load_env: {file}: {error}"));
                false
            }
        }
    }

    /// `increment VARIABLE` and `decrement VARIABLE`, of Fedora's boot counting.
    fn count(&mut self, words: &[String], step: i64) -> bool {
        let Some(name) = words.first() else {
            return false;
        };
        let value: i64 = self.env.get(name).parse().unwrap_or(0);
        self.set(name, &value.saturating_add(step).to_string());
        true
    }

    /// `regexp [--set [NUMBER:]VARIABLE]… EXPRESSION TEXT`.
    fn regexp(&mut self, words: &[String]) -> bool {
        let mut sets: Vec<&str> = Vec::new();
        let mut operands = Vec::new();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "--set" | "-s" => sets.extend(rest.next().map(String::as_str)),
                option if option.starts_with("--set=") => sets.push(&option["--set=".len()..]),
                operand => operands.push(operand),
            }
        }
        let [expression, text] = operands[..] else {
            return false;
        };
        if !self.burn(20) || expression.len() > 1000 {
            return false;
        }
        let built = regex_lite::RegexBuilder::new(expression)
            .size_limit(1 << 20)
            .build();
        let expression = match built {
            Ok(built) => built,
            Err(error) => {
                self.notes.say(format!("regexp {expression}: {error}"));
                return false;
            }
        };
        let Some(captures) = expression.captures(text) else {
            return false;
        };
        let found: Vec<(&str, &str)> = sets
            .iter()
            .map(|set| {
                let (number, name) = set.split_once(':').unwrap_or(("1", set));
                let number = number.parse::<usize>().unwrap_or(1);
                (
                    name,
                    captures.get(number).map_or("", |capture| capture.as_str()),
                )
            })
            .collect();
        for (name, value) in found {
            self.set(name, value);
        }
        true
    }

    /// Does something with the depth of calls counted, since it executes a configuration.
    fn nest<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        let loaded = std::mem::take(&mut self.loaded);
        let result = work(self);
        if result.is_err() {
            self.loaded = loaded;
        }
        result
    }
}

fn loops(words: &[String]) -> u32 {
    words
        .first()
        .and_then(|word| word.parse().ok())
        .unwrap_or(1)
}

/// A kernel's command line of a command's words, as GRUB joins them: one with blanks gets quotation marks.
fn command_line(words: &[String]) -> String {
    let words: Vec<String> = words
        .iter()
        .map(|word| match word.contains([' ', '\t']) {
            true => format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")),
            false => word.clone(),
        })
        .collect();
    words.join(" ")
}
