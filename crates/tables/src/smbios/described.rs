//! The structures whose texts a user can give, types 0 to 3 and 11: one layout each, for the firmware and for tools.
//!
//! Field names and numbers are those of DSP0134 3.7, section 7. An empty text is shown as not given.

use alloc::vec::Vec;

use super::structure::{Builder, OEM_STRINGS};

/// Handle of the chassis.
const CHASSIS: u16 = 0x300;
/// Handle of the OEM strings.
pub(super) const OEM_STRINGS_HANDLE: u16 = 0xb00;
/// State "safe", as chassis report it.
const SAFE: u8 = 3;
/// "Other" in most enumerations.
const OTHER: u8 = 1;

/// Where type 1 has the UUID.
pub const UUID_OFFSET: usize = 8;

/// Type 0, the BIOS.
#[derive(Clone, Copy, Debug)]
pub struct Bios<'a> {
    /// Who made it.
    pub vendor: &'a [u8],
    /// Its version.
    pub version: &'a [u8],
    /// `MM/DD/YYYY`.
    pub release_date: &'a [u8],
    /// Major and minor number of the release, where it has them; both below 255.
    pub release: Option<(u8, u8)>,
}

impl Bios<'_> {
    /// The structure.
    pub fn structure(&self) -> Vec<u8> {
        // Characteristics: fields supported: PCI, boot from CD, selectable boot, EDD; and in the extension bytes ACPI,
        // targeted content distribution, virtual machine.
        const CHARACTERISTICS: u64 = 1 << 7 | 1 << 15 | 1 << 16 | 1 << 19;
        const EXTENSION: [u8; 2] = [1 << 0, 1 << 2 | 1 << 4];
        let (major, minor) = self.release.unwrap_or((0xff, 0xff));
        Builder::new(0, 0)
            .string(self.vendor)
            .string(self.version)
            .word(0xf000)
            .string(self.release_date)
            .byte(0)
            .qword(CHARACTERISTICS)
            .raw(&EXTENSION)
            .raw(&[major, minor, 0xff, 0xff])
            .finish()
    }
}

/// The leading `MAJOR.MINOR` of a version, where both fit a byte and are not the 0xff that says there is none.
pub fn release(version: &[u8]) -> Option<(u8, u8)> {
    let text = core::str::from_utf8(version).ok()?;
    let mut numbers = text.split(|letter: char| !letter.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok().filter(|number| *number < 0xff);
    Some((next()?, next()?))
}

/// Type 1, the system.
#[derive(Clone, Copy, Debug)]
pub struct System<'a> {
    /// Who made it.
    pub manufacturer: &'a [u8],
    /// What it is called.
    pub product: &'a [u8],
    /// Its version.
    pub version: &'a [u8],
    /// Its serial number.
    pub serial: &'a [u8],
    /// Its UUID in the order it is written; zeros where it has none.
    pub uuid: [u8; 16],
    /// Its number in a catalogue.
    pub sku: &'a [u8],
    /// The family it belongs to.
    pub family: &'a [u8],
}

impl System<'_> {
    /// The structure.
    pub fn structure(&self) -> Vec<u8> {
        const WAKE_UP_POWER_SWITCH: u8 = 6;
        Builder::new(1, 0x100)
            .string(self.manufacturer)
            .string(self.product)
            .string(self.version)
            .string(self.serial)
            .raw(&uuid_field(&self.uuid))
            .byte(WAKE_UP_POWER_SWITCH)
            .string(self.sku)
            .string(self.family)
            .finish()
    }
}

/// A UUID as a structure stores it since version 2.6: the first three fields in little endian.
pub fn uuid_field(uuid: &[u8; 16]) -> [u8; 16] {
    let mut field = *uuid;
    field[..4].reverse();
    field[4..6].reverse();
    field[6..8].reverse();
    field
}

/// Type 2, the board.
#[derive(Clone, Copy, Debug)]
pub struct Baseboard<'a> {
    /// Who made it.
    pub manufacturer: &'a [u8],
    /// What it is called.
    pub product: &'a [u8],
    /// Its version.
    pub version: &'a [u8],
    /// Its serial number.
    pub serial: &'a [u8],
    /// Its owner's number for it.
    pub asset: &'a [u8],
    /// Where in the chassis it is.
    pub location: &'a [u8],
}

impl Baseboard<'_> {
    /// The structure.
    pub fn structure(&self) -> Vec<u8> {
        const HOSTING_BOARD: u8 = 1;
        const MOTHERBOARD: u8 = 10;
        Builder::new(2, 0x200)
            .string(self.manufacturer)
            .string(self.product)
            .string(self.version)
            .string(self.serial)
            .string(self.asset)
            .byte(HOSTING_BOARD)
            .string(self.location)
            .word(CHASSIS)
            .byte(MOTHERBOARD)
            .byte(0)
            .finish()
    }
}

/// Type 3, the chassis.
#[derive(Clone, Copy, Debug)]
pub struct Chassis<'a> {
    /// Who made it.
    pub manufacturer: &'a [u8],
    /// Its version.
    pub version: &'a [u8],
    /// Its serial number.
    pub serial: &'a [u8],
    /// Its owner's number for it.
    pub asset: &'a [u8],
    /// Its number in a catalogue.
    pub sku: &'a [u8],
}

impl Chassis<'_> {
    /// The structure.
    pub fn structure(&self) -> Vec<u8> {
        const SECURITY_NONE: u8 = 3;
        Builder::new(3, CHASSIS)
            .string(self.manufacturer)
            .byte(OTHER)
            .string(self.version)
            .string(self.serial)
            .string(self.asset)
            .raw(&[SAFE, SAFE, SAFE, SECURITY_NONE])
            .dword(0)
            .raw(&[0, 0, 0, 0])
            .string(self.sku)
            .finish()
    }
}

/// Type 11 with those of `texts` that are not empty; `None` where all are.
pub fn oem_strings<'a>(texts: impl Iterator<Item = &'a [u8]> + Clone) -> Option<Vec<u8>> {
    oem_strings_as(OEM_STRINGS_HANDLE, texts)
}

/// [`oem_strings`] with another handle.
pub(super) fn oem_strings_as<'a>(
    handle: u16,
    texts: impl Iterator<Item = &'a [u8]> + Clone,
) -> Option<Vec<u8>> {
    let fill = |count| {
        let mut builder = Builder::new(OEM_STRINGS, handle).byte(count);
        texts.clone().for_each(|text| {
            builder.add_string(text);
        });
        builder
    };
    let count = fill(0).string_count();
    (count > 0).then(|| fill(count).finish())
}
