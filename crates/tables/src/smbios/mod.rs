//! SMBIOS: what a guest reads about the machine's maker, its board, processors and memory (DSP0134, version 3.7).
//!
//! [`generate`] makes the table from an [`Input`]; [`complete`] takes the table QEMU made. Both hide the settings among
//! the OEM strings, and [`install`] places the result and its entry points.

mod blob;
mod described;
mod entry;
mod strings;
mod structure;
mod types;

use alloc::vec::Vec;

use log::warn;

pub use blob::{pack, structures as blob_structures};
pub use described::{Baseboard, Bios, Chassis, System, UUID_OFFSET, oem_strings, release};
pub use entry::{ENTRY_32_SIZE, ENTRY_64_SIZE, TableInfo, Version, entry_32, entry_64};
pub use strings::{NAMES, Strings, setting, settings};
pub use structure::{Builder, END_OF_TABLE, OEM_STRINGS, Structure, StructureError, structures};

use crate::place::{Placer, Zone};
use crate::sort;
use described::uuid_field;

/// The release date that type 0 shows where the user gives none: SeaBIOS's, since systems take it for the age of the machine
/// (docs/design.md).
pub const RELEASE_DATE: &str = "04/01/2014";

/// Tables up to this many bytes go to the F segment, where programs in real mode can read them.
const MAX_IN_F_SEGMENT: usize = 2048;

/// Where the values come from: libvirt's `<smbios mode=…>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// All values are ours; given strings and the blob are not used.
    Emulate,
    /// Types 0 and 1 come from the blob, but for the UUID.
    Host,
    /// Given strings and the blob are used.
    #[default]
    Sysinfo,
}

impl Mode {
    /// The mode called `name`, as the setting `smbios-mode` gives it.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "emulate" => Some(Self::Emulate),
            "host" => Some(Self::Host),
            "sysinfo" => Some(Self::Sysinfo),
            _ => None,
        }
    }
}

/// A cache, for type 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// 1 to 3.
    pub level: u8,
    /// Size in KiB.
    pub kib: u32,
}

/// The processors, for type 4; all sockets are alike.
#[derive(Clone, Debug, Default)]
pub struct Cpu<'a> {
    /// CPUID leaf 0's vendor.
    pub vendor: &'a [u8],
    /// CPUID leaf 0x80000002's brand, empty where there is none.
    pub brand: &'a [u8],
    /// CPUID leaf 1, EAX.
    pub signature: u32,
    /// CPUID leaf 1, EDX.
    pub features: u32,
    /// Clock in MHz, 0 for unknown.
    pub mhz: u16,
    /// Populated sockets.
    pub sockets: u32,
    /// Cores a socket.
    pub cores: u32,
    /// Threads a core.
    pub threads: u32,
    /// Caches of one processor.
    pub caches: Vec<Cache>,
}

/// An external connector, for type 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// What is printed next to it.
    pub label: &'static str,
    /// DSP0134 table 41, connector type.
    pub connector: u8,
    /// DSP0134 table 42, port type.
    pub kind: u8,
}

/// A PCI slot on bus 0, for type 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Device number, below 32.
    pub device: u8,
    /// Whether a device is in it.
    pub in_use: bool,
}

/// A power supply, for type 39.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supply {
    /// Name.
    pub name: &'static str,
    /// Maker.
    pub manufacturer: &'static str,
    /// Power, where it is known.
    pub watts: Option<u16>,
}

/// What [`generate`] makes a table from.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// Where values come from.
    pub mode: Mode,
    /// Texts given by the user.
    pub strings: Strings,
    /// Ready-made structures: a row of 32-bit length and structure.
    pub blob: &'a [u8],
    /// The guest's UUID in the order it is written.
    pub uuid: [u8; 16],
    /// Default for the maker of the BIOS.
    pub bios_vendor: &'a [u8],
    /// Default for the BIOS and system versions.
    pub bios_version: &'a [u8],
    /// Default for the maker of all else.
    pub manufacturer: &'a [u8],
    /// Default for the product's name.
    pub product: &'a [u8],
    /// The OEM string where the guest is to see no given one; empty for none.
    pub oem: &'a [u8],
    /// Processors.
    pub cpu: Cpu<'a>,
    /// Bytes of RAM below 4 GiB, from 0.
    pub low_ram: u64,
    /// Bytes of RAM from 4 GiB.
    pub high_ram: u64,
    /// Whether to show a battery.
    pub battery: bool,
    /// External connectors.
    pub ports: &'a [Port],
    /// PCI slots.
    pub slots: &'a [Slot],
    /// Power supplies.
    pub supplies: &'a [Supply],
}

