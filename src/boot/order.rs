//! The order in which candidates are tried: pure, from what the platform and the user say.
//!
//! QEMU's `bootorder` file names devices one by one. The setting `order` comes next, by kind, path or name, and then the kinds
//! that CMOS has. What nothing names follows, unless the order is strict. Source: QEMU, docs/system/bootindex.rst, and the
//! option `-boot`.

use super::candidate::{Candidate, Kind};
use crate::devices::name::Name;
use crate::devices::place::{Path, Place};
use alloc::string::String;
use alloc::vec::Vec;

/// CMOS register with the first (3:0) and second (7:4) kind.
pub const CMOS_FIRST: u8 = 0x3d;
/// CMOS register with the third kind (7:4) and whether diskettes boot without a signature (0).
pub const CMOS_THIRD: u8 = 0x38;
/// The word that makes an order strict, in `bootorder` and in the setting.
const HALT: &str = "HALT";

/// One word of the setting `order`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    /// All devices of a kind.
    Kind(Kind),
    /// The device at this path.
    Path(Path),
    /// Devices whose name starts so.
    Name(String),
}

impl Wish {
    /// `None` for the word that makes the order strict.
    fn parse(word: &str) -> Option<Self> {
        if word.eq_ignore_ascii_case(HALT) {
            return None;
        }
        if word.starts_with('/') {
            return Some(Self::Path(Path::new(word)));
        }
        let kind = Kind::parse(word);
        Some(kind.map_or_else(|| Self::Name(word.into()), Self::Kind))
    }

    fn is(&self, kind: Kind, name: &Name, place: Option<&Place>) -> bool {
        match self {
            Self::Kind(wanted) => kind == *wanted,
            Self::Path(path) => place.is_some_and(|place| place.is(path)),
            Self::Name(wanted) => name.starts_with(wanted),
        }
    }
}

/// What the platform and the user want booted first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Device paths, first to last.
    paths: Vec<Path>,
    /// The user's wishes, first to last.
    wishes: Vec<Wish>,
    /// Boots nothing that nobody names.
    strict: bool,
    /// Kinds, first to last.
    kinds: Vec<Kind>,
    /// Diskettes are booted whether or not their first sector has a signature.
    pub any_diskette: bool,
}

impl Order {
    /// The order of a `bootorder` file, if there is one, and CMOS registers 3Dh and 38h.
    pub fn new(bootorder: Option<&[u8]>, cmos_first: u8, cmos_third: u8) -> Self {
        let mut order = Self {
            any_diskette: cmos_third & 1 != 0,
            ..Self::default()
        };
        for line in bootorder.unwrap_or_default().split(|&byte| byte == b'\n') {
            let line = line.split(|&byte| byte == 0).next().unwrap_or_default();
            match core::str::from_utf8(line).map(str::trim) {
                Ok("") => {}
                Ok(HALT) => order.strict = true,
                Ok(path) => order.paths.push(Path::new(path)),
                Err(_) => log::warn!(
                    "bootorder: a line that is not text: {}",
                    line.escape_ascii()
                ),
            }
        }
        for nibble in [cmos_first & 15, cmos_first >> 4, cmos_third >> 4] {
            let kind = match nibble {
                1 => Kind::Floppy,
                2 => Kind::HardDisk,
                3 => Kind::CdRom,
                4 => Kind::Network,
                _ => continue,
            };
            if !order.kinds.contains(&kind) {
                order.kinds.push(kind);
            }
        }
        order
    }

    /// The same with the setting `order`: words between commas, each a kind (`cdrom`), a device path, or the start of a name as
    /// the menu shows it. A comma before a digit is part of a path. `halt` leaves out what nothing names.
    pub fn with_setting(mut self, text: &str) -> Self {
        for word in words(text).map(str::trim) {
            match Wish::parse(word) {
                _ if word.is_empty() => {}
                Some(wish) => self.wishes.push(wish),
                None => self.strict = true,
            }
        }
        self
    }

    /// Where `place` is in the list of paths; places without a path of their own come last.
    pub fn position(&self, place: Option<&Place>) -> usize {
        place
            .and_then(|place| self.paths.iter().position(|path| place.is(path)))
            .unwrap_or(self.paths.len())
    }

    /// The only places from which something may be booted; `None` where that is not a matter of places alone. A strict order leaves
    /// out the rest, whose controllers need not even be looked at.
    pub fn only(&self) -> Option<&[Path]> {
        (self.strict && self.wishes.is_empty()).then_some(&self.paths)
    }

    /// What a device with this kind, name and place is sorted by. Equals keep their order.
    pub fn rank(&self, kind: Kind, name: &Name, place: Option<&Place>) -> Rank {
        const REST: [Kind; 5] = [
            Kind::Floppy,
            Kind::CdRom,
            Kind::HardDisk,
            Kind::Network,
            Kind::OptionRom,
        ];
        let wishes = self.wishes.iter();
        let kinds = self.kinds.iter().chain(&REST);
        Rank {
            path: self.position(place),
            wish: wishes
                .take_while(|wish| !wish.is(kind, name, place))
                .count(),
            kind: kinds.take_while(|&&listed| listed != kind).count(),
        }
    }

