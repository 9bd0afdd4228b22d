//! What a drive says of itself: the 512 bytes that IDENTIFY DEVICE and IDENTIFY PACKET DEVICE return.
//!
//! Source: ATA/ATAPI Command Set 2 (ACS-2), sections 7.18 and 7.19.

use crate::storage::Chs;
use alloc::string::String;
use core::fmt;

/// Bytes that IDENTIFY returns.
pub const IDENTIFY_LEN: usize = 512;
/// Packet device type: CD or DVD (word 0, bits 12:8).
const TYPE_CD: u16 = 5;

/// How a drive's write cache is emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// The drive caches no writes.
    None,
    /// FLUSH CACHE.
    Short,
    /// FLUSH CACHE EXT.
    Ext,
}

/// A disk's properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Model number, without the padding.
    pub model: String,
    /// Number of logical sectors.
    pub sectors: u64,
    /// Bytes a logical sector.
    pub sector_size: u32,
    /// Default translation: cylinders, heads, sectors a track.
    pub geometry: Chs,
    /// Takes 48-bit addresses.
    pub lba48: bool,
    /// Does DMA.
    pub dma: bool,
    /// How to make writes lasting.
    pub flush: Flush,
}

/// Why a drive's answer is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// Not a disk by its own words.
    NotADisk,
    /// Knows cylinders only. Drives since 1994 take block addresses.
    NoLba,
    /// No sectors.
    Empty,
    /// Sectors of a size that nobody uses.
    SectorSize(u32),
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotADisk => f.write_str("it says that it is no disk"),
            Self::NoLba => f.write_str("it takes no block addresses"),
            Self::Empty => f.write_str("it has no sectors"),
            Self::SectorSize(size) => write!(f, "it has sectors of {size} bytes"),
        }
    }
}

struct Words<'a>(&'a [u8; IDENTIFY_LEN]);

impl Words<'_> {
    fn word(&self, index: usize) -> u16 {
        u16::from_le_bytes([self.0[2 * index], self.0[2 * index + 1]])
    }

    fn number(&self, index: usize, words: usize) -> u64 {
        (0..words).fold(0, |sum, i| {
            sum | u64::from(self.word(index + i)) << (16 * i)
        })
    }

    /// A word whose bits 15:14 say 01 when it holds anything.
    fn validated(&self, index: usize) -> u16 {
        let word = self.word(index);
        if word >> 14 == 1 { word } else { 0 }
    }

    /// Characters come with the bytes of each word swapped, padded with spaces.
    fn text(&self, index: usize, words: usize) -> String {
        let text: String = self.0[2 * index..2 * (index + words)]
            .chunks_exact(2)
            .flat_map(|pair| [pair[1], pair[0]])
            .map(|byte| match byte {
                0x20..=0x7e => char::from(byte),
                _ => ' ',
            })
            .collect();
        text.trim().into()
    }
}

/// Reads a disk's answer to IDENTIFY DEVICE.
///
/// # Errors
/// The drive is no disk that this driver can use.
pub fn disk(data: &[u8; IDENTIFY_LEN]) -> Result<Identity, IdentityError> {
    let words = Words(data);
    if words.word(0) & 1 << 15 != 0 {
        return Err(IdentityError::NotADisk);
    }
    if words.word(49) & 1 << 9 == 0 {
        return Err(IdentityError::NoLba);
    }
    let features = words.validated(83);
    let sectors48 = words.number(100, 4);
    let lba48 = features & 1 << 10 != 0 && sectors48 != 0 && sectors48 <= 1 << 48;
    let sectors = if lba48 {
        sectors48
    } else {
        words.number(60, 2).min(1 << 28)
    };
    if sectors == 0 {
        return Err(IdentityError::Empty);
    }
    let sector_size = if words.validated(106) & 1 << 12 != 0 {
        words.number(117, 2).saturating_mul(2).min(u32::MAX.into()) as u32
    } else {
        512
    };
    if !matches!(sector_size, 512 | 1024 | 2048 | 4096) {
        return Err(IdentityError::SectorSize(sector_size));
    }
    let caches = words.word(85) & 1 << 5 != 0;
    let flush = match (caches, features & 1 << 13 != 0, features & 1 << 12 != 0) {
        (true, true, _) if lba48 => Flush::Ext,
        (true, _, true) => Flush::Short,
        _ => Flush::None,
    };
    Ok(Identity {
        model: words.text(27, 20),
        sectors,
        sector_size,
        geometry: Chs {
            cylinders: words.word(1).into(),
            heads: words.word(3).into(),
            sectors: words.word(6).into(),
        },
        lba48,
        dma: words.word(49) & 1 << 8 != 0,
        flush,
    })
}

