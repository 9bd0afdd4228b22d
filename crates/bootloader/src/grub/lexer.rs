//! Splits a script into words and signs.

/// A part of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Characters that stand for themselves. `quoted`: no pattern, no reserved word.
    Text { text: String, quoted: bool },
    /// A variable's value. Unless it is `quoted`, blanks in the value separate words.
    Variable { name: String, quoted: bool },
}

/// A word of a command: pieces without blanks between them.
pub type Word = Vec<Piece>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sign {
    Word(Word),
    /// A line's end.
    Line,
    Semicolon,
    Open,
    Close,
    /// `&`, `|`, `<` or `>`, to which GRUB gives no meaning.
    Other(char),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub sign: Sign,
    /// The line of the text that it is in, from 1.
    pub line: u32,
}

/// Splits `text`. A quotation mark that is never closed ends with the text.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        rest: text,
        line: 1,
        tokens: Vec::new(),
    };
    while lexer.token() {}
    lexer.tokens
}

struct Lexer<'a> {
    rest: &'a str,
    line: u32,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.rest = &self.rest[character.len_utf8()..];
        if character == '\n' {
            self.line = self.line.saturating_add(1);
        }
        Some(character)
    }

    fn push(&mut self, sign: Sign, line: u32) {
        self.tokens.push(Token { sign, line });
    }

    /// Takes the next token. Returns false at the end.
    fn token(&mut self) -> bool {
        let line = self.line;
        let Some(character) = self.peek() else {
            return false;
        };
        match character {
            '\n' => self.single(Sign::Line),
            ' ' | '\t' | '\r' => {
                self.next();
            }
            '#' => {
                while self.peek().is_some_and(|next| next != '\n') {
                    self.next();
                }
            }
            ';' => self.single(Sign::Semicolon),
            '{' if self.alone() => self.single(Sign::Open),
            '}' if self.alone() => self.single(Sign::Close),
            '&' | '|' | '<' | '>' => self.single(Sign::Other(character)),
            _ => {
                let word = self.word();
                if !word.is_empty() {
                    self.push(Sign::Word(word), line);
                }
            }
        }
        true
    }

    fn single(&mut self, sign: Sign) {
        let line = self.line;
        self.next();
        self.push(sign, line);
    }

    /// Whether the brace that comes next is a word of its own.
    fn alone(&self) -> bool {
        let after = self.rest.chars().nth(1);
        after.is_none_or(|after| after.is_ascii_whitespace() || ";{}".contains(after))
    }

    fn word(&mut self) -> Word {
        let mut word = Word::new();
        while let Some(character) = self.peek() {
            match character {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '<' | '>' => break,
                '\'' => {
                    self.next();
                    self.literally(&mut word);
                }
                '"' => {
                    self.next();
                    self.doubly(&mut word);
                }
                '\\' => {
                    self.next();
                    match self.next() {
                        None | Some('\n') => {}
                        Some(escaped) => append(&mut word, escaped, true),
                    }
                }
                '$' => self.variable(&mut word, false),
                other => {
                    self.next();
                    append(&mut word, other, false);
                }
            }
        }
        word
    }

    /// What is between apostrophes.
    fn literally(&mut self, word: &mut Word) {
        word.push(text(String::new(), true));
        while let Some(character) = self.next() {
            match character {
                '\'' => break,
                other => append(word, other, true),
            }
        }
    }

    /// What is between quotation marks.
    fn doubly(&mut self, word: &mut Word) {
        word.push(text(String::new(), true));
        while let Some(character) = self.peek() {
            match character {
                '"' => {
                    self.next();
                    break;
                }
                '$' => self.variable(word, true),
                '\\' => {
                    self.next();
                    match self.next() {
                        None | Some('\n') => {}
                        Some(escaped @ ('$' | '"' | '\\')) => append(word, escaped, true),
                        Some(other) => {
                            append(word, '\\', true);
                            append(word, other, true);
                        }
                    }
                }
                other => {
                    self.next();
                    append(word, other, true);
                }
            }
        }
    }

    /// `$name` or `${name}`; a dollar sign that is neither stands for itself.
    fn variable(&mut self, word: &mut Word, quoted: bool) {
        self.next();
        let rest = self.rest;
        let (name, length) = if let Some(inner) = rest.strip_prefix('{') {
            match inner.find(['}', '\n']) {
                Some(end) if inner[end..].starts_with('}') => (&inner[..end], end + 2),
                _ => ("", 0),
            }
        } else if rest.starts_with(['@', '*', '#', '?']) {
            (&rest[..1], 1)
        } else if rest.starts_with(|first: char| first.is_ascii_digit()) {
            let end = rest.find(|next: char| !next.is_ascii_digit());
            let end = end.unwrap_or(rest.len());
            (&rest[..end], end)
        } else {
            let end = rest.find(|next: char| !(next.is_ascii_alphanumeric() || next == '_'));
            let end = end.unwrap_or(rest.len());
            (&rest[..end], end)
        };
        if name.is_empty() {
            append(word, '$', true);
            return;
        }
        let name = name.to_owned();
        word.push(Piece::Variable { name, quoted });
        self.rest = &rest[length..];
    }
}

fn text(text: String, quoted: bool) -> Piece {
    Piece::Text { text, quoted }
}

/// Adds a character to the last piece of a word, if that is a text of the same kind.
fn append(word: &mut Word, character: char, as_quoted: bool) {
    if let Some(Piece::Text { text, quoted }) = word.last_mut()
        && *quoted == as_quoted
    {
        text.push(character);
        return;
    }
    word.push(text(character.to_string(), as_quoted));
}

/// The word, if it is one text without quotation marks: what a reserved word is.
pub fn plain(word: &Word) -> Option<&str> {
    match word.as_slice() {
        [
            Piece::Text {
                text,
                quoted: false,
            },
        ] => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<Word> {
        tokens(source)
            .into_iter()
            .filter_map(|token| match token.sign {
                Sign::Word(word) => Some(word),
                _ => None,
            })
            .collect()
    }

    fn variable(name: &str, quoted: bool) -> Piece {
        Piece::Variable {
            name: name.to_owned(),
            quoted,
        }
    }

    #[test]
    fn quoting_follows_the_manual() {
        let word = |source| words(source).remove(0);
        assert_eq!(word("'a $b \\'"), [text("a $b \\".into(), true)]);
        assert_eq!(word(r#""a \"\x""#), [text("a \"\\x".into(), true)]);
        assert_eq!(word(r"a\ b").len(), 3);
        assert_eq!(
            word("x${b}y$1"),
            [
                text("x".into(), false),
                variable("b", false),
                text("y".into(), false),
                variable("1", false)
            ]
        );
        assert_eq!(word("\"$root\"")[1], variable("root", true));
        assert_eq!(word("$"), [text("$".into(), true)]);
        assert_eq!(word("''"), [text(String::new(), true)]);
    }

    #[test]
    fn comments_and_continued_lines() {
        assert_eq!(words("a # b 'c\nd#e").len(), 2);
        let continued = tokens("a \\\nb\nc");
        assert_eq!(
            continued
                .iter()
                .filter(|token| token.sign == Sign::Line)
                .count(),
            1
        );
        assert_eq!(continued.last().map(|token| token.line), Some(3));
    }

    #[test]
    fn braces_are_signs_only_alone() {
        let signs: Vec<Sign> = tokens("menuentry a { b; }")
            .into_iter()
            .map(|token| token.sign)
            .collect();
        assert_eq!(signs[2], Sign::Open);
        assert_eq!(signs[5], Sign::Close);
        assert_eq!(words("a{b} ${c").len(), 2);
    }
}