impl Default for Input<'_> {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            strings: Strings::default(),
            blob: &[],
            uuid: [0; 16],
            bios_vendor: b"Firstlight",
            bios_version: env!("CARGO_PKG_VERSION").as_bytes(),
            manufacturer: b"Firstlight",
            product: b"Virtual machine",
            oem: b"",
            cpu: Cpu::default(),
            low_ram: 0,
            high_ram: 0,
            battery: false,
            ports: &[],
            slots: &[],
            supplies: &[],
        }
    }
}

/// A structure of a table: taken as it was given, or made here.
#[derive(Clone, Debug)]
enum Item<'a> {
    Given(Structure<'a>),
    Made(Vec<u8>),
}

impl Item<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Given(structure) => structure.bytes(),
            Self::Made(bytes) => bytes,
        }
    }

    fn kind(&self) -> u8 {
        self.bytes()[0]
    }
}

/// A finished table: all structures, the end-of-table structure last.
#[derive(Clone, Debug)]
pub struct Table<'a> {
    items: Vec<Item<'a>>,
}

impl<'a> Table<'a> {
    fn new(mut items: Vec<Item<'a>>) -> Self {
        items.push(Item::Made(Builder::new(END_OF_TABLE, 0x7f00).finish()));
        Self { items }
    }

    /// The structures' bytes, in the order in which they are stored.
    pub fn structures(&self) -> impl Iterator<Item = &[u8]> {
        self.items.iter().map(Item::bytes)
    }

    /// The table's description once it is at `addr`.
    fn info(&self, addr: u64) -> TableInfo {
        let sizes = || self.structures().map(|bytes| bytes.len() as u32);
        TableInfo {
            addr,
            size: sizes().sum(),
            count: self.items.len() as u32,
            largest: sizes().max().unwrap_or(0),
        }
    }
}

/// Makes the whole table.
pub fn generate<'a>(input: &Input<'a>) -> Table<'a> {
    let mut plain;
    let input = if input.mode == Mode::Sysinfo {
        input
    } else {
        plain = input.clone();
        plain.strings = Strings::default();
        &plain
    };
    let mut items = types::generate(input).into_iter().map(Item::Made).collect();
    merge_blob(&mut items, input.mode, input.blob, &input.uuid);
    Table::new(items)
}

/// Takes `given`, the table that QEMU made, and adds what it leaves to the firmware: type 0, and what the blob has.
pub fn complete<'a>(given: &'a [u8], input: &Input<'a>) -> Table<'a> {
    let mut items = Vec::with_capacity(24);
    let mut uuid = None;
    let mut used = 0;
    for structure in structures(given) {
        used += structure.bytes().len();
        uuid = uuid.or_else(|| type_1_uuid(structure));
        if structure.kind() == OEM_STRINGS {
            let visible = types::visible_strings(structure.strings(), structure.handle());
            items.extend(visible.map(Item::Made));
        } else {
            items.push(Item::Given(structure));
        }
    }
    if Structure::parse(&given[used..]).is_err() {
        warn!("SMBIOS: QEMU's table is broken from byte {used:#x} on");
    }
    if !items.iter().any(|item| item.kind() == 0) {
        items.insert(0, Item::Made(types::bios(input)));
    }
    let uuid = uuid.map_or(input.uuid, |field| uuid_field(&field));
    merge_blob(&mut items, input.mode, input.blob, &uuid);
    Table::new(items)
}

fn type_1_uuid(structure: Structure) -> Option<[u8; 16]> {
    if structure.kind() != 1 {
        return None;
    }
    let field = structure.formatted().get(UUID_OFFSET..UUID_OFFSET + 16)?;
    field.try_into().ok()
}

/// Puts the blob's structures into `all`: those of the specification's types in place of ours, the vendors' (128 and up)
/// behind them.
fn merge_blob<'a>(all: &mut Vec<Item<'a>>, mode: Mode, blob: &'a [u8], uuid: &[u8; 16]) {
    let wanted = |structure: &Structure| match mode {
        Mode::Emulate => false,
        Mode::Host => structure.kind() < 2,
        Mode::Sysinfo => true,
    };
    if blob.is_empty() {
        return;
    }
    let given: Vec<Structure> = blob_structures(blob).filter(wanted).collect();
    all.retain(|ours| !given.iter().any(|theirs| theirs.kind() == ours.kind()));
    let mut next_free = 0x8000;
    for structure in given {
        let taken = |handle: u16| {
            all.iter()
                .any(|other| other.bytes()[2..4] == handle.to_le_bytes())
        };
        let mut handle = structure.handle();
        while taken(handle) && next_free < 0xff00 {
            handle = next_free;
            next_free += 1;
        }
        let mut bytes = if structure.kind() == OEM_STRINGS {
            match types::visible_strings(structure.strings(), handle) {
                Some(bytes) => bytes,
                None => continue,
            }
        } else {
            structure.bytes().to_vec()
        };
        bytes[2..4].copy_from_slice(&handle.to_le_bytes());
        let no_uuid = type_1_uuid(structure).is_some_and(|field| field == [0; 16]);
        if structure.kind() == 1 && (no_uuid || mode == Mode::Host) {
            set_uuid(&mut bytes, uuid);
        }
        all.push(Item::Made(bytes));
    }
    sort::by_key(all, Item::kind);
}

