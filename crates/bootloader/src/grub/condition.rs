//! `test` and `[`.

use super::machine::Machine;
use crate::volumes::Kind;
use std::cmp::Ordering;

impl Machine<'_> {
    /// Whether a condition is true. One that is not understood is false.
    pub(super) fn test(&mut self, words: &[String]) -> bool {
        let mut at = 0;
        let value = self.any(words, &mut at, 0);
        if at < words.len() {
            let condition = words.join(" ");
            self.notes
                .say(format!("a condition is not understood: [ {condition} ]"));
            return false;
        }
        value
    }

    /// Conditions separated by `-o`.
    fn any(&mut self, words: &[String], at: &mut usize, depth: u32) -> bool {
        let mut value = self.all(words, at, depth);
        while words.get(*at).is_some_and(|word| word == "-o") {
            *at += 1;
            value |= self.all(words, at, depth);
        }
        value
    }

    /// Conditions separated by `-a`.
    fn all(&mut self, words: &[String], at: &mut usize, depth: u32) -> bool {
        let mut value = self.single(words, at, depth);
        while words.get(*at).is_some_and(|word| word == "-a") {
            *at += 1;
            value &= self.single(words, at, depth);
        }
        value
    }

    fn single(&mut self, words: &[String], at: &mut usize, depth: u32) -> bool {
        let rest = words.get(*at..).unwrap_or_default();
        if let [left, operator, right, ..] = rest
            && let Some(value) = compare(left, operator, right)
        {
            *at += 3;
            return value;
        }
        match rest {
            [] => false,
            [word, _, ..] if word == "!" && depth < 50 => {
                *at += 1;
                !self.single(words, at, depth + 1)
            }
            [word, _, ..] if word == "(" && depth < 50 => {
                *at += 1;
                let value = self.any(words, at, depth + 1);
                if words.get(*at).is_some_and(|word| word == ")") {
                    *at += 1;
                }
                value
            }
            [operator, operand, ..] if let Some(value) = self.unary(operator, operand) => {
                *at += 2;
                value
            }
            [word, ..] => {
                *at += 1;
                !word.is_empty()
            }
        }
    }

    fn unary(&mut self, operator: &str, operand: &str) -> Option<bool> {
        match operator {
            "-n" => return Some(!operand.is_empty()),
            "-z" => return Some(operand.is_empty()),
            "-d" | "-e" | "-f" | "-s" => {}
            _ => return None,
        }
        let place = match self.locate(operand) {
            Ok(place) if !operand.is_empty() => place,
            _ => return Some(false),
        };
        let kind = self.volumes.kind(&place);
        Some(match operator {
            "-d" => kind == Ok(Kind::Directory),
            "-f" => matches!(kind, Ok(Kind::File { .. })),
            "-s" => matches!(kind, Ok(Kind::File { size: 1.. })),
            _ => kind.is_ok(),
        })
    }
}

/// What a comparison of two words gives, if that is what it is.
fn compare(left: &str, operator: &str, right: &str) -> Option<bool> {
    let words = left.cmp(right);
    let numbers = number(left).cmp(&number(right));
    Some(match operator {
        "=" | "==" => words == Ordering::Equal,
        "!=" => words != Ordering::Equal,
        "<" => words == Ordering::Less,
        "<=" => words != Ordering::Greater,
        ">" => words == Ordering::Greater,
        ">=" => words != Ordering::Less,
        "-eq" => numbers == Ordering::Equal,
        "-ne" => numbers != Ordering::Equal,
        "-lt" => numbers == Ordering::Less,
        "-le" => numbers != Ordering::Greater,
        "-gt" => numbers == Ordering::Greater,
        "-ge" => numbers != Ordering::Less,
        "-pgt" => prefixed(left, right) == Ordering::Greater,
        "-plt" => prefixed(left, right) == Ordering::Less,
        _ => return None,
    })
}

/// The number at a word's start, 0 if there is none.
fn number(word: &str) -> i64 {
    let end = word
        .char_indices()
        .find(|(at, next)| !(next.is_ascii_digit() || (*at == 0 && *next == '-')));
    let digits = &word[..end.map_or(word.len(), |(at, _)| at)];
    digits.parse().unwrap_or(0)
}

/// Compares the numbers after what two words have in common at their start.
fn prefixed(left: &str, right: &str) -> Ordering {
    let common = left
        .chars()
        .zip(right.chars())
        .take_while(|(left, right)| left == right && !left.is_ascii_digit())
        .map(|(left, _)| left.len_utf8())
        .sum::<usize>();
    number(&left[common..]).cmp(&number(&right[common..]))
}
