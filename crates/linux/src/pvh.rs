//! `hvm_start_info`, which Xen's domain builder gives a loader and a loader gives a PVH kernel (Xen public header
//! arch-x86/hvm/start_info.h).

use alloc::vec::Vec;
use firstlight_tables::e820::E820Map;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// [`StartInfo::magic`]: "xEn3" with bit 7 of the "E" set.
pub const MAGIC: u32 = 0x336e_c578;

/// The structure. Addresses are physical, and zero where there is nothing.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct StartInfo {
    /// [`MAGIC`].
    pub magic: u32,
    /// 1 with a memory map, which 0 ends before.
    pub version: u32,
    /// None that concern a loader.
    pub flags: u32,
    /// Elements of the list of [`Module`]s.
    pub module_count: u32,
    /// The list.
    pub modules: u64,
    /// The command line, which a zero ends.
    pub cmdline: u64,
    /// ACPI's root pointer.
    pub rsdp: u64,
    /// The memory map: the list of its entries.
    pub map: u64,
    /// Its elements.
    pub map_count: u32,
    /// Zero.
    pub reserved: u32,
}

/// A file in memory.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Module {
    /// Address of its first byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// A text of its own, which a zero ends.
    pub cmdline: u64,
    /// Zero.
    pub reserved: u64,
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct MapEntry {
    start: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// Bytes of what [`start_info`] makes with `map`.
pub fn start_info_size(map: &E820Map) -> usize {
    size_of::<StartInfo>() + size_of::<Module>() + map.entries().len() * size_of::<MapEntry>()
}

/// The structure for a kernel, to lie at `address`, and its lists behind it. `initrd` has the address and size of the only
/// module, if there is one; `cmdline` and `rsdp` are addresses.
pub fn start_info(
    address: u64,
    cmdline: u64,
    rsdp: u64,
    initrd: Option<(u64, u64)>,
    map: &E820Map,
) -> Vec<u8> {
    let modules = address + size_of::<StartInfo>() as u64;
    let (start, size) = initrd.unwrap_or_default();
    let module = Module {
        start,
        size,
        ..Module::default()
    };
    let info = StartInfo {
        magic: MAGIC,
        version: 1,
        module_count: initrd.is_some().into(),
        modules,
        cmdline,
        rsdp,
        map: modules + size_of::<Module>() as u64,
        map_count: map.entries().len() as u32,
        ..StartInfo::default()
    };
    let mut bytes = [info.as_bytes(), module.as_bytes()].concat();
    for entry in map.entries() {
        let entry = MapEntry {
            start: entry.start,
            size: entry.size(),
            kind: entry.kind as u32,
            reserved: 0,
        };
        bytes.extend_from_slice(entry.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_tables::e820::Kind;

    #[test]
    fn lists_lie_where_it_says() {
        let mut map = E820Map::new();
        map.insert(0x10_0000..0x20_0000, Kind::Ram).unwrap();
        let bytes = start_info(0x1000, 0x2000, 0xe0000, Some((0x8000, 0x30)), &map);
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(bytes[..4], MAGIC.to_le_bytes());
        assert_eq!([number(24), number(32)], [0x2000, 0xe0000]);
        let modules = number(16) as usize - 0x1000;
        assert_eq!([number(modules), number(modules + 8)], [0x8000, 0x30]);
        let entries = number(40) as usize - 0x1000;
        assert_eq!([number(entries), number(entries + 8)], [0x10_0000; 2]);
        assert_eq!(number(entries + 16), 1);
        assert_eq!(bytes.len(), entries + 24);
        assert_eq!(bytes.len(), start_info_size(&map));
    }
}