/// Writes the UUID where a type 1 structure has room for one.
fn set_uuid(bytes: &mut [u8], uuid: &[u8; 16]) {
    if usize::from(bytes[1]) >= UUID_OFFSET + 16 {
        bytes[UUID_OFFSET..UUID_OFFSET + 16].copy_from_slice(&uuid_field(uuid));
    }
}

/// Which entry points to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entries {
    /// Version in the 32-bit entry point, where there is to be one.
    pub version_32: Option<Version>,
    /// Version in the 64-bit entry point, where there is to be one.
    pub version_64: Option<Version>,
}

impl Entries {
    /// The version whose lengths our own structures have: who reads them compares.
    const OURS: Version = Version { major: 3, minor: 0 };

    /// Both entry points, as our own tables have them. The older one may have any version (DSP0134, section 5.2.1).
    pub const BOTH: Self = Self {
        version_32: Some(Self::OURS),
        version_64: Some(Self::OURS),
    };

    /// The entry point that QEMU's `etc/smbios/smbios-anchor` has; both where it is neither.
    pub fn from_anchor(anchor: &[u8]) -> Self {
        let version = |at: usize| {
            let (major, minor) = (*anchor.get(at)?, *anchor.get(at + 1)?);
            Some(Version { major, minor })
        };
        let (version_32, version_64) = match anchor {
            [b'_', b'S', b'M', b'_', ..] => (version(6), None),
            [b'_', b'S', b'M', b'3', b'_', ..] => (None, version(7)),
            _ => (None, None),
        };
        if version_32.is_none() && version_64.is_none() {
            return Self::BOTH;
        }
        Self {
            version_32,
            version_64,
        }
    }
}

/// Where a table and its entry points are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The table.
    pub table: TableInfo,
    /// Physical address of the 32-bit entry point, where there is one.
    pub entry_32: Option<u64>,
    /// Physical address of the 64-bit entry point, where there is one.
    pub entry_64: Option<u64>,
}

/// No memory left for the table or its entry point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// Places a table and its entry points, each at a multiple of 16 in the F segment. A table that is too large for the
/// 32-bit entry point gets the 64-bit one.
///
/// # Errors
/// [`NoMemory`] where the table found no place, or no entry point did.
pub fn install(
    table: &Table,
    entries: Entries,
    placer: &mut dyn Placer,
) -> Result<Installed, NoMemory> {
    let size = table.info(0).size as usize;
    let low = (size <= MAX_IN_F_SEGMENT)
        .then(|| placer.allocate(Zone::FSegment, size, 16))
        .flatten();
    let block = low
        .or_else(|| placer.allocate(Zone::High, size, 16))
        .ok_or(NoMemory)?;
    let mut at = 0;
    for structure in table.structures() {
        block.bytes[at..at + structure.len()].copy_from_slice(structure);
        at += structure.len();
    }
    let info = table.info(block.addr);
    let first = entries
        .version_32
        .and_then(|version| entry_32(version, &info));
    let version_64 = match (first, entries.version_64) {
        (None, None) => Entries::BOTH.version_64,
        (_, version) => version,
    };
    let second = version_64.map(|version| entry_64(version, &info));
    let first = first.as_ref().map(|entry| entry.as_slice());
    let second = second.as_ref().map(|entry| entry.as_slice());
    let mut publish = |entry: Option<&[u8]>| {
        let entry = entry?;
        let block = placer.allocate(Zone::FSegment, entry.len(), 16)?;
        block.bytes.copy_from_slice(entry);
        Some(block.addr)
    };
    let installed = Installed {
        table: info,
        entry_32: publish(first),
        entry_64: publish(second),
    };
    let published = installed.entry_32.or(installed.entry_64);
    published.map(|_| installed).ok_or(NoMemory)
}

#[cfg(test)]
mod tests;
