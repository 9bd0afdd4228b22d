//! Reading a domain's file, whoever wrote it.

use crate::problem::{Problem, Problems};
use anyhow::{Context, Result, bail, ensure};
use roxmltree::{Document, ParsingOptions};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The largest file that is read, in bytes: hundreds of times a large domain.
const LIMIT: u64 = 1 << 20;
/// The most elements, texts and comments in a file.
const NODES: u32 = 100_000;

/// The text of a file that is not too large.
///
/// # Errors
/// It is no file, cannot be read, is larger than 1 MiB, or not UTF-8.
pub fn read(path: &Path) -> Result<String> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
    // A pipe or a terminal, such as /dev/stdin, is as good; a directory is not.
    ensure!(!file.metadata()?.is_dir(), "{name} is a directory");
    let mut bytes = Vec::new();
    let read = file.take(LIMIT + 1).read_to_end(&mut bytes);
    read.with_context(|| format!("cannot read {name}"))?;
    if bytes.len() as u64 > LIMIT {
        bail!(
            "{name} is larger than {} KiB: that is no domain",
            LIMIT >> 10
        );
    }
    String::from_utf8(bytes).with_context(|| format!("{name} is not UTF-8"))
}

/// Takes a file's text apart.
///
/// # Errors
/// It is no XML, has a document type (so there are no entities to expand), or too many elements.
pub fn parse<'a>(text: &'a str, path: &Path) -> Result<Document<'a>> {
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: NODES,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(text, options).map_err(|error| {
        let position = error.pos();
        let message = match error {
            roxmltree::Error::DtdDetected => {
                "a document type is not taken: <!DOCTYPE …>".to_owned()
            }
            roxmltree::Error::NodesLimitReached => "has too many elements".to_owned(),
            // It ends with the position, which stands in front already.
            other => {
                let text = other.to_string();
                let end = format!(" at {position}");
                text.strip_suffix(&end).unwrap_or(&text).to_owned()
            }
        };
        let problem = Problem {
            line: position.row,
            column: position.col,
            element: String::new(),
            message,
        };
        Problems {
            file: path.to_owned(),
            list: vec![problem],
        }
        .into()
    })
}
