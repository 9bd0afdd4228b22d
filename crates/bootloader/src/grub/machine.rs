//! Executes scripts.

use super::env::Env;
use super::parser::{self, Script, Statement};
use crate::menu::{Action, Boot, Entry, Menu};
use crate::notes::Notes;
use crate::volumes::{Location, VolumeId, Volumes};
use std::collections::BTreeMap;
use std::rc::Rc;

/// How many statements may be executed. A configuration that distributions write takes some hundred.
const FUEL: u32 = 600_000;
/// How deep functions, files and menus may call each other.
const DEPTH: u32 = 40;
/// How many bytes a configuration may have.
pub const CONFIG: u64 = 4 << 20;
/// How many entries a menu may have, and how many bytes their titles and arguments.
const ENTRIES: usize = 4096;
const TITLES: usize = 4 << 20;

/// What `linux` and `initrd` have loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    pub kernel: Option<Location>,
    pub initrds: Vec<Location>,
    pub args: String,
    /// Why what the script loads cannot be booted.
    pub refused: Option<String>,
}

impl Loaded {
    fn boot(&self) -> Result<Option<Boot>, String> {
        if let Some(kernel) = &self.kernel {
            return Ok(Some(Boot {
                kernel: kernel.clone(),
                initrds: self.initrds.clone(),
                args: self.args.clone(),
            }));
        }
        match &self.refused {
            Some(why) => Err(why.clone()),
            None => Ok(None),
        }
    }
}

/// What an entry or a configuration leads to.
#[derive(Clone, Debug)]
pub enum Opened {
    Boot(Boot),
    Menu(Menu),
}

/// Why a script goes on elsewhere than at its next statement.
#[derive(Debug)]
pub enum Stop {
    /// Leave so many loops.
    Break(u32),
    /// Leave so many loops but one, and go on with that one's next round.
    Continue(u32),
    Return,
    /// Boot what is loaded.
    Boot,
    /// Leave the configuration.
    Exit,
    /// Go to another configuration.
    Enter(Box<Opened>),
    /// It takes too long.
    Exhausted,
}

/// Whether it was true, or where it goes on.
pub type Executed = Result<bool, Stop>;

/// Executes scripts over the volumes of a disk.
pub struct Machine<'v> {
    pub volumes: &'v mut dyn Volumes,
    pub notes: Notes,
    pub(super) env: Env,
    functions: BTreeMap<String, Rc<Script>>,
    /// The positional parameters.
    pub(super) arguments: Vec<String>,
    /// The entries of the menu that is being defined.
    pub(super) entries: Vec<Entry>,
    pub(super) loaded: Loaded,
    /// Whether the last command was true.
    pub(super) status: bool,
    fuel: u32,
    depth: u32,
    /// Bytes of all entries' titles and arguments.
    titles: usize,
    /// The volume with the last configuration. It stands in where `root` names a device that does not exist.
    pub(super) home: VolumeId,
}

impl<'v> Machine<'v> {
    /// A machine that has executed nothing yet.
    pub fn new(volumes: &'v mut dyn Volumes) -> Self {
        Self {
            volumes,
            notes: Notes::default(),
            env: Env::default(),
            functions: BTreeMap::new(),
            arguments: Vec::new(),
            entries: Vec::new(),
            loaded: Loaded::default(),
            status: true,
            fuel: FUEL,
            depth: 0,
            titles: 0,
            home: 0,
        }
    }

    /// Executes the configuration `file` as GRUB starts with it: `root` is its volume, `prefix` its directory.
    ///
    /// # Errors
    /// A text that says why nothing can be booted.
    pub fn start(&mut self, file: &Location) -> Result<Opened, String> {
        self.home = file.volume;
        self.env = Env::default();
        self.functions.clear();
        let device = self.device_of(file.volume);
        let directory = file.parent().path;
        let directory = directory.trim_end_matches('/');
        let features = [
            "feature_200_final",
            "feature_all_video_module",
            "feature_chainloader_bpb",
            "feature_default_font_path",
            "feature_menuentry_id",
            "feature_menuentry_options",
            "feature_nativedisk_cmd",
            "feature_ntldr",
            "feature_platform_search_hint",
            "feature_timeout_style",
        ];
        let prefix = format!("({device}){directory}");
        let start = [
            ("root", device.as_str()),
            ("prefix", prefix.as_str()),
            ("cmdpath", prefix.as_str()),
            ("grub_cpu", "x86_64"),
            ("grub_platform", "xen"),
            ("pager", ""),
        ];
        let start = start
            .into_iter()
            .chain(features.iter().map(|name| (*name, "y")));
        for (name, value) in start {
            self.env.set(name, value);
            self.env.export(name);
        }
        self.configuration(file)
    }

