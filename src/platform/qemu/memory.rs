//! The guest's memory map under QEMU.

use crate::units::{FOUR_GIB, MIB};
use alloc::vec::Vec;
use core::ops::Range;

use super::fw_cfg::FwCfg;
use crate::arch::{Clock, PhysMem, Ports};
use crate::devices::chipset::{Chipset, MMCONFIG, ROOT_COMPLEX};
use crate::devices::rtc;
use crate::low_memory;
use firstlight_tables::e820::{CAPACITY, E820Map, Full, Kind};

/// From here on SeaBIOS reserves what QEMU maps of a ROM, and so guests know it. A longer one's beginning is no RAM either, and is not
/// given to devices.
const ROM_START: u64 = 0xfffc_0000;

/// A range of QEMU's own table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    start: u64,
    end: u64,
    kind: Kind,
}

/// What is known of memory.
#[derive(Debug)]
pub struct Memory {
    /// RAM below 4 GiB ends here.
    pub low_ram_end: u64,
    /// Bytes of RAM above 4 GiB.
    pub high_ram: u64,
    /// First address above 4 GiB that has neither RAM nor is kept for memory hot-plug.
    pub high_end: u64,
    /// The map.
    pub map: E820Map,
}

/// Finds out by fw_cfg, or without it by CMOS.
pub fn discover(
    hw: &(impl Ports + PhysMem + Clock),
    fw_cfg: Option<&FwCfg>,
    chipset: Chipset,
    resident: &Range<u64>,
) -> Memory {
    let told = fw_cfg
        .and_then(|fw_cfg| fw_cfg.read_file(hw, b"etc/e820", 20 * CAPACITY as u32))
        .map(|bytes| parse(&bytes))
        .filter(|told| told.iter().any(|entry| entry.kind == Kind::Ram))
        .unwrap_or_else(|| from_cmos(hw));
    let reserved_end = fw_cfg
        .and_then(|fw_cfg| fw_cfg.number_file(hw, b"etc/reserved-memory-end"))
        .unwrap_or(0);
    assemble(&told, reserved_end, chipset, resident)
}

/// Entries of the file: start and size of 64 bits, type of 32 (QEMU's hw/i386/e820_memory_layout.h). Nonsense is skipped.
fn parse(bytes: &[u8]) -> Vec<Told> {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
    bytes
        .chunks_exact(20)
        .filter_map(|entry| {
            let start = number(&entry[..8]);
            let end = start.checked_add(number(&entry[8..16]))?;
            let kind = Kind::from_number(number(&entry[16..]) as u32);
            Some(Told { start, end, kind })
        })
        .collect()
}

/// RAM by QEMU's CMOS bytes: 30h/31h KiB above 1 MiB, 34h/35h 64 KiB above 16 MiB, 5Bh to 5Dh 64 KiB above 4 GiB.
fn from_cmos(hw: &impl Ports) -> Vec<Told> {
    let byte = |index: u8| {
        // Non-maskable interrupts stay off, as they are after reset.
        hw.out8(rtc::INDEX, index | rtc::NMI_OFF);
        u64::from(hw.in8(rtc::DATA))
    };
    let word = |index: u8| byte(index) | byte(index + 1) << 8;
    let low_end = match word(rtc::ABOVE_16_MIB) {
        0 => MIB + (word(rtc::ABOVE_1_MIB) << 10),
        units => 16 * MIB + (units << 16),
    };
    let high = (word(rtc::ABOVE_4_GIB) | byte(rtc::ABOVE_4_GIB + 2) << 16) << 16;
    let ram = |start, end| Told {
        start,
        end,
        kind: Kind::Ram,
    };
    alloc::vec![ram(0, low_end), ram(FOUR_GIB, FOUR_GIB + high)]
}

/// Entries of the map that are for [`protect`] and for tables: what they keep from the guest has to be in it.
const KEPT_ENTRIES: usize = 32;

fn assemble(told: &[Told], reserved_end: u64, chipset: Chipset, resident: &Range<u64>) -> Memory {
    let mut memory = Memory {
        low_ram_end: 0,
        high_ram: 0,
        high_end: reserved_end.max(FOUR_GIB),
        map: E820Map::new(),
    };
    for ram in told.iter().filter(|entry| entry.kind == Kind::Ram) {
        if ram.start < FOUR_GIB {
            memory.low_ram_end = memory.low_ram_end.max(ram.end.min(FOUR_GIB));
        } else {
            memory.high_ram = memory.high_ram.saturating_add(ram.end - ram.start);
            memory.high_end = memory.high_end.max(ram.end);
        }
    }
    let left_out = take(&mut memory.map, told);
    if left_out > 0 {
        log::warn!("QEMU's memory map has too many ranges; {left_out} are left out");
    }
    if protect(&mut memory.map, chipset, resident) == Err(Full) {
        log::error!("the memory map has no room for what the firmware keeps");
    }
    memory
}