    fn rank_of(&self, candidate: &Candidate) -> Rank {
        let place = candidate.place.as_deref();
        self.rank(candidate.kind, &candidate.name, place)
    }

    /// Whether something names the candidate, more than its kind in CMOS.
    fn names(&self, rank: Rank) -> bool {
        rank.path < self.paths.len() || rank.wish < self.wishes.len()
    }

    /// The candidates that are to be tried, in order. Equals keep their order.
    pub fn arrange(&self, mut candidates: Vec<Candidate>) -> Vec<Candidate> {
        if self.strict {
            candidates.retain(|candidate| self.names(self.rank_of(candidate)));
        }
        firstlight_tables::sort::by_key(&mut candidates, |candidate| self.rank_of(candidate));
        candidates
    }
}

/// The words of the setting `order`.
fn words(mut rest: &str) -> impl Iterator<Item = &str> {
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let path = rest.trim_start().starts_with('/');
        let divides = |(at, character): &(usize, char)| {
            let digit = rest.as_bytes().get(at + 1).is_some_and(u8::is_ascii_digit);
            *character == ',' && !(path && digit)
        };
        let end = rest.char_indices().find(divides);
        let (word, after) = match end {
            Some((at, _)) => (&rest[..at], &rest[at + 1..]),
            None => (rest, ""),
        };
        rest = after;
        Some(word)
    })
}

/// A place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    path: usize,
    wish: usize,
    kind: usize,
}

#[cfg(test)]
mod tests {
    use super::super::candidate::{Reason, Target};
    use super::*;
    use alloc::sync::Arc;

    fn candidate(kind: Kind, device: u8) -> Candidate {
        Candidate {
            kind,
            name: Name::new(format!("Device {device}")),
            place: Some(Arc::new(Place {
                pci: vec![(device, 0)],
                unit: "disk@0".into(),
                ..Place::default()
            })),
            target: Target::Nothing(Reason::NotSupported),
        }
    }

    fn all() -> Vec<Candidate> {
        vec![
            candidate(Kind::HardDisk, 1),
            candidate(Kind::HardDisk, 2),
            candidate(Kind::CdRom, 3),
            candidate(Kind::Network, 4),
            candidate(Kind::Floppy, 5),
        ]
    }

    fn devices(order: &Order) -> Vec<u8> {
        let arranged = order.arrange(all());
        let places = arranged.iter().flat_map(|candidate| &candidate.place);
        places.map(|place| place.pci[0].0).collect()
    }

    #[test]
    fn kinds_by_cmos() {
        assert_eq!(devices(&Order::new(None, 0x12, 0x30)), [1, 2, 5, 3, 4]);
        assert_eq!(devices(&Order::new(None, 0x34, 0x20)), [4, 3, 1, 2, 5]);
        assert_eq!(devices(&Order::new(None, 0x03, 0x00)), [3, 5, 1, 2, 4]);
        assert_eq!(devices(&Order::new(None, 0, 0)), [5, 3, 1, 2, 4]);
        assert_eq!(devices(&Order::new(None, 0xff, 0xff)), [5, 3, 1, 2, 4]);
    }

    #[test]
    fn devices_by_bootorder_then_kinds() {
        let file = b"/pci@i0cf8/scsi@4/disk@0\n/pci@i0cf8/scsi@2/disk@0\n\0";
        assert_eq!(
            devices(&Order::new(Some(file), 0x13, 0x20)),
            [4, 2, 3, 5, 1]
        );
    }

    #[test]
    fn strict_leaves_the_others_out() {
        let file = b"/pci@i0cf8/scsi@9/disk@0\n/pci@i0cf8/scsi@2/disk@0\nHALT\0";
        assert_eq!(devices(&Order::new(Some(file), 0x13, 0x20)), [2]);
    }

    #[test]
    fn the_setting_comes_between() {
        let file = b"/pci@i0cf8/scsi@2/disk@0\n\0";
        let order = |text| devices(&Order::new(Some(file), 0x12, 0x30).with_setting(text));
        assert_eq!(order("cdrom,network"), [2, 3, 4, 1, 5]);
        assert_eq!(order("device 5, net,NET,cdrom"), [2, 5, 4, 3, 1]);
        assert_eq!(order("/pci@i0cf8/scsi@4/disk@0,HD"), [2, 4, 1, 5, 3]);
        assert_eq!(order("zebra,,/,/pci@i0cf8/scsi@9"), [2, 1, 5, 3, 4]);
        assert_eq!(order("fd,halt"), [2, 5]);
        let divided: Vec<_> = words("/pci@i0cf8/x@1,1/disk@0,0,hd,2 disks").collect();
        assert_eq!(divided, ["/pci@i0cf8/x@1,1/disk@0,0", "hd", "2 disks"]);
    }

