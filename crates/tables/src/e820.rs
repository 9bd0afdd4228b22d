//! The guest's physical memory map, as INT 15h AX=E820h reports it (ACPI specification 6.5, section 15.1).
//!
//! [`E820Map`] is always sorted, its entries never overlap, are never empty, and neighbours of one kind are merged.
//! It has a fixed capacity and needs no allocator, since it is what the allocator is made from.

use core::ops::Range;

/// The most entries a map holds; also the limit of Linux's boot protocol.
pub const CAPACITY: usize = 128;

/// The bytes an entry takes in INT 15h AX=E820h.
pub const ENTRY_SIZE: usize = 20;

/// What a range may be used for; the numbers are those of ACPI specification 6.5, table 15.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Free for the operating system.
    Ram = 1,
    /// In use by firmware or devices; never to be used.
    Reserved = 2,
    /// ACPI tables; free for use once they have been read.
    Acpi = 3,
    /// Firmware memory that must survive sleep.
    Nvs = 4,
    /// RAM with errors.
    Unusable = 5,
}

impl Kind {
    /// The kind with the number that other firmware and hypervisors use for it; an unknown number is `Reserved`.
    pub fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Ram,
            3 => Self::Acpi,
            4 => Self::Nvs,
            5 => Self::Unusable,
            _ => Self::Reserved,
        }
    }
}

/// One range of the map, in bytes; `end` is the first address after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// First physical address.
    pub start: u64,
    /// First physical address after the range.
    pub end: u64,
    /// What it may be used for.
    pub kind: Kind,
}

impl Entry {
    const NONE: Self = Self {
        start: 0,
        end: 0,
        kind: Kind::Reserved,
    };

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.end - self.start
    }

    /// The entry as INT 15h AX=E820h stores it: base, length and type, little endian.
    pub fn to_bytes(&self) -> [u8; ENTRY_SIZE] {
        let mut bytes = [0; ENTRY_SIZE];
        bytes[..8].copy_from_slice(&self.start.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.size().to_le_bytes());
        bytes[16..].copy_from_slice(&(self.kind as u32).to_le_bytes());
        bytes
    }
}

/// The map already has [`CAPACITY`] entries; it was left as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A memory map; see the module's introduction for what always holds.
#[derive(Clone, Debug)]
pub struct E820Map {
    entries: [Entry; CAPACITY],
    len: usize,
}

impl Default for E820Map {
    fn default() -> Self {
        Self::new()
    }
}

impl E820Map {
    /// An empty map.
    pub const fn new() -> Self {
        Self {
            entries: [Entry::NONE; CAPACITY],
            len: 0,
        }
    }

