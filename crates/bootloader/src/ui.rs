//! The menu.

use crate::find;
use crate::grub::{Machine, Opened};
use crate::menu::{Boot, Menu, steps};
use crate::notes::printable;
use crate::terminal::{Key, Terminal};
use std::time::{Duration, Instant};

/// Why the menu gives nothing to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// The terminal is gone, and the default boots nothing: the text says why.
    Gone(String),
}

/// Shows a menu until something is chosen, by a key or by the timeout.
///
/// # Errors
/// The terminal is gone, and the default boots nothing.
pub fn choose(
    machine: &mut Machine,
    menu: Menu,
    terminal: &mut dyn Terminal,
) -> Result<Boot, Left> {
    let mut timeout = menu.timeout.map(u64::from);
    let first = steps(menu.default.as_deref().unwrap_or("0")).remove(0);
    let mut view = View {
        selected: menu.position(&first).unwrap_or(0),
        menus: vec![menu],
        message: String::new(),
    };
    if timeout == Some(0) || view.hidden(terminal, &mut timeout) {
        match find::default(machine, &view.menus[0]) {
            Ok(boot) => return Ok(boot),
            Err(why) => view.message = why,
        }
        timeout = None;
    }
    view.run(machine, terminal, timeout)
}

struct View {
    /// The menu that is shown, after those around it.
    menus: Vec<Menu>,
    selected: usize,
    message: String,
}

impl View {
    fn menu(&self) -> &Menu {
        &self.menus[self.menus.len() - 1]
    }

    /// Lets the time of a hidden menu run. Returns whether it ran out without a key.
    fn hidden(&self, terminal: &mut dyn Terminal, timeout: &mut Option<u64>) -> bool {
        let Some(seconds) = timeout.filter(|_| self.menu().hidden) else {
            return false;
        };
        terminal.write("Press a key for the menu.\n");
        let key = terminal.key(Some(Duration::from_secs(seconds)));
        *timeout = None;
        matches!(key, Key::None | Key::Gone)
    }

