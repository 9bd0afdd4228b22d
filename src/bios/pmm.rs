//! The POST memory manager: memory for option ROMs while they initialise themselves.
//!
//! Source: POST Memory Manager Specification 1.01 (Phoenix, 1998). Memory is only lent: what is not asked for as permanent
//! is the guest's as soon as it boots, and the service answers nothing then.

use crate::low_memory::{LENT, LENT_FOR_GOOD};
use crate::units::{FOUR_GIB, MIB};
use alloc::vec::Vec;

use crate::arch::{Frame, PhysMem};
use firstlight_tables::e820::{E820Map, Kind};
use firstlight_tables::place::checksum;

const LENGTH: usize = 16;
const PARAGRAPH: u64 = 16;
/// No memory is lent below this in the high zone.
const HIGH_START: u64 = MIB;
/// How much is lent in the high zone.
const HIGH_SIZE: u64 = 32 * MIB;

const UNSUPPORTED: u32 = u32::MAX;
const ANONYMOUS: u32 = u32::MAX;

const FLAG_LOW: u16 = 1 << 0;
const FLAG_HIGH: u16 = 1 << 1;
const FLAG_ALIGNED: u16 = 1 << 2;
const FLAG_PERMANENT: u16 = 1 << 3;

/// The structure that option ROMs look for on 16-byte boundaries from E0000h up; `entry` is the offset of the entry point
/// in segment F000h.
pub fn header(entry: u16) -> [u8; LENGTH] {
    const VERSION: u8 = 1;
    let mut bytes = [0; LENGTH];
    bytes[..4].copy_from_slice(b"$PMM");
    bytes[4] = VERSION;
    bytes[5] = LENGTH as u8;
    bytes[7..9].copy_from_slice(&entry.to_le_bytes());
    bytes[9..11].copy_from_slice(&0xf000u16.to_le_bytes());
    bytes[6] = checksum(&bytes);
    bytes
}

#[derive(Clone, Copy, Debug)]
struct Lent {
    start: u64,
    end: u64,
    handle: u32,
    /// Reserved in the memory map.
    in_map: bool,
}

/// What is lent to whom.
#[derive(Clone, Debug, Default)]
pub struct Pmm {
    lent: Vec<Lent>,
    /// What there is to lend now.
    pub lends: Lends,
}

/// What there is to lend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lends {
    /// Nothing: no option ROM is being initialised.
    #[default]
    Nothing,
    /// Only what was never the guest's: a guest runs already.
    Kept,
    /// Everything.
    All,
}

impl Pmm {
    /// Opens it for a ROM that may be started after the boot. Returns the state to go back to.
    pub fn open_late(&mut self) -> Lends {
        let before = self.lends;
        if before == Lends::Nothing {
            self.lends = Lends::Kept;
        }
        before
    }

    /// Address of `size` bytes for good, below 1 MiB and never the guest's: for the firmware itself, at any time.
    pub fn keep(&mut self, map: &mut E820Map, size: u64) -> Option<u64> {
        let before = self.open_late();
        let paragraphs = size.div_ceil(PARAGRAPH) as u32;
        let address = self.allocate(map, paragraphs, ANONYMOUS, FLAG_LOW | FLAG_PERMANENT);
        self.lends = before;
        (address != 0).then_some(address.into())
    }

    /// Serves a far call to the entry point. The result is in DX:AX.
    pub fn serve(&mut self, hw: &impl PhysMem, map: &mut E820Map, frame: &mut Frame) {
        let word = |offset| hw.read16(frame.argument(offset));
        let double = |offset| u32::from(word(offset)) | u32::from(word(offset + 2)) << 16;
        let result = match word(0) {
            _ if self.lends == Lends::Nothing => UNSUPPORTED,
            0 => self.allocate(map, double(2), double(6), word(10)),
            1 => self.find(double(2)),
            2 => self.free(map, double(2)),
            _ => UNSUPPORTED,
        };
        frame.set_ax(result as u16);
        frame.set_dx((result >> 16) as u16);
    }

