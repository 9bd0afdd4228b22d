//! Makes a command's words of what a script says: variables' values, and the files that patterns stand for.

use super::lexer::{Piece, Word};
use super::machine::Machine;
use crate::volumes::Location;

/// How many characters a word may get, how many words a pattern or a variable may stand for, and how many bytes all words of a command
/// may have: several times what any kernel takes.
const LENGTH: usize = 1 << 14;
const COUNT: usize = 4096;
const COMMAND: usize = 1 << 16;

/// A word that is being put together: its characters, and of each whether it may be part of a pattern.
type Field = Vec<(char, bool)>;

impl Machine<'_> {
    /// The words that `words` stand for.
    pub(super) fn expand(&mut self, words: &[Word]) -> Vec<String> {
        let mut expanded: Vec<String> = Vec::new();
        for word in words {
            let bytes: usize = expanded.iter().map(String::len).sum();
            if expanded.len() > COUNT || bytes > COMMAND {
                self.notes
                    .say("a command is too long: the rest is left out");
                break;
            }
            for field in self.fields(word) {
                let text: String = field.iter().map(|(character, _)| character).collect();
                let pattern = field
                    .iter()
                    .any(|(character, active)| *active && "*?".contains(*character));
                let found = match pattern {
                    true => self.files(&text),
                    false => Vec::new(),
                };
                match found.is_empty() {
                    true => expanded.push(text),
                    false => expanded.extend(found),
                }
            }
        }
        expanded
    }

    fn fields(&self, word: &Word) -> Vec<Field> {
        let mut fields: Vec<Field> = Vec::new();
        let mut current: Option<Field> = None;
        for piece in word {
            match piece {
                Piece::Text { text, quoted } => {
                    let field = current.get_or_insert_default();
                    let room = LENGTH.saturating_sub(field.len());
                    field.extend(text.chars().take(room).map(|next| (next, !quoted)));
                }
                Piece::Variable { name, quoted: true } if name == "@" => {
                    for (index, argument) in self.arguments.iter().enumerate() {
                        if index > 0 {
                            fields.extend(current.take());
                        }
                        let field = current.get_or_insert_default();
                        field.extend(argument.chars().map(|next| (next, false)));
                    }
                }
                Piece::Variable { name, quoted: true } => {
                    let value = self.variable(name);
                    let field = current.get_or_insert_default();
                    let room = LENGTH.saturating_sub(field.len());
                    field.extend(value.chars().take(room).map(|next| (next, false)));
                }
                Piece::Variable { name, .. } => {
                    self.split(&self.variable(name), &mut fields, &mut current)
                }
            }
            if fields.len() > COUNT {
                break;
            }
        }
        fields.extend(current);
        fields
    }

    /// Adds a value whose blanks separate words.
    fn split(&self, value: &str, fields: &mut Vec<Field>, current: &mut Option<Field>) {
        for character in value.chars() {
            if " \t\n".contains(character) {
                fields.extend(current.take());
                if fields.len() > COUNT {
                    return;
                }
                continue;
            }
            let field = current.get_or_insert_default();
            if field.len() < LENGTH {
                field.push((character, true));
            }
        }
    }

    /// The value of a variable or of a positional parameter.
    pub(super) fn variable(&self, name: &str) -> String {
        match name {
            "?" => if self.status { "0" } else { "1" }.to_owned(),
            "#" => self.arguments.len().to_string(),
            "@" | "*" => self.arguments.join(" "),
            _ => match name.parse::<usize>() {
                Ok(number) => number
                    .checked_sub(1)
                    .and_then(|index| self.arguments.get(index))
                    .cloned()
                    .unwrap_or_default(),
                Err(_) => self.env.get(name).to_owned(),
            },
        }
    }

    /// What a pattern stands for, in order: `/boot/vmlinuz-*`, `(hd0,*)/boot`.
    fn files(&mut self, pattern: &str) -> Vec<String> {
        let (device, path) = match pattern
            .strip_prefix('(')
            .and_then(|rest| rest.split_once(')'))
        {
            Some((device, path)) => (Some(device), path),
            None if pattern.starts_with('/') => (None, pattern),
            None => return Vec::new(),
        };
        let volumes: Vec<(String, usize)> = match device {
            Some(device) => (0..self.volumes.count())
                .filter_map(|volume| {
                    let name = self.volumes.info(volume).names.first()?;
                    matches(device, name).then(|| (format!("({name})"), volume))
                })
                .collect(),
            None => match self.root() {
                Some(volume) => vec![(String::new(), volume)],
                None => Vec::new(),
            },
        };
        let mut found = Vec::new();
        for (prefix, volume) in volumes {
            if path.is_empty() {
                found.push(prefix);
                continue;
            }
            let paths = self.paths(volume, path);
            found.extend(paths.into_iter().map(|path| format!("{prefix}{path}")));
        }
        found.truncate(COUNT);
        found
    }

    /// The paths in a volume that match a pattern. Empty if none is there.
    fn paths(&mut self, volume: usize, pattern: &str) -> Vec<String> {
        let mut paths = vec![String::new()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            let mut next = Vec::new();
            for path in &paths {
                if !self.burn(1) || next.len() > COUNT {
                    return Vec::new();
                }
                if !part.contains(['*', '?']) {
                    next.push(format!("{path}/{part}"));
                    continue;
                }
                let Ok(mut names) = self.volumes.list(&Location::new(volume, path)) else {
                    continue;
                };
                names.retain(|name| {
                    matches(part, name) && (part.starts_with('.') || !name.starts_with('.'))
                });
                names.sort();
                next.extend(names.iter().map(|name| format!("{path}/{name}")));
            }
            paths = next;
        }
        paths.retain(|path| self.volumes.kind(&Location::new(volume, path)).is_ok());
        paths
    }
}

/// Whether `name` matches a pattern in which `*` stands for any characters and `?` for one.
fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut in_name) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, in_name));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => match star {
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    at = star_at + 1;
                    in_name = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        assert!(matches("vmlinuz-*", "vmlinuz-6.1"));
        assert!(matches("*.cfg", "a.b.cfg"));
        assert!(matches("h?0,*", "hd0,gpt1"));
        assert!(!matches("*.cfg", "cfg"));
        assert!(!matches("a*b?", "ab"));
        assert!(!matches(&"*a".repeat(50), &"a".repeat(49)));
    }
}
