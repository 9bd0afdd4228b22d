//! The variables of a script.

use std::collections::{BTreeMap, BTreeSet};

/// How many bytes all variables together may have.
const LIMIT: usize = 1 << 20;

/// Variables and which of them nested menus inherit.
#[derive(Clone, Debug, Default)]
pub struct Env {
    variables: BTreeMap<String, String>,
    exported: BTreeSet<String>,
    bytes: usize,
}

impl Env {
    /// A variable's value, empty if it is not set.
    pub fn get(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    /// A variable's value, if it is set to anything but nothing.
    pub fn value(&self, name: &str) -> Option<&str> {
        Some(self.get(name)).filter(|value| !value.is_empty())
    }

    /// Sets a variable. Returns whether there was room.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        let old = self
            .variables
            .get(name)
            .map_or(0, |old| old.len() + name.len());
        let bytes = (self.bytes - old).saturating_add(name.len() + value.len());
        if bytes > LIMIT {
            return false;
        }
        self.bytes = bytes;
        self.variables.insert(name.to_owned(), value.to_owned());
        true
    }

    /// Removes a variable.
    pub fn unset(&mut self, name: &str) {
        if let Some(old) = self.variables.remove(name) {
            self.bytes -= old.len() + name.len();
        }
        self.exported.remove(name);
    }

    /// Lets nested menus inherit a variable.
    pub fn export(&mut self, name: &str) {
        self.exported.insert(name.to_owned());
    }

    /// The variables that a nested menu starts with.
    pub fn nested(&self) -> Self {
        let mut nested = Self {
            exported: self.exported.clone(),
            ..Self::default()
        };
        for name in &self.exported {
            if let Some(value) = self.variables.get(name) {
                nested.set(name, value);
            }
        }
        nested
    }
}

/// The variables in an environment block (GRUB Manual, "The GRUB environment block"): lines of `name=value`, in which a backslash
/// stands before a line break or a backslash that is part of the value. Lines that start with `#` say nothing.
pub fn block(text: &str) -> Vec<(String, String)> {
    let mut lines = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\n' => lines.push(String::new()),
            '\\' => {
                if let (Some(line), Some(next)) = (lines.last_mut(), characters.next()) {
                    line.push(next);
                }
            }
            other => {
                if let Some(line) = lines.last_mut() {
                    line.push(other);
                }
            }
        }
    }
    lines
        .iter()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exported_variables_reach_a_nested_menu() {
        let mut env = Env::default();
        env.set("mine", "1");
        env.set("ours", "2");
        env.export("ours");
        let nested = env.nested();
        assert_eq!((nested.get("mine"), nested.get("ours")), ("", "2"));
        env.unset("ours");
        assert_eq!(env.nested().get("ours"), "");
    }

    #[test]
    fn variables_have_bounded_room() {
        let mut env = Env::default();
        let half = "x".repeat(LIMIT / 2);
        assert!(env.set("a", &half));
        assert!(!env.set("b", &half));
        assert!(env.set("a", "small") && env.set("b", &half));
    }

    #[test]
    fn an_environment_block_may_escape() {
        let text = "# GRUB Environment Block\nsaved_entry=1>2\nopts=a\\\\b\\\nc\nkernelopts=root=UUID=1 ro\n####";
        let expected = [
            ("saved_entry", "1>2"),
            ("opts", "a\\b\nc"),
            ("kernelopts", "root=UUID=1 ro"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(block(text), expected);
    }
}