    /// Physical address of the memory, 0 where there is none; for no paragraphs, how many there are in one piece.
    fn allocate(&mut self, map: &mut E820Map, paragraphs: u32, handle: u32, flags: u16) -> u32 {
        let permanent = flags & FLAG_PERMANENT != 0;
        let low = match permanent {
            true => LENT_FOR_GOOD,
            false if map.ram_in(LENT) == LENT.end - LENT.start => LENT,
            false => 0..0,
        };
        let zones = [(FLAG_LOW, low), (FLAG_HIGH, high_zone(map))];
        let kept = self.lends == Lends::Kept;
        let zones = zones
            .into_iter()
            .filter(|(flag, zone)| flags & flag != 0 && (!kept || *zone == LENT_FOR_GOOD));
        if paragraphs == 0 {
            let largest = zones.map(|(_, zone)| self.largest_gap(&zone)).max();
            return (largest.unwrap_or(0) / PARAGRAPH) as u32;
        }
        if handle != ANONYMOUS && self.find(handle) != 0 {
            return 0;
        }
        let size = u64::from(paragraphs) * PARAGRAPH;
        let align = match flags & FLAG_ALIGNED {
            0 => PARAGRAPH,
            _ => size & size.wrapping_neg(),
        };
        let mut zones = zones;
        let Some(start) = zones.find_map(|(_, zone)| self.find_gap(&zone, size, align)) else {
            return 0;
        };
        let in_map = permanent && start >= HIGH_START;
        if in_map && map.insert(start..start + size, Kind::Reserved).is_err() {
            return 0;
        }
        self.lent.push(Lent {
            start,
            end: start + size,
            handle,
            in_map,
        });
        start as u32
    }

    fn find(&self, handle: u32) -> u32 {
        let found = self
            .lent
            .iter()
            .find(|block| block.handle == handle && handle != ANONYMOUS);
        found.map_or(0, |block| block.start as u32)
    }

    /// 0 when the block that starts at `address` was lent, else 1.
    fn free(&mut self, map: &mut E820Map, address: u32) -> u32 {
        let lent = |block: &Lent| block.start == u64::from(address);
        let Some(index) = self.lent.iter().position(lent) else {
            return 1;
        };
        let block = self.lent.swap_remove(index);
        if block.in_map && map.insert(block.start..block.end, Kind::Ram).is_err() {
            log::warn!("PMM: the memory map is full; {address:#x} stays reserved");
        }
        0
    }

    /// The highest free place in `zone`.
    fn find_gap(&self, zone: &core::ops::Range<u64>, size: u64, align: u64) -> Option<u64> {
        let mut end = zone.end;
        loop {
            let start = end.checked_sub(size)? & !(align - 1);
            if start < zone.start {
                return None;
            }
            let mut blocking = self
                .lent
                .iter()
                .filter(|b| b.start < start + size && start < b.end);
            match blocking.next() {
                Some(block) => end = block.start,
                None => return Some(start),
            }
        }
    }

    fn largest_gap(&self, zone: &core::ops::Range<u64>) -> u64 {
        let mut lent: Vec<(u64, u64)> = self
            .lent
            .iter()
            .filter(|block| zone.contains(&block.start))
            .map(|block| (block.start, block.end))
            .collect();
        firstlight_tables::sort::by_key(&mut lent, |range| *range);
        lent.push((zone.end, zone.end));
        let mut from = zone.start;
        let mut largest = 0;
        for (start, end) in lent {
            largest = largest.max(start.saturating_sub(from));
            from = from.max(end);
        }
        largest
    }
}

