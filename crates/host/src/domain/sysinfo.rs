//! `<sysinfo>`: what the SMBIOS tables say, and files for the firmware's configuration device.

use super::{Reader, kept, lost};
use crate::node::{Node, Record};
use anyhow::{Context, Result};
use firstlight_vm::{FwCfg, FwCfgValue, Sysinfo, Values};
use std::path::Path;

/// The values that libvirt and QEMU know, by block (libvirt's formatdomain, "SMBIOS System Information").
const BLOCKS: [(&str, &[&str]); 4] = [
    ("bios", &["vendor", "version", "date", "release"]),
    (
        "system",
        &[
            "manufacturer",
            "product",
            "version",
            "serial",
            "uuid",
            "sku",
            "family",
        ],
    ),
    (
        "baseBoard",
        &[
            "manufacturer",
            "product",
            "version",
            "serial",
            "asset",
            "location",
        ],
    ),
    (
        "chassis",
        &["manufacturer", "version", "serial", "asset", "sku"],
    ),
];

/// The first `<sysinfo type='smbios'>` of any XML, which need not be a domain.
///
/// # Errors
/// The text is no XML, there is no such element, or something in it is not known.
pub fn sysinfo_of(text: &str, file: &Path) -> Result<Sysinfo> {
    let document = crate::source::parse(text, file)?;
    let record = Record::default();
    let node = Node::find(&document, "sysinfo", &record);
    let node = node.context("there is no <sysinfo> element")?;
    let mut reader = Reader::new(file, file.to_owned());
    reader.sysinfo(node);
    reader.log.leftovers(node);
    if !reader.log.errors.is_empty() {
        let problems = crate::problem::Problems {
            file: file.to_owned(),
            list: reader.log.errors,
        };
        return Err(problems.into());
    }
    Ok(reader.domain.sysinfo)
}

impl Reader {
    pub(super) fn sysinfo(&mut self, node: Node) {
        let kinds = [("smbios", true), ("fwcfg", false)];
        match self.log.required(node, "type", &kinds) {
            Some(true) => self.smbios_blocks(node),
            Some(false) => self.files(node),
            None => {}
        }
    }

    fn smbios_blocks(&mut self, node: Node) {
        for child in self.log.children(node, &["baseBoard"]) {
            let name = child.name();
            if name == "oemStrings" {
                self.oem_strings(child);
                continue;
            }
            let Some((_, known)) = BLOCKS.iter().find(|(block, _)| *block == name) else {
                continue;
            };
            let values = self.values(child, known);
            let sysinfo = &mut self.domain.sysinfo;
            match name {
                "bios" => sysinfo.bios = values,
                "system" => sysinfo.system = values,
                "baseBoard" => sysinfo.base_boards.push(values),
                _ => sysinfo.chassis = values,
            }
        }
    }

    /// The elements `<entry>` in a block.
    fn entries<'a>(&mut self, node: Node<'a>) -> Vec<Node<'a>> {
        let mut children = self.log.children(node, &["entry"]);
        children.retain(|child| child.is("entry"));
        children
    }

    fn values(&mut self, node: Node, known: &[&str]) -> Values {
        let mut values = Values::new();
        for child in self.entries(node) {
            let Some(name) = self.log.attribute(child, "name") else {
                continue;
            };
            if !known.contains(&name) {
                let known = known.join(", ");
                self.log
                    .error(child, format!("name='{name}' is not one of {known}"));
                continue;
            }
            if values.iter().any(|(other, _)| other == name) {
                self.log
                    .error(child, format!("name='{name}' stands here twice"));
            }
            let value = child.text();
            if let Some(message) = wrong(name, &value) {
                self.log.error(child, format!("'{value}' {message}"));
            }
            values.push((name.to_owned(), value));
        }
        values
    }

    fn oem_strings(&mut self, node: Node) {
        for child in self.entries(node) {
            self.domain.sysinfo.oem_strings.push(child.text());
        }
    }

    fn files(&mut self, node: Node) {
        for child in self.entries(node) {
            let Some(name) = self.log.attribute(child, "name") else {
                continue;
            };
            if !name.starts_with("opt/") {
                self.log.error(
                    child,
                    format!("name='{name}' does not start with opt/, as the user's own files do"),
                );
                continue;
            }
            let text = child.text();
            let value = match child.attribute("file") {
                Some(_) if !text.is_empty() => {
                    self.log.error(child, "has both a text and a file");
                    continue;
                }
                Some(file) => {
                    let base = self.base.clone();
                    let Some(path) = self.log.path(child, "the file", file, &base) else {
                        continue;
                    };
                    FwCfgValue::File(path)
                }
                None => FwCfgValue::Text(text),
            };
            let setting =
                name.starts_with("opt/firstlight/") && matches!(value, FwCfgValue::Text(_));
            let fates = [
                kept("-fw_cfg"),
                kept("-fw_cfg"),
                if setting {
                    kept("a setting of the same name")
                } else {
                    lost("Xen's machines have no such device")
                },
                lost("is dropped"),
            ];
            self.fate(child, name, fates);
            self.domain.guest.fw_cfg.push(FwCfg {
                name: name.to_owned(),
                value,
            });
        }
    }
}

/// What is wrong with a value.
fn wrong(name: &str, value: &str) -> Option<&'static str> {
    match name {
        "release" if firstlight_tables::smbios::release(value.as_bytes()).is_none() => {
            Some("is no MAJOR.MINOR of two numbers below 256")
        }
        "date" if !is_date(value) => Some("is no date MM/DD/YYYY"),
        _ if value.contains('\n') => Some("has a line end"),
        _ => None,
    }
}

fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    matches!(parts[..], [month, day, year]
        if (1..=12).contains(&number(month)) && (1..=31).contains(&number(day)) && matches!(year.len(), 2 | 4) && year.bytes().all(|b| b.is_ascii_digit()))
}