    /// Takes `fuel` from what there is. Returns whether there was enough.
    pub(super) fn burn(&mut self, fuel: u32) -> bool {
        let left = self.fuel.checked_sub(fuel);
        self.fuel = left.unwrap_or(0);
        left.is_some()
    }

    /// Executes a configuration file with the variables that there are.
    pub(super) fn configuration(&mut self, file: &Location) -> Result<Opened, String> {
        let text = self.volumes.read_text(file, CONFIG);
        let text = text.map_err(|error| format!("{}: {error}", file.path))?;
        let name = format!("({}){}", self.device_of(file.volume), file.path);
        let directory = format!(
            "({}){}",
            self.device_of(file.volume),
            file.parent().path.trim_end_matches('/')
        );
        self.env.set("config_file", &name);
        self.env.set("config_directory", &directory);
        self.home = file.volume;
        let script = Rc::new(self.parse(&text, &file.path));
        self.define(&script, Vec::new())
    }

    pub(super) fn parse(&mut self, text: &str, name: &str) -> Script {
        // Reading costs as much as the statements that may be in the text.
        let statements = u32::try_from(text.len() / 16).unwrap_or(u32::MAX);
        if !self.burn(statements.saturating_add(1)) {
            self.notes
                .say(format!("{name}: left out: it takes too long"));
            return Script::default();
        }
        let (script, mistakes) = parser::parse(text);
        for mistake in mistakes {
            let parser::Mistake { line, what } = mistake;
            self.notes.say(format!("{name}:{line}: left out: {what}"));
        }
        script
    }

    /// Executes a script that defines a menu's entries, and returns the menu, or what the script boots itself.
    fn define(&mut self, script: &Rc<Script>, arguments: Vec<String>) -> Result<Opened, String> {
        let outer = std::mem::take(&mut self.entries);
        self.loaded = Loaded::default();
        let executed = self.call(script, arguments);
        let entries = std::mem::replace(&mut self.entries, outer);
        let stopped = match executed {
            Err(Stop::Enter(opened)) => return Ok(*opened),
            Err(Stop::Exhausted) => {
                self.notes
                    .say("the configuration takes too long, and was left");
                false
            }
            Err(Stop::Boot) => true,
            _ => false,
        };
        if (stopped || entries.is_empty())
            && let Some(boot) = self.loaded.boot()?
        {
            return Ok(Opened::Boot(boot));
        }
        Ok(Opened::Menu(self.menu(entries)))
    }

    /// The menu of what a script has defined.
    fn menu(&self, entries: Vec<Entry>) -> Menu {
        let timeout = self.env.get("timeout").trim();
        Menu {
            title: None,
            entries,
            default: self.env.value("default").map(str::to_owned),
            fallback: self.env.value("fallback").map(str::to_owned),
            timeout: timeout.parse::<u32>().ok(),
            hidden: matches!(self.env.get("timeout_style"), "hidden" | "countdown"),
            env: self.env.clone(),
        }
    }

    /// Carries out an entry of a menu.
    ///
    /// # Errors
    /// A text that says why it boots nothing.
    pub fn open(&mut self, menu: &Menu, index: usize) -> Result<Opened, String> {
        let entry = menu.entries.get(index).ok_or("no such entry")?;
        let (body, arguments, submenu) = match &entry.action {
            Action::Boot(boot) => return Ok(Opened::Boot(boot.clone())),
            Action::Menu(menu) => return Ok(Opened::Menu(Menu::clone(menu))),
            Action::Refuse(why) => return Err(why.clone()),
            Action::Script {
                body,
                arguments,
                submenu,
            } => (body, arguments, *submenu),
        };
        if submenu {
            self.env = menu.env.nested();
            return self.define(body, arguments.clone());
        }
        self.env = menu.env.clone();
        let chosen = entry.id.as_deref().unwrap_or(&entry.title);
        self.env.set("chosen", chosen);
        self.loaded = Loaded::default();
        let outer = std::mem::take(&mut self.entries);
        let executed = self.call(body, arguments.clone());
        self.entries = outer;
        match executed {
            Err(Stop::Enter(opened)) => Ok(*opened),
            Err(Stop::Exhausted) => Err("it takes too long".to_owned()),
            Err(Stop::Exit) => Err("it leaves GRUB".to_owned()),
            _ => self
                .loaded
                .boot()?
                .map(Opened::Boot)
                .ok_or_else(|| "it loads no kernel".to_owned()),
        }
    }

    /// Starts to take commands of a user, with the variables of a menu.
    pub fn begin_commands(&mut self, menu: &Menu) {
        self.env = menu.env.clone();
        self.loaded = Loaded::default();
    }

