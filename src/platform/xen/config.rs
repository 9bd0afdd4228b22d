//! What the toolstack and the user wrote into xenstore for the loader (public header hvm/hvm_xs_strings.h,
//! docs/misc/xenstore-paths.pandoc), as typed values. Nonsense in a key gives one warning and the key's default.

use super::start_info::checked_range;
use crate::arch::Hardware;
use crate::arch::hypercalls::Hypercalls;
use crate::devices::xen::store::{Store, StoreError};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use firstlight_tables::smbios::{Strings, setting};

/// The directories that hold keys for us, each read whole (without its subdirectories).
const DIRECTORIES: [&str; 7] = [
    "hvmloader",
    "hvmloader/acpi",
    "hvmloader/pci",
    "hvmloader/smbios",
    "platform",
    "platform/firstlight",
    "bios-strings",
];
/// More keys than this in one directory are not for us.
const MAX_KEYS: usize = 256;

/// Keys and values as they are in xenstore, by path.
pub type Keys = BTreeMap<String, Vec<u8>>;

/// Reads all keys that can matter.
///
/// # Errors
/// Only where xenstore does not answer at all; a missing directory is an empty one.
pub fn collect<H: Hardware, X: Hypercalls>(store: &mut Store<H, X>) -> Result<Keys, StoreError> {
    let mut keys = Keys::new();
    for directory in DIRECTORIES {
        // A subdirectory was listed with its parent: where that has no such name, there is nothing to ask for.
        let parent = directory.split_once('/');
        if parent.is_some() && !keys.contains_key(directory) {
            continue;
        }
        let names = match store.directory(directory) {
            Ok(names) => names,
            Err(StoreError::Missing) => continue,
            Err(StoreError::Refused(why)) => {
                log::warn!("Xen: xenstore: {directory}: {why}");
                continue;
            }
            Err(error) => return Err(error),
        };
        if names.len() > MAX_KEYS {
            log::warn!(
                "Xen: xenstore: {directory} has {} keys; only {MAX_KEYS} are read",
                names.len()
            );
        }
        for name in names.into_iter().take(MAX_KEYS) {
            let path = alloc::format!("{directory}/{name}");
            match store.read(&path) {
                Ok(value) => drop(keys.insert(path, value)),
                Err(StoreError::Missing | StoreError::Refused(_) | StoreError::TooLong) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(keys)
}

/// The firmware that `bios=` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Firmware {
    /// A PC BIOS of today; also where nothing is asked for.
    #[default]
    SeaBios,
    /// A PC BIOS of old.
    RomBios,
    /// UEFI.
    Ovmf,
    /// Something that nobody knows.
    Unknown(String),
}

/// The configuration. Sizes and addresses are in bytes.
#[derive(Clone, Debug)]
pub struct Config {
    /// hvmloader/bios.
    pub firmware: Firmware,
    /// platform/acpi: whether there are ACPI tables.
    pub acpi: bool,
    /// platform/acpi_s3: whether the ACPI tables offer suspend to RAM.
    pub s3: bool,
    /// platform/acpi_s4: whether the ACPI tables offer suspend to disk.
    pub s4: bool,
    /// platform/acpi_laptop_slate: whether the ACPI tables have the laptop/slate switch.
    pub laptop_slate: bool,
    /// platform/generation-id, where it is not all zeros.
    pub generation_id: Option<[u8; 16]>,
    /// platform/mmio_hole_size: the hole below 4 GiB that is wanted; 0 where nobody asks.
    pub mmio_hole_size: u64,
    /// platform/device-model is `qemu_xen_traditional`, whose ACPI ports are elsewhere.
    pub traditional_device_model: bool,
    /// platform/tpm_version: 1 or 2; 0 for none. libxl does not write it.
    pub tpm_version: Option<u8>,
    /// hvmloader/allow-memory-relocate: whether RAM may move for a larger hole.
    pub allow_memory_relocate: bool,
    /// hvmloader/pci/xen-platform-pci-bar-uc: whether the memory of Xen's platform device is not to be cached.
    pub platform_bar_uncached: bool,
    /// hvmloader/acpi: further ACPI tables, one behind the other.
    pub acpi_blob: Option<Range<u64>>,
    /// hvmloader/smbios: further SMBIOS structures, each after its 32-bit length.
    pub smbios_blob: Option<Range<u64>>,
    /// hvmloader/smbios/default_battery: whether SMBIOS has a portable battery.
    pub default_battery: bool,
    /// bios-strings, with oem-1 to oem-99 in order, our settings among them.
    pub strings: Strings,
    /// The user's settings: platform/firstlight/NAME, then OEM strings `firstlight.NAME=VALUE`. The first of a name counts.
    pub settings: Vec<(String, String)>,
}

impl Default for Config {
    fn default() -> Self {
        Self::from_keys(&Keys::new())
    }
}

impl Config {
    /// Makes sense of the keys.
    pub fn from_keys(keys: &Keys) -> Self {
        let strings = strings(keys);
        let mut settings: Vec<_> = below(keys, "platform/firstlight/")
            .map(|(name, value)| (name.into(), text(value)))
            .collect();
        let oem = strings.oem.iter().filter_map(|string| setting(string));
        settings.extend(oem.map(|(name, value)| (name.into(), text(value))));
        let tpm = keys.get("platform/tpm_version");
        let tpm = tpm.map(|_| number(keys, "platform/tpm_version", 0));
        Self {
            firmware: firmware(keys),
            acpi: flag(keys, "platform/acpi", true),
            s3: flag(keys, "platform/acpi_s3", true),
            s4: flag(keys, "platform/acpi_s4", true),
            laptop_slate: flag(keys, "platform/acpi_laptop_slate", false),
            generation_id: generation_id(keys),
            mmio_hole_size: number(keys, "platform/mmio_hole_size", 0),
            traditional_device_model: keys
                .get("platform/device-model")
                .is_some_and(|model| text(model) == "qemu_xen_traditional"),
            tpm_version: tpm.map(|version| if version <= 2 { version as u8 } else { 0 }),
            allow_memory_relocate: flag(keys, "hvmloader/allow-memory-relocate", true),
            platform_bar_uncached: flag(keys, "hvmloader/pci/xen-platform-pci-bar-uc", true),
            acpi_blob: blob(keys, "hvmloader/acpi"),
            smbios_blob: blob(keys, "hvmloader/smbios"),
            default_battery: flag(keys, "hvmloader/smbios/default_battery", false),
            strings,
            settings,
        }
    }

    /// The value of the user's setting `name`.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

fn below<'a>(keys: &'a Keys, directory: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    keys.iter().filter_map(move |(path, value)| {
        let name = path.strip_prefix(directory)?;
        (!name.contains('/')).then_some((name, value.as_slice()))
    })
}

/// Printable ASCII up to the first NUL; other bytes become question marks.
fn text(value: &[u8]) -> String {
    value
        .iter()
        .take_while(|byte| **byte != 0)
        .map(|byte| match byte {
            0x20..=0x7e => *byte as char,
            _ => '?',
        })
        .collect()
}

fn firmware(keys: &Keys) -> Firmware {
    let Some(name) = keys.get("hvmloader/bios").map(|value| text(value)) else {
        return Firmware::default();
    };
    match name.to_ascii_lowercase().as_str() {
        "seabios" => Firmware::SeaBios,
        "rombios" => Firmware::RomBios,
        "ovmf" => Firmware::Ovmf,
        _ => Firmware::Unknown(name),
    }
}

/// A number in decimal, or hexadecimal after `0x`.
fn number(keys: &Keys, path: &str, default: u64) -> u64 {
    let Some(value) = keys.get(path) else {
        return default;
    };
    let value = text(value);
    parse_number(&value).unwrap_or_else(|| {
        log::warn!("Xen: {path}: not a number: \"{value}\"; {default} taken");
        default
    })
}

fn parse_number(value: &str) -> Option<u64> {
    let value = value.trim();
    match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    }
}

fn flag(keys: &Keys, path: &str, default: bool) -> bool {
    number(keys, path, default.into()) != 0
}

fn blob(keys: &Keys, directory: &str) -> Option<Range<u64>> {
    let field = |name| {
        let path = alloc::format!("{directory}/{name}");
        number(keys, &path, 0)
    };
    let (address, length) = (field("address"), field("length"));
    if (address, length) == (0, 0) {
        return None;
    }
    let range = checked_range(address, length);
    if range.is_none() {
        log::warn!("Xen: {directory}: {length} bytes at {address:#x} are not in memory; ignored");
    }
    range
}

fn generation_id(keys: &Keys) -> Option<[u8; 16]> {
    let value = text(keys.get("platform/generation-id")?);
    if value.is_empty() {
        return None;
    }
    let halves = value
        .split_once(':')
        .and_then(|(low, high)| Some((parse_number(low)?, parse_number(high)?)));
    let Some((low, high)) = halves else {
        log::warn!("Xen: platform/generation-id: not two numbers: \"{value}\"; ignored");
        return None;
    };
    let id = u128::from(high) << 64 | u128::from(low);
    (id != 0).then(|| id.to_le_bytes())
}

fn strings(keys: &Keys) -> Strings {
    let mut strings = Strings::default();
    for (name, value) in below(keys, "bios-strings/") {
        if !name.starts_with("oem-") && !strings.set(name, value) {
            log::info!("Xen: bios-strings/{name} is not known; ignored");
        }
    }
    for number in 1..=99 {
        if let Some(value) = keys.get(&alloc::format!("bios-strings/oem-{number}")) {
            strings.add_oem(value);
        }
    }
    strings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::arch::fake_xen::{FakeXen, PORT, RING};
    use proptest::prelude::*;

    fn keys(list: &[(&str, &str)]) -> Keys {
        list.iter()
            .map(|(path, value)| ((*path).into(), value.as_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn collects_from_the_store() {
        let hw = Fake::default();
        let xen = FakeXen::new(&hw);
        for (path, value) in [
            ("hvmloader/bios", "ovmf"),
            ("hvmloader/acpi/address", "0x123000"),
            ("hvmloader/acpi/length", "100"),
            ("platform/firstlight/menu", "yes"),
            ("unrelated/key", "1"),
        ] {
            xen.set(path, value);
        }
        // The daemon gives every directory an empty value.
        xen.set("hvmloader/acpi", "");
        xen.set("platform/firstlight", "");
        let mut store = Store::new(&hw, &xen, RING, PORT);
        let config = Config::from_keys(&collect(&mut store).unwrap());
        assert_eq!(config.firmware, Firmware::Ovmf);
        assert_eq!(config.acpi_blob, Some(0x12_3000..0x12_3064));
        assert_eq!(config.setting("menu"), Some("yes"));
        assert!(config.acpi && config.allow_memory_relocate && !config.laptop_slate);
    }

    #[test]
    fn settings_come_from_xenstore_before_oem_strings() {
        let config = Config::from_keys(&keys(&[
            ("platform/firstlight/menu", "no"),
            ("bios-strings/oem-10", "last"),
            ("bios-strings/oem-2", "firstlight.menu=yes"),
            ("bios-strings/oem-3", "firstlight.order=cd=1"),
            ("bios-strings/oem-1", "first"),
            ("bios-strings/bios-vendor", "ACME"),
        ]));
        assert_eq!(config.strings.oem.len(), 4);
        assert_eq!(config.strings.oem[3], b"last");
        assert_eq!(config.setting("menu"), Some("no"));
        assert_eq!(config.setting("order"), Some("cd=1"));
        assert_eq!(config.strings.get("bios-vendor"), Some(&b"ACME"[..]));
    }

    #[test]
    fn generation_id_is_two_words_low_first() {
        let id =
            |value| Config::from_keys(&keys(&[("platform/generation-id", value)])).generation_id;
        let mut expected = [0; 16];
        (expected[0], expected[8]) = (1, 2);
        assert_eq!(id("1:2"), Some(expected));
        for nothing in ["0:0", "", "1", "a:b", ":"] {
            assert_eq!(id(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn nonsense_gives_the_default() {
        let config = Config::from_keys(&keys(&[
            ("hvmloader/bios", "bio\u{1}s"),
            ("platform/acpi", "perhaps"),
            ("platform/mmio_hole_size", "-1"),
            ("hvmloader/smbios/address", "18446744073709551615"),
            ("hvmloader/smbios/length", "2"),
            ("platform/tpm_version", "7"),
        ]));
        let expected = Config {
            tpm_version: Some(0),
            firmware: Firmware::Unknown("bio?s".into()),
            ..Config::default()
        };
        assert_eq!(format!("{config:?}"), format!("{expected:?}"));
    }

    proptest! {
        #[test]
        fn never_panics(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..24), 12)) {
            let paths = [
                "hvmloader/bios", "hvmloader/acpi/address", "hvmloader/acpi/length", "platform/acpi",
                "platform/generation-id", "platform/mmio_hole_size", "platform/tpm_version", "bios-strings/oem-1",
                "bios-strings/oem-99", "bios-strings/x", "platform/firstlight/x", "hvmloader/smbios/default_battery",
            ];
            let keys = paths.iter().map(|path| String::from(*path)).zip(values).collect();
            let _ = Config::from_keys(&keys);
        }
    }
}
