//! The numbers of virtual block devices, which say what a disk is called and where its emulated twin is.

use crate::storage::DiskInfo;
use alloc::string::String;
use core::fmt;

/// What a disk's name begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    /// `hd`
    Ide,
    /// `sd`
    Scsi,
    /// `xvd`
    Xen,
}

/// A whole disk, as its number tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unit {
    family: Family,
    /// Counted from 0.
    disk: u32,
}

impl Unit {
    /// What the number `device` means; `None` where it is a partition or nothing that is known.
    pub fn of(device: u32) -> Option<Self> {
        const EXTENDED: u32 = 1 << 28;
        let (family, disk, partition) = if device >> 28 == 1 {
            let number = device & (EXTENDED - 1);
            (Family::Xen, number >> 8, number & 0xff)
        } else {
            let minor = device & 0xff;
            match device >> 8 {
                3 => (Family::Ide, minor >> 6, minor & 0x3f),
                22 => (Family::Ide, 2 + (minor >> 6), minor & 0x3f),
                8 => (Family::Scsi, minor >> 4, minor & 15),
                202 => (Family::Xen, minor >> 4, minor & 15),
                _ => return None,
            }
        };
        (partition == 0).then_some(Self { family, disk })
    }

    /// Whether the emulated drive is the same: libxl puts the first `hd` and `xvd` disks behind an IDE or an AHCI controller, and `sd`
    /// disks behind a SCSI one.
    pub fn is_twin(self, info: &DiskInfo) -> bool {
        let ata = info.edd.and_then(|edd| edd.ata);
        let unit = info.place.unit.as_str();
        match (self.family, ata) {
            (Family::Scsi, _) => unit == alloc::format!("channel@0/disk@{:x},0", self.disk),
            (_, Some(ata)) => u32::from(ata.number) == self.disk,
            (_, None) => {
                info.edd.is_none() && unit == alloc::format!("drive@{:x}/disk@0", self.disk)
            }
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.family {
            Family::Ide => "hd",
            Family::Scsi => "sd",
            Family::Xen => "xvd",
        })?;
        // As spreadsheets count: a to z, aa and so on.
        let mut letters = String::new();
        let mut rest = self.disk + 1;
        while rest > 0 {
            rest -= 1;
            letters.insert(0, char::from(b'a' + (rest % 26) as u8));
            rest /= 26;
        }
        f.write_str(&letters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_names() {
        for (number, name) in [
            (768, "hda"),
            (832, "hdb"),
            (5632, "hdc"),
            (5696, "hdd"),
            (2048, "sda"),
            (2064, "sdb"),
            (51712, "xvda"),
            (51776, "xvde"),
            (51952, "xvdp"),
            (268_439_552, "xvdq"),
            (268_442_112, "xvdaa"),
        ] {
            let unit = Unit::of(number).map(|unit| alloc::format!("{unit}"));
            assert_eq!(unit.as_deref(), Some(name));
        }
        for number in [0, 769, 51713, 2049, 1 << 29, 268_439_553, u32::MAX] {
            assert_eq!(Unit::of(number), None, "{number}");
        }
    }

    proptest! {
        #[test]
        fn any_number_is_answered(number: u32) {
            if let Some(unit) = Unit::of(number) {
                assert!(!alloc::format!("{unit}").is_empty());
            }
        }
    }
}
