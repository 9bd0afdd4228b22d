//! El Torito: what a CD says can be booted from it, and the drive that it emulates.
//!
//! Source: "El Torito" Bootable CD-ROM Format Specification 1.0 (Phoenix and IBM, 1995), sections 2 and 3.

use super::{BlockDevice, Chs, Disk, DiskError, DiskInfo, Kind, Limits, Op, Request};
use crate::arch::Handle;
use crate::devices::name::Name;
use alloc::sync::Arc;
use core::fmt;
use spin::Mutex;

/// Bytes of a CD's sector.
pub const SECTOR: usize = 2048;
/// Sector of the boot record, which says where the catalogue is.
pub const BOOT_RECORD: u64 = 17;
/// Sectors that an emulated drive makes of one of the CD's.
const PARTS: u32 = 4;
/// Bytes of an entry of the catalogue.
const ENTRY: usize = 32;
/// How a bootable entry begins.
const BOOTABLE: u8 = 0x88;
/// Where a boot image goes that does not say where.
const DEFAULT_SEGMENT: u16 = 0x07c0;

/// Why nothing can be booted from a CD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It has no boot record.
    NoBootRecord,
    /// The catalogue's first entry is damaged.
    BadCatalogue,
    /// The catalogue has no entry for a PC's BIOS, or none that is marked as bootable.
    NoEntry,
    /// An image of a hard disk without a partition, from which the geometry would come.
    NoPartition,
    /// The image lies outside of the medium, or does not fit in conventional memory.
    Outside,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoBootRecord => "not bootable: it has no El Torito boot record",
            Self::BadCatalogue => "not bootable: its boot catalogue is damaged",
            Self::NoEntry => "not bootable: its boot catalogue has nothing for a BIOS",
            Self::NoPartition => "not bootable: its hard disk image has no partition",
            Self::Outside => {
                "not bootable: its boot image is not where the catalogue says, or is too long"
            }
        })
    }
}

/// What an entry lets the BIOS emulate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emulation {
    /// Nothing: the image is a program.
    None,
    /// A diskette drive with this geometry.
    Floppy(Chs),
    /// A hard disk.
    HardDisk,
}

/// An entry of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The media type as the catalogue has it, for those who ask by INT 13h AH=4Bh.
    pub media: u8,
    /// The same in words.
    pub emulation: Emulation,
    /// Where the boot program goes.
    pub segment: u16,
    /// How many sectors of 512 bytes of it are loaded, at least 1.
    pub count: u16,
    /// First sector of the image on the CD.
    pub lba: u32,
}

fn half(bytes: &[u8], at: usize) -> u16 {
    let bytes = bytes
        .get(at..at + 2)
        .and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u16::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from(half(bytes, at)) | u32::from(half(bytes, at + 2)) << 16
}

/// Where the catalogue is, by the sector at [`BOOT_RECORD`].
///
/// # Errors
/// [`Problem::NoBootRecord`]: it is no boot record.
pub fn catalogue(record: &[u8; SECTOR]) -> Result<u32, Problem> {
    const STANDARD: &[u8] = b"\0CD001\x01";
    const SYSTEM: &[u8] = b"EL TORITO SPECIFICATION";
    const CATALOGUE: usize = 0x47;
    if !record.starts_with(STANDARD) || !record[STANDARD.len()..].starts_with(SYSTEM) {
        return Err(Problem::NoBootRecord);
    }
    Ok(word(record, CATALOGUE))
}

/// The entry to boot: the initial one, or where that is not for a PC, the first bootable one of a section that is.
///
/// # Errors
/// The catalogue is damaged, or has no such entry.
pub fn entry(catalogue: &[u8; SECTOR]) -> Result<Entry, Problem> {
    const HEADER_ID: u8 = 1;
    const KEY: u16 = 0xaa55;
    const PC: u8 = 0;
    const SECTION: u8 = 0x90;
    const LAST_SECTION: u8 = 0x91;
    const EXTENSION: u8 = 0x44;
    let (validation, rest) = catalogue.split_at(ENTRY);
    let total = (0..ENTRY)
        .step_by(2)
        .fold(0u16, |total, at| total.wrapping_add(half(validation, at)));
    if validation[0] != HEADER_ID || half(validation, 0x1e) != KEY || total != 0 {
        return Err(Problem::BadCatalogue);
    }
    let mut entries = rest.chunks_exact(ENTRY);
    let initial = entries.next().ok_or(Problem::NoEntry)?;
    if validation[1] == PC
        && let Some(entry) = Entry::read(initial)
    {
        return Ok(entry);
    }
    // The platform of the section that the next entries belong to, and how many they are.
    let (mut platform, mut left) = (None, 0);
    for bytes in entries {
        match bytes[0] {
            EXTENSION => {}
            SECTION | LAST_SECTION if left == 0 => {
                platform = Some(bytes[1]);
                left = half(bytes, 2);
            }
            _ if left == 0 => break,
            _ => {
                left -= 1;
                let entry = Entry::read(bytes).filter(|_| platform == Some(PC));
                if let Some(entry) = entry {
                    return Ok(entry);
                }
            }
        }
    }
    Err(Problem::NoEntry)
}