/// The RAM just below the firmware: the last piece below 4 GiB that has room, without what permanent blocks took from it.
fn high_zone(map: &E820Map) -> core::ops::Range<u64> {
    let ram = map.entries().iter().rev().find(|entry| {
        let usable = entry.kind == Kind::Ram && entry.end <= FOUR_GIB;
        usable && entry.start >= HIGH_START && entry.size() >= 1 << 20
    });
    ram.map_or(0..0, |entry| {
        entry.start.max(entry.end.saturating_sub(HIGH_SIZE))..entry.end
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::arch::linear;
    use firstlight_tables::place::sum;
    use proptest::prelude::*;

    fn map() -> E820Map {
        let mut map = E820Map::new();
        map.insert(0..0x9_fc00, Kind::Ram).unwrap();
        map.insert(0x10_0000..0xff0_0000, Kind::Ram).unwrap();
        map.insert(1 << 32..5 << 30, Kind::Ram).unwrap();
        map
    }

    /// Calls as a ROM does: arguments on the stack, first one lowest.
    fn call(pmm: &mut Pmm, map: &mut E820Map, words: &[u16]) -> u32 {
        let hw = Fake::default();
        let mut frame = Frame {
            ss: 0x9000,
            esp: 0xfff0,
            ..Frame::default()
        };
        for (index, word) in words.iter().enumerate() {
            let offset = 0xfff0u16.wrapping_add(10 + 2 * index as u16);
            hw.write16(linear(0x9000, offset), *word);
        }
        pmm.serve(&hw, map, &mut frame);
        u32::from(frame.dx()) << 16 | u32::from(frame.ax())
    }

    #[test]
    fn the_header_adds_up() {
        let bytes = header(0xd123);
        assert_eq!(sum(&bytes), 0);
        assert_eq!(bytes[7..11], [0x23, 0xd1, 0x00, 0xf0]);
    }

    #[test]
    fn lends_finds_and_takes_back() {
        let (mut pmm, mut map) = (Pmm::default(), map());
        assert_eq!(call(&mut pmm, &mut map, &[1, 5, 0]), UNSUPPORTED);
        pmm.lends = Lends::All;
        // 64 KiB of extended memory with handle 5, aligned to its size.
        let block = call(
            &mut pmm,
            &mut map,
            &[0, 0x1000, 0, 5, 0, FLAG_HIGH | FLAG_ALIGNED],
        );
        assert_eq!(block, 0xfef_0000);
        assert_eq!(
            call(&mut pmm, &mut map, &[0, 0x1000, 0, 5, 0, FLAG_HIGH]),
            0
        );
        assert_eq!(call(&mut pmm, &mut map, &[1, 5, 0]), block);
        assert_eq!(call(&mut pmm, &mut map, &[2, 0, 0xfef]), 0);
        assert_eq!(call(&mut pmm, &mut map, &[2, 0, 0xfef]), 1);
        assert_eq!(call(&mut pmm, &mut map, &[1, 5, 0]), 0);
        assert_eq!(call(&mut pmm, &mut map, &[0, 0, 0, 0, 0, FLAG_LOW]), 0x5000);
        assert_eq!(call(&mut pmm, &mut map, &[7]), UNSUPPORTED);
    }

    #[test]
    fn permanent_memory_is_reserved() {
        let (mut pmm, mut map) = (Pmm::default(), map());
        pmm.lends = Lends::All;
        let flags = FLAG_HIGH | FLAG_PERMANENT;
        let block = call(&mut pmm, &mut map, &[0, 0x100, 0, 9, 0, flags]);
        assert_eq!(map.kind_at(block.into()), Some(Kind::Reserved));
        pmm.lends = Lends::Nothing;
        assert_eq!(map.kind_at(block.into()), Some(Kind::Reserved));
        pmm.lends = Lends::All;
        assert_eq!(call(&mut pmm, &mut map, &[1, 9, 0]), block);
    }

    #[test]
    fn a_late_rom_gets_nothing_of_the_guests() {
        let (mut pmm, mut map) = (Pmm::default(), map());
        assert_eq!(pmm.open_late(), Lends::Nothing);
        let mut ask = |paragraphs, flags| {
            call(
                &mut pmm,
                &mut map,
                &[0, paragraphs, 0, 0xffff, 0xffff, flags],
            )
        };
        assert_eq!(ask(32, FLAG_LOW), 0);
        assert_eq!(ask(32, FLAG_HIGH | FLAG_PERMANENT), 0);
        let first = LENT_FOR_GOOD.end - 32 * 16;
        assert_eq!(u64::from(ask(32, FLAG_LOW | FLAG_PERMANENT)), first);
        let left = (first - LENT_FOR_GOOD.start) / 16;
        assert_eq!(ask(left as u16 + 1, FLAG_LOW | FLAG_PERMANENT), 0);
        assert_eq!(pmm.open_late(), Lends::Kept);
    }

    proptest! {
        #[test]
        fn blocks_are_apart_and_in_memory(
            calls in prop::collection::vec((0..3u16, 0..0x8000u32, 0..6u32, 0..16u16), 0..40)
        ) {
            let (mut pmm, mut map) = (Pmm::default(), map());
            pmm.lends = Lends::All;
            for (function, size, handle, flags) in calls {
                let words = [function, size as u16, (size >> 16) as u16, handle as u16, 0, flags];
                call(&mut pmm, &mut map, &words);
            }
            for (n, a) in pmm.lent.iter().enumerate() {
                let low = a.end <= LENT.end || LENT_FOR_GOOD.contains(&a.start) && a.end <= LENT_FOR_GOOD.end;
                prop_assert!(low || a.start >= HIGH_START && a.end <= 0xff0_0000);
                prop_assert!(pmm.lent[n + 1..].iter().all(|b| a.end <= b.start || b.end <= a.start));
            }
        }
    }
}