/// A CD or DVD drive's properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CdIdentity {
    /// Model number, without the padding.
    pub model: String,
    /// Bytes of the command blocks that it takes.
    pub block_len: u8,
    /// Does DMA.
    pub dma: bool,
}

/// Reads a packet device's answer to IDENTIFY PACKET DEVICE, if it is a CD or DVD drive.
pub fn cd(data: &[u8; IDENTIFY_LEN]) -> Option<CdIdentity> {
    let words = Words(data);
    let kind = words.word(0);
    (kind >> 14 == 2 && kind >> 8 & 0x1f == TYPE_CD).then(|| CdIdentity {
        model: words.text(27, 20),
        block_len: if kind & 3 == 1 { 16 } else { 12 },
        dma: words.word(49) & 1 << 8 != 0,
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// An answer like the one of QEMU's disk.
    pub fn sample(sectors: u64) -> [u8; IDENTIFY_LEN] {
        let mut data = [0; IDENTIFY_LEN];
        let mut set = |index: usize, value: u16| {
            data[2 * index..2 * index + 2].copy_from_slice(&value.to_le_bytes());
        };
        set(0, 0x0040);
        set(1, (sectors / 1008).clamp(2, 16383) as u16);
        set(3, 16);
        set(6, 63);
        for (i, pair) in b"QEMU HARDDISK   ".chunks(2).enumerate() {
            set(27 + i, u16::from_be_bytes([pair[0], pair[1]]));
        }
        set(49, 1 << 9 | 1 << 8);
        let sectors28 = sectors.min((1 << 28) - 1);
        set(60, sectors28 as u16);
        set(61, (sectors28 >> 16) as u16);
        set(83, 1 << 14 | 1 << 13 | 1 << 12 | 1 << 10);
        set(85, 1 << 14 | 1 << 5);
        for i in 0..4 {
            set(100 + i, (sectors >> (16 * i)) as u16);
        }
        data
    }

    fn with(data: &[u8; IDENTIFY_LEN], words: &[(usize, u16)]) -> [u8; IDENTIFY_LEN] {
        let mut data = *data;
        for &(index, value) in words {
            data[2 * index..2 * index + 2].copy_from_slice(&value.to_le_bytes());
        }
        data
    }

    #[test]
    fn a_disk_of_three_tebibytes() {
        let identity = disk(&sample(3 << 31)).unwrap();
        assert_eq!(identity.model, "QEMU HARDDISK");
        assert_eq!(identity.sectors, 3 << 31);
        assert_eq!(identity.sector_size, 512);
        assert_eq!(identity.geometry.cylinders, 16383);
        assert!(identity.lba48 && identity.dma);
        assert_eq!(identity.flush, Flush::Ext);
    }

    #[test]
    fn without_48_bit_addresses_the_other_words_count() {
        let data = with(&sample(3 << 31), &[(83, 1 << 14 | 1 << 12)]);
        let identity = disk(&data).unwrap();
        assert_eq!(identity.sectors, (1 << 28) - 1);
        assert_eq!(identity.flush, Flush::Short);
        let data = with(&data, &[(85, 0)]);
        assert_eq!(disk(&data).unwrap().flush, Flush::None);
    }

    #[test]
    fn long_sectors() {
        let data = with(&sample(100), &[(106, 0x5000), (117, 2048)]);
        assert_eq!(disk(&data).unwrap().sector_size, 4096);
        let data = with(&data, &[(118, 0xffff)]);
        assert!(matches!(disk(&data), Err(IdentityError::SectorSize(_))));
    }

    #[test]
    fn unusable_drives() {
        let data = sample(100);
        assert_eq!(
            disk(&with(&data, &[(0, 0x8580)])),
            Err(IdentityError::NotADisk)
        );
        assert_eq!(disk(&with(&data, &[(49, 0)])), Err(IdentityError::NoLba));
        assert_eq!(disk(&sample(0)), Err(IdentityError::Empty));
    }

    #[test]
    fn cd_drives_by_their_type() {
        let data = with(&sample(0), &[(0, 0x8580)]);
        let drive = cd(&data).unwrap();
        assert_eq!((&*drive.model, drive.block_len), ("QEMU HARDDISK", 12));
        assert_eq!(cd(&with(&data, &[(0, 0x8180)])), None);
        assert_eq!(cd(&sample(100)), None);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(data in proptest::collection::vec(proptest::num::u8::ANY, IDENTIFY_LEN)) {
            let data = data.try_into().unwrap();
            let _ = (disk(&data), cd(&data));
        }
    }
}
