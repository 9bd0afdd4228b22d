//! Diskettes of each format, as old boot programs use them, and what happens to them while a guest runs.

use anyhow::{Result, ensure};
use firstlight_tests::disk::Disk;
use firstlight_tests::guest::{Config, Drive, Firmware, Guest, Log, Machine};
use firstlight_tests::media;
use firstlight_tests::script::Script;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/floppy.bin"));
/// Where the program has its table.
const TABLE: usize = 0x100;
const SECTOR: usize = 512;
/// GRUB's own diskette, of the package grub-rescue-pc.
const GRUB: &str = "/usr/lib/grub-rescue/grub-rescue-floppy.img";

/// Cylinders, heads and sectors a track.
type Geometry = (u8, u8, u8);

/// Each standard format that QEMU knows.
const FORMATS: [Geometry; 8] = [
    (40, 1, 8),
    (40, 1, 9),
    (40, 2, 8),
    (40, 2, 9),
    (80, 2, 9),
    (80, 2, 15),
    (80, 2, 18),
    (80, 2, 36),
];

struct Diskette {
    directory: TempDir,
    geometry: Geometry,
    /// Where the program writes.
    written: u64,
}

impl Diskette {
    /// Letters from `a` on in some sectors, and the program with a table of them.
    fn new(geometry: Geometry) -> Result<Self> {
        let (cylinders, heads, sectors) = geometry;
        let lba = |c: u8, h: u8, s: u8| {
            (u64::from(c) * u64::from(heads) + u64::from(h)) * u64::from(sectors) + u64::from(s) - 1
        };
        let last = (cylinders - 1, heads - 1, sectors);
        let places = [
            (0, 0, 2),
            (0, heads - 1, 7),
            (1, 0, 1),
            (7, heads - 1, 5),
            last,
        ];
        let write = (cylinders - 1, 0, 3);
        let directory = tempfile::tempdir()?;
        let file = File::create(directory.path().join("floppy.img"))?;
        let mut program = PROGRAM.to_vec();
        let mut table = Vec::new();
        for ((c, h, s), letter) in places.into_iter().zip(b'a'..) {
            table.extend([c, h, s]);
            file.write_all_at(&[letter; SECTOR], lba(c, h, s) * SECTOR as u64)?;
        }
        table.extend([0xff, write.0, write.1, write.2]);
        program[TABLE..][..table.len()].copy_from_slice(&table);
        file.write_all_at(&program, 0)?;
        file.set_len((lba(last.0, last.1, last.2) + 1) * SECTOR as u64)?;
        Ok(Self {
            directory,
            geometry,
            written: lba(write.0, write.1, write.2),
        })
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("floppy.img")
    }

    fn boot(&self, firmware: Firmware, change: impl Fn(Config) -> Config) -> Result<Guest> {
        let config = Config::new(Machine::Pc, firmware).args(["-boot", "a"]);
        change(config.attach(Drive::floppy(Some(&self.path())))).start()
    }
}

/// What was said without what the firmware itself logs.
fn said(log: &str) -> &str {
    log.split("firstlight:").next().unwrap_or_default()
}

#[test]
fn each_format_is_read_and_written_by_cylinder() -> Result<()> {
    for geometry in FORMATS {
        let diskette = Diskette::new(geometry)?;
        let mut guest = diskette.boot(Firmware::Firstlight, |config| config)?;
        let log = guest.wait_for(Log::Debug, "\n@@\n")?;
        ensure!(
            said(&log) == "abcde@\n@@\n",
            "{:?}: {log:?}",
            diskette.geometry
        );
        drop(guest);
        let mut sector = [0; SECTOR];
        File::open(diskette.path())?
            .read_exact_at(&mut sector, diskette.written * SECTOR as u64)?;
        ensure!(sector == [b'W'; SECTOR], "{geometry:?}: not written");
    }
    Ok(())
}

#[test]
fn seabios_says_the_same() -> Result<()> {
    let diskette = Diskette::new((80, 2, 18))?;
    let mut guest = diskette.boot(Firmware::SeaBios, |config| config)?;
    guest.wait_for(Log::Debug, "abcde@\n@@\n")?;
    Ok(())
}

#[test]
fn what_is_write_protected_stays_as_it_is() -> Result<()> {
    let diskette = Diskette::new((80, 2, 18))?;
    let drive = Drive {
        read_only: true,
        ..Drive::floppy(Some(&diskette.path()))
    };
    let config = Config::new(Machine::Pc, Firmware::Firstlight).args(["-boot", "a"]);
    let mut guest = config.attach(drive).start()?;
    guest.wait_for(Log::Debug, "C\n@@\n")?;
    Ok(())
}

