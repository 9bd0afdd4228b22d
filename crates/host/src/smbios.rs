//! SMBIOS structures for a guest: made of a domain's values or the host's own table, and told in words.
//!
//! A blob is a row of a 32-bit length and a structure: what xl.cfg's `smbios_firmware=` takes. QEMU hands the same file to the firmware
//! with `-fw_cfg name=opt/firstlight/smbios,file=FILE`.

use crate::domain::{self, Domain, SmbiosMode};
use anyhow::{Context, Result, ensure};
use firstlight_tables::smbios::{
    self, Baseboard, Bios, Chassis, Structure, System, UUID_OFFSET, blob_structures, pack,
    structures,
};
use firstlight_vm::{Sysinfo, Values};
use std::fmt::Write;
use std::path::Path;

/// The host's own table.
pub const HOST_TABLE: &str = "/sys/firmware/dmi/tables/DMI";

/// Reads the host's own table.
///
/// # Errors
/// There is none, or only root may read it.
pub fn host_table(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| {
        let path = file.display();
        format!("cannot read {path}: it takes root, and a host that has SMBIOS")
    })
}

/// The blob of blocks 0 and 1 of a host's `table`, with no UUID: the guest puts its own there.
///
/// # Errors
/// There is neither block.
pub fn from_host(table: &[u8]) -> Result<Vec<u8>> {
    let blocks = host_blocks(table);
    ensure!(!blocks.is_empty(), "the host's table has no block 0 or 1");
    Ok(pack(&blocks))
}

fn host_blocks(table: &[u8]) -> Vec<Vec<u8>> {
    const UUID: std::ops::Range<usize> = UUID_OFFSET..UUID_OFFSET + 16;
    let wanted = structures(table).filter(|structure| structure.kind() < 2);
    let without_uuid = wanted.map(|structure| {
        let mut bytes = structure.bytes().to_vec();
        if structure.kind() == 1 && structure.formatted().len() >= UUID.end {
            bytes[UUID].fill(0);
        }
        bytes
    });
    without_uuid.collect()
}

/// Where in blocks 0 and 1 the texts are that libvirt copies (DSP0134 3.7, sections 7.1 and 7.2).
const BIOS_TEXTS: [(&str, usize); 3] = [("vendor", 4), ("version", 5), ("date", 8)];
const BIOS_RELEASE: usize = 0x14;
const SYSTEM_TEXTS: [(&str, usize); 6] = [
    ("manufacturer", 4),
    ("product", 5),
    ("version", 6),
    ("serial", 7),
    ("sku", 0x19),
    ("family", 0x1a),
];

/// The values of blocks 0 and 1 of a host's table, but for the UUID: what libvirt's mode 'host' gives QEMU.
pub fn host_values(table: &[u8]) -> Sysinfo {
    let mut sysinfo = Sysinfo::default();
    for structure in structures(table) {
        match structure.kind() {
            0 => {
                sysinfo.bios = values(&structure, &BIOS_TEXTS);
                let release = structure.formatted().get(BIOS_RELEASE..BIOS_RELEASE + 2);
                if let Some(&[major, minor]) = release
                    && major != 0xff
                {
                    let release = format!("{major}.{minor}");
                    sysinfo.bios.push(("release".into(), release));
                }
            }
            1 => sysinfo.system = values(&structure, &SYSTEM_TEXTS),
            _ => {}
        }
    }
    sysinfo
}

fn values(structure: &Structure, names: &[(&str, usize)]) -> Values {
    let value = |&(name, offset): &(&str, usize)| {
        let text = text_at(structure, offset)?;
        Some((name.to_owned(), text))
    };
    names.iter().filter_map(value).collect()
}

