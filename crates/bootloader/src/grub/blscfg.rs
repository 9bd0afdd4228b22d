//! `blscfg`: entries of the Boot Loader Specification as menu entries, as Fedora's GRUB makes them.

use super::machine::Machine;
use crate::bls;
use crate::menu::{Action, Entry};
use crate::volumes::Location;
use std::rc::Rc;

impl Machine<'_> {
    /// `blscfg [DIRECTORY]`. The directory is `blsdir`, or `/loader/entries` or `/boot/loader/entries` in `root`.
    pub(super) fn blscfg(&mut self, words: &[String]) -> bool {
        let named = words
            .iter()
            .find(|word| !word.starts_with('-'))
            .cloned()
            .or_else(|| self.env.value("blsdir").map(str::to_owned));
        let candidates = match named {
            Some(named) => vec![named],
            None => vec![
                "/loader/entries".to_owned(),
                "/boot/loader/entries".to_owned(),
            ],
        };
        for candidate in candidates {
            if !self.burn(2000) {
                return false;
            }
            let Ok(directory) = self.locate(&candidate) else {
                continue;
            };
            let entries = bls::entries(self.volumes, &directory, &mut self.notes);
            if entries.is_empty() {
                continue;
            }
            let prefix = match candidate
                .strip_prefix('(')
                .and_then(|rest| rest.split_once(')'))
            {
                Some((device, _)) => format!("({device})"),
                None => String::new(),
            };
            for entry in entries {
                if !self.specified(&entry, &directory, &prefix) {
                    return false;
                }
            }
            return true;
        }
        self.notes.say("blscfg: there are no entries");
        false
    }

    /// Adds one entry: its values may have variables, and are a script's words.
    fn specified(&mut self, entry: &bls::Specified, directory: &Location, prefix: &str) -> bool {
        let Some(kernel) = entry.linux.as_deref().or(entry.efi.as_deref()) else {
            let name = &entry.id;
            self.notes
                .say(format!("{}/{name}: names no kernel", directory.path));
            return true;
        };
        let options = match entry.options.is_empty() {
            true => "$default_kernelopts".to_owned(),
            false => entry.options.join(" "),
        };
        let mut text = format!("linux {prefix}{kernel} {options}\n");
        if !entry.initrd.is_empty() {
            let initrds: Vec<String> = entry
                .initrd
                .iter()
                .map(|initrd| match initrd.starts_with('/') {
                    true => format!("{prefix}{initrd}"),
                    false => initrd.clone(),
                })
                .collect();
            text.push_str(&format!("initrd {}\n", initrds.join(" ")));
        }
        let body = Rc::new(self.parse(&text, &entry.id));
        self.add(Entry {
            title: entry.title(),
            id: Some(entry.id.clone()),
            action: Action::Script {
                body,
                arguments: vec![entry.title()],
                submenu: false,
            },
        })
    }
}
