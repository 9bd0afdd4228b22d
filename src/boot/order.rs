//! The order in which candidates are tried: pure, from what the platform says.
//!
//! QEMU's `bootorder` file names devices one by one; what it does not name follows by kind, in the order that CMOS has.
//! Source: QEMU, docs/system/bootindex.rst, and the option `-boot`.

use super::candidate::{Candidate, Kind, Place};
use alloc::string::String;
use alloc::vec::Vec;

/// CMOS register with the first (3:0) and second (7:4) kind.
pub const CMOS_FIRST: u8 = 0x3d;
/// CMOS register with the third kind (7:4).
pub const CMOS_THIRD: u8 = 0x38;

/// What the platform wants booted first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Device paths, first to last.
    paths: Vec<String>,
    /// Boots nothing that has no path of its own.
    strict: bool,
    /// Kinds, first to last.
    kinds: Vec<Kind>,
}

impl Order {
    /// The order of a `bootorder` file, if there is one, and CMOS registers 3Dh and 38h.
    pub fn new(bootorder: Option<&[u8]>, cmos_first: u8, cmos_third: u8) -> Self {
        let mut order = Self::default();
        for line in bootorder.unwrap_or_default().split(|&byte| byte == b'\n') {
            let line = line.split(|&byte| byte == 0).next().unwrap_or_default();
            match core::str::from_utf8(line).map(str::trim) {
                Ok("") => {}
                Ok("HALT") => order.strict = true,
                Ok(path) => order.paths.push(path.into()),
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

    /// Where `place` is in the list of paths; places without a path of their own come last.
    pub fn position(&self, place: Option<&Place>) -> usize {
        place
            .and_then(|place| self.paths.iter().position(|path| place.is(path)))
            .unwrap_or(self.paths.len())
    }

    /// The candidates that are to be tried, in order. Equals keep their order.
    pub fn arrange(&self, mut candidates: Vec<Candidate>) -> Vec<Candidate> {
        const REST: [Kind; 5] = [
            Kind::Floppy,
            Kind::CdRom,
            Kind::HardDisk,
            Kind::Network,
            Kind::OptionRom,
        ];
        let listed = |candidate: &Candidate| self.position(candidate.place.as_ref());
        if self.strict {
            candidates.retain(|candidate| listed(candidate) < self.paths.len());
        }
        firstlight_tables::sort::by_key(&mut candidates, |candidate| {
            let kinds = self.kinds.iter().chain(&REST);
            let kind = kinds.take_while(|&&kind| kind != candidate.kind).count();
            (listed(candidate), kind)
        });
        candidates
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidate::{Reason, Target};
    use super::*;

    fn candidate(kind: Kind, device: u8) -> Candidate {
        Candidate {
            kind,
            name: String::new(),
            place: Some(Place {
                pci: vec![(device, 0)],
                unit: "disk@0".into(),
            }),
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

    proptest::proptest! {
        #[test]
        fn any_file_keeps_every_candidate_once(
            file in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
            first: u8,
            third: u8,
        ) {
            let order = Order::new(Some(&file), first, third);
            if !order.strict {
                assert_eq!(order.arrange(all()).len(), all().len());
            }
        }
    }
}
