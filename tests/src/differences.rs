//! Comparing what a guest finds under our firmware and under another one, with a table of the differences we intend.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;

/// What stands in a comparison for a field one side did not report.
const ABSENT: &str = "absent";

/// One row of a table. In its fields and values each `*` stands for any text.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// The fields.
    pub fields: Vec<String>,
    /// The only machines on which it differs, where it does not on all, by how their names begin: `pc`, or a version of Xen.
    pub machine: Option<String>,
    /// What the other firmware has to answer for this row to explain the difference; without it, anything.
    pub theirs: Option<String>,
    /// The same of ours.
    pub ours: Option<String>,
    /// Why ours differs.
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    difference: Vec<Difference>,
}

/// Reads the table.
///
/// # Errors
/// It is not TOML or has unknown or missing keys.
pub fn parse(text: &str) -> Result<Vec<Difference>> {
    let table: Table = toml::from_str(text).context("the table of differences")?;
    Ok(table.difference)
}

impl Difference {
    /// Whether the row explains what the two sides answer.
    fn covers(&self, theirs: &str, ours: &str) -> bool {
        let fits = |pattern: &Option<String>, value| {
            pattern.as_ref().is_none_or(|pattern| fits(pattern, value))
        };
        fits(&self.theirs, theirs) && fits(&self.ours, ours)
    }
}

/// Whether `text` is `pattern`, in which each `*` stands for any text.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(start) else {
        return false;
    };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(mut text) = text.strip_suffix(end) else {
        return false;
    };
    // The first place that fits leaves the most for what follows.
    middle.split('*').all(|part| match text.split_once(part) {
        Some((_, left)) => {
            text = left;
            true
        }
        None => false,
    })
}

/// Lists everything wrong between two reports from the same machine, `theirs` with the firmware called `peer`: fields that differ
/// without a reason in the table, and rows of the table (those for this machine) that explain nothing. Empty when all is well.
pub fn compare(
    machine: &str,
    peer: &str,
    theirs: &[(String, String)],
    ours: &[(String, String)],
    table: &[Difference],
) -> Vec<String> {
    let theirs = by_name(theirs);
    let mine = by_name(ours);
    let names: BTreeSet<&str> = theirs.keys().chain(mine.keys()).copied().collect();
    let rows: Vec<(&Difference, &str)> = table
        .iter()
        .filter(|row| {
            row.machine
                .as_ref()
                .is_none_or(|name| machine.starts_with(name.as_str()))
        })
        .flat_map(|row| row.fields.iter().map(move |field| (row, field.as_str())))
        .collect();
    let mut used = vec![false; rows.len()];
    let mut problems = Vec::new();
    for name in names {
        let a = theirs.get(name).copied().unwrap_or(ABSENT);
        let b = mine.get(name).copied().unwrap_or(ABSENT);
        if a == b {
            continue;
        }
        let mut explained = false;
        for ((row, field), used) in rows.iter().zip(&mut used) {
            if fits(field, name) && row.covers(a, b) {
                *used = true;
                explained = true;
            }
        }
        if !explained {
            problems.push(format!("{machine} {name}: {peer} {a}, ours {b}"));
        }
    }
    for ((_, field), used) in rows.iter().zip(used) {
        if !used {
            problems.push(format!(
                "{machine} {field}: explained in the table, but does not differ so"
            ));
        }
    }
    problems
}

fn by_name(fields: &[(String, String)]) -> BTreeMap<&str, &str> {
    fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    }

    #[test]
    fn unexplained_and_stale_rows_are_problems() -> Result<()> {
        let table = parse(
            "[[difference]]\nfields = [\"a.*\"]\nreason = \"r\"\n\
             [[difference]]\nfields = [\"gone\"]\nreason = \"r\"\n\
             [[difference]]\nfields = [\"b\"]\nmachine = \"q35\"\nreason = \"r\"\n",
        )?;
        let theirs = fields(&[("a.x", "1"), ("b", "1"), ("gone", "1"), ("same", "1")]);
        let ours = fields(&[
            ("a.x", "2"),
            ("b", "2"),
            ("gone", "1"),
            ("same", "1"),
            ("a.new", "3"),
        ]);
        let problems = compare("pc", "seabios", &theirs, &ours, &table);
        assert_eq!(
            problems,
            [
                "pc b: seabios 1, ours 2",
                "pc gone: explained in the table, but does not differ so"
            ]
        );
        assert_eq!(compare("q35", "seabios", &theirs, &ours, &table).len(), 1);
        Ok(())
    }

    #[test]
    fn a_row_with_values_explains_no_others() -> Result<()> {
        let table = parse(
            "[[difference]]\nfields = [\"a\"]\ntheirs = \"1 *\"\nours = \"absent\"\nreason = \"r\"\n",
        )?;
        let problems =
            |theirs, ours| compare("pc", "b", &fields(theirs), &fields(ours), &table).len();
        assert_eq!(problems(&[("a", "1 x")], &[]), 0);
        assert_eq!(problems(&[("a", "2 x")], &[]), 2);
        assert_eq!(problems(&[("a", "1 x")], &[("a", "1 y")]), 2);
        Ok(())
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in [
            ("a", "a"),
            ("*", ""),
            ("a*", "abc"),
            ("*c", "abc"),
            ("a*c*e", "abcde"),
            ("a**", "a"),
        ] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a", "ab"),
            ("ab*ba", "aba"),
            ("a*c*e", "abde"),
            ("*b", "abc"),
        ] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_row_needs_a_reason() {
        assert!(parse("[[difference]]\nfields = [\"a\"]\n").is_err());
    }
}