    fn run(
        &mut self,
        machine: &mut Machine,
        terminal: &mut dyn Terminal,
        timeout: Option<u64>,
    ) -> Result<Boot, Left> {
        let mut end = timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            self.draw(terminal, left);
            // The seconds on the screen go on once a second.
            let wait = left.map(|left| left.min(Duration::from_secs(1)));
            let key = terminal.key(wait);
            if key == Key::None && left.is_none_or(|left| left > Duration::from_secs(1)) {
                continue;
            }
            if matches!(key, Key::None | Key::Gone) {
                match find::default(machine, &self.menus[0]) {
                    Ok(boot) => return Ok(boot),
                    Err(why) if key == Key::Gone => return Err(Left::Gone(why)),
                    Err(why) => self.message = why,
                }
            }
            end = None;
            if let Some(boot) = self.press(machine, terminal, key) {
                terminal.write("\x1b[2J\x1b[H");
                return Ok(boot);
            }
        }
    }

    fn press(
        &mut self,
        machine: &mut Machine,
        terminal: &mut dyn Terminal,
        key: Key,
    ) -> Option<Boot> {
        let last = self.menu().entries.len().saturating_sub(1);
        match key {
            Key::Up | Key::Control('p') | Key::Character('k') => {
                self.selected = self.selected.saturating_sub(1);
            }
            Key::Down | Key::Control('n') | Key::Character('j') => {
                self.selected = (self.selected + 1).min(last);
            }
            Key::Home => self.selected = 0,
            Key::End => self.selected = last,
            Key::Enter | Key::Right => match self.open(machine)? {
                Opened::Boot(boot) => return Some(boot),
                Opened::Menu(menu) => self.enter(menu),
            },
            Key::Character('a' | 'e') => match self.open(machine)? {
                Opened::Boot(boot) => return edit(terminal, boot),
                Opened::Menu(menu) => self.enter(menu),
            },
            Key::Character('c') => return self.commands(machine, terminal),
            Key::Escape | Key::Left if self.menus.len() > 1 => {
                self.menus.pop();
                self.selected = 0;
            }
            _ => {}
        }
        None
    }

    fn open(&mut self, machine: &mut Machine) -> Option<Opened> {
        self.message.clear();
        let menu = &self.menus[self.menus.len() - 1];
        match machine.open(menu, self.selected) {
            Ok(Opened::Menu(menu)) if menu.entries.is_empty() => {
                self.message = "This menu has no entries.".to_owned();
                None
            }
            Ok(opened) => Some(opened),
            Err(why) => {
                self.message = format!("It cannot be booted: {why}");
                None
            }
        }
    }

    fn enter(&mut self, menu: Menu) {
        if self.menus.len() >= 16 {
            self.message = "Menus are nested too deep.".to_owned();
            return;
        }
        let default = menu.default.clone().unwrap_or_default();
        self.selected = menu.position(&default).unwrap_or(0);
        self.menus.push(menu);
    }

    /// Commands of GRUB that the user types, until `boot`.
    fn commands(&mut self, machine: &mut Machine, terminal: &mut dyn Terminal) -> Option<Boot> {
        terminal.write(
            "\x1b[2J\x1b[HGRUB's commands; \"boot\" boots what is loaded, ESC goes back.\n\n",
        );
        machine.begin_commands(&self.menus[self.menus.len() - 1]);
        loop {
            let line = read_line(terminal, "> ", "")?;
            terminal.write("\n");
            let before = machine.notes.all().len();
            match machine.typed(&line) {
                Ok(Some(Opened::Boot(boot))) => return Some(boot),
                Ok(Some(Opened::Menu(menu))) => {
                    self.enter(menu);
                    return None;
                }
                Ok(None) => {}
                Err(why) => terminal.write(&format!("{}\n", printable(&why))),
            }
            for note in machine.notes.all().iter().skip(before) {
                terminal.write(&format!("{note}\n"));
            }
        }
    }

    fn draw(&self, terminal: &mut dyn Terminal, left: Option<Duration>) {
        let (columns, rows) = terminal.size();
        let menu = self.menu();
        let title = menu.title.as_deref().unwrap_or("Firstlight bootloader");
        let mut text = format!("\x1b[2J\x1b[H\n  {}\n\n", fitted(title, columns - 4));
        let shown = rows.saturating_sub(10).max(1);
        let first = (self.selected + 1).saturating_sub(shown);
        for (index, entry) in menu.entries.iter().enumerate().skip(first).take(shown) {
            let mark = if find::is_menu(entry) { " >" } else { "" };
            let line = format!("{}{mark}", fitted(&entry.title, columns - 8));
            let (on, off) = match index == self.selected {
                true => ("\x1b[7m", "\x1b[0m"),
                false => ("", ""),
            };
            text.push_str(&format!("  {on} {line} {off}\n"));
        }
        text.push_str(
            "\n  Arrow keys choose, Enter boots. e edits the command line, c takes commands",
        );
        text.push_str(if self.menus.len() > 1 {
            ",\n  ESC goes back.\n"
        } else {
            ".\n"
        });
        if let Some(left) = left {
            let seconds = left.as_millis().div_ceil(1000);
            text.push_str(&format!("  The chosen entry boots in {seconds} s.\n"));
        }
        if !self.message.is_empty() {
            text.push_str(&format!("\n  {}\n", fitted(&self.message, 2 * columns - 8)));
        }
        terminal.write(&text);
    }
}

/// Lets the user edit the command line. Nothing: the user goes back.
fn edit(terminal: &mut dyn Terminal, mut boot: Boot) -> Option<Boot> {
    let kernel = printable(&boot.kernel.path);
    terminal.write(&format!(
        "\x1b[2J\x1b[HThe command line of {kernel}. Enter boots, ESC goes back.\n\n"
    ));
    boot.args = read_line(terminal, "> ", &printable(&boot.args))?;
    Some(boot)
}

/// Reads a line that starts as `text`. Nothing: the user goes back.
fn read_line(terminal: &mut dyn Terminal, prompt: &str, text: &str) -> Option<String> {
    let mut line: Vec<char> = text.chars().collect();
    let mut at = line.len();
    loop {
        // One row of the screen shows the part of the line around the cursor.
        let width = terminal.size().0.saturating_sub(prompt.len() + 2).max(10);
        let from = (at + 1).saturating_sub(width);
        let part: String = line.iter().skip(from).take(width).collect();
        let column = prompt.len() + (at - from) + 1;
        terminal.write(&format!("\r\x1b[K{prompt}{part}\x1b[{column}G"));
        match terminal.key(None) {
            Key::Enter => return Some(line.into_iter().collect()),
            Key::Escape | Key::Gone => return None,
            Key::Left | Key::Control('b') => at = at.saturating_sub(1),
            Key::Right | Key::Control('f') => at = (at + 1).min(line.len()),
            Key::Home | Key::Control('a') => at = 0,
            Key::End | Key::Control('e') => at = line.len(),
            Key::Control('k') => line.truncate(at),
            Key::Control('u') => {
                line.drain(..at);
                at = 0;
            }
            Key::Backspace if at > 0 => {
                at -= 1;
                line.remove(at);
            }
            Key::Delete | Key::Control('d') if at < line.len() => {
                line.remove(at);
            }
            Key::Character(character) if line.len() < 8000 => {
                line.insert(at, character);
                at += 1;
            }
            _ => {}
        }
    }
}

