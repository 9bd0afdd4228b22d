//! The formats of diskettes, where a sector is, and how a request is cut into commands.
//!
//! Source: IBM PS/2 and PC BIOS Interface Technical Reference, INT 13h (diskette types); Intel 82077AA data sheet (data rates).

use super::super::Chs;
use crate::devices::isa_dma;
use crate::low_memory;
use crate::units::MIB;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;

/// A data rate, as the controller's configuration register has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// 500 kbit/s: 1.2 and 1.44 MB.
    K500 = 0,
    /// 300 kbit/s: 360 KB in a drive for 1.2 MB, which turns faster.
    K300 = 1,
    /// 250 kbit/s: 360 and 720 KB.
    K250 = 2,
    /// 1 Mbit/s: 2.88 MB.
    M1 = 3,
}

/// How a diskette is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Its data rate.
    pub rate: Rate,
    /// Its geometry. Where a side may be missing, that of both.
    pub chs: Chs,
}

impl Format {
    const fn new(rate: Rate, cylinders: u32, sectors: u32) -> Self {
        Self {
            rate,
            chs: Chs {
                cylinders,
                heads: 2,
                sectors,
            },
        }
    }

    /// Whether diskettes with so many sectors a track may have one side only.
    pub fn may_be_single_sided(self) -> bool {
        self.chs.sectors <= 9
    }
}

/// A kind of drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// What a person calls it.
    pub name: &'static str,
    /// What it reads, its own format first.
    pub formats: &'static [Format],
}

impl Model {
    /// The drive with this type in CMOS register 10h; `None` for types that nobody knows.
    pub fn of(cmos: u8) -> Option<Self> {
        use Rate::{K250, K300, K500, M1};
        const fn f(rate: Rate, cylinders: u32, sectors: u32) -> Format {
            Format::new(rate, cylinders, sectors)
        }
        let (name, formats): (_, &'static [Format]) = match cmos {
            1 => ("360 KB", const { &[f(K250, 40, 9), f(K250, 40, 8)] }),
            2 => (
                "1.2 MB",
                const {
                    &[
                        f(K500, 80, 15),
                        f(K300, 40, 9),
                        f(K250, 80, 9),
                        f(K250, 40, 8),
                    ]
                },
            ),
            3 => ("720 KB", const { &[f(K250, 80, 9)] }),
            4 => ("1.44 MB", const { &[f(K500, 80, 18), f(K250, 80, 9)] }),
            5 | 6 => (
                "2.88 MB",
                const { &[f(M1, 80, 36), f(K500, 80, 18), f(K250, 80, 9)] },
            ),
            _ => return None,
        };
        Some(Self { name, formats })
    }
}

/// Number of sectors of a diskette.
pub fn sectors(chs: Chs) -> u64 {
    u64::from(chs.cylinders * chs.heads * chs.sectors)
}

/// Where sector `lba` is: cylinder, head, sector from 1.
pub fn address(chs: Chs, lba: u64) -> [u8; 3] {
    let sectors = u64::from(chs.sectors.max(1));
    let heads = u64::from(chs.heads.max(1));
    let track = lba / sectors;
    [
        (track / heads) as u8,
        (track % heads) as u8,
        (lba % sectors) as u8 + 1,
    ]
}

/// What one command of a request moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Sectors, at least 1.
    pub count: u32,
    /// They go by way of memory that the DMA controller reaches.
    pub borrows: bool,
}

/// The next command for `left` sectors, at least one, from `lba` on to or from `buffer`. It stays in its cylinder, where it goes on
/// from one side to the other.
pub fn next_part(chs: Chs, lba: u64, left: u32, buffer: u64) -> Part {
    let cylinder = u64::from((chs.heads * chs.sectors).max(1));
    let here = (cylinder - lba % cylinder).min(left.into()) as u32;
    let direct = (reached(buffer) / SECTOR).min(here.into()) as u32;
    match direct {
        0 => Part {
            count: 1,
            borrows: true,
        },
        count => Part {
            count,
            borrows: false,
        },
    }
}

/// Bytes from `buffer` on that the DMA controller reaches in one transfer.
fn reached(buffer: u64) -> u64 {
    let devices = low_memory::VIDEO.start..MIB;
    if devices.contains(&buffer) {
        return 0;
    }
    let page_end = (buffer | (isa_dma::BOUNDARY - 1)).saturating_add(1);
    page_end.min(isa_dma::REACH.end).saturating_sub(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> impl Iterator<Item = Model> {
        (0..16).filter_map(Model::of)
    }

    #[test]
    fn sizes_of_diskettes() {
        let kib: Vec<u64> = models()
            .map(|model| sectors(model.formats[0].chs) / 2)
            .collect();
        assert_eq!(kib, [360, 1200, 720, 1440, 2880, 2880]);
        assert_eq!(Model::of(0), None);
    }

    #[test]
    fn addresses_of_sectors() {
        let chs = Model::of(4).unwrap().formats[0].chs;
        assert_eq!(address(chs, 0), [0, 0, 1]);
        assert_eq!(address(chs, 18), [0, 1, 1]);
        assert_eq!(address(chs, 2879), [79, 1, 18]);
    }

    #[test]
    fn a_cylinder_is_one_command() {
        let chs = Model::of(4).unwrap().formats[0].chs;
        let part = |lba, left, buffer| {
            let Part { count, borrows } = next_part(chs, lba, left, buffer);
            (count, borrows)
        };
        assert_eq!(part(36, 128, 0x1_0000), (36, false));
        assert_eq!(part(40, 128, 0x1_0000), (32, false));
        assert_eq!(part(36, 36, 0x1_fd00), (1, false));
        assert_eq!(part(37, 35, 0x1_ff00), (1, true));
        assert_eq!(part(36, 36, 0xc_8000), (1, true));
        assert_eq!(part(36, 36, 0x100_0000), (1, true));
    }

    proptest::proptest! {
        #[test]
        fn every_part_is_within_reach_and_in_one_cylinder(
            cmos in 1u8..7,
            format in 0usize..4,
            lba in 0u64..5760,
            left in 1u32..256,
            buffer in proptest::prop_oneof![0u64..0x20_0000, 0xff_0000u64..0x102_0000],
        ) {
            let formats = Model::of(cmos).unwrap().formats;
            let chs = formats[format % formats.len()].chs;
            let lba = lba % sectors(chs);
            let [cylinder, head, sector] = address(chs, lba);
            let back = (u64::from(cylinder) * u64::from(chs.heads) + u64::from(head)) * u64::from(chs.sectors);
            assert_eq!(back + u64::from(sector) - 1, lba);
            assert!(sector >= 1 && u32::from(sector) <= chs.sectors && u32::from(head) < chs.heads);
            let part = next_part(chs, lba, left, buffer);
            assert!(part.count >= 1 && part.count <= left);
            assert_eq!(address(chs, lba + u64::from(part.count) - 1)[0], cylinder);
            if !part.borrows {
                let last = buffer + u64::from(part.count) * SECTOR - 1;
                assert!(last < isa_dma::REACH.end);
                assert_eq!(buffer / isa_dma::BOUNDARY, last / isa_dma::BOUNDARY);
                assert!(last < low_memory::VIDEO.start || buffer >= MIB);
            }
        }
    }
}
