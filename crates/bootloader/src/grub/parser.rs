//! Makes statements of a script's words.

use super::lexer::{self, Sign, Token, Word, plain};
use std::rc::Rc;

/// How deep statements may be nested.
const DEPTH: u32 = 60;

/// Statements that are executed one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    pub statements: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// A command, with the block in braces that may follow it.
    Command {
        words: Vec<Word>,
        block: Option<Rc<Script>>,
        line: u32,
    },
    /// Conditions with what to do where they are true, and what else to do.
    If {
        arms: Vec<(Script, Script)>,
        otherwise: Option<Script>,
    },
    For {
        name: String,
        words: Vec<Word>,
        body: Script,
    },
    /// `while`, or `until` with a condition that is to be false.
    While {
        until: bool,
        condition: Script,
        body: Script,
    },
    Function {
        name: String,
        body: Rc<Script>,
    },
    Group(Script),
}

/// A statement that is not understood, and was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub line: u32,
    pub what: String,
}

/// Reads a script. A statement that is not understood is left out up to its line's end, as GRUB does.
pub fn parse(text: &str) -> (Script, Vec<Mistake>) {
    let mut parser = Parser {
        tokens: lexer::tokens(text),
        at: 0,
        depth: 0,
    };
    let mut script = Script::default();
    let mut mistakes = Vec::new();
    loop {
        parser.separators();
        if parser.sign().is_none() {
            return (script, mistakes);
        }
        match parser.statement() {
            Ok(statement) => script.statements.push(statement),
            Err(what) => {
                let line = parser.line();
                mistakes.push(Mistake { line, what });
                parser.skip_line();
            }
        }
    }
}

/// The words that end a list of statements.
const ENDS: &[&str] = &["then", "elif", "else", "fi", "do", "done"];

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: u32,
}

type Parsed<T> = Result<T, String>;

impl Parser {
    fn sign(&self) -> Option<&Sign> {
        self.tokens.get(self.at).map(|token| &token.sign)
    }

    /// The line of the current token, or of the last one at the end.
    fn line(&self) -> u32 {
        let token = self.tokens.get(self.at).or(self.tokens.last());
        token.map_or(1, |token| token.line)
    }

    fn separators(&mut self) {
        while matches!(self.sign(), Some(Sign::Line | Sign::Semicolon)) {
            self.at += 1;
        }
    }

    fn skip_line(&mut self) {
        while self.sign().is_some_and(|sign| *sign != Sign::Line) {
            self.at += 1;
        }
    }

    fn reserved(&self) -> Option<&str> {
        match self.sign() {
            Some(Sign::Word(word)) => plain(word),
            _ => None,
        }
    }

    fn take(&mut self, word: &str) -> bool {
        let there = self.reserved() == Some(word);
        if there {
            self.at += 1;
        }
        there
    }

    fn expect(&mut self, word: &str) -> Parsed<()> {
        self.separators();
        match self.take(word) {
            true => Ok(()),
            false => Err(format!("«{word}» is missing")),
        }
    }

    fn close(&mut self) -> Parsed<()> {
        self.separators();
        if self.sign() != Some(&Sign::Close) {
            return Err("«}» is missing".to_owned());
        }
        self.at += 1;
        Ok(())
    }

    /// Statements up to a word or sign that ends them.
    fn list(&mut self) -> Parsed<Script> {
        let mut script = Script::default();
        loop {
            self.separators();
            match self.sign() {
                None | Some(Sign::Close) => return Ok(script),
                Some(Sign::Word(word)) if plain(word).is_some_and(|word| ENDS.contains(&word)) => {
                    return Ok(script);
                }
                _ => script.statements.push(self.statement()?),
            }
        }
    }

    fn statement(&mut self) -> Parsed<Statement> {
        if self.depth >= DEPTH {
            return Err("nested too deep".to_owned());
        }
        self.depth += 1;
        let statement = match self.reserved() {
            Some("if") => self.conditional(),
            Some("for") => self.repeated(),
            Some("while") => self.loop_while(false),
            Some("until") => self.loop_while(true),
            Some("function") => self.function(),
            Some(word) if ENDS.contains(&word) => Err(format!("«{word}» without its beginning")),
            _ if self.sign() == Some(&Sign::Open) => self.block().map(Statement::Group),
            _ => self.command(),
        };
        self.depth -= 1;
        statement
    }

    fn block(&mut self) -> Parsed<Script> {
        self.at += 1;
        let body = self.list()?;
        self.close()?;
        Ok(body)
    }

