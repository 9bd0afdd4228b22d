//! What each crate and module takes of the ROM and of the guest's memory, and how much they all may take.
//!
//! Code counts for the source file that it comes from, wherever it was inlined: the program's line numbers say so. What is inlined
//! from Rust's libraries counts for who calls it. Variables and named constants count by their symbols.

use addr2line::Context as Lines;
use addr2line::gimli::{self, Dwarf, EndianSlice, RunTimeEndian};
use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection, ObjectSymbol, SectionKind};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// The rows of what no crate owns, by section.
const OTHERS: [(&str, &str); 11] = [
    (".text", "assembly and alignment"),
    (".fseg", "assembly of the F segment"),
    (".rodata", "constants without a name"),
    (".data.rel.ro", "constants without a name"),
    (".data", "variables without a name"),
    (".bss", "variables without a name"),
    (".relr.dyn", "relocations"),
    (".got", "relocations"),
    (".dynamic", "relocations"),
    (".noinit", "page tables, stack and heap"),
    ("", "alignment of sections"),
];

/// Rust's libraries, whose generic functions are compiled again for each caller.
const LIBRARIES: [&str; 3] = ["core", "core_arch", "alloc"];

/// What the firmware may take, as budgets.toml says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// KiB of the ROM.
    rom: u64,
    /// KiB that the guest cannot use.
    resident: u64,
    /// Crates and modules of which the ROM has nothing.
    not_in_rom: Vec<String>,
}

impl Budgets {
    /// Reads the file.
    ///
    /// # Errors
    /// It is not there, or says something else.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file);
        let text = text.with_context(|| format!("cannot read {}", file.display()))?;
        toml::from_str(&text).with_context(|| file.display().to_string())
    }

    /// Compares the `rom` of so many bytes, which has `sizes` in it, and `resident` bytes of memory with what is allowed.
    ///
    /// # Errors
    /// One is more, or the ROM has what it is not to have.
    pub fn check(&self, rom: u64, sizes: &Sizes, resident: u64) -> Result<()> {
        for (what, bytes, kib) in [
            ("the ROM", rom, self.rom),
            ("the resident firmware", resident, self.resident),
        ] {
            ensure!(
                bytes <= kib << 10,
                "{what} takes {bytes} bytes, and budgets.toml allows {kib} KiB"
            );
        }
        for owner in &self.not_in_rom {
            let inside = format!("{owner}::");
            let found = |(name, bytes): (&String, &u64)| {
                *bytes > 0 && (name == owner || name.starts_with(&inside))
            };
            ensure!(
                !sizes.owners.iter().any(found),
                "the ROM has code of {owner}, which budgets.toml keeps out of it"
            );
        }
        Ok(())
    }
}

/// Bytes of a program by owner: a crate with the folders of its modules, or what no crate owns.
#[derive(Debug, Default)]
pub struct Sizes {
    owners: BTreeMap<String, u64>,
    others: BTreeMap<&'static str, u64>,
}

