//! The texts a user gives for SMBIOS fields, by the names Xen gives them, and the settings hidden among OEM strings.

use alloc::vec::Vec;

use super::structure::{OEM_STRINGS, Structure};

/// Names below `bios-strings/` in xenstore (Xen's public header hvm/hvm_xs_strings.h), and after the row of those that
/// Xen has, ours for the fields it leaves out. `oem-1` to `oem-99` come on top.
pub const NAMES: [&str; 23] = [
    "bios-vendor",
    "bios-version",
    "system-manufacturer",
    "system-product-name",
    "system-version",
    "system-serial-number",
    "baseboard-manufacturer",
    "baseboard-product-name",
    "baseboard-version",
    "baseboard-serial-number",
    "baseboard-asset-tag",
    "baseboard-location-in-chassis",
    "enclosure-manufacturer",
    "enclosure-serial-number",
    "enclosure-asset-tag",
    "battery-manufacturer",
    "battery-device-name",
    // Not Xen's:
    "bios-release-date",
    "bios-release",
    "system-sku-number",
    "system-family",
    "enclosure-version",
    "enclosure-sku-number",
];

/// Before the name of a setting in an OEM string.
const SETTING_PREFIX: &[u8] = b"firstlight.";
/// Before a name of [`NAMES`] in the name of such a setting.
const FIELD_PREFIX: &str = "smbios.";

/// The name and value of an OEM string `firstlight.NAME=VALUE`.
pub fn setting(text: &[u8]) -> Option<(&str, &[u8])> {
    let rest = text.strip_prefix(SETTING_PREFIX)?;
    let equals = rest.iter().position(|byte| *byte == b'=')?;
    let name = core::str::from_utf8(&rest[..equals]).ok()?;
    Some((name, &rest[equals + 1..]))
}

/// Settings among the OEM strings of `structures`.
pub fn settings<'a>(
    structures: impl Iterator<Item = Structure<'a>>,
) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    structures
        .filter(|structure| structure.kind() == OEM_STRINGS)
        .flat_map(|structure| structure.strings())
        .filter_map(setting)
}

/// Texts for SMBIOS fields, and OEM strings. A text that is not given has a default; an empty one is shown as not given.
#[derive(Clone, Debug, Default)]
pub struct Strings {
    values: Vec<(&'static str, Vec<u8>)>,
    /// OEM strings in order, settings among them.
    pub oem: Vec<Vec<u8>>,
}

impl Strings {
    /// Gives the text for one of [`NAMES`]; `false` where `name` is none.
    pub fn set(&mut self, name: &str, text: &[u8]) -> bool {
        let Some(name) = NAMES.iter().find(|known| **known == name) else {
            return false;
        };
        self.values.retain(|(known, _)| known != name);
        self.values.push((name, text.to_vec()));
        true
    }

    /// Adds an OEM string. One that is the setting `smbios.NAME` also gives the text for NAME, which reaches the fields
    /// that Xen's own names leave out.
    pub fn add_oem(&mut self, text: &[u8]) {
        if let Some((name, value)) = setting(text)
            && let Some(field) = name.strip_prefix(FIELD_PREFIX)
        {
            self.set(field, value);
        }
        self.oem.push(text.to_vec());
    }

    /// The text given for `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let (_, text) = self.values.iter().find(|(known, _)| *known == name)?;
        Some(text)
    }

    /// The text given for `name`, or `default`.
    pub fn or<'a>(&'a self, name: &str, default: &'a [u8]) -> &'a [u8] {
        self.get(name).unwrap_or(default)
    }

    /// Whether any text for a name that starts with `prefix` was given.
    pub fn any(&self, prefix: &str) -> bool {
        self.values.iter().any(|(name, _)| name.starts_with(prefix))
    }
}