/// Takes over what QEMU says, RAM first, as long as there is room for what comes after it. Gives how many ranges there was none for.
fn take(map: &mut E820Map, told: &[Told]) -> usize {
    let order = [true, false];
    let in_order = order.iter().flat_map(|ram| {
        let is_ram = move |entry: &&Told| (entry.kind == Kind::Ram) == *ram;
        told.iter().filter(is_ram)
    });
    let mut left_out = 0;
    for entry in in_order {
        let room = map.entries().len() + 2 <= CAPACITY - KEPT_ENTRIES;
        if !room || map.insert(entry.start..entry.end, entry.kind).is_err() {
            left_out += 1;
        }
    }
    left_out
}

/// What a PC keeps, and then our own.
fn protect(map: &mut E820Map, chipset: Chipset, resident: &Range<u64>) -> Result<(), Full> {
    low_memory::keep(map)?;
    if chipset == Chipset::Q35 {
        if map.ram_in(MMCONFIG) == 0 {
            map.insert(MMCONFIG, Kind::Reserved)?;
        }
        map.insert(ROOT_COMPLEX, Kind::Reserved)?;
    }
    map.insert(ROM_START..FOUR_GIB, Kind::Reserved)?;
    map.insert(resident.clone(), Kind::Reserved)
}

#[cfg(test)]
mod tests {
    use super::super::fw_cfg::fake::FakeFwCfg;
    use super::*;
    use proptest::prelude::*;

    const RESIDENT: Range<u64> = 0xff0_0000..0x1000_0000;

    fn file(entries: &[(u64, u64, u32)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (start, size, kind) in entries {
            bytes.extend(start.to_le_bytes());
            bytes.extend(size.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
        }
        bytes
    }

    fn list(map: &E820Map) -> Vec<(u64, u64, u32)> {
        map.entries()
            .iter()
            .map(|e| (e.start, e.end, e.kind as u32))
            .collect()
    }

    #[test]
    fn takes_qemus_table() {
        let table = file(&[
            (0, 256 << 20, 1),
            (FOUR_GIB, 4 << 30, 1),
            (0xfeff_c000, 0x4000, 2),
        ]);
        let fake = FakeFwCfg::new(&[("etc/e820", &table)]);
        let fw_cfg = FwCfg::open(&fake).unwrap();
        let memory = discover(&fake, Some(&fw_cfg), Chipset::Q35, &RESIDENT);
        assert_eq!(memory.low_ram_end, 256 << 20);
        assert_eq!(memory.high_ram, 4 << 30);
        assert_eq!(memory.high_end, 8 << 30);
        assert_eq!(
            list(&memory.map),
            [
                (0, 0x9fc00, 1),
                (0x9fc00, 0xa0000, 2),
                (0xf0000, 0x10_0000, 2),
                (0x10_0000, 0xff0_0000, 1),
                (0xff0_0000, 0x1000_0000, 2),
                (0xb000_0000, 0xc000_0000, 2),
                (0xfed1_c000, 0xfed2_0000, 2),
                (0xfeff_c000, 0xff00_0000, 2),
                (0xfffc_0000, FOUR_GIB, 2),
                (FOUR_GIB, 8 << 30, 1),
            ]
        );
    }

    #[test]
    fn falls_back_to_cmos() {
        let mut fake = FakeFwCfg::new(&[]);
        fake.cmos = [(0x34, 0x00), (0x35, 0x0f), (0x5c, 0x40)].into();
        let memory = discover(&fake, None, Chipset::I440fx, &RESIDENT);
        assert_eq!(memory.low_ram_end, 256 << 20);
        assert_eq!(memory.high_ram, 1 << 30);
        fake.cmos = [(0x31, 0x3c)].into();
        let memory = discover(&fake, None, Chipset::I440fx, &RESIDENT);
        assert_eq!(memory.low_ram_end, 16 << 20);
    }

    #[test]
    fn a_full_map_still_protects_the_firmware() {
        let ranges = (0..200u64).map(|index| Told {
            start: FOUR_GIB + index * 0x2000,
            end: FOUR_GIB + index * 0x2000 + 0x1000,
            kind: Kind::Ram,
        });
        let low = Told {
            start: 0,
            end: 256 << 20,
            kind: Kind::Ram,
        };
        let told: Vec<_> = core::iter::once(low).chain(ranges).collect();
        let mut memory = assemble(&told, 0, Chipset::Q35, &RESIDENT);
        for kept in [RESIDENT.start, low_memory::EBDA.start, ROM_START] {
            assert_eq!(memory.map.kind_at(kept), Some(Kind::Reserved), "{kept:#x}");
        }
        let table = memory
            .map
            .take_ram_top(FOUR_GIB, 0x1000, 0x1000, Kind::Acpi);
        assert!(table.is_some());
    }

    proptest! {
        #[test]
        fn survives_any_table(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            let memory = assemble(&parse(&bytes), 0, Chipset::Q35, &RESIDENT);
            prop_assert!(memory.low_ram_end <= FOUR_GIB);
        }
    }
}
