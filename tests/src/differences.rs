//! Comparing our answers with SeaBIOS's under a table of the differences we intend.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::guest::Machine;

/// What stands in a comparison for a field one side did not report.
const ABSENT: &str = "absent";

/// One row of `differences.toml`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// The fields; one that ends with `*` stands for all that start so.
    pub fields: Vec<String>,
    /// `pc` or `q35` when it differs on one machine only.
    pub machine: Option<String>,
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
    fn is_for(&self, machine: Machine) -> bool {
        self.machine
            .as_ref()
            .is_none_or(|name| *name == machine.to_string())
    }
}

/// Whether `field` is `pattern`, or starts with what stands before the `*` of `pattern`.
fn fits(pattern: &str, field: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => field.starts_with(start),
        None => field == pattern,
    }
}

/// Lists everything wrong between two reports: fields that differ without a reason in the table, and rows of the table
/// (those for this machine) that explain nothing. Empty when all is well.
pub fn compare(
    machine: Machine,
    seabios: &[(String, String)],
    ours: &[(String, String)],
    table: &[Difference],
) -> Vec<String> {
    let theirs = by_name(seabios);
    let mine = by_name(ours);
    let names: BTreeSet<&str> = theirs.keys().chain(mine.keys()).copied().collect();
    let patterns: Vec<&str> = table
        .iter()
        .filter(|row| row.is_for(machine))
        .flat_map(|row| row.fields.iter().map(String::as_str))
        .collect();
    let mut used = vec![false; patterns.len()];
    let mut problems = Vec::new();
    for name in names {
        let a = theirs.get(name).copied().unwrap_or(ABSENT);
        let b = mine.get(name).copied().unwrap_or(ABSENT);
        if a == b {
            continue;
        }
        let mut explained = false;
        for (pattern, used) in patterns.iter().zip(&mut used) {
            if fits(pattern, name) {
                *used = true;
                explained = true;
            }
        }
        if !explained {
            problems.push(format!("{machine} {name}: seabios {a}, ours {b}"));
        }
    }
    for (pattern, used) in patterns.iter().zip(used) {
        if !used {
            problems.push(format!(
                "{machine} {pattern}: explained in the table, but does not differ"
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
        let problems = compare(Machine::Pc, &theirs, &ours, &table);
        assert_eq!(
            problems,
            [
                "pc b: seabios 1, ours 2",
                "pc gone: explained in the table, but does not differ"
            ]
        );
        assert_eq!(compare(Machine::Q35, &theirs, &ours, &table).len(), 1);
        Ok(())
    }

    #[test]
    fn a_row_needs_a_reason() {
        assert!(parse("[[difference]]\nfields = [\"a\"]\n").is_err());
    }
}
