//! What is wrong with a domain's XML, and where; and reading elements such that nothing in them goes unnoticed.

use crate::node::{Leftover, Node};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Something in a file that is not as it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its line, from 1.
    pub line: u32,
    /// Its column in characters, from 1.
    pub column: u32,
    /// The element with those around it, `<domain><os><boot>`; empty where the file is no XML.
    pub element: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.element.is_empty() {
            write!(f, "{}: ", self.element)?;
        }
        f.write_str(&self.message)
    }
}

/// All that is wrong with a file.
#[derive(Clone, Debug)]
pub struct Problems {
    /// The file.
    pub file: PathBuf,
    /// At least one.
    pub list: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.list.iter();
        let lines: Vec<String> = lines
            .map(|problem| format!("{}:{problem}", self.file.display()))
            .collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Problems {}

/// What was found while reading a document.
#[derive(Debug, Default)]
pub struct Log {
    /// What makes the domain one that cannot be run.
    pub errors: Vec<Problem>,
    /// What is ignored, which is harmless.
    pub warnings: Vec<Problem>,
    /// The elements with errors.
    wrong: BTreeSet<usize>,
}

/// The most errors, and the most warnings, that are noted: to find the line of each takes time.
const MOST: usize = 200;

impl Log {
    /// Notes an error at an element.
    pub fn error(&mut self, node: Node, message: impl Into<String>) {
        self.wrong.insert(node.id());
        if self.errors.len() < MOST {
            self.errors.push(at(node, message.into()));
        }
    }

    /// Notes at an element what is harmless.
    pub fn warn(&mut self, node: Node, message: impl Into<String>) {
        if self.warnings.len() < MOST {
            self.warnings.push(at(node, message.into()));
        }
    }

    /// Ignores an element with all that is in it, which is harmless, and says why.
    pub fn ignore(&mut self, node: Node, why: &str) {
        node.ignore();
        self.warn(node, why);
    }

    /// Ignores attributes, which is harmless, and says which there were.
    pub fn ignore_attributes(&mut self, node: Node, names: &[&str]) {
        let there = names.iter().filter(|name| node.attribute(name).is_some());
        let there: Vec<&str> = there.copied().collect();
        if !there.is_empty() {
            self.warn(node, format!("ignored here: {}", there.join(", ")));
        }
    }

    /// Notes what was never asked of `root` and what is in it. Where something is wrong with an element already, its reader may have
    /// stopped early, so what is left of it says nothing.
    pub fn leftovers(&mut self, root: Node) {
        let wrong = self.wrong.clone();
        root.leftovers(&wrong, &mut |node, what| match what {
            Leftover::Element if node.is_foreign() => self.error(node, FOREIGN),
            Leftover::Element => self.error(node, "this element is not known here"),
            Leftover::Attribute(name) => {
                self.error(node, format!("the attribute '{name}' is not known here"));
            }
            Leftover::Text => self.error(node, "has text where only elements may stand"),
        });
    }

    /// The elements in an element, of which only those in `repeated` may stand there more than once.
    pub fn children<'a>(&mut self, node: Node<'a>, repeated: &[&str]) -> Vec<Node<'a>> {
        let mut seen = BTreeSet::new();
        let mut children = Vec::new();
        for child in node.children().filter(|child| !child.is_foreign()) {
            if seen.insert(child.name()) || repeated.contains(&child.name()) {
                children.push(child);
            } else {
                self.error(child, "stands here twice");
                child.ignore();
            }
        }
        children
    }

    /// The element's text, which has to be there.
    pub fn some_text(&mut self, node: Node) -> Option<String> {
        let text = node.text();
        if text.is_empty() {
            self.error(node, "is empty");
            return None;
        }
        Some(text)
    }

    /// An attribute that has to be there.
    pub fn attribute<'a>(&mut self, node: Node<'a>, name: &str) -> Option<&'a str> {
        let value = node.attribute(name);
        if value.is_none() {
            self.error(node, format!("the attribute '{name}' is missing"));
        }
        value
    }

    /// An attribute with one of some values; nothing where it is missing.
    pub fn choice<T: Copy>(&mut self, node: Node, name: &str, values: &[(&str, T)]) -> Option<T> {
        let value = node.attribute(name)?;
        let found = values.iter().find(|(known, _)| *known == value);
        if found.is_none() {
            let known: Vec<&str> = values.iter().map(|(known, _)| *known).collect();
            let known = known.join(", ");
            self.error(node, format!("{name}='{value}' is not one of {known}"));
        }
        found.map(|(_, value)| *value)
    }

    /// The same, where the attribute has to be there.
    pub fn required<T: Copy>(&mut self, node: Node, name: &str, values: &[(&str, T)]) -> Option<T> {
        self.attribute(node, name)?;
        self.choice(node, name, values)
    }

    /// An attribute that is `yes` or `no`; nothing where it is missing.
    pub fn yes_no(&mut self, node: Node, name: &str) -> Option<bool> {
        self.choice(node, name, &[("yes", true), ("no", false)])
    }

    /// An attribute that is `on` or `off`; nothing where it is missing.
    pub fn on_off(&mut self, node: Node, name: &str) -> Option<bool> {
        self.choice(node, name, &[("on", true), ("off", false)])
    }

    /// A number in a range, as `what` of an element.
    pub fn number(
        &mut self,
        node: Node,
        what: &str,
        text: &str,
        range: RangeInclusive<i64>,
    ) -> Option<i64> {
        let number = text.trim().parse::<i64>().ok();
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let (low, high) = range.into_inner();
            self.error(
                node,
                format!("{what} '{text}' is no number from {low} to {high}"),
            );
        }
        number
    }

    /// An attribute that is a number in a range; nothing where it is missing.
    pub fn number_of(&mut self, node: Node, name: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let text = node.attribute(name)?;
        self.number(node, name, text, range)
    }

    /// A path, `what` of an element: what is relative is so to the directory of the file.
    pub fn path(&mut self, node: Node, what: &str, text: &str, base: &Path) -> Option<PathBuf> {
        if text.is_empty() {
            self.error(node, format!("{what} is empty"));
            return None;
        }
        Some(base.join(text))
    }

    /// A word of letters, digits and `-_.:`, `what` of an element.
    pub fn word<'a>(&mut self, node: Node, what: &str, text: &'a str) -> Option<&'a str> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if text.is_empty() || !text.chars().all(plain) {
            self.error(node, format!("{what} '{text}' is no name"));
            return None;
        }
        Some(text)
    }
}

/// What is said of elements such as `<qemu:commandline>`.
const FOREIGN: &str = "arguments for other programs are not taken from a domain: an argument can start any program. Give them to this tool, after --";

/// A problem at an element.
fn at(node: Node, message: String) -> Problem {
    let (line, column) = node.position();
    let names = node.names().into_iter();
    Problem {
        line,
        column,
        element: names.map(|name| format!("<{name}>")).collect(),
        message,
    }
}
