//! The text of LVM's metadata: sections in braces, and values that are numbers, text or lists of them.

use crate::error::{Error, Result};
use alloc::string::String;
use alloc::vec::Vec;

/// Sections in one another at most. LVM has four.
const MAX_DEPTH: usize = 8;
/// Names and values in one text at most: a thousand volumes have as many.
const MAX_ITEMS: usize = 20_000;
const WRONG: Error = Error::Corrupt("LVM's text");

enum Value {
    Text(String),
    Number(u64),
    List(Vec<Value>),
}

enum Item {
    Value(Value),
    Section(Section),
}

/// A section: named values and sections. Names may come twice; the first counts.
#[derive(Default)]
pub(super) struct Section(Vec<(String, Item)>);

impl Section {
    fn value(&self, name: &str) -> Option<&Value> {
        self.0.iter().find_map(|(key, item)| match item {
            Item::Value(value) if key == name => Some(value),
            _ => None,
        })
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        match self.value(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        match self.value(name)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The texts in a list.
    pub fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        let list: &[Value] = match self.value(name) {
            Some(Value::List(list)) => list,
            _ => &[],
        };
        list.iter().filter_map(|value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The one stripe of a linear segment: a physical volume's name and its first extent.
    pub fn stripe(&self) -> Option<(&str, u64)> {
        match self.value("stripes")? {
            Value::List(list) => match list.as_slice() {
                [Value::Text(name), Value::Number(first)] => Some((name, *first)),
                _ => None,
            },
            _ => None,
        }
    }

    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections()
            .find_map(|(key, section)| (key == name).then_some(section))
    }

    pub fn sections(&self) -> impl Iterator<Item = (&str, &Section)> {
        self.0.iter().filter_map(|(name, item)| match item {
            Item::Section(section) => Some((name.as_str(), section)),
            Item::Value(_) => None,
        })
    }
}

/// Reads a whole text.
pub(super) fn parse(text: &[u8]) -> Result<Section> {
    let mut parser = Parser {
        rest: text,
        items: 0,
    };
    let section = parser.section(0)?;
    match parser.rest {
        [] => Ok(section),
        _ => Err(WRONG),
    }
}

struct Parser<'a> {
    rest: &'a [u8],
    /// Names and values so far.
    items: usize,
}

impl Parser<'_> {
    /// Passes blanks, comments and the NUL at the end, and returns the next byte.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.rest.first()? {
                b' ' | b'\t' | b'\r' | b'\n' | 0 => self.rest = &self.rest[1..],
                b'#' => {
                    let end = self.rest.iter().position(|&byte| byte == b'\n');
                    self.rest = &self.rest[end.unwrap_or(self.rest.len())..];
                }
                byte => return Some(byte),
            }
        }
    }

    fn take(&mut self, wanted: u8) -> Result<()> {
        if self.peek() != Some(wanted) {
            return Err(WRONG);
        }
        self.rest = &self.rest[1..];
        Ok(())
    }

    /// Items up to a closing brace, which is left, or the end.
    fn section(&mut self, depth: usize) -> Result<Section> {
        if depth > MAX_DEPTH {
            return Err(WRONG);
        }
        let mut items = Vec::new();
        while self.peek().is_some_and(|byte| byte != b'}') {
            let name = self.word()?;
            let item = match self.peek() {
                Some(b'{') => {
                    self.take(b'{')?;
                    let section = self.section(depth + 1)?;
                    self.take(b'}')?;
                    Item::Section(section)
                }
                _ => {
                    self.take(b'=')?;
                    Item::Value(self.value()?)
                }
            };
            self.count()?;
            items.push((name, item));
        }
        Ok(Section(items))
    }

    fn count(&mut self) -> Result<()> {
        self.items += 1;
        if self.items > MAX_ITEMS {
            return Err(WRONG);
        }
        Ok(())
    }

    fn word(&mut self) -> Result<String> {
        self.peek();
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-+./".contains(byte);
        let len = self.rest.iter().take_while(|byte| is_word(byte)).count();
        let (word, rest) = self.rest.split_at(len);
        self.rest = rest;
        match core::str::from_utf8(word) {
            Ok(word) if !word.is_empty() => Ok(word.into()),
            _ => Err(WRONG),
        }
    }

    fn value(&mut self) -> Result<Value> {
        if self.peek() != Some(b'[') {
            return self.scalar();
        }
        self.take(b'[')?;
        let mut list = Vec::new();
        while self.peek() != Some(b']') {
            self.count()?;
            list.push(self.scalar()?);
            if self.peek() == Some(b',') {
                self.take(b',')?;
            }
        }
        self.take(b']')?;
        Ok(Value::List(list))
    }

    /// A number, which may have a sign or a fraction that nobody needs, or text in quotes.
    fn scalar(&mut self) -> Result<Value> {
        if self.peek() != Some(b'"') {
            return Ok(Value::Number(self.word()?.parse().unwrap_or(0)));
        }
        self.take(b'"')?;
        let mut text = Vec::new();
        loop {
            let (&byte, rest) = self.rest.split_first().ok_or(WRONG)?;
            self.rest = rest;
            match byte {
                b'"' => break,
                b'\\' => {
                    let (&escaped, rest) = self.rest.split_first().ok_or(WRONG)?;
                    self.rest = rest;
                    text.push(escaped);
                }
                byte => text.push(byte),
            }
        }
        Ok(Value::Text(String::from_utf8(text).map_err(|_| WRONG)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_values_and_comments_are_read() {
        let text = b"vg0 {\nid = \"a\\\"b\"\n# comment }\nseqno = 3\n\
                     status = [\"READ\", \"WRITE\"]\nlv { stripes = [\n\"pv0\", 7\n]\n}\n}\n# end\n\0";
        let root = parse(text).unwrap_or_default();
        let group = root.section("vg0").expect("a group");
        assert_eq!(group.text("id"), Some("a\"b"));
        assert_eq!(group.number("seqno"), Some(3));
        assert!(group.list("status").eq(["READ", "WRITE"]));
        let volume = group.section("lv").expect("a volume");
        assert_eq!(volume.stripe(), Some(("pv0", 7)));
    }

    #[test]
    fn text_that_does_not_end_is_an_error() {
        for text in ["a {", "a = [", "a = \"b", "a = [1, 2", "}", "a", "= 1"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse("a {".repeat(1000).as_bytes()).is_err());
    }
}