    fn conditional(&mut self) -> Parsed<Statement> {
        let mut arms = Vec::new();
        self.at += 1;
        loop {
            let condition = self.list()?;
            self.expect("then")?;
            arms.push((condition, self.list()?));
            if self.take("elif") {
                continue;
            }
            let otherwise = match self.take("else") {
                true => Some(self.list()?),
                false => None,
            };
            self.expect("fi")?;
            return Ok(Statement::If { arms, otherwise });
        }
    }

    fn repeated(&mut self) -> Parsed<Statement> {
        self.at += 1;
        let name = self.name()?;
        self.expect("in")?;
        let (words, _) = self.words()?;
        self.expect("do")?;
        let body = self.list()?;
        self.expect("done")?;
        Ok(Statement::For { name, words, body })
    }

    fn loop_while(&mut self, until: bool) -> Parsed<Statement> {
        self.at += 1;
        let condition = self.list()?;
        self.expect("do")?;
        let body = self.list()?;
        self.expect("done")?;
        Ok(Statement::While {
            until,
            condition,
            body,
        })
    }

    fn function(&mut self) -> Parsed<Statement> {
        self.at += 1;
        let name = self.name()?;
        self.separators();
        if self.sign() != Some(&Sign::Open) {
            return Err("«{» is missing".to_owned());
        }
        let body = Rc::new(self.block()?);
        Ok(Statement::Function { name, body })
    }

    fn name(&mut self) -> Parsed<String> {
        let name = self.reserved().ok_or("a name is missing")?.to_owned();
        self.at += 1;
        Ok(name)
    }

    fn command(&mut self) -> Parsed<Statement> {
        let line = self.line();
        let (words, block) = self.words()?;
        match words.is_empty() {
            true => Err("a command is missing".to_owned()),
            false => Ok(Statement::Command { words, block, line }),
        }
    }

    /// Words up to the command's end, and the block that ends it.
    fn words(&mut self) -> Parsed<(Vec<Word>, Option<Rc<Script>>)> {
        let mut words = Vec::new();
        loop {
            match self.sign() {
                Some(Sign::Word(word)) => words.push(word.clone()),
                Some(Sign::Open) => return Ok((words, Some(Rc::new(self.block()?)))),
                Some(Sign::Other(sign)) => return Err(format!("«{sign}» has no meaning")),
                None | Some(Sign::Line | Sign::Semicolon | Sign::Close) => {
                    return Ok((words, None));
                }
            }
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(text: &str) -> Vec<Statement> {
        let (script, mistakes) = parse(text);
        assert_eq!(mistakes, []);
        script.statements
    }

    #[test]
    fn statements_nest() {
        let text = "if [ a ]; then b; elif c\nthen\nfor i in 1 2; do d; done\nelse { e }; fi\nfunction f {\n g\n}\n";
        let statements = statements(text);
        assert_eq!(statements.len(), 2);
        let Statement::If { arms, otherwise } = &statements[0] else {
            panic!("{statements:?}");
        };
        assert_eq!(arms.len(), 2);
        assert!(matches!(arms[1].1.statements[0], Statement::For { .. }));
        let otherwise = otherwise.as_ref().expect("there is an else");
        assert!(matches!(otherwise.statements[0], Statement::Group(_)));
        assert!(matches!(statements[1], Statement::Function { .. }));
    }

    #[test]
    fn a_menu_entry_has_a_block() {
        let statements =
            statements("menuentry 'A' --id x {\n linux /a\n}\nmenuentry B { linux /b }");
        assert_eq!(statements.len(), 2);
        for statement in statements {
            let Statement::Command { block, .. } = statement else {
                panic!("{statement:?}");
            };
            assert_eq!(block.map(|block| block.statements.len()), Some(1));
        }
    }

    #[test]
    fn a_mistake_costs_its_line() {
        let (script, mistakes) = parse("a\n}\nfi\nb > c\nd\n");
        assert_eq!(script.statements.len(), 2);
        let lines: Vec<u32> = mistakes.iter().map(|mistake| mistake.line).collect();
        assert_eq!(lines, [2, 3, 4]);
    }

    #[test]
    fn depth_is_bounded() {
        let (_, mistakes) = parse(&"{ ".repeat(100_000));
        assert!(!mistakes.is_empty());
        let (_, mistakes) = parse(&"if ".repeat(100_000));
        assert!(!mistakes.is_empty());
    }
}
