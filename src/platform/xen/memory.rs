//! The guest's memory map, from what the toolstack and the hypervisor say.

use super::hvm_info::HvmInfo;
use crate::arch::hypercalls::MapEntry;
use crate::low_memory;
use crate::units::{FOUR_GIB, MIB};
use firstlight_tables::e820::{E820Map, Full, Kind};

/// The stock loader keeps everything from here to 4 GiB for itself, the toolstack's pages and the interrupt controllers;
/// PCI memory ends here.
pub const RESERVED_START: u64 = 0xfc00_0000;

/// The map: RAM as `info` has it, what `toolstack` keeps from the guest (device memory of passed-through devices), and the
/// range that Xen and the chipset use below 4 GiB.
///
/// # Errors
/// [`Full`] where the toolstack's map has too many ranges; it is then to be left out.
pub fn e820(info: &HvmInfo, toolstack: &[MapEntry]) -> Result<E820Map, Full> {
    let mut map = E820Map::new();
    map.insert(0..low_memory::EBDA.start, Kind::Ram)?;
    low_memory::keep(&mut map)?;
    map.insert(MIB..info.low_ram_end, Kind::Ram)?;
    map.insert(FOUR_GIB..info.high_ram_end, Kind::Ram)?;
    for entry in toolstack {
        let kind = Kind::from_number(entry.kind);
        let Some(end) = entry.start.checked_add(entry.size) else {
            log::warn!(
                "Xen: memory map entry at {:#x} has no end; ignored",
                entry.start
            );
            continue;
        };
        if kind != Kind::Ram {
            map.insert(entry.start.max(MIB)..end, kind)?;
        }
    }
    map.insert(RESERVED_START..FOUR_GIB, Kind::Reserved)?;
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn info(low_ram_end: u64, high_ram_end: u64) -> HvmInfo {
        HvmInfo {
            apic: true,
            vcpus: 1,
            online: 1,
            low_ram_end,
            high_ram_end,
            reserved_start: 0xfeff_8000,
        }
    }

    #[test]
    fn device_memory_of_passed_through_devices_is_reserved() {
        let rdm = MapEntry {
            start: 0xab00_0000,
            size: 0x1000,
            kind: 2,
        };
        let ram = MapEntry {
            start: 0,
            size: 1 << 40,
            kind: 1,
        };
        let map = e820(&info(0xf000_0000, 0x1_1000_0000), &[ram, rdm]).unwrap();
        assert_eq!(map.kind_at(0xab00_0fff), Some(Kind::Reserved));
        assert_eq!(map.kind_at(0xab00_1000), Some(Kind::Ram));
        assert_eq!(map.kind_at(0x9_fbff), Some(Kind::Ram));
        assert_eq!(map.kind_at(0x9_fc00), Some(Kind::Reserved));
        assert_eq!(map.kind_at(0xa_0000), None);
        assert_eq!(map.kind_at(0xf000_0000), None);
        assert_eq!(map.kind_at(0xfee0_0000), Some(Kind::Reserved));
        assert_eq!(map.kind_at(0x1_0fff_ffff), Some(Kind::Ram));
        assert_eq!(map.kind_at(0x1_1000_0000), None);
    }

    proptest! {
        #[test]
        fn never_panics(entries in prop::collection::vec((any::<u64>(), any::<u64>(), 0u32..9), 0..200)) {
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(start, size, kind)| MapEntry { start, size, kind })
                .collect();
            let _ = e820(&info(0x1000_0000, FOUR_GIB), &entries);
        }
    }
}