    #[test]
    fn a_strict_order_wants_what_it_names() {
        let place = |device, unit: &str| Place {
            pci: vec![(device, 0)],
            unit: unit.into(),
            ..Place::default()
        };
        let order = Order::new(Some(b"/pci@i0cf8/scsi@2/disk@0\nHALT"), 0, 0);
        let only = order.only().expect("it is strict");
        let wanted = |device, unit| only.iter().any(|path| place(device, unit).is(path));
        assert!(wanted(2, "") && wanted(2, "disk@0"));
        assert!(!wanted(2, "disk@1") && !wanted(3, ""));
        assert_eq!(order.with_setting("hd").only(), None);
        assert_eq!(Order::new(None, 0, 0).only(), None);
    }

    /// One device of each kind.
    const KINDS: [Kind; 4] = [Kind::Floppy, Kind::HardDisk, Kind::CdRom, Kind::Network];

    /// All orders of some of the kinds, by their indices.
    fn some_of_the_kinds() -> Vec<Vec<usize>> {
        let mut orders = vec![vec![]];
        for at in 0.. {
            let Some(order) = orders.get(at).cloned() else {
                break;
            };
            let more = (0..KINDS.len()).filter(|index| !order.contains(index));
            orders.extend(more.map(|index| [&order[..], &[index]].concat()));
        }
        orders
    }

    /// What is tried of `present`: what is named by each way in its turn, and then, unless the order is strict, the kinds of CMOS
    /// and the rest.
    fn model(
        present: u8,
        paths: &[usize],
        wishes: &[usize],
        strict: bool,
        cmos: &[usize],
    ) -> Vec<u8> {
        const REST: [usize; 4] = [0, 2, 1, 3];
        let named = paths.iter().chain(wishes);
        let others = cmos.iter().chain(&REST).filter(|_| !strict);
        let mut tried: Vec<u8> = Vec::new();
        for &index in named.chain(others) {
            let device = index as u8;
            if present & 1 << index != 0 && !tried.contains(&device) {
                tried.push(device);
            }
        }
        tried
    }

    /// Every set of devices under every order by paths, by the setting and by CMOS, each with every order of one other way.
    #[test]
    fn every_order_of_everything() {
        let orders = some_of_the_kinds();
        let words = ["fd", "hd", "cdrom", "network", "halt"];
        let check = |paths: &[usize], wishes: &[usize], cmos: &[usize], halts: [bool; 2]| {
            let mut file: String = paths
                .iter()
                .map(|device| format!("/pci@i0cf8/x@{device}/disk@0\n"))
                .collect();
            file += if halts[0] { "HALT" } else { "" };
            let wished = wishes.iter().chain(halts[1].then_some(&4));
            let setting: Vec<_> = wished.map(|index| words[*index]).collect();
            let nibble = |at: usize| cmos.get(at).map_or(0, |index| *index as u8 + 1);
            let order = Order::new(
                Some(file.as_bytes()),
                nibble(1) << 4 | nibble(0),
                nibble(2) << 4,
            )
            .with_setting(&setting.join(","));
            for present in 0u8..16 {
                let here = (0..4u8).filter(|device| present & 1 << device != 0);
                let candidates = here.map(|device| candidate(KINDS[usize::from(device)], device));
                let arranged = order.arrange(candidates.collect());
                let tried: Vec<u8> = arranged
                    .iter()
                    .flat_map(|candidate| &candidate.place)
                    .map(|place| place.pci[0].0)
                    .collect();
                let expected = model(present, paths, wishes, halts[0] || halts[1], cmos);
                assert_eq!(
                    tried, expected,
                    "{present:04b} {file:?} {setting:?} {cmos:?}"
                );
            }
        };
        for halts in [[false, false], [true, false], [false, true]] {
            for one in &orders {
                for other in &orders {
                    check(one, other, &[], halts);
                    check(one, &[], &other[..other.len().min(3)], halts);
                    check(&[], one, &other[..other.len().min(3)], halts);
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_file_keeps_every_candidate_once(
            file in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
            setting in ".{0,40}",
            first: u8,
            third: u8,
        ) {
            let order = Order::new(Some(&file), first, third).with_setting(&setting);
            if !order.strict {
                assert_eq!(order.arrange(all()).len(), all().len());
            }
        }

        #[test]
        fn words_that_are_repeated_count_once(words in proptest::collection::vec(0usize..6, 0..12)) {
            const WORDS: [&str; 6] = ["hd", "cdrom", "fd", "network", "device 2", "/pci@i0cf8/x@4"];
            let text = |words: &[usize]| words.iter().map(|word| WORDS[*word]).collect::<Vec<_>>().join(",");
            let mut once = Vec::new();
            for word in &words {
                if !once.contains(word) {
                    once.push(*word);
                }
            }
            let order = |words: &[usize]| devices(&Order::new(None, 0, 0).with_setting(&text(words)));
            proptest::prop_assert_eq!(order(&words), order(&once));
        }
    }
}