/// The string whose number is at an offset of a structure.
fn text_at(structure: &Structure, offset: usize) -> Option<String> {
    let number = usize::from(*structure.formatted().get(offset)?);
    let text = structure.strings().nth(number.checked_sub(1)?)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// The blob of the first `<sysinfo>` of any XML: blocks 0, 1, 2, 3 and 11 (DSP0134 3.7, section 7), as far as the element has them.
///
/// # Errors
/// The text is no XML, or the element is not there or empty, or has something that is not known.
pub fn from_sysinfo(xml: &str) -> Result<Vec<u8>> {
    let sysinfo = domain::sysinfo_of(xml, Path::new("domain.xml"))?;
    let blob = from_values(&sysinfo);
    ensure!(!blob.is_empty(), "<sysinfo> says nothing");
    Ok(blob)
}

/// The blob of what a user wants the tables to say.
pub fn from_values(sysinfo: &Sysinfo) -> Vec<u8> {
    let get = |values: &Values, name: &str| -> Vec<u8> {
        let value = values.iter().find(|(known, _)| known == name);
        value.map_or(Vec::new(), |(_, text)| text.clone().into_bytes())
    };
    let mut blocks = Vec::new();
    if !sysinfo.bios.is_empty() {
        let value = |name| get(&sysinfo.bios, name);
        let bios = Bios {
            vendor: &value("vendor"),
            version: &value("version"),
            release_date: &value("date"),
            release: smbios::release(&value("release")),
        };
        blocks.push(bios.structure());
    }
    if !sysinfo.system.is_empty() {
        let value = |name| get(&sysinfo.system, name);
        let system = System {
            manufacturer: &value("manufacturer"),
            product: &value("product"),
            version: &value("version"),
            serial: &value("serial"),
            // libvirt takes no other UUID than the domain's own, which the firmware knows.
            uuid: [0; 16],
            sku: &value("sku"),
            family: &value("family"),
        };
        blocks.push(system.structure());
    }
    for board in &sysinfo.base_boards {
        let value = |name| get(board, name);
        let board = Baseboard {
            manufacturer: &value("manufacturer"),
            product: &value("product"),
            version: &value("version"),
            serial: &value("serial"),
            asset: &value("asset"),
            location: &value("location"),
        };
        blocks.push(board.structure());
    }
    if !sysinfo.chassis.is_empty() {
        let value = |name| get(&sysinfo.chassis, name);
        let chassis = Chassis {
            manufacturer: &value("manufacturer"),
            version: &value("version"),
            serial: &value("serial"),
            asset: &value("asset"),
            sku: &value("sku"),
        };
        blocks.push(chassis.structure());
    }
    let strings = sysinfo.oem_strings.iter();
    blocks.extend(smbios::oem_strings(strings.map(String::as_bytes)));
    pack(&blocks)
}

/// The blob of a domain for Xen: what its mode of `<smbios>` asks for, and the settings that xl.cfg has no option for, as OEM strings
/// that the firmware keeps to itself. Empty where there is nothing to say.
///
/// # Errors
/// The host's table is asked for and cannot be read.
pub fn of_domain(domain: &Domain, table: &Path) -> Result<Vec<u8>> {
    let mut settings = firstlight_vm::xl::settings(&domain.guest);
    let mut sysinfo = Sysinfo::default();
    let mut blocks = Vec::new();
    match domain.smbios {
        Some(SmbiosMode::Sysinfo) => sysinfo = domain.sysinfo.clone(),
        Some(SmbiosMode::Host) => {
            blocks = from_host(&host_table(table)?)?;
            settings.push(("smbios-mode".into(), "host".into()));
        }
        Some(SmbiosMode::Emulate) => settings.push(("smbios-mode".into(), "emulate".into())),
        None => {}
    }
    let settings = settings.iter();
    let settings = settings.map(|(name, value)| format!("firstlight.{name}={value}"));
    sysinfo.oem_strings.extend(settings);
    blocks.extend(from_values(&sysinfo));
    Ok(blocks)
}

/// A blob, or a table, in words: a line for each structure, with its strings.
///
/// # Errors
/// There is no structure in it.
pub fn describe(bytes: &[u8]) -> Result<String> {
    let mut all: Vec<Structure> = blob_structures(bytes).collect();
    if all.is_empty() {
        all = structures(bytes).collect();
    }
    ensure!(!all.is_empty(), "there is no SMBIOS structure in it");
    let mut text = String::new();
    for structure in &all {
        let kind = structure.kind();
        let (name, fields): (_, &[(&str, usize)]) = match kind {
            0 => ("BIOS", &BIOS_TEXTS),
            1 => ("System", &SYSTEM_TEXTS),
            2 => (
                "Base board",
                &[
                    ("manufacturer", 4),
                    ("product", 5),
                    ("version", 6),
                    ("serial", 7),
                    ("asset", 8),
                    ("location", 0xa),
                ],
            ),
            3 => (
                "Chassis",
                &[
                    ("manufacturer", 4),
                    ("version", 6),
                    ("serial", 7),
                    ("asset", 8),
                    ("sku", 0x15),
                ],
            ),
            11 => ("OEM strings", &[]),
            127 => continue,
            _ => ("Other", &[]),
        };
        let _ = writeln!(
            text,
            "Type {kind}, {name}, {} bytes",
            structure.bytes().len()
        );
        for &(field, offset) in fields {
            if let Some(value) = text_at(structure, offset) {
                let _ = writeln!(text, "  {field}: {}", value.escape_debug());
            }
        }
        if fields.is_empty() {
            for value in structure.strings() {
                let value = String::from_utf8_lossy(value);
                let _ = writeln!(text, "  {}", value.escape_debug());
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_tables::smbios::Builder;

    #[test]
    fn a_domains_values_go_into_their_blocks() {
        let xml = "<domain><sysinfo type='smbios'><bios><entry name='vendor'>V</entry>\
            <entry name='release'>4.2</entry></bios><system><entry name='serial'>S &amp; N</entry>\
            </system><oemStrings><entry>a=1</entry></oemStrings></sysinfo></domain>";
        let blob = from_sysinfo(xml).unwrap();
        let blocks: Vec<_> = blob_structures(&blob).collect();
        let kinds: Vec<u8> = blocks.iter().map(|block| block.kind()).collect();
        assert_eq!(kinds, [0, 1, 11]);
        assert_eq!(blocks[0].formatted()[0x14..0x16], [4, 2]);
        assert_eq!(blocks[1].strings().next(), Some(&b"S & N"[..]));
        assert_eq!(blocks[2].strings().next(), Some(&b"a=1"[..]));
        assert!(from_sysinfo("<domain/>").is_err());
        let words = describe(&blob).unwrap();
        assert!(
            words.contains("vendor: V\n")
                && words.contains("serial: S & N\n")
                && words.contains("  a=1\n"),
            "{words}"
        );
    }

    #[test]
    fn the_hosts_uuid_stays_on_the_host() {
        let mut table = Builder::new(0, 0).string(b"Maker").finish();
        table.extend(
            Builder::new(1, 1)
                .string(b"Acme")
                .raw(&[0; 3])
                .raw(&[9; 16])
                .finish(),
        );
        table.extend(Builder::new(3, 3).byte(0).finish());
        let blob = from_host(&table).unwrap();
        let blocks: Vec<_> = blob_structures(&blob).collect();
        assert_eq!(blocks.len(), 2);
        assert_eq!(blocks[1].formatted()[8..24], [0; 16]);
        assert!(from_host(b"").is_err());
        let values = host_values(&table);
        assert_eq!(values.bios, [("vendor".to_owned(), "Maker".to_owned())]);
        assert_eq!(
            values.system,
            [("manufacturer".to_owned(), "Acme".to_owned())]
        );
    }
}
