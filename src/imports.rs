//! Which room may import from which: the table in docs/architecture.md, held against the source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The rows of the table, in its order: a room, and those that it may import from; `None` for all below.
fn rooms(text: &str) -> Vec<(String, Option<BTreeSet<String>>)> {
    let rows = text
        .lines()
        .skip_while(|line| !line.starts_with("| room |"));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let names = |cell: &str| {
            cell.split('`')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect()
        };
        let all = cells[3] == "everything below";
        (
            cells[1].trim_matches('`').to_owned(),
            (!all).then(|| names(cells[3])),
        )
    })
    .collect()
}

/// The rooms that are in `source`, and their files.
fn files(source: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    fn walk(place: &Path, found: &mut Vec<PathBuf>) {
        if place.is_dir() {
            for entry in std::fs::read_dir(place).unwrap() {
                walk(&entry.unwrap().path(), found);
            }
        } else if place.extension().is_some_and(|ending| ending == "rs") {
            found.push(place.to_owned());
        }
    }
    let mut rooms: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for entry in std::fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if !["lib", "imports"].contains(&name.as_str()) {
            walk(&path, rooms.entry(name).or_default());
        }
    }
    rooms
}

/// The rooms that a file's `text` names: after `crate::`, after the library's name in main.rs, and after as many `super::` as
/// lead to the root from a file that is `depth` modules below it.
fn imported(text: &str, depth: usize) -> BTreeSet<String> {
    let code: Vec<&str> = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(""))
        .collect();
    let code = code.join("\n");
    let mut found = BTreeSet::new();
    let to_root = "super::".repeat(depth);
    for start in ["crate::", "firstlight::", &to_root] {
        for (at, _) in code.match_indices(start) {
            let rest = code[at + start.len()..].trim_start_matches("super::");
            let before = code[..at].chars().next_back();
            if before.is_some_and(|letter| letter.is_alphanumeric() || "_$".contains(letter)) {
                continue;
            }
            match rest.strip_prefix('{') {
                Some(group) => found.extend(names_of(group)),
                None => found.extend(word(rest)),
            }
        }
    }
    found
}

/// The first name of each part of a group, which begins behind its brace.
fn names_of(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0;
    let mut part = 0;
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                names.extend(word(&group[part..at]));
                part = at + 1;
                if letter == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

fn word(text: &str) -> Option<String> {
    let text = text.trim_start();
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let word = &text[..end.unwrap_or(text.len())];
    (!word.is_empty()).then(|| word.to_owned())
}

#[test]
fn go_one_way_between_the_rooms() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let allowed = rooms(&text);
    let order = |name: &str| allowed.iter().position(|(room, _)| room == name);
    for (index, (room, imports)) in allowed.iter().enumerate() {
        for import in imports.iter().flatten() {
            let below = order(import).is_some_and(|place| place > index);
            assert!(
                below,
                "the table lets {room} import {import}, which is not below it"
            );
        }
    }
    let rooms = files(&root.join("src"));
    for (room, _) in &allowed {
        assert!(
            rooms.contains_key(room),
            "docs/architecture.md has a row for {room}, which is no room"
        );
    }
    let mut wrong = Vec::new();
    for (room, files) in rooms {
        let Some(index) = order(&room) else {
            panic!("docs/architecture.md has no row for {room}");
        };
        for file in files {
            let place = file.strip_prefix(root.join("src")).unwrap();
            let is_root = file.file_name().is_some_and(|name| name == "mod.rs");
            let depth = place.components().count() - usize::from(is_root);
            let text = std::fs::read_to_string(&file).unwrap();
            for import in imported(&text, depth) {
                let is_room = order(&import).is_some_and(|place| place != index);
                let may = allowed[index]
                    .1
                    .as_ref()
                    .is_none_or(|may| may.contains(&import));
                if is_room && !may {
                    wrong.push(format!("{} imports {import}", place.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "against docs/architecture.md: {wrong:#?}");
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::arch::{Frame, x}; // crate::boot\n\
        use crate::{bios::{self, int13}, devices};\n\
        let a = super::super::platform::start(); super::rom(); mycrate::no();";
    let found: Vec<String> = imported(text, 2).into_iter().collect();
    assert_eq!(found, ["arch", "bios", "devices", "platform"]);
}