/// The start of a text that has room in so many columns, without control characters.
fn fitted(text: &str, columns: usize) -> String {
    printable(text).chars().take(columns.max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;
    use crate::volumes::Location;
    use std::collections::VecDeque;

    struct Script {
        keys: VecDeque<Key>,
        shown: String,
    }

    impl Script {
        fn new(keys: &[Key]) -> Self {
            Self {
                keys: keys.iter().copied().collect(),
                shown: String::new(),
            }
        }
    }

    impl Terminal for Script {
        fn key(&mut self, _: Option<Duration>) -> Key {
            self.keys.pop_front().unwrap_or(Key::Gone)
        }

        fn write(&mut self, text: &str) {
            self.shown.push_str(text);
        }

        fn size(&self) -> (usize, usize) {
            (80, 24)
        }
    }

    const CONFIG: &str = "set default=0\nset timeout=5\n\
        menuentry 'One \x1b[2Jred' { linux /k one; }\n\
        submenu More { menuentry Two { linux /k two; }\n menuentry Three { linux /missing; } }\n";

    fn press(config: &str, keys: &[Key]) -> (Result<Boot, Left>, String) {
        let mut tree = Tree::with(&[("/boot/grub/grub.cfg", config), ("/k", "kernel")]);
        let mut machine = Machine::new(&mut tree);
        let file = Location::new(0, "/boot/grub/grub.cfg");
        let Ok(Opened::Menu(menu)) = machine.start(&file) else {
            panic!("no menu");
        };
        let mut script = Script::new(keys);
        let chosen = choose(&mut machine, menu, &mut script);
        (chosen, script.shown)
    }

    fn args(config: &str, keys: &[Key]) -> String {
        press(config, keys).0.expect("something boots").args
    }

    #[test]
    fn keys_choose_an_entry() {
        assert_eq!(args(CONFIG, &[Key::Enter]), "one");
        let two = [Key::Down, Key::Down, Key::Enter, Key::Enter];
        assert_eq!(args(CONFIG, &two), "two");
        let back = [Key::Down, Key::Enter, Key::Escape, Key::Enter];
        assert_eq!(args(CONFIG, &back), "one");
    }

    #[test]
    fn without_a_user_the_default_boots() {
        assert_eq!(args(CONFIG, &[]), "one");
        let (boot, shown) = press(&CONFIG.replace("timeout=5", "timeout=0"), &[Key::Down]);
        assert_eq!(boot.expect("it boots").args, "one");
        assert_eq!(shown, "");
        let hidden = format!("set timeout_style=hidden\n{CONFIG}");
        assert_eq!(args(&hidden, &[Key::None]), "one");
    }

    #[test]
    fn the_command_line_can_be_edited() {
        let keys = [
            Key::Character('e'),
            Key::Backspace,
            Key::Character('!'),
            Key::Home,
            Key::Character('x'),
            Key::Enter,
        ];
        assert_eq!(args(CONFIG, &keys), "xon!");
    }

    #[test]
    fn commands_can_be_typed() {
        let mut keys = vec![Key::Character('c')];
        for line in ["nonsense", "linux /k typed", "boot"] {
            keys.extend(line.chars().map(Key::Character));
            keys.push(Key::Enter);
        }
        let (boot, shown) = press(CONFIG, &keys);
        assert_eq!(boot.expect("it boots").args, "typed");
        assert!(shown.contains("nonsense"));
    }

    #[test]
    fn an_entry_that_boots_nothing_says_why() {
        let keys = [Key::Down, Key::Enter, Key::Down, Key::Enter];
        let (boot, shown) = press(CONFIG, &keys);
        assert_eq!(boot.expect("the default").args, "one");
        assert!(shown.contains("/missing: no such file"));
    }

    #[test]
    fn titles_cannot_steer_the_terminal() {
        let (_, shown) = press(CONFIG, &[Key::Down]);
        assert!(shown.contains("One ?[2Jred"));
    }
}