    /// Carries out a line that a user typed. Returns what it leads to, if that is elsewhere.
    ///
    /// # Errors
    /// A text that says why nothing can be booted, at `boot`.
    pub fn typed(&mut self, line: &str) -> Result<Option<Opened>, String> {
        let script = Rc::new(self.parse(line, "line"));
        match self.call(&script, Vec::new()) {
            Err(Stop::Enter(opened)) => Ok(Some(*opened)),
            Err(Stop::Boot) => match self.loaded.boot()? {
                Some(boot) => Ok(Some(Opened::Boot(boot))),
                None => Err("no kernel is loaded".to_owned()),
            },
            _ => Ok(None),
        }
    }

    /// Executes a script with its own positional parameters.
    pub(super) fn call(&mut self, script: &Rc<Script>, arguments: Vec<String>) -> Executed {
        if self.depth >= DEPTH {
            self.notes.say("functions, files or menus call themselves");
            return Err(Stop::Exhausted);
        }
        self.depth += 1;
        let outer = std::mem::replace(&mut self.arguments, arguments);
        let executed = self.script(script);
        self.arguments = outer;
        self.depth -= 1;
        executed
    }

    /// Executes a script in place, as part of what is executed now.
    pub(super) fn script(&mut self, script: &Script) -> Executed {
        for statement in &script.statements {
            if !self.burn(1) {
                return Err(Stop::Exhausted);
            }
            self.status = self.statement(statement)?;
        }
        Ok(self.status)
    }

    fn statement(&mut self, statement: &Statement) -> Executed {
        match statement {
            Statement::Group(script) => self.script(script),
            Statement::Function { name, body } => {
                self.functions.insert(name.clone(), body.clone());
                Ok(true)
            }
            Statement::If { arms, otherwise } => {
                for (condition, then) in arms {
                    if self.script(condition)? {
                        return self.script(then);
                    }
                }
                match otherwise {
                    Some(otherwise) => self.script(otherwise),
                    None => Ok(true),
                }
            }
            Statement::For { name, words, body } => {
                for word in self.expand(words) {
                    self.set(name, &word);
                    if !self.round(body)? {
                        break;
                    }
                }
                Ok(self.status)
            }
            Statement::While {
                until,
                condition,
                body,
            } => {
                while self.script(condition)? != *until {
                    if !self.burn(1) {
                        return Err(Stop::Exhausted);
                    }
                    if !self.round(body)? {
                        break;
                    }
                }
                Ok(true)
            }
            Statement::Command { words, block, line } => {
                let words = self.expand(words);
                self.command(&words, block.as_ref(), *line)
            }
        }
    }

    /// One round of a loop. Returns whether there may be another.
    fn round(&mut self, body: &Script) -> Executed {
        match self.script(body) {
            Ok(_) | Err(Stop::Continue(0 | 1)) => Ok(true),
            Err(Stop::Break(0 | 1)) => Ok(false),
            Err(Stop::Continue(loops)) => Err(Stop::Continue(loops - 1)),
            Err(Stop::Break(loops)) => Err(Stop::Break(loops - 1)),
            Err(other) => Err(other),
        }
    }

    fn command(
        &mut self,
        words: &[String],
        block: Option<&Rc<Script>>,
        line: u32,
    ) -> Result<bool, Stop> {
        let inversions = words.iter().take_while(|word| *word == "!").count();
        if inversions > 0 {
            let value = self.command(&words[inversions..], block, line)?;
            return Ok(value == (inversions % 2 == 0));
        }
        let Some((name, arguments)) = words.split_first() else {
            return Ok(true);
        };
        if let Some((variable, value)) = name.split_once('=')
            && is_name(variable)
        {
            self.set(variable, value);
            return Ok(true);
        }
        if let Some(body) = self.functions.get(name).cloned() {
            return match self.call(&body, arguments.to_vec()) {
                Err(Stop::Return) => Ok(self.status),
                other => other,
            };
        }
        self.builtin(name, arguments, block, line)
    }

    /// Sets a variable.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        if !self.env.set(name, value) {
            self.notes.say("the variables are too long");
        }
    }

    /// Adds an entry to the menu that is being defined.
    pub(super) fn add(&mut self, entry: Entry) -> bool {
        let length = |entry: &Entry| match &entry.action {
            Action::Script { arguments, .. } => arguments.iter().map(String::len).sum(),
            _ => entry.title.len(),
        };
        self.titles = self.titles.saturating_add(length(&entry));
        if self.entries.len() >= ENTRIES || self.titles > TITLES {
            self.notes.say("the menu has too many entries");
            return false;
        }
        self.entries.push(entry);
        true
    }
}

/// Whether a word is a variable's name.
pub(super) fn is_name(word: &str) -> bool {
    let mut characters = word.chars();
    characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|next| next.is_ascii_alphanumeric() || next == '_')
}
