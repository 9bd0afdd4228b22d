//! The geometry that INT 13h callers see, which has at most 1024 cylinders, 255 heads and 63 sectors a track.
//!
//! Source: Phoenix Enhanced Disk Drive Specification, version 1.1, appendix A (LBA-assisted and bit-shift translation). Which
//! translation applies is QEMU's word in CMOS 39h and 3Ah for its ATA drives, two bits a drive. Before that comes what the user
//! says of a disk (`-device ide-hd,lcyls=,lheads=,lsecs=`).

use crate::devices::place::{Path, Place};
use crate::storage::Chs;
use alloc::vec::Vec;

/// How logical cylinders, heads and sectors come from the drive's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translation {
    /// They are the drive's.
    None,
    /// From the number of sectors alone.
    Lba,
    /// Cylinders halved, heads doubled until they fit.
    Large,
    /// As `Large`, but with 15 heads first, so that the heads never become 256.
    RevisedLarge,
    /// The user says what callers see.
    Given(Chs),
}

/// Most cylinders that a caller can name.
const CYLINDERS: u32 = 1024;
/// Most heads.
const HEADS: u32 = 255;
/// Most sectors a track.
const SECTORS: u32 = 63;

/// Which geometries the user gives disks, by their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Geometries(Vec<(Path, Chs)>);

impl Geometries {
    /// What QEMU's file `bios-geometry` says: lines of a device path, cylinders, heads and sectors a track. What is none, or is more
    /// than a caller can name, is left out with a message.
    pub fn parse(file: &[u8]) -> Self {
        let lines = file.split(|&byte| byte == b'\n' || byte == 0);
        let lines = lines
            .map(<[u8]>::trim_ascii)
            .filter(|line| !line.is_empty());
        let given = lines.filter_map(|line| {
            let parsed = core::str::from_utf8(line).ok().and_then(given);
            if parsed.is_none() {
                log::warn!("bios-geometry: not a geometry: {}", line.escape_ascii());
            }
            parsed
        });
        Self(given.collect())
    }

    /// What is said of the disk at `place`.
    pub fn of(&self, place: &Place) -> Option<Chs> {
        let named = self.0.iter().find(|(path, _)| place.is(path));
        named.map(|(_, chs)| *chs)
    }
}

/// A line of the file.
fn given(line: &str) -> Option<(Path, Chs)> {
    let mut words = line.split_ascii_whitespace();
    let path = words.next()?;
    let mut number = |most: u32| {
        let number = words.next()?.parse().ok()?;
        (1..=most).contains(&number).then_some(number)
    };
    let chs = Chs {
        cylinders: number(CYLINDERS)?,
        heads: number(HEADS)?,
        sectors: number(SECTORS)?,
    };
    let whole = words.next().is_none() && path.starts_with('/');
    whole.then(|| (Path::new(path), chs))
}

impl Translation {
    /// What QEMU wrote into CMOS: two bits.
    pub fn from_cmos(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::None,
            1 => Self::Lba,
            2 => Self::Large,
            _ => Self::RevisedLarge,
        }
    }

    /// The choice for a drive of which nobody says anything.
    pub fn automatic(physical: Chs, sectors: u64) -> Self {
        let Chs {
            cylinders,
            heads,
            sectors: track,
        } = physical;
        let product = u64::from(cylinders) * u64::from(heads) * u64::from(track);
        if product == 0 || product > sectors {
            Self::Lba
        } else if cylinders <= CYLINDERS && heads <= 16 && track <= SECTORS {
            Self::None
        } else if cylinders * heads <= 131_072 {
            Self::Large
        } else {
            Self::Lba
        }
    }

    /// The geometry for callers.
    pub fn logical(self, physical: Chs, sectors: u64) -> Chs {
        let mut chs = match self {
            Self::None => physical,
            Self::Lba => lba_assisted(sectors),
            Self::Large => shifted(physical),
            Self::RevisedLarge if physical.heads == 16 => shifted(Chs {
                cylinders: physical.cylinders.min(61_439) * 16 / 15,
                heads: 15,
                ..physical
            }),
            Self::RevisedLarge => shifted(physical),
            Self::Given(chs) => chs,
        };
        chs.cylinders = chs.cylinders.min(CYLINDERS);
        chs
    }
}

fn lba_assisted(sectors: u64) -> Chs {
    let tracks = sectors / u64::from(SECTORS);
    let heads = match tracks / u64::from(CYLINDERS) {
        0..=16 => 16,
        17..=32 => 32,
        33..=64 => 64,
        65..=128 => 128,
        _ => 255,
    };
    Chs {
        cylinders: (tracks / u64::from(heads)).min(CYLINDERS.into()) as u32,
        heads,
        sectors: SECTORS,
    }
}