impl Sizes {
    /// Measures all of the ELF file `data` that lies in memory, or only what is loaded there.
    ///
    /// # Errors
    /// It is none, or has no line numbers.
    pub fn read(data: &[u8], loaded_only: bool) -> Result<Self> {
        let file = object::File::parse(data)?;
        let mut sizes = Self::default();
        let mut by_section: BTreeMap<String, u64> = BTreeMap::new();
        let mut end = 0;
        for section in file.sections() {
            let loaded = !matches!(section.kind(), SectionKind::UninitializedData);
            let name = section.name()?;
            if OTHERS.iter().any(|(own, _)| *own == name) && (loaded || !loaded_only) {
                by_section.insert(name.to_owned(), section.size());
                end = end.max(section.address() + section.size());
            }
        }
        let mut add = |section: &str, owner: String, bytes: u64| {
            if let Some(rest) = by_section.get_mut(section) {
                let bytes = bytes.min(*rest);
                *rest -= bytes;
                *sizes.owners.entry(owner).or_default() += bytes;
            }
        };
        let mut folders = BTreeSet::new();
        code(&file, |owner, bytes| {
            folders.insert(owner.clone());
            add(".text", owner, bytes);
        })?;
        let mut seen = BTreeSet::new();
        for symbol in file.symbols() {
            let section = symbol
                .section_index()
                .map(|index| file.section_by_index(index));
            let (Some(section), true) = (section.transpose()?, symbol.size() > 0) else {
                continue;
            };
            if section.kind() == SectionKind::Text || !seen.insert(symbol.address()) {
                continue;
            }
            if let Some(owner) = owner_of_symbol(symbol.name()?, &folders) {
                add(section.name()?, owner, symbol.size());
            }
        }
        let whole: u64 = sizes.owners.values().sum::<u64>() + by_section.values().sum::<u64>();
        by_section.insert(String::new(), end.saturating_sub(whole));
        for (section, other) in OTHERS {
            let bytes = by_section.get(section).copied().unwrap_or(0);
            *sizes.others.entry(other).or_default() += bytes;
        }
        Ok(sizes)
    }

    fn total(&self) -> u64 {
        self.owners.values().chain(self.others.values()).sum()
    }
}

/// What each owner has of the program's code.
fn code(file: &object::File, mut add: impl FnMut(String, u64)) -> Result<()> {
    let section = |id: gimli::SectionId| {
        let section = file.section_by_name(id.name());
        let data = section.and_then(|section| section.data().ok());
        Ok::<_, gimli::Error>(EndianSlice::new(
            data.unwrap_or_default(),
            RunTimeEndian::Little,
        ))
    };
    let lines = Lines::from_dwarf(Dwarf::load(section)?)?;
    let text = file.section_by_name(".text").context("no .text section")?;
    let end = text.address() + text.size();
    let mut found = false;
    for (address, size, _) in lines.find_location_range(text.address(), end)? {
        let mut owner = None;
        // The innermost function that is not the library's.
        let mut frames = lines.find_frames(address).skip_all_loads()?;
        while let Some(frame) = frames.next()? {
            if let Some(path) = frame.location.and_then(|location| location.file) {
                let own = owner_of_file(path);
                let is_library = LIBRARIES.contains(&own.as_str());
                owner = match owner {
                    Some(library) if is_library => Some(library),
                    _ => Some(own),
                };
                if !is_library {
                    break;
                }
            }
        }
        found |= owner.is_some();
        if let Some(owner) = owner {
            add(owner, size);
        }
    }
    ensure!(found, "the program has no line numbers");
    Ok(())
}

/// The crate of a source file, and the folder that the file is in.
fn owner_of_file(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let Some(source) = parts.iter().rposition(|part| *part == "src") else {
        return path.to_owned();
    };
    let folders = &parts[source + 1..parts.len() - 1];
    let name = match parts[..source] {
        [.., "stdarch", "crates", name] => return name.to_owned(),
        [.., "crates", name] => format!("firstlight-{name}"),
        // A package of a registry: its version is no part of the name.
        [.., "registry", _, _, name] | [.., "registry", _, name] => name
            .rsplit_once('-')
            .map_or(name, |(name, _)| name)
            .to_owned(),
        [.., "library", name] => return name.to_owned(),
        _ => "firstlight".to_owned(),
    };
    let is_ours = name.starts_with("firstlight");
    let modules = folders.iter().filter(|_| is_ours);
    modules.fold(name, |owner, folder| format!("{owner}::{folder}"))
}

