//! What every kind of configuration comes to: a menu of entries, one of which is booted.

use crate::grub::{Env, Script};
use crate::volumes::Location;
use std::rc::Rc;

/// What to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    pub kernel: Location,
    /// The initial RAM disks, which are joined in this order.
    pub initrds: Vec<Location>,
    /// The kernel's command line.
    pub args: String,
}

/// One line of a menu.
#[derive(Clone, Debug)]
pub struct Entry {
    pub title: String,
    /// The name by which a default can choose it, beside its title and its number.
    pub id: Option<String>,
    pub action: Action,
}

/// What an entry does.
#[derive(Clone, Debug)]
pub enum Action {
    Boot(Boot),
    Menu(Rc<Menu>),
    /// Commands that choose what to boot. For a submenu they define its entries.
    Script {
        body: Rc<Script>,
        arguments: Vec<String>,
        submenu: bool,
    },
    /// It boots nothing that can be started here; the text says why.
    Refuse(String),
}

/// A menu.
#[derive(Clone, Debug, Default)]
pub struct Menu {
    pub title: Option<String>,
    pub entries: Vec<Entry>,
    /// The default: a number, a title or an id, or several of these for nested menus, separated by `>`.
    pub default: Option<String>,
    /// What to take where the default boots nothing: such choices, separated by blanks.
    pub fallback: Option<String>,
    /// Seconds until the default is booted. Nothing: it waits for a key.
    pub timeout: Option<u32>,
    /// It is shown only if a key is pressed while the time runs.
    pub hidden: bool,
    /// The variables that the entries' scripts start with.
    pub env: Env,
}

impl Menu {
    /// The entry that `choice`, one step of a default, means: by number, id or title.
    pub fn position(&self, choice: &str) -> Option<usize> {
        if let Ok(number) = choice.trim().parse::<usize>() {
            return (number < self.entries.len()).then_some(number);
        }
        self.entries
            .iter()
            .position(|entry| entry.id.as_deref() == Some(choice) || entry.title == choice)
    }
}

/// The steps of a default through nested menus. `>` separates them; `>>` is that character in a title.
pub fn steps(default: &str) -> Vec<String> {
    let mut steps = vec![String::new()];
    let mut characters = default.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '>' && characters.next_if_eq(&'>').is_none() {
            steps.push(String::new());
            continue;
        }
        if let Some(step) = steps.last_mut() {
            step.push(character);
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_has_a_step_for_each_menu() {
        assert_eq!(steps("1>2"), ["1", "2"]);
        assert_eq!(steps("Advanced>Linux >> 6"), ["Advanced", "Linux > 6"]);
        assert_eq!(steps(""), [""]);
    }
}
