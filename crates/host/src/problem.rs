//! What is wrong with a domain's XML, and where; and reading elements such that nothing in them goes unnoticed.

use roxmltree::Node;
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
}

impl Log {
    /// Notes an error at an element.
    pub fn error(&mut self, node: Node, message: impl Into<String>) {
        self.errors.push(at(node, message.into()));
    }

    /// Notes at an element what is harmless.
    pub fn warn(&mut self, node: Node, message: impl Into<String>) {
        self.warnings.push(at(node, message.into()));
    }

    /// The child elements. The element has no other attributes than `attributes`, and no text.
    pub fn open<'a, 'i>(&mut self, node: Node<'a, 'i>, attributes: &[&str]) -> Vec<Node<'a, 'i>> {
        self.attributes(node, attributes);
        let mut children = Vec::new();
        for child in node.children() {
            if child.is_element() {
                children.push(child);
            } else if child.is_text() && !child.text().unwrap_or_default().trim().is_empty() {
                self.error(node, "has text where only elements may stand");
            }
        }
        children
    }

    /// The element has no other attributes than `attributes`, and nothing in it.
    pub fn empty(&mut self, node: Node, attributes: &[&str]) {
        for child in self.open(node, attributes) {
            self.unknown(child);
        }
    }

    /// The element has no other attributes than `attributes`.
    pub fn attributes(&mut self, node: Node, attributes: &[&str]) {
        for attribute in node.attributes() {
            if !attributes.contains(&attribute.name()) {
                let name = attribute.name();
                self.error(node, format!("the attribute '{name}' is not known here"));
            }
        }
    }

    /// An element that nobody here knows.
    pub fn unknown(&mut self, node: Node) {
        self.error(node, "this element is not known here");
    }

    /// The element's text, without blanks around it. The element has nothing else in it.
    pub fn text(&mut self, node: Node) -> String {
        if let Some(child) = node.children().find(|child| child.is_element()) {
            self.unknown(child);
        }
        let parts = node.children().filter(|child| child.is_text());
        let text: String = parts.filter_map(|part| part.text()).collect();
        text.trim().to_owned()
    }

    /// The element's text, which has to be there.
    pub fn some_text(&mut self, node: Node) -> Option<String> {
        let text = self.text(node);
        if text.is_empty() {
            self.error(node, "is empty");
            return None;
        }
        Some(text)
    }

    /// An attribute that has to be there.
    pub fn attribute<'a>(&mut self, node: Node<'a, '_>, name: &str) -> Option<&'a str> {
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

/// A problem at an element.
fn at(node: Node, message: String) -> Problem {
    let position = node.document().text_pos_at(node.range().start);
    let mut names: Vec<String> = node
        .ancestors()
        .filter(|ancestor| ancestor.is_element())
        .map(|ancestor| format!("<{}>", ancestor.tag_name().name()))
        .collect();
    names.reverse();
    Problem {
        line: position.row,
        column: position.col,
        element: names.concat(),
        message,
    }
}
