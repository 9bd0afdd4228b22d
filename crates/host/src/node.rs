//! An element of a document, and a record of what was asked of it: what nobody asked for is what nobody understood.
//!
//! Readers ask by name, and do not list what they know. When all is read, [`crate::problem::Log::leftovers`] reports each element,
//! attribute and text that was never asked for, so a reader cannot pass anything over by mistake.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// What was asked of one element.
#[derive(Debug, Default)]
struct Asked {
    attributes: BTreeSet<String>,
    /// Its text was read.
    text: bool,
    /// All that is in it is known, and ignored on purpose.
    whole: bool,
}

/// What was asked of a document's elements. An element that is not in it was met by nobody.
#[derive(Debug, Default)]
pub struct Record(RefCell<BTreeMap<usize, Asked>>);

/// An element.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    node: roxmltree::Node<'a, 'a>,
    record: &'a Record,
}

impl<'a> Node<'a> {
    /// The document's outermost element.
    pub fn root(document: &'a roxmltree::Document<'a>, record: &'a Record) -> Self {
        Self {
            node: document.root_element(),
            record,
        }
    }

    /// The first element of a name anywhere in a document.
    pub fn find(
        document: &'a roxmltree::Document<'a>,
        name: &str,
        record: &'a Record,
    ) -> Option<Self> {
        let mut all = document.descendants();
        let node = all.find(|node| node.has_tag_name(name))?;
        Some(Self { node, record })
    }

    fn note(self, change: impl FnOnce(&mut Asked)) {
        let mut record = self.record.0.borrow_mut();
        change(record.entry(self.id()).or_default());
    }

    fn other(self, node: roxmltree::Node<'a, 'a>) -> Self {
        Self {
            node,
            record: self.record,
        }
    }

    /// What tells it from all other elements of the document.
    pub fn id(self) -> usize {
        self.node.id().get_usize()
    }

