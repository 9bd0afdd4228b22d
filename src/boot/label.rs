//! What the owner of a disk called it: the volume name of an ISO 9660 image, the label of a file system, the name of a partition.
//!
//! Only the menu asks, when it is drawn. Sources: ECMA-119, 8.4 (volume name); UEFI 2.10, 5.3 (partitions); Microsoft FAT
//! specification 1.03, section 3; Linux, fs/ext4/ext4.h, fs/xfs/libxfs/xfs_format.h and include/uapi/linux/btrfs_tree.h.

use alloc::string::String;
use alloc::vec::Vec;

/// A sector of 512 bytes, whatever the medium has.
pub type Sector = [u8; 512];

/// Sector of an ISO image's primary volume descriptor.
const ISO_DESCRIPTOR: u64 = 64;
/// Offset of the partition table in sector 0, and bytes of an entry.
const TABLE: usize = 446;
const TABLE_ENTRY: usize = 16;
/// Partition type of the one entry that protects a GUID partition table.
const PROTECTIVE: u8 = 0xee;
/// Entries of a GUID partition table that are looked at: those of its first sector.
const GPT_ENTRY: usize = 128;

/// The label of the medium that `read` reads sectors of; `None` where it has none, or cannot be read.
pub fn of(mut read: impl FnMut(u64) -> Option<Sector>) -> Option<String> {
    let read: &mut dyn FnMut(u64) -> Option<Sector> = &mut read;
    if let Some(name) = read(ISO_DESCRIPTOR).as_ref().and_then(iso_name) {
        return Some(name);
    }
    let first = read(0)?;
    let partitions = partitions(&first, read);
    let labelled = partitions
        .iter()
        .find_map(|partition| file_system(partition.start, read));
    labelled
        .or_else(|| partitions.into_iter().find_map(|partition| partition.name))
        .or_else(|| file_system(0, read))
}

struct Partition {
    start: u64,
    name: Option<String>,
}

/// The partitions, the active one first.
fn partitions(first: &Sector, read: &mut dyn FnMut(u64) -> Option<Sector>) -> Vec<Partition> {
    if first[510..] != [0x55, 0xaa] {
        return Vec::new();
    }
    let entries = first[TABLE..510].chunks_exact(TABLE_ENTRY);
    let mut entries: Vec<&[u8]> = entries.filter(|entry| entry[4] != 0).collect();
    if entries.iter().any(|entry| entry[4] == PROTECTIVE) {
        return gpt(read).unwrap_or_default();
    }
    firstlight_tables::sort::by_key(&mut entries, |entry| entry[0] & 0x80 == 0);
    let partition = |entry: &&[u8]| Partition {
        start: number(entry, 8, 4),
        name: None,
    };
    entries.iter().map(partition).collect()
}

fn gpt(read: &mut dyn FnMut(u64) -> Option<Sector>) -> Option<Vec<Partition>> {
    let header = read(1).filter(|header| header.starts_with(b"EFI PART"))?;
    if number(&header, 84, 4) != GPT_ENTRY as u64 {
        return None;
    }
    let table = read(number(&header, 72, 8))?;
    let entries = table.chunks_exact(GPT_ENTRY);
    let used = entries.filter(|entry| entry[..16] != [0; 16]);
    let partitions = used.map(|entry| {
        let units = entry[56..].chunks_exact(2);
        let units = units.map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
        let characters = char::decode_utf16(units.take_while(|unit| *unit != 0));
        let name: String = characters.map(|c| c.unwrap_or('?')).collect();
        Partition {
            start: number(entry, 32, 8),
            name: readable(&name),
        }
    });
    Some(partitions.collect())
}

/// The label of the file system that starts at `start`.
fn file_system(start: u64, read: &mut dyn FnMut(u64) -> Option<Sector>) -> Option<String> {
    const EXT: u64 = 2;
    const BTRFS: u64 = 128;
    let boot = read(start)?;
    let label = match &boot {
        _ if boot.starts_with(b"XFSB") => text(&boot[108..120]),
        _ if boot[82..].starts_with(b"FAT32") => fat_label(&boot[71..82]),
        _ if boot[54..].starts_with(b"FAT") => fat_label(&boot[43..54]),
        _ => None,
    };
    label
        .or_else(|| {
            let ext = read(start.checked_add(EXT)?)?;
            (ext[56..58] == [0x53, 0xef]).then(|| text(&ext[120..136]))?
        })
        .or_else(|| {
            let btrfs = read(start.checked_add(BTRFS)?)?;
            btrfs[64..]
                .starts_with(b"_BHRfS_M")
                .then(|| text(&btrfs[0x12b..]))?
        })
}