fn shifted(mut chs: Chs) -> Chs {
    while chs.cylinders > CYLINDERS && chs.heads <= 127 {
        chs.cylinders /= 2;
        chs.heads *= 2;
    }
    chs
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 2048;

    fn ide(mib: u64) -> (Chs, u64) {
        let sectors = mib * MIB;
        let physical = Chs {
            cylinders: (sectors / 1008).clamp(2, 16383) as u32,
            heads: 16,
            sectors: 63,
        };
        (physical, sectors)
    }

    fn logical(translation: Translation, mib: u64) -> (u32, u32, u32) {
        let (physical, sectors) = ide(mib);
        let chs = translation.logical(physical, sectors);
        (chs.cylinders, chs.heads, chs.sectors)
    }

    /// What SeaBIOS reports in the fixed disk parameter table for QEMU disks of these sizes.
    #[test]
    fn sizes_as_seabios_translates_them() {
        assert_eq!(logical(Translation::None, 500), (0x3f7, 16, 63));
        assert_eq!(logical(Translation::None, 600), (1024, 16, 63));
        assert_eq!(logical(Translation::Lba, 528), (0x400, 16, 63));
        assert_eq!(logical(Translation::Lba, 600), (0x261, 32, 63));
        assert_eq!(logical(Translation::Lba, 2100), (0x215, 128, 63));
        assert_eq!(logical(Translation::Lba, 4300), (0x224, 255, 63));
        assert_eq!(logical(Translation::Lba, 3 << 20), (1024, 255, 63));
    }

    #[test]
    fn shifting_translations() {
        assert_eq!(logical(Translation::Large, 1000), (1015, 32, 63));
        let (physical, sectors) = ide(8000);
        let chs = Translation::RevisedLarge.logical(physical, sectors);
        assert_eq!((chs.cylinders, chs.heads), (1024, 240));
    }

    #[test]
    fn choice_by_size() {
        let choice = |mib| {
            let (physical, sectors) = ide(mib);
            Translation::automatic(physical, sectors)
        };
        assert_eq!(choice(500), Translation::None);
        assert_eq!(choice(600), Translation::Large);
        assert_eq!(choice(9000), Translation::Lba);
        assert_eq!(
            Translation::automatic(Chs::default(), 100),
            Translation::Lba
        );
    }

    fn at(device: u8) -> Place {
        Place {
            pci: vec![(device, 0)],
            unit: "disk@0,0".into(),
            ..Place::default()
        }
    }

    #[test]
    fn geometries_that_the_user_gives() {
        let chs = Chs {
            cylinders: 100,
            heads: 9,
            sectors: 17,
        };
        let file =
            b"/pci@i0cf8/scsi@4/disk@0,0 100 9 17\n/pci@i0cf8/scsi@5/disk@0,0 1024 255 63\n\0";
        let geometries = Geometries::parse(file);
        assert_eq!(geometries.of(&at(4)), Some(chs));
        assert_eq!(geometries.of(&at(6)), None);
        let disk = Translation::Given(chs);
        assert_eq!(disk.logical(Chs::default(), 1 << 30), chs);
        assert_eq!(Geometries::parse(b""), Geometries::default());
    }

    #[test]
    fn lines_that_are_no_geometry_are_left_out() {
        for numbers in [
            "",
            "100",
            "100 9",
            "0 9 17",
            "100 0 17",
            "100 9 0",
            "1025 9 17",
            "100 256 17",
            "100 9 64",
            "100 9 17 1",
            "100 9 -1",
            "4294967396 9 17",
            "100 9 17x",
        ] {
            let file =
                format!("/pci@i0cf8/scsi@4/disk@0,0 {numbers}\n/pci@i0cf8/scsi@5/disk@0,0 1 1 1");
            let geometries = Geometries::parse(file.as_bytes());
            assert_eq!(geometries.of(&at(4)), None, "{numbers}");
            assert!(geometries.of(&at(5)).is_some());
        }
        let not_text = Geometries::parse(b"/pci\xff 1 1 1\nscsi@4 1 1 1");
        assert_eq!(not_text, Geometries::default());
    }

    proptest::proptest! {
        #[test]
        fn any_file_is_read(file: Vec<u8>) {
            let Geometries(given) = Geometries::parse(&file);
            for (_, chs) in given {
                assert!(chs.cylinders <= 1024 && chs.heads <= 255 && chs.sectors <= 63);
            }
        }

        #[test]
        fn never_panics(cylinders: u16, heads: u8, track: u8, sectors: u64, bits: u8) {
            let physical = Chs {
                cylinders: cylinders.into(),
                heads: heads.into(),
                sectors: track.into(),
            };
            Translation::automatic(physical, sectors);
            let chs = Translation::from_cmos(bits).logical(physical, sectors);
            assert!(chs.cylinders <= 1024 && chs.heads <= 255);
        }
    }
}