    /// Its name. To ask for that is not to understand the element.
    pub fn name(self) -> &'a str {
        self.node.tag_name().name()
    }

    /// Whether it is of another name space than libvirt's own, which is none.
    pub fn is_foreign(self) -> bool {
        self.node.tag_name().namespace().is_some()
    }

    /// Whether it has this name.
    pub fn is(self, name: &str) -> bool {
        !self.is_foreign() && self.name() == name
    }

    /// Its line and column, from 1.
    pub fn position(self) -> (u32, u32) {
        let start = self.node.document().text_pos_at(self.node.range().start);
        (start.row, start.col)
    }

    /// The names of the elements that it is in, from the outermost on, and its own.
    pub fn names(self) -> Vec<&'a str> {
        let ancestors = self.node.ancestors().filter(|node| node.is_element());
        let mut names: Vec<&str> = ancestors.map(|node| node.tag_name().name()).collect();
        names.reverse();
        names
    }

    /// The outermost element.
    pub fn top(self) -> Self {
        self.other(self.node.document().root_element())
    }

    /// An element that says all by being there.
    pub fn met(self) -> Self {
        self.note(|_| {});
        self
    }

    /// Takes the element and all that is in it as known, and as of no use.
    pub fn ignore(self) {
        self.note(|asked| asked.whole = true);
    }

    /// The value of an attribute.
    pub fn attribute(self, name: &str) -> Option<&'a str> {
        self.note(|asked| {
            asked.attributes.insert(name.to_owned());
        });
        let mut all = self.node.attributes();
        let own = all.find(|own| own.name() == name && own.namespace().is_none())?;
        Some(own.value())
    }

    /// Its text, without blanks around it.
    pub fn text(self) -> String {
        self.note(|asked| asked.text = true);
        let parts = self.node.children().filter(|child| child.is_text());
        let text: String = parts.filter_map(|part| part.text()).collect();
        text.trim().to_owned()
    }

    /// The elements in it. Each is still to be asked.
    pub fn children(self) -> impl Iterator<Item = Self> + use<'a> {
        self.note(|_| {});
        let children = self.node.children().filter(|child| child.is_element());
        children.map(move |child| self.other(child))
    }

    /// The first element of a name in it, which is met thereby.
    pub fn child(self, name: &str) -> Option<Self> {
        let found = self.children().find(|child| child.is(name))?;
        Some(found.met())
    }

    /// Whether there is such an element in it, whoever reads it.
    pub fn contains(self, name: &str) -> bool {
        self.children().any(|child| child.is(name))
    }

    /// Calls `report` for each thing in the element that was never asked for. What is in an element that was not met itself is not
    /// told one by one. Of the elements `wrong`, whose readers may have stopped early, what was not asked for says nothing.
    pub fn leftovers(self, wrong: &BTreeSet<usize>, report: &mut impl FnMut(Self, Leftover<'a>)) {
        let record = self.record.0.borrow();
        let Some(asked) = record.get(&self.id()) else {
            return report(self, Leftover::Element);
        };
        if asked.whole {
            return;
        }
        let wrong_itself = wrong.contains(&self.id());
        if !wrong_itself {
            self.own_leftovers(asked, report);
        }
        for child in self.node.children().filter(|child| child.is_element()) {
            let child = self.other(child);
            if !wrong_itself || child.is_foreign() || record.contains_key(&child.id()) {
                child.leftovers(wrong, report);
            }
        }
    }

    fn own_leftovers(self, asked: &Asked, report: &mut impl FnMut(Self, Leftover<'a>)) {
        for attribute in self.node.attributes() {
            if attribute.namespace().is_some() || !asked.attributes.contains(attribute.name()) {
                report(self, Leftover::Attribute(attribute.name()));
            }
        }
        let blank = |text: &str| text.trim().is_empty();
        let mut texts = self.node.children().filter(|child| child.is_text());
        if !asked.text && !texts.all(|text| text.text().is_none_or(blank)) {
            report(self, Leftover::Text);
        }
    }
}

/// Something that was never asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftover<'a> {
    /// The whole element.
    Element,
    /// An attribute of it.
    Attribute(&'a str),
    /// Its text.
    Text,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn left(text: &str, read: impl FnOnce(Node)) -> Vec<String> {
        let document = roxmltree::Document::parse(text).expect("XML");
        let record = Record::default();
        let root = Node::root(&document, &record);
        read(root);
        let mut left = Vec::new();
        root.leftovers(&BTreeSet::new(), &mut |node, what| {
            left.push(format!("{} {what:?}", node.name()))
        });
        left
    }

    #[test]
    fn what_was_not_asked_for_is_left() {
        let text = "<a x='1' y='2'>text<b z='3'/><c>more<d/></c><e w='4'><f/></e></a>";
        assert_eq!(left(text, |_| {}), ["a Element"]);
        let read = |root: Node| {
            assert_eq!(root.attribute("x"), Some("1"));
            root.child("b").expect("b");
            root.child("c").expect("c").text();
            root.child("e").expect("e").ignore();
        };
        let expected = [
            "a Attribute(\"y\")",
            "a Text",
            "b Attribute(\"z\")",
            "d Element",
        ];
        assert_eq!(left(text, read), expected);
    }

    #[test]
    fn names_of_another_name_space_are_other_names() {
        let text = "<a xmlns:o='o' o:x='1'><o:b/></a>";
        let read = |root: Node| {
            assert_eq!(root.attribute("x"), None);
            assert!(root.child("b").is_none());
        };
        assert_eq!(left(text, read), ["a Attribute(\"x\")", "b Element"]);
    }

    proptest! {
        #[test]
        fn nothing_is_left_unless_it_was_not_asked_for(asked in prop::collection::vec(any::<bool>(), 20)) {
            let mut text = String::from("<a ");
            (0..20).for_each(|n| text += &format!("a{n}='' "));
            text += "/>";
            let read = |root: Node| {
                root.met();
                for (n, _) in asked.iter().enumerate().filter(|(_, asked)| **asked) {
                    root.attribute(&format!("a{n}"));
                }
            };
            prop_assert_eq!(left(&text, read).len(), asked.iter().filter(|asked| !**asked).count());
        }
    }
}