impl Entry {
    /// Reads an entry; `None` where it is not bootable, or of a kind that is not known.
    fn read(bytes: &[u8]) -> Option<Self> {
        let floppy = |sectors| {
            Emulation::Floppy(Chs {
                cylinders: 80,
                heads: 2,
                sectors,
            })
        };
        let emulation = match bytes[1] & 15 {
            0 => Emulation::None,
            1 => floppy(15),
            2 => floppy(18),
            3 => floppy(36),
            4 => Emulation::HardDisk,
            _ => return None,
        };
        (bytes[0] == BOOTABLE).then(|| Self {
            media: bytes[1],
            emulation,
            segment: match half(bytes, 2) {
                0 => DEFAULT_SEGMENT,
                segment => segment,
            },
            count: half(bytes, 6).max(1),
            lba: word(bytes, 8),
        })
    }

    /// An entry that says this; `None` for a media type that does not exist.
    pub fn new(media: u8, segment: u16, count: u16, lba: u32) -> Option<Self> {
        let mut bytes = [0; ENTRY];
        bytes[..2].copy_from_slice(&[BOOTABLE, media]);
        bytes[2..4].copy_from_slice(&segment.to_le_bytes());
        bytes[6..8].copy_from_slice(&count.to_le_bytes());
        bytes[8..12].copy_from_slice(&lba.to_le_bytes());
        Self::read(&bytes)
    }

    /// Sectors of the CD that hold the boot program.
    pub fn cd_sectors(&self) -> u32 {
        u32::from(self.count).div_ceil(PARTS)
    }

    /// Kind and geometry of what it emulates. The geometry of a hard disk is where its first partition ends, by the image's first
    /// sector.
    ///
    /// # Errors
    /// [`Problem::NoPartition`].
    pub fn drive(&self, first_sector: &[u8; SECTOR]) -> Result<Option<(Kind, Chs)>, Problem> {
        const PARTITION: usize = 446;
        Ok(Some(match self.emulation {
            Emulation::None => return Ok(None),
            Emulation::Floppy(chs) => (Kind::Floppy, chs),
            Emulation::HardDisk => {
                let partition = &first_sector[PARTITION..PARTITION + 16];
                let sectors = u32::from(partition[6] & 0x3f);
                if partition[4] == 0 || sectors == 0 {
                    return Err(Problem::NoPartition);
                }
                let chs = Chs {
                    cylinders: (u32::from(partition[7]) | u32::from(partition[6] & 0xc0) << 2) + 1,
                    heads: u32::from(partition[5]) + 1,
                    sectors,
                };
                (Kind::HardDisk, chs)
            }
        }))
    }
}

/// The drive that a CD emulates: sectors of 512 bytes in one of its files, which cannot be written.
pub struct Emulated<H> {
    hw: H,
    cd: Arc<Mutex<Disk>>,
    start: u64,
    /// Memory for a sector of the CD of which only a part is wanted.
    page: u64,
    info: DiskInfo,
}

impl<H: Handle> Emulated<H> {
    /// The image at sector `start` of `cd` as a drive of this kind and geometry. `page` is memory for one sector of the CD. `None`
    /// where the image lies outside of the medium.
    pub fn new(
        hw: H,
        cd: Arc<Mutex<Disk>>,
        start: u32,
        (kind, geometry): (Kind, Chs),
        page: u64,
    ) -> Option<Self> {
        let cd_info = cd.lock().info().clone();
        let start = u64::from(start);
        let room = cd_info
            .sectors
            .checked_sub(start)?
            .saturating_mul(PARTS.into());
        let size =
            u64::from(geometry.cylinders) * u64::from(geometry.heads) * u64::from(geometry.sectors);
        (room > 0).then(|| Self {
            hw,
            cd,
            start,
            page,
            info: DiskInfo {
                kind,
                name: Name::new(fmt::from_fn(move |f| {
                    write!(f, "Image on {}", cd_info.name)
                })),
                sector_size: 512,
                sectors: size.min(room),
                geometry,
                limits: Limits {
                    sectors: u32::from(u16::MAX),
                    dma: None,
                },
                place: cd_info.place,
                edd: None,
            },
        })
    }
}

impl<H: Handle> BlockDevice for Emulated<H> {
    fn info(&self) -> &DiskInfo {
        &self.info
    }