fn iso_name(descriptor: &Sector) -> Option<String> {
    const PRIMARY: &[u8] = b"\x01CD001";
    descriptor
        .starts_with(PRIMARY)
        .then(|| text(&descriptor[40..72]))?
}

fn fat_label(bytes: &[u8]) -> Option<String> {
    text(bytes).filter(|label| label != "NO NAME")
}

/// A field that ends with a NUL or its last byte, without blanks around it.
fn text(field: &[u8]) -> Option<String> {
    let field = field.split(|byte| *byte == 0).next()?;
    readable(&String::from_utf8_lossy(field))
}

fn readable(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.into())
}

/// The little-endian number of `len` bytes at `offset`.
fn number(bytes: &[u8], offset: usize, len: usize) -> u64 {
    let bytes = &bytes[offset..offset + len];
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Disk(BTreeMap<u64, Sector>);

    impl Disk {
        fn put(&mut self, lba: u64, offset: usize, bytes: &[u8]) {
            self.0.entry(lba).or_insert([0; 512])[offset..offset + bytes.len()]
                .copy_from_slice(bytes);
        }
        fn label(&self) -> Option<String> {
            of(|lba| Some(self.0.get(&lba).copied().unwrap_or([0; 512])))
        }
        /// A partition table with an inactive and an active entry.
        fn partitioned() -> Self {
            let mut disk = Self::default();
            disk.put(0, 510, &[0x55, 0xaa]);
            disk.put(0, TABLE, &[0, 0, 0, 0, 0x83, 0, 0, 0, 100, 0, 0, 0]);
            disk.put(0, TABLE + 16, &[0x80, 0, 0, 0, 0x0c, 0, 0, 0, 200, 0, 0, 0]);
            disk
        }
    }

    #[test]
    fn volumes_file_systems_and_partitions() {
        let mut iso = Disk::default();
        iso.put(64, 0, b"\x01CD001\x01");
        iso.put(64, 40, b"Debian 12.5.0 amd64 n           ");
        assert_eq!(iso.label().as_deref(), Some("Debian 12.5.0 amd64 n"));

        let mut fat = Disk::partitioned();
        fat.put(200, 82, b"FAT32   ");
        fat.put(200, 71, b"DOS 6.22   ");
        fat.put(102, 56, &[0x53, 0xef]);
        fat.put(102, 120, b"root\0");
        assert_eq!(fat.label().as_deref(), Some("DOS 6.22"));
        fat.put(200, 71, b"NO NAME    ");
        assert_eq!(fat.label().as_deref(), Some("root"));

        let mut whole = Disk::default();
        whole.put(0, 54, b"FAT12   ");
        whole.put(0, 43, b"BOOT DISK  ");
        assert_eq!(whole.label().as_deref(), Some("BOOT DISK"));

        let mut btrfs = Disk::partitioned();
        btrfs.put(228, 64, b"_BHRfS_M");
        btrfs.put(228, 64, b"no");
        assert_eq!(btrfs.label(), None);
        btrfs.put(328, 64, b"_BHRfS_M");
        btrfs.put(328, 0x12b, "Größe\0".as_bytes());
        assert_eq!(btrfs.label().as_deref(), Some("Größe"));
    }

    #[test]
    fn names_of_gpt_partitions() {
        let mut disk = Disk::default();
        disk.put(0, 510, &[0x55, 0xaa]);
        disk.put(0, TABLE + 4, &[PROTECTIVE]);
        disk.put(1, 0, b"EFI PART");
        disk.put(1, 72, &2u64.to_le_bytes());
        disk.put(1, 84, &128u32.to_le_bytes());
        disk.put(2, 128, &[1; 16]);
        disk.put(2, 128 + 32, &2048u64.to_le_bytes());
        let name: Vec<u8> = "Linux".encode_utf16().flat_map(u16::to_le_bytes).collect();
        disk.put(2, 128 + 56, &name);
        assert_eq!(disk.label().as_deref(), Some("Linux"));
        disk.put(2048, 0, b"XFSB");
        disk.put(2048, 108, b"data");
        assert_eq!(disk.label().as_deref(), Some("data"));
    }

    proptest! {
        #[test]
        fn any_sectors_are_survived(
            sectors in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 512), 8),
            missing: u8,
            known in 0usize..6,
        ) {
            const STARTS: [&[u8]; 6] = [b"\x01CD001", b"EFI PART", b"XFSB", b"", b"x", b"_"];
            let start = STARTS[known];
            of(|lba| {
                let mut sector = [0; 512];
                sector.copy_from_slice(&sectors[lba as usize % 8]);
                sector[..start.len()].copy_from_slice(start);
                sector[510..].copy_from_slice(&[0x55, 0xaa]);
                (lba as u8 != missing).then_some(sector)
            });
        }
    }
}