/// The owner of a symbol that Rust gave its name: the last of `folders` that its path leads through, or its crate.
fn owner_of_symbol(name: &str, folders: &BTreeSet<String>) -> Option<String> {
    let name = format!("{:#}", rustc_demangle::try_demangle(name).ok()?);
    let start = name.find(|letter: char| letter.is_alphabetic() || letter == '_')?;
    let (package, modules) = name[start..].split_once("::")?;
    let mut owner = match package {
        // The program, of which the crate is the library.
        "firmware" => "firstlight".to_owned(),
        _ => package.replace('_', "-"),
    };
    if !owner.starts_with("firstlight") {
        return Some(package.to_owned());
    }
    for module in modules.split("::") {
        let inner = format!("{owner}::{module}");
        if !folders.contains(&inner) {
            break;
        }
        owner = inner;
    }
    Some(owner)
}

/// Both programs side by side: what each owner has in the ROM, and in the memory of a guest of Xen, where it is more than under QEMU.
pub fn table(rom: &Sizes, resident: &Sizes, budgets: &Budgets) -> String {
    let mut text = format!("{:40} {:>10} {:>10}\n", "bytes", "ROM", "resident");
    let mut row = |name: &str, rom: u64, resident: u64| {
        let _ = writeln!(text, "{name:40} {rom:>10} {resident:>10}");
    };
    let owners: BTreeSet<&String> = rom.owners.keys().chain(resident.owners.keys()).collect();
    let of = |sizes: &Sizes, owner: &str| sizes.owners.get(owner).copied().unwrap_or(0);
    for owner in owners {
        row(owner, of(rom, owner), of(resident, owner));
    }
    for (other, bytes) in &resident.others {
        row(other, rom.others.get(other).copied().unwrap_or(0), *bytes);
    }
    row("all", rom.total(), resident.total());
    row("allowed", budgets.rom << 10, budgets.resident << 10);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_file_has_an_owner() {
        for (path, owner) in [
            (
                "firstlight/src/bios/int13/edd.rs",
                "firstlight::bios::int13",
            ),
            ("src/main.rs", "firstlight"),
            (
                "firstlight/crates/tables/src/smbios/mod.rs",
                "firstlight-tables::smbios",
            ),
            ("crates/acpi/src/aml.rs", "firstlight-acpi"),
            (
                "cargo/registry/src/index.x-1/acpi_tables-0.2.1/src/aml/x.rs",
                "acpi_tables",
            ),
            ("/rustc/59807/library/core/src/fmt/mod.rs", "core"),
        ] {
            assert_eq!(owner_of_file(path), owner);
        }
    }

    #[test]
    fn a_symbol_has_an_owner() {
        let folders = ["firstlight::platform", "firstlight::platform::xen"];
        let folders = folders.map(str::to_owned).into();
        for (name, owner) in [
            (
                "_ZN10firstlight6logger1X17h0123456789abcdefE",
                Some("firstlight"),
            ),
            (
                "_ZN10firstlight8platform3xen1X17h0123456789abcdefE",
                Some("firstlight::platform::xen"),
            ),
            (
                "_ZN15firstlight_acpi1X17h0123456789abcdefE",
                Some("firstlight-acpi"),
            ),
            (
                "_RNvNtCsgEmfK2I1SDS_4core6option13unwrap_failed",
                Some("core"),
            ),
            ("page_tables", None),
        ] {
            assert_eq!(owner_of_symbol(name, &folders).as_deref(), owner);
        }
    }

    #[test]
    fn what_is_too_large_or_not_to_be_there_is_refused() {
        let budgets = Budgets {
            rom: 64,
            resident: 128,
            not_in_rom: vec!["x::y".to_owned()],
        };
        let sizes = |owner: &str| Sizes {
            owners: BTreeMap::from([(owner.to_owned(), 1)]),
            ..Sizes::default()
        };
        let check = |rom, owner, resident| budgets.check(rom, &sizes(owner), resident);
        assert!(check(64 << 10, "x::yz", 128 << 10).is_ok());
        assert!(check(64 << 10, "x::y::z", 128 << 10).is_err());
        assert!(check((64 << 10) + 1, "x", 0).is_err());
        assert!(check(0, "x", (128 << 10) + 1).is_err());
    }
}
