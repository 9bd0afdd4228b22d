//! The SMBIOS entry points that guests scan the F segment for (DSP0134, section 5.2).

use crate::place::checksum;

/// Bytes of the 32-bit entry point.
pub const ENTRY_32_SIZE: usize = 31;
/// Bytes of the 64-bit entry point.
pub const ENTRY_64_SIZE: usize = 24;

/// A version of the SMBIOS specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Major version.
    pub major: u8,
    /// Minor version.
    pub minor: u8,
}

/// Where a finished table lies and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// Physical address.
    pub addr: u64,
    /// Size in bytes.
    pub size: u32,
    /// Number of structures, the end-of-table structure included.
    pub count: u32,
    /// Bytes of the largest structure, its strings included.
    pub largest: u32,
}

/// The entry point `_SM_`. `None` where the table is too large or too high for its fields.
pub fn entry_32(version: Version, table: &TableInfo) -> Option<[u8; ENTRY_32_SIZE]> {
    let mut entry = [0; ENTRY_32_SIZE];
    entry[..4].copy_from_slice(b"_SM_");
    entry[5] = ENTRY_32_SIZE as u8;
    entry[6] = version.major;
    entry[7] = version.minor;
    entry[8..10].copy_from_slice(&u16::try_from(table.largest).ok()?.to_le_bytes());
    entry[16..21].copy_from_slice(b"_DMI_");
    entry[22..24].copy_from_slice(&u16::try_from(table.size).ok()?.to_le_bytes());
    entry[24..28].copy_from_slice(&u32::try_from(table.addr).ok()?.to_le_bytes());
    entry[28..30].copy_from_slice(&u16::try_from(table.count).ok()?.to_le_bytes());
    entry[30] = version.major << 4 | version.minor & 15;
    entry[21] = checksum(&entry[16..]);
    entry[4] = checksum(&entry);
    Some(entry)
}

/// The entry point `_SM3_`.
pub fn entry_64(version: Version, table: &TableInfo) -> [u8; ENTRY_64_SIZE] {
    let mut entry = [0; ENTRY_64_SIZE];
    entry[..5].copy_from_slice(b"_SM3_");
    entry[6] = ENTRY_64_SIZE as u8;
    entry[7] = version.major;
    entry[8] = version.minor;
    entry[10] = 1;
    entry[12..16].copy_from_slice(&table.size.to_le_bytes());
    entry[16..].copy_from_slice(&table.addr.to_le_bytes());
    entry[5] = checksum(&entry);
    entry
}