/// The device that QEMU's monitor knows the first diskette drive by.
fn floppy_name(guest: &Guest) -> Result<String> {
    let blocks = guest.monitor("info block")?;
    let line = blocks.lines().find(|line| line.contains("floppy.img"));
    let name = line.and_then(|line| line.split([' ', ':']).next());
    name.map(str::to_owned)
        .ok_or_else(|| anyhow::anyhow!("no floppy drive in {blocks}"))
}

/// Taken out: time-out. Put in: changed, once, and then it is read. Also where the new one has another format.
#[test]
fn media_are_changed_while_the_guest_runs() -> Result<()> {
    let (first, second) = (Diskette::new((80, 2, 18))?, Diskette::new((80, 2, 9))?);
    let mut guest = first.boot(Firmware::Firstlight, |config| config)?;
    guest.wait_for(Log::Debug, "abcde@\n@@\n")?;
    let name = floppy_name(&guest)?;
    guest.monitor(&format!("eject -f {name}"))?;
    guest.wait_for(Log::Debug, "\nH@\n")?;
    guest.monitor(&format!("change {name} {} raw", second.path().display()))?;
    guest.wait_for_count(Log::Debug, "\n@@\n", 2)?;
    let log = guest.log(Log::Debug);
    ensure!(said(&log) == "abcde@\n@@\n\n@F\n\nH@\n\n@@\n", "{log:?}");
    Ok(())
}

/// A disk says ~E where nothing else boots.
fn disk_is_next(floppy: Drive, reason: &str) -> Result<()> {
    let disk = Disk::running(&Script::new(), 16 << 20)?;
    let mut guest = Config::new(Machine::Pc, Firmware::Firstlight)
        .args(["-boot", "ac"])
        .setting("log", "info")
        .attach(floppy)
        .disk(&disk.path())
        .start()?;
    let log = guest.wait_for(Log::Debug, "~E\n")?;
    ensure!(log.contains(reason), "{log}");
    Ok(())
}

#[test]
fn a_drive_without_something_to_boot_is_passed_over() -> Result<()> {
    disk_is_next(Drive::floppy(None), "drive A (2.88 MB): no medium")?;
    let blank = Disk::blank(1_474_560)?;
    disk_is_next(Drive::floppy(Some(&blank.path())), "no 55AAh")?;
    let rules = blank.directory().join("blkdebug.conf");
    std::fs::write(
        &rules,
        "[inject-error]\nevent = \"read_aio\"\nerrno = \"5\"\n",
    )?;
    let file = format!(
        "file=blkdebug:{}:{}",
        rules.display(),
        blank.path().display()
    );
    let unreadable = Drive::floppy(None)
        .drive_option(&file)
        .drive_option("format=raw");
    // QEMU reads zeros in place of what cannot be read.
    disk_is_next(unreadable, "no 55AAh")
}

/// Both drives, by QEMU's order of single devices; drive A is then the one that comes first.
#[test]
fn drives_are_booted_in_the_order_of_their_indexes() -> Result<()> {
    let files = tempfile::tempdir()?;
    let [a, b] = ['1', '2'].map(|letter| media::floppy(files.path(), letter));
    let (a, b) = (a?, b?);
    for (indexes, expected) in [([1, 2], "12"), ([2, 1], "21")] {
        let drive = |image: &Path, index| Drive::floppy(Some(image)).boot_index(index);
        for machine in Machine::ALL {
            Config::new(machine, Firmware::Firstlight)
                .attach(drive(&a, indexes[0]))
                .attach(drive(&b, indexes[1]))
                .start()?
                .wait_for(Log::Debug, expected)?;
        }
    }
    Ok(())
}

#[test]
fn grubs_own_diskette_comes_to_its_menu() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let image = directory.path().join("grub.img");
    std::fs::copy(GRUB, &image)?;
    for size in [None, Some(1_474_560)] {
        if let Some(size) = size {
            File::options().write(true).open(&image)?.set_len(size)?;
        }
        let drive = Drive::floppy(Some(&image));
        let config = Config::new(Machine::Pc, Firmware::Firstlight).args(["-boot", "a"]);
        config.attach(drive).start()?.wait_for_screen("GNU/Linux")?;
    }
    Ok(())
}
