//! GRUB 2 in a disk image: what `grub-install` does to a disk's first sectors, done to a file, with no device and no mount.
//!
//! Layout, in sectors of 512 bytes: 0 the master boot record (GRUB's boot.img and the partition table), from 1 GRUB's core image
//! (diskboot.img, then the compressed rest), from [`PARTITION_START`] the one partition.
//!
//! The fields written into GRUB's images are those that GRUB's installer fills in: the address of the core image's first sector
//! in boot.img, and the block list at the end of the core image's first sector.

use anyhow::{Context, Result, ensure};

/// The size of a sector, in bytes.
pub const SECTOR: usize = 512;
/// The sector at which the partition starts, 1 MiB into the disk as partitioning programs have it.
pub const PARTITION_START: u32 = 2048;

/// Where boot.img keeps the 64-bit number of the core image's first sector.
const KERNEL_SECTOR: usize = 0x5C;
/// Where the master boot record has the disk's signature (32 bits).
const DISK_SIGNATURE: usize = 0x1B8;
/// Where the master boot record has the first of its four partition entries.
const PARTITION_TABLE: usize = 0x1BE;
/// The core image's first sector on the disk.
const CORE_START: u64 = 1;
/// The last entry of the first core sector's block list: 64-bit start, 16-bit length, 16-bit segment to load it at.
const BLOCK_LIST: usize = SECTOR - 12;
/// The segment at which GRUB's first stage expects the rest of the core image.
const CORE_SEGMENT: u16 = 0x820;
/// The status of a partition that a BIOS may start.
const ACTIVE: u8 = 0x80;
/// The type of a partition with a Linux file system.
const LINUX: u8 = 0x83;
/// The type of an EFI system partition (UEFI 2.10, section 5.2.2).
const EFI_SYSTEM: u8 = 0xEF;
/// Cylinder, head and sector of a partition that is only reachable by its sector number.
const BEYOND_CHS: [u8; 3] = [0xFE, 0xFF, 0xFF];

/// Returns what belongs in front of the partition: a master boot record made of `boot_image`, and `core_image`.
/// The partition has `partition_sectors` sectors; `signature` identifies the disk.
///
/// # Errors
/// One of GRUB's images does not have the size that it should have.
pub fn boot_area(
    boot_image: &[u8],
    core_image: &[u8],
    signature: u32,
    partition_sectors: u32,
) -> Result<Vec<u8>> {
    ensure!(
        boot_image.len() == SECTOR,
        "GRUB's boot.img has {} bytes in place of {SECTOR}",
        boot_image.len()
    );
    let core_sectors = core_image.len().div_ceil(SECTOR);
    ensure!(
        (2..PARTITION_START as usize).contains(&core_sectors),
        "GRUB's core image has {core_sectors} sectors, which do not fit in front of the partition"
    );
    let mut area = boot_image.to_vec();
    area[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&CORE_START.to_le_bytes());
    area[DISK_SIGNATURE..DISK_SIGNATURE + 4].copy_from_slice(&signature.to_le_bytes());
    area[PARTITION_TABLE..SECTOR - 2].fill(0);
    area[PARTITION_TABLE..PARTITION_TABLE + 16].copy_from_slice(&partition_entry(
        ACTIVE,
        LINUX,
        PARTITION_START,
        partition_sectors,
    ));
    area[SECTOR - 2..].copy_from_slice(&[0x55, 0xAA]);

    area.extend_from_slice(core_image);
    area.resize((1 + core_sectors) * SECTOR, 0);
    let rest = u16::try_from(core_sectors - 1).context("GRUB's core image is too long")?;
    let block_list = &mut area[SECTOR + BLOCK_LIST..2 * SECTOR];
    block_list[0..8].copy_from_slice(&(CORE_START + 1).to_le_bytes());
    block_list[8..10].copy_from_slice(&rest.to_le_bytes());
    block_list[10..12].copy_from_slice(&CORE_SEGMENT.to_le_bytes());
    Ok(area)
}

/// Where the second partition's entry is in the master boot record, and that of an EFI system partition of `sectors` sectors from
/// `start` on.
pub fn efi_entry(start: u32, sectors: u32) -> (u64, [u8; 16]) {
    let entry = partition_entry(0, EFI_SYSTEM, start, sectors);
    (PARTITION_TABLE as u64 + entry.len() as u64, entry)
}

/// A partition of `sectors` sectors from `start` on.
fn partition_entry(status: u8, kind: u8, start: u32, sectors: u32) -> [u8; 16] {
    let mut entry = [0; 16];
    entry[0] = status;
    entry[1..4].copy_from_slice(&BEYOND_CHS);
    entry[4] = kind;
    entry[5..8].copy_from_slice(&BEYOND_CHS);
    entry[8..12].copy_from_slice(&start.to_le_bytes());
    entry[12..16].copy_from_slice(&sectors.to_le_bytes());
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_area_points_at_the_core_image_and_the_partition() {
        let area = boot_area(&[0x11; SECTOR], &[0x22; 3 * SECTOR + 1], 0x1234_5678, 1000)
            .expect("a boot area");
        assert_eq!(area.len(), 5 * SECTOR);
        assert_eq!(area[0x5C..0x64], 1_u64.to_le_bytes());
        assert_eq!(area[0x1B8..0x1BC], [0x78, 0x56, 0x34, 0x12]);
        assert_eq!((area[0x1BE], area[0x1C2]), (0x80, 0x83));
        assert_eq!(area[0x1C6..0x1CA], 2048_u32.to_le_bytes());
        assert_eq!(area[0x1CA..0x1CE], 1000_u32.to_le_bytes());
        assert_eq!(area[0x1CE..0x1FE], [0; 48]);
        assert_eq!(area[0x1FE..0x200], [0x55, 0xAA]);
        assert_eq!(area[0x3F4..0x3FC], 2_u64.to_le_bytes());
        assert_eq!(area[0x3FC..0x400], [3, 0, 0x20, 0x08]);
        assert_eq!(area[4 * SECTOR..4 * SECTOR + 2], [0x22, 0]);
    }

    #[test]
    fn images_of_a_wrong_size_are_refused() {
        assert!(boot_area(&[0; 446], &[0; 2 * SECTOR], 0, 1).is_err());
        assert!(boot_area(&[0; SECTOR], &[0; SECTOR], 0, 1).is_err());
        assert!(boot_area(&[0; SECTOR], &vec![0; 2048 * SECTOR], 0, 1).is_err());
    }

    #[test]
    fn the_second_entry_is_of_an_efi_system_partition() {
        let (place, entry) = efi_entry(0x20_0000, 0x2000);
        assert_eq!(place, 0x1CE);
        let expected = [
            0, 0xFE, 0xFF, 0xFF, 0xEF, 0xFE, 0xFF, 0xFF, 0, 0, 0x20, 0, 0, 0x20, 0, 0,
        ];
        assert_eq!(entry, expected);
    }
}