    /// The entries in ascending order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries[..self.len]
    }

    /// Marks `range` as `kind`, whatever it was before. An empty range changes nothing.
    ///
    /// # Errors
    /// [`Full`] where the result has more than [`CAPACITY`] entries; the map is then unchanged.
    pub fn insert(&mut self, range: Range<u64>, kind: Kind) -> Result<(), Full> {
        self.replace(range, Some(kind))
    }

    /// Takes `range` out of the map, so that it is reported as nothing at all.
    ///
    /// # Errors
    /// [`Full`] as for [`E820Map::insert`], since a hole may split an entry.
    pub fn remove(&mut self, range: Range<u64>) -> Result<(), Full> {
        self.replace(range, None)
    }

    /// The highest `align`ed address of `size` bytes of RAM that end at or below `below`. `align` of 0 counts as 1.
    pub fn find_ram_top(&self, below: u64, size: u64, align: u64) -> Option<u64> {
        let align = align.max(1);
        self.entries()
            .iter()
            .rev()
            .filter(|entry| entry.kind == Kind::Ram)
            .find_map(|entry| {
                let start = entry.end.min(below).checked_sub(size)? / align * align;
                (start >= entry.start).then_some(start)
            })
    }

    /// Finds RAM as [`E820Map::find_ram_top`] does and marks it as `kind`. `None` where there is no such RAM or
    /// the map is full; the map is then unchanged.
    pub fn take_ram_top(&mut self, below: u64, size: u64, align: u64, kind: Kind) -> Option<u64> {
        let start = self.find_ram_top(below, size, align)?;
        self.insert(start..start + size, kind).ok()?;
        Some(start)
    }

    /// The kind of the byte at `addr`, where the map says one.
    pub fn kind_at(&self, addr: u64) -> Option<Kind> {
        self.entries()
            .iter()
            .find(|entry| (entry.start..entry.end).contains(&addr))
            .map(|entry| entry.kind)
    }

    /// The parts of `range` in ascending order, each with the kind that the map says of it.
    pub fn parts(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, Option<Kind>)> {
        let mut at = range.start;
        core::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let next = self.entries().iter().find(|entry| entry.end > at);
            let (end, kind) = match next {
                Some(entry) if entry.start <= at => (entry.end, Some(entry.kind)),
                Some(entry) => (entry.start, None),
                None => (range.end, None),
            };
            let part = at..end.min(range.end);
            at = part.end;
            Some((part, kind))
        })
    }

    /// The bytes of RAM in `range`.
    pub fn ram_in(&self, range: Range<u64>) -> u64 {
        self.entries()
            .iter()
            .filter(|entry| entry.kind == Kind::Ram)
            .map(|entry| {
                let start = entry.start.max(range.start);
                entry.end.min(range.end).saturating_sub(start)
            })
            .sum()
    }

    fn replace(&mut self, range: Range<u64>, kind: Option<Kind>) -> Result<(), Full> {
        let Range { start, end } = range;
        if start >= end {
            return Ok(());
        }
        // Entries first..last touch the range (or adjoin it, so that equal neighbours can merge); only they change.
        let entries = self.entries();
        let first = entries.partition_point(|entry| entry.end < start);
        let last = entries.partition_point(|entry| entry.start <= end);
        let mut new = Pieces::default();
        let touched = entries.get(first..last).unwrap_or(&[]);
        for entry in touched.iter().filter(|entry| entry.start < start) {
            new.push(entry.start, entry.end.min(start), Some(entry.kind));
        }
        new.push(start, end, kind);
        for entry in touched.iter().filter(|entry| entry.end > end) {
            new.push(entry.start.max(end), entry.end, Some(entry.kind));
        }
        self.splice(first, touched.len(), &new.items[..new.len])
    }

    fn splice(&mut self, at: usize, removed: usize, new: &[Entry]) -> Result<(), Full> {
        let len = self.len - removed + new.len();
        if len > CAPACITY {
            return Err(Full);
        }
        self.entries
            .copy_within(at + removed..self.len, at + new.len());
        self.entries[at..at + new.len()].copy_from_slice(new);
        self.len = len;
        Ok(())
    }
}

/// The entries that take the place of those a change touches: at most the rest of an adjoining neighbour and of a
/// split entry on each side, and the new one between them.
#[derive(Default)]
struct Pieces {
    items: [Entry; 5],
    len: usize,
}

impl Default for Entry {
    fn default() -> Self {
        Self::NONE
    }
}