    fn transfer(&mut self, request: &Request) -> Result<(), DiskError> {
        if request.op == Op::Write {
            return Err(DiskError::WriteProtected);
        }
        let parts = u64::from(PARTS);
        let mut cd = self.cd.lock();
        let (mut lba, mut left, mut buffer) =
            (request.lba, u64::from(request.count), request.buffer);
        while left > 0 {
            let (sector, part) = (self.start + lba / parts, lba % parts);
            let count = if part == 0 && left >= parts {
                let whole = left / parts;
                cd.read(&self.hw, sector, whole as u32, buffer)?;
                whole * parts
            } else {
                let count = left.min(parts - part);
                cd.read(&self.hw, sector, 1, self.page)?;
                self.hw.copy(buffer, self.page + 512 * part, 512 * count);
                count
            };
            lba += count;
            left -= count;
            buffer += 512 * count;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        Ok(())
    }

    fn recover(&mut self) -> Result<(), DiskError> {
        self.cd.lock().reset()
    }
}

/// A catalogue with these entries behind a good first one, for a PC or for another platform.
#[cfg(test)]
pub fn catalogue_of(platform: u8, entries: &[[u8; ENTRY]]) -> [u8; SECTOR] {
    let mut catalogue = [0; SECTOR];
    catalogue[..2].copy_from_slice(&[1, platform]);
    catalogue[0x1e..0x20].copy_from_slice(&[0x55, 0xaa]);
    let total = (0..ENTRY)
        .step_by(2)
        .fold(0u16, |total, at| total.wrapping_add(half(&catalogue, at)));
    catalogue[0x1c..0x1e].copy_from_slice(&total.wrapping_neg().to_le_bytes());
    for (bytes, entry) in catalogue.chunks_exact_mut(ENTRY).skip(1).zip(entries) {
        bytes.copy_from_slice(entry);
    }
    catalogue
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(first: &[u8]) -> [u8; ENTRY] {
        let mut entry = [0; ENTRY];
        entry[..first.len()].copy_from_slice(first);
        entry
    }

    #[test]
    fn the_initial_entry() {
        let initial = bytes(&[0x88, 0, 0, 0, 0, 0, 4, 0, 0x2a, 1, 0, 0]);
        let expected = Entry {
            media: 0,
            emulation: Emulation::None,
            segment: 0x7c0,
            count: 4,
            lba: 0x12a,
        };
        assert_eq!(entry(&catalogue_of(0, &[initial])), Ok(expected));
        assert_eq!(expected.cd_sectors(), 1);
    }

    #[test]
    fn a_section_for_a_pc_behind_one_for_another() {
        let efi = bytes(&[0x88, 0, 0, 0, 0, 0, 1, 0, 9]);
        let pc = bytes(&[0x88, 2, 0, 0x10, 0, 0, 1, 0, 7]);
        let catalogue = catalogue_of(
            0xef,
            &[
                efi,
                bytes(&[0x90, 0xef, 1, 0]),
                efi,
                bytes(&[0x91, 0, 2, 0]),
                bytes(&[0, 0, 0, 0, 0, 0, 1, 0, 8]),
                bytes(&[0x44]),
                pc,
            ],
        );
        let found = entry(&catalogue).unwrap();
        assert_eq!((found.lba, found.segment), (7, 0x1000));
        let (kind, chs) = found.drive(&[0; SECTOR]).unwrap().unwrap();
        assert_eq!((kind, chs.sectors), (Kind::Floppy, 18));
    }

    #[test]
    fn damaged_catalogues() {
        let mut damaged = catalogue_of(0, &[bytes(&[0x88])]);
        damaged[5] ^= 1;
        assert_eq!(entry(&damaged), Err(Problem::BadCatalogue));
        assert_eq!(entry(&catalogue_of(0, &[])), Err(Problem::NoEntry));
        assert_eq!(
            entry(&catalogue_of(0, &[bytes(&[0x88, 9])])),
            Err(Problem::NoEntry)
        );
        assert_eq!(catalogue(&[0; SECTOR]), Err(Problem::NoBootRecord));
    }

    #[test]
    fn hard_disks_end_with_their_partition() {
        let disk = entry(&catalogue_of(0, &[bytes(&[0x88, 4])])).unwrap();
        let mut first = [0; SECTOR];
        assert_eq!(disk.drive(&first), Err(Problem::NoPartition));
        first[446 + 4..446 + 8].copy_from_slice(&[6, 15, 0x40 | 63, 0x23]);
        let (kind, chs) = disk.drive(&first).unwrap().unwrap();
        assert_eq!(kind, Kind::HardDisk);
        assert_eq!((chs.cylinders, chs.heads, chs.sectors), (0x124, 16, 63));
    }

    proptest::proptest! {
        #[test]
        fn any_sector_is_read(
            mut sector in proptest::collection::vec(0u8.., SECTOR),
            good in proptest::bool::ANY,
        ) {
            if good {
                sector[..ENTRY].copy_from_slice(&catalogue_of(0xef, &[])[..ENTRY]);
            }
            let sector: [u8; SECTOR] = sector.try_into().unwrap();
            let _ = catalogue(&sector);
            if let Ok(entry) = entry(&sector) {
                assert!(entry.count >= 1 && entry.segment != 0);
                let _ = entry.drive(&sector);
            }
        }
    }
}
