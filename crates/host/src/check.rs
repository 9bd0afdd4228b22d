//! `firstlight check`: what each element of a domain does under each toolstack.

use crate::domain::{Domain, Element, Fate, TOOLSTACKS};
use serde_json::{Value, json};
use std::fmt::Write;

/// The most characters in a column of a toolstack.
const WIDTH: usize = 26;

/// Whether something is lost under one of the toolstacks `columns`.
pub fn loses(domain: &Domain, columns: &[usize]) -> bool {
    let mut elements = domain.elements.iter();
    elements.any(|element| {
        columns
            .iter()
            .any(|&column| is_lost(&element.fates[column]))
    })
}

fn is_lost(fate: &Fate) -> bool {
    matches!(fate, Fate::Lost(_))
}

/// A table for a person: a row for each element, and what is lost once more at its end.
pub fn table(domain: &Domain, columns: &[usize]) -> String {
    let cell = |element: &Element, column: usize| match &element.fates[column] {
        Fate::Kept(text) => wrap(text, WIDTH - 2, "  "),
        Fate::Lost(text) => wrap(&format!("LOST: {text}"), WIDTH - 2, "! "),
    };
    let first = |element: &Element| {
        let mut lines = vec![format!("{:>4} {}", element.line, element.name)];
        lines.extend(wrap(&printable(&element.asks), WIDTH + 4, "       "));
        lines
    };
    let names = domain.elements.iter().flat_map(first);
    let width = names
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0)
        .max(12);
    let mut text = format!("{:width$}", "line element");
    for &column in columns {
        let _ = write!(text, "    {:WIDTH$}", TOOLSTACKS[column]);
    }
    text = text.trim_end().to_owned() + "\n";
    for element in &domain.elements {
        let mut cells = vec![first(element)];
        cells.extend(columns.iter().map(|&column| cell(element, column)));
        let rows = cells.iter().map(Vec::len).max().unwrap_or(0);
        for row in 0..rows {
            let mut line = String::new();
            for (index, cell) in cells.iter().enumerate() {
                let width = if index == 0 { width } else { WIDTH };
                let part = cell.get(row).map_or("", String::as_str);
                let gap = if index == 0 { "" } else { "  " };
                let _ = write!(line, "{gap}{part:width$}  ");
            }
            text += line.trim_end();
            text.push('\n');
        }
    }
    text
}

/// Text on one line without control characters.
fn printable(text: &str) -> String {
    let clean = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.into()
        }
    };
    text.chars().map(clean).collect()
}

/// Lines of at most `width` characters, the first behind `mark`, the others as far in.
fn wrap(text: &str, width: usize, mark: &str) -> Vec<String> {
    let indent = " ".repeat(mark.len());
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let mut word = word;
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        while word.chars().count() > width {
            let end = word
                .char_indices()
                .nth(width)
                .map_or(word.len(), |(at, _)| at);
            lines.push(word[..end].to_owned());
            word = &word[end..];
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines.push(line);
    let marks = std::iter::once(mark).chain(std::iter::repeat(indent.as_str()));
    lines
        .iter()
        .zip(marks)
        .map(|(line, mark)| format!("{mark}{line}"))
        .collect()
}

/// The same for a program.
pub fn json(domain: &Domain, columns: &[usize]) -> Value {
    let elements = domain.elements.iter().map(|element| {
        let fates = columns.iter().map(|&column| {
            let (does, lost) = match &element.fates[column] {
                Fate::Kept(text) => (text, false),
                Fate::Lost(text) => (text, true),
            };
            (
                TOOLSTACKS[column].to_owned(),
                json!({ "does": does, "lost": lost }),
            )
        });
        json!({
            "line": element.line,
            "element": element.name,
            "asks": element.asks,
            "toolstacks": fates.collect::<serde_json::Map<_, _>>(),
        })
    });
    let warnings = domain.warnings.iter().map(|warning| {
        json!({ "line": warning.line, "element": warning.element, "message": warning.message })
    });
    json!({
        "file": domain.file.display().to_string(),
        "elements": elements.collect::<Vec<_>>(),
        "warnings": warnings.collect::<Vec<_>>(),
        "lost": loses(domain, columns),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_wrapped() {
        assert_eq!(wrap("one two three", 7, "! "), ["! one two", "  three"]);
        assert_eq!(wrap("abcdefgh", 3, ""), ["abc", "def", "gh"]);
        assert_eq!(wrap("", 3, "- "), ["- "]);
        assert_eq!(printable("a\nb\u{1b}"), "a\\nb\\u{1b}");
    }
}