impl Pieces {
    fn push(&mut self, start: u64, end: u64, kind: Option<Kind>) {
        let Some(kind) = kind else { return };
        if let Some(before) = self.items[..self.len].last_mut()
            && before.kind == kind
            && before.end == start
        {
            before.end = end;
            return;
        }
        self.items[self.len] = Entry { start, end, kind };
        self.len += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(entries: &[(u64, u64, Kind)]) -> E820Map {
        let mut map = E820Map::new();
        for &(start, end, kind) in entries {
            map.insert(start..end, kind).unwrap();
        }
        map
    }

    fn list(map: &E820Map) -> Vec<(u64, u64, Kind)> {
        map.entries()
            .iter()
            .map(|entry| (entry.start, entry.end, entry.kind))
            .collect()
    }

    #[test]
    fn later_entries_override_and_neighbours_merge() {
        let mut map = map(&[
            (0, 0x1000_0000, Kind::Ram),
            (0x9fc00, 0x10_0000, Kind::Reserved),
        ]);
        map.insert(0xfff_0000..0x1000_0000, Kind::Acpi).unwrap();
        map.insert(0x1000_0000..0x2000_0000, Kind::Acpi).unwrap();
        assert_eq!(
            list(&map),
            [
                (0, 0x9fc00, Kind::Ram),
                (0x9fc00, 0x10_0000, Kind::Reserved),
                (0x10_0000, 0xfff_0000, Kind::Ram),
                (0xfff_0000, 0x2000_0000, Kind::Acpi),
            ]
        );
        map.insert(0x9fc00..0x2000_0000, Kind::Ram).unwrap();
        assert_eq!(list(&map), [(0, 0x2000_0000, Kind::Ram)]);
    }

    #[test]
    fn a_range_falls_into_parts() {
        let map = map(&[(2, 4, Kind::Ram), (4, 5, Kind::Acpi), (8, 9, Kind::Ram)]);
        let parts: Vec<_> = map.parts(3..20).collect();
        let expected = [
            (3..4, Some(Kind::Ram)),
            (4..5, Some(Kind::Acpi)),
            (5..8, None),
            (8..9, Some(Kind::Ram)),
            (9..20, None),
        ];
        assert_eq!(parts, expected);
        assert_eq!(map.parts(3..3).count(), 0);
    }

    #[test]
    fn takes_ram_from_the_top() {
        let mut map = map(&[(0, 0xa0000, Kind::Ram), (0x10_0000, 0x800_1234, Kind::Ram)]);
        let taken = map.take_ram_top(1 << 32, 0x3000, 0x1000, Kind::Reserved);
        assert_eq!(taken, Some(0x7ff_e000));
        assert_eq!(
            map.take_ram_top(0x10_0000, 0x400, 16, Kind::Reserved),
            Some(0x9fc00)
        );
        assert_eq!(map.find_ram_top(1 << 32, 1 << 40, 1), None);
        assert_eq!(map.find_ram_top(1 << 32, 1 << 20, 0), Some(0x7ef_e000));
    }

    #[test]
    fn a_full_map_is_left_alone() {
        let mut map = E820Map::new();
        for index in 0..CAPACITY as u64 {
            map.insert(index * 2..index * 2 + 1, Kind::Ram).unwrap();
        }
        let before = list(&map);
        assert_eq!(map.insert(1000..1001, Kind::Ram), Err(Full));
        assert_eq!(list(&map), before);
        map.insert(1..2, Kind::Ram).unwrap();
        assert_eq!(map.entries().len(), CAPACITY - 1);
    }

    #[test]
    fn bytes_are_base_length_type() {
        let entry = Entry {
            start: 0x10_0000,
            end: 0x30_0000,
            kind: Kind::Nvs,
        };
        assert_eq!(
            entry.to_bytes(),
            [
                0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 4, 0, 0, 0
            ]
        );
    }

    fn kinds() -> impl Strategy<Value = Option<Kind>> {
        (0u32..6).prop_map(|number| (number > 0).then(|| Kind::from_number(number)))
    }

    proptest! {
        /// Compared byte by byte with the obvious model: an array of kinds.
        #[test]
        fn behaves_as_an_array_of_kinds(
            changes in prop::collection::vec((0u64..64, 0u64..64, kinds()), 0..40)
        ) {
            let mut map = E820Map::new();
            let mut model = [None; 64];
            for (start, end, kind) in changes {
                match kind {
                    Some(kind) => map.insert(start..end, kind).unwrap(),
                    None => map.remove(start..end).unwrap(),
                }
                for slot in model.iter_mut().take(end as usize).skip(start as usize) {
                    *slot = kind;
                }
            }
            for (addr, kind) in model.iter().enumerate() {
                prop_assert_eq!(map.kind_at(addr as u64), *kind);
            }
            for pair in map.entries().windows(2) {
                prop_assert!(pair[0].end <= pair[1].start);
                prop_assert!(pair[0].end < pair[1].start || pair[0].kind != pair[1].kind);
            }
        }

        #[test]
        fn never_panics(changes in prop::collection::vec((any::<u64>(), any::<u64>(), kinds()), 0..300)) {
            let mut map = E820Map::new();
            for (start, end, kind) in changes {
                let _ = map.replace(start..end, kind);
                let _ = map.find_ram_top(start, end, start);
                let _ = map.ram_in(start..end);
            }
        }
    }
}
