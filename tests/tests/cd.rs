//! CDs boot by their El Torito catalogue: as a program, and as the diskette or disk that they emulate.

use anyhow::Result;
use firstlight_tests::disk::Disk;
use firstlight_tests::guest::{Bus, Config, Drive, Firmware, Log, Machine};
use firstlight_tests::media;
use firstlight_tests::script::Script;
use std::path::PathBuf;
use tempfile::TempDir;

const SECTOR: usize = 2048;
/// Sectors of the catalogue and of the boot image.
const CATALOGUE: usize = 19;
const IMAGE: usize = 20;

/// A boot program that says D, its drive number as two letters from `@` on, and what INT 13h AX=4B01h says of the media type: `mov al,
/// 'D'; out E9h, al; mov al, dl; shr al, 4; add al, '@'; out E9h, al; mov al, dl; and al, 15; add al, '@'; out E9h, al; xor ax, ax;
/// mov ds, ax; mov si, 600h; mov ax, 4B01h; int 13h; mov al, [601h]; jnc 1f; mov al, 31; 1: add al, '0'; out E9h, al; mov al, '\n';
/// out E9h, al; hlt; jmp .-1`.
const PROGRAM: &[u8] = &[
    0xb0, b'D', 0xe6, 0xe9, 0x88, 0xd0, 0xc0, 0xe8, 4, 0x04, b'@', 0xe6, 0xe9, 0x88, 0xd0, 0x24,
    15, 0x04, b'@', 0xe6, 0xe9, 0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0x00, 0x06, 0xb8, 0x01, 0x4b, 0xcd,
    0x13, 0xa0, 0x01, 0x06, 0x73, 0x02, 0xb0, 31, 0x04, b'0', 0xe6, 0xe9, 0xb0, b'\n', 0xe6, 0xe9,
    0xf4, 0xeb, 0xfd,
];

/// A CD whose catalogue has one entry with this media type, in a directory of its own.
fn cd(media: u8) -> Result<(TempDir, PathBuf)> {
    let mut bytes = vec![0; (IMAGE + 1440) * SECTOR];
    for (sector, kind) in [(16, 1), (17, 0), (18, 255)] {
        bytes[sector * SECTOR..][..7].copy_from_slice(&[kind, b'C', b'D', b'0', b'0', b'1', 1]);
    }
    let record = &mut bytes[17 * SECTOR..][..SECTOR];
    record[7..][..23].copy_from_slice(b"EL TORITO SPECIFICATION");
    record[0x47] = CATALOGUE as u8;
    let catalogue = &mut bytes[CATALOGUE * SECTOR..][..64];
    catalogue[0] = 1;
    catalogue[0x1c..0x20].copy_from_slice(&[0xaa, 0x55, 0x55, 0xaa]);
    catalogue[0x20..0x22].copy_from_slice(&[0x88, media]);
    catalogue[0x26] = 1;
    catalogue[0x28] = IMAGE as u8;
    let image = &mut bytes[IMAGE * SECTOR..][..SECTOR];
    image[..PROGRAM.len()].copy_from_slice(PROGRAM);
    // A partition of 16 heads and 63 sectors a track, for what emulates a disk.
    image[446 + 4..446 + 8].copy_from_slice(&[6, 15, 63, 2]);
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("cd.iso");
    std::fs::write(&path, bytes)?;
    Ok((directory, path))
}

fn says(machine: Machine, firmware: Firmware, media: u8, answer: &str) -> Result<()> {
    let (_directory, image) = cd(media)?;
    let bus = match machine {
        Machine::Pc => Bus::Ide,
        Machine::Q35 => Bus::Sata,
    };
    Config::new(machine, firmware)
        .attach(Drive::cdrom(bus, Some(&image)))
        .start()?
        .wait_for(Log::Debug, answer)?;
    Ok(())
}

#[test]
fn a_program_gets_the_cds_own_number() -> Result<()> {
    for machine in Machine::ALL {
        says(machine, Firmware::Firstlight, 0, "DN@0\n")?;
    }
    Ok(())
}

#[test]
fn diskettes_and_disks_are_emulated() -> Result<()> {
    says(Machine::Pc, Firmware::Firstlight, 2, "D@@2\n")?;
    says(Machine::Q35, Firmware::Firstlight, 4, "DH@4\n")
}

#[test]
fn a_cd_without_a_boot_record_is_passed_over() -> Result<()> {
    let blank = Disk::blank(4 << 20)?;
    let good = Disk::running(&Script::new(), 16 << 20)?;
    let empty = Drive::cdrom(Bus::Ide, None).boot_index(1);
    let cd = Drive::cdrom(Bus::Ide, Some(&blank.path())).boot_index(2);
    Config::new(Machine::Pc, Firmware::Firstlight)
        .attach(empty)
        .attach(cd)
        .disk(&good.path())
        .start()?
        .wait_for(Log::Debug, "~E\n")?;
    Ok(())
}

/// The cases of QEMU's own test of CDs (tests/qtest/cdrom-test.c) whose controllers are driven: the default drive of each machine,
/// and a drive behind each of them.
#[test]
fn cds_boot_behind_each_controller() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let image = media::cdrom(directory.path(), 'D')?;
    for machine in Machine::ALL {
        let config = Config::new(machine, Firmware::Firstlight);
        let mut guests = vec![
            config.clone().args(["-cdrom".as_ref(), image.as_os_str()]),
            config
                .clone()
                .args(["-cdrom".as_ref(), image.as_os_str()])
                .args(["-boot", "once=d"]),
        ];
        for bus in [Bus::Ide, Bus::Sata, Bus::Scsi] {
            let drive = Drive::cdrom(bus, Some(&image));
            guests.push(config.clone().attach(drive.clone()));
            guests.push(config.clone().attach(drive.boot_index(1)));
        }
        for config in guests {
            config.start()?.wait_for(Log::Debug, "D")?;
        }
    }
    Ok(())
}
