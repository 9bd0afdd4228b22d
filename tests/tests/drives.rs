//! The numbers of drives and the geometries of disks, where the user's wishes decide them: as under SeaBIOS.

use anyhow::{Result, ensure};
use firstlight_tests::disk::Disk;
use firstlight_tests::guest::{Bus, Config, Drive, Firmware, Guest, Log, Machine};
use firstlight_tests::media;
use firstlight_tests::report::Report;
use firstlight_tests::script::{BUFFER, Call, Script};
use tempfile::TempDir;

/// What a disk with a script prints last.
const BOOTED: &str = "~E\n";
/// What the first boot program says: see `guest/which.s`.
fn numbers(guest: &mut Guest) -> Result<String> {
    guest.wait_until("a boot program's numbers", |guest| {
        let log = guest.log(Log::Debug);
        let (said, _) = log.split_once(' ')?;
        Some(said.to_owned())
    })
}

/// Boots what the menu has behind `key`.
fn choose(config: Config, firmware: Firmware, key: &str) -> Result<Guest> {
    let menu = match firmware {
        Firmware::Firstlight => "Choose what to boot",
        Firmware::SeaBios => "Select boot device",
    };
    let mut guest = with_menu(config).start()?;
    guest.wait_for_screen("menu")?;
    guest.send_key("esc")?;
    guest.wait_for_screen(menu)?;
    guest.send_key(key)?;
    Ok(guest)
}

fn with_menu(config: Config) -> Config {
    config.with(|guest| {
        guest.boot.menu = Some(true);
        guest.boot.menu_timeout = Some(60_000);
    })
}

/// Three disks, `1` to `3`, on one bus.
fn disks(bus: Bus, files: &TempDir) -> Result<Vec<Drive>> {
    let drive = |letter| {
        let image = media::numbered_disk(files.path(), letter)?;
        Ok(Drive::new(bus, &image))
    };
    ['1', '2', '3'].into_iter().map(drive).collect()
}

fn start(firmware: Firmware, drives: &[Drive]) -> Config {
    let config = Config::new(Machine::Q35, firmware);
    let drives = drives.iter().cloned();
    drives.fold(config, Config::attach)
}

/// The disk that the order has first is drive 80h, and the others follow in their order.
#[test]
fn the_disk_that_the_order_has_first_is_80h() -> Result<()> {
    for bus in [Bus::Ide, Bus::Sata, Bus::Scsi, Bus::Virtio, Bus::Nvme] {
        let files = tempfile::tempdir()?;
        let mut drives = disks(bus, &files)?;
        drives[2].boot_index = Some(1);
        drives[1].boot_index = Some(2);
        for firmware in [Firmware::SeaBios, Firmware::Firstlight] {
            let said = numbers(&mut start(firmware, &drives).start()?)?;
            ensure!(said == "380321", "{bus:?} {firmware}: {said:?}");
        }
    }
    Ok(())
}

/// The drive that is chosen in the menu is the first of its kind, whatever the order says, and the others follow in their order.
#[test]
fn the_drive_that_is_chosen_in_the_menu_is_the_first() -> Result<()> {
    let files = tempfile::tempdir()?;
    let floppy = |letter| media::numbered_floppy(files.path(), letter);
    let floppies = vec![
        Drive::floppy(Some(&floppy('A')?)),
        Drive::floppy(Some(&floppy('B')?)),
    ];
    let cd = |letter: char| {
        let program = media::numbers(letter);
        media::cdrom_of(files.path(), &letter.to_string(), &program)
    };
    let (first, second) = (cd('D')?, cd('E')?);
    let cds = vec![
        Drive::cdrom(Bus::Sata, Some(&first)),
        Drive::cdrom(Bus::Sata, Some(&second)),
    ];
    // In SeaBIOS's menu something else comes first.
    let mut cases = vec![(floppies, "3", "B00BA-"), (cds, "3", "EE0---")];
    for bus in [Bus::Ide, Bus::Sata, Bus::Virtio, Bus::Nvme] {
        cases.push((disks(bus, &files)?, "2", "280213"));
    }
    for (drives, theirs, expected) in &cases {
        for (firmware, key) in [(Firmware::SeaBios, *theirs), (Firmware::Firstlight, "2")] {
            let mut guest = choose(start(firmware, drives), firmware, key)?;
            let said = numbers(&mut guest)?;
            let bus = drives[0].bus;
            // SeaBIOS has NVMe disks in the order in which they answer.
            let chosen = match (firmware, bus) {
                (Firmware::SeaBios, Bus::Nvme) => &said[1..3] == "80" && said[..1] == said[3..4],
                _ => said == *expected,
            };
            ensure!(chosen, "{bus:?} {firmware}: {said:?}");
        }
    }
    Ok(())
}

/// One controller's disk goes before those of others.
#[test]
fn the_chosen_disk_goes_before_those_of_other_controllers() -> Result<()> {
    let files = tempfile::tempdir()?;
    let [ide, virtio, nvme] = [Bus::Ide, Bus::Virtio, Bus::Nvme];
    let drive = |(bus, letter)| {
        Ok(Drive::new(
            bus,
            &media::numbered_disk(files.path(), letter)?,
        ))
    };
    let drives = [(ide, '1'), (virtio, '2'), (nvme, '3')].map(drive);
    let drives = drives.into_iter().collect::<Result<Vec<_>>>()?;
    for (key, expected) in [("1", "180123"), ("2", "280213"), ("3", "380312")] {
        let config = start(Firmware::Firstlight, &drives);
        let said = numbers(&mut choose(config, Firmware::Firstlight, key)?)?;
        ensure!(said == expected, "{key}: {said:?}");
    }
    Ok(())
}

/// A disk that gives up, or that cannot be booted, leaves its number to the next. SeaBIOS boots no second one.
#[test]
fn each_disk_that_is_tried_is_80h() -> Result<()> {
    let files = tempfile::tempdir()?;
    let mut drives = disks(Bus::Virtio, &files)?;
    let blank = Disk::blank(4 << 20)?;
    drives.insert(1, Drive::new(Bus::Virtio, &blank.path()));
    let mut guest = start(Firmware::Firstlight, &drives).start()?;
    // The letter of the blank disk is a zero.
    guest.wait_for(Log::Debug, "1801\x002 2802\u{31}\x00 38031\x00")?;
    Ok(())
}

/// The option ROM of guest/bcv.s, with a disk that says how drives are numbered.
fn disk_rom() -> Vec<u8> {
    static DISK_ROM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bcv.bin"));
    const SECTOR: usize = 0x200;
    let mut rom = DISK_ROM.to_vec();
    let program = media::numbers('V');
    rom[SECTOR..SECTOR + program.len()].copy_from_slice(&program);
    rom
}

/// Gives a guest that ROM, in this place of the boot order.
fn with_disk_rom(config: Config, files: &TempDir, index: u32) -> Result<Config> {
    let path = files.path().join("disk.rom");
    std::fs::write(&path, media::rom(&disk_rom(), true))?;
    let option = format!("{},bootindex={index}", path.display());
    Ok(config.args(["-option-rom", &option]))
}

/// A ROM without a boot connection vector, which puts its disk into INT 13h when it is initialised: that is drive 80h.
#[test]
fn disks_that_come_with_a_rom_are_the_first() -> Result<()> {
    /// JMP, and its distance from the next instruction on (Plug and Play BIOS Specification 1.0A, section 3.1).
    const ENTRY: usize = 3;
    const NEAR_JUMP: u8 = 0xe9;
    const NEXT: u16 = 6;
    /// In the expansion header (section 3.2).
    const CONNECTION: std::ops::Range<usize> = 0x36..0x38;
    let files = tempfile::tempdir()?;
    let mut rom = disk_rom();
    let connect = u16::from_le_bytes(rom[CONNECTION].try_into()?);
    rom[CONNECTION].fill(0);
    rom[ENTRY] = NEAR_JUMP;
    rom[ENTRY + 1..][..2].copy_from_slice(&(connect - NEXT).to_le_bytes());
    let path = files.path().join("disk.rom");
    std::fs::write(&path, media::rom(&rom, true))?;
    let drives = disks(Bus::Virtio, &files)?;
    for firmware in [Firmware::SeaBios, Firmware::Firstlight] {
        let config =
            start(firmware, &drives[..2]).args(["-option-rom", &path.display().to_string()]);
        let mut guest = config.start()?;
        let said = numbers(&mut guest)?;
        ensure!(said == "V80V12", "{firmware}: {said:?}");
        if firmware == Firmware::Firstlight {
            guest.wait_for(Log::Debug, "V80V12 181V12 281V21 ")?;
        }
    }
    Ok(())
}

/// A disk behind an option ROM has the number that its place in the boot order gives it, and ours have those around it. SeaBIOS boots
/// no second hard disk.
#[test]
fn disks_behind_option_roms_are_numbered_in_the_order() -> Result<()> {
    let files = tempfile::tempdir()?;
    let drives = disks(Bus::Virtio, &files)?;
    for (places, first, all) in [
        ([1, 2, 0], "V80V12", "V80V12 181V12 281V21 "),
        ([0, 2, 1], "1801V2", "1801V2 V811V2 2802V1 "),
        ([0, 1, 2], "18012V", "18012V 28021V V8212V "),
    ] {
        for firmware in [Firmware::SeaBios, Firmware::Firstlight] {
            let mut drives = drives[..2].to_vec();
            for (drive, place) in drives.iter_mut().zip(places) {
                drive.boot_index = Some(place);
            }
            let config = with_disk_rom(start(firmware, &drives), &files, places[2])?;
            let mut guest = config.start()?;
            let said = numbers(&mut guest)?;
            ensure!(said == first, "{places:?} {firmware}: {said:?}");
            if firmware == Firmware::Firstlight {
                guest.wait_for(Log::Debug, all)?;
            }
        }
    }
    Ok(())
}

/// The services know the numbers around that of an option ROM's disk, and no other.
#[test]
fn services_with_an_option_roms_disk_between_ours() -> Result<()> {
    let mut script = Script::new();
    for drive in 0x80..0x84 {
        for function in [0x02, 0x08, 0x15] {
            let call = Call::new(0x13, function << 8 | 1).carry();
            let call = call.cx(1).dx(drive).bx(0).hide(&["di", "es"]);
            script.call(&format!("{drive:02x}-{function:02x}"), call);
        }
    }
    let answers = |firmware| {
        let files = tempfile::tempdir()?;
        let running = Disk::running(&script, 64 << 20)?;
        let other = Disk::blank(32 << 20)?;
        let mut drives = [&running, &other].map(|disk| Drive::new(Bus::Virtio, &disk.path()));
        drives[0].boot_index = Some(0);
        drives[1].boot_index = Some(2);
        let config = with_disk_rom(start(firmware, &drives), &files, 1)?;
        let log = config.start()?.wait_for(Log::Debug, BOOTED)?;
        let report = Report::parse(&script, &log)?;
        let of = |drive: u16, function: u16, register: &str| {
            let value = report.value(&format!("{drive:02x}-{function:02x}.{register}"))?;
            anyhow::Ok(format!("{drive:02x}-{function:02x}.{register} {value}"))
        };
        let mut answers = Vec::new();
        for drive in 0x80..0x84 {
            for function in [0x02, 0x08, 0x15] {
                answers.push(of(drive, function, "cf")?);
            }
        }
        for drive in [0x80, 0x82] {
            for (function, register) in [(0x08, "cx"), (0x08, "dx"), (0x15, "dx")] {
                answers.push(of(drive, function, register)?);
            }
        }
        anyhow::Ok(answers)
    };
    let (theirs, ours) = (answers(Firmware::SeaBios)?, answers(Firmware::Firstlight)?);
    ensure!(ours == theirs, "{ours:?} in place of {theirs:?}");
    Ok(())
}

/// What INT 13h and the table at INT 41h say of the first disk, and what is read by cylinder, head and sector.
fn geometry(firmware: Firmware, drive: &Drive, property: &str) -> Result<Vec<String>> {
    let mut script = Script::new();
    let call = |ax| Call::new(0x13, ax).carry().dx(0x0180);
    script.call("08", call(0x0800).hide(&["di", "es"]));
    script.call("15", call(0x1500));
    for (name, cx) in [
        ("second-track", 0x0001),
        ("second-cylinder", 0x0101),
        ("far", 0x07c3),
    ] {
        script.call(name, call(0x0201).cx(cx).bx(0));
        script.sum(name, BUFFER, 512);
    }
    let disk = Disk::running(&script, 64 << 20)?;
    let mut drive = drive.clone();
    drive.source = Some(disk.path());
    drive.device_options.push(property.into());
    let config = Config::new(Machine::Q35, firmware).attach(drive);
    let log = config.start()?.wait_for(Log::Debug, BOOTED)?;
    let warned = log.contains("geometry");
    ensure!(!warned, "{log}");
    let report = Report::parse(&script, &log)?;
    let names = [
        "08.cf",
        "08.cx",
        "08.dx",
        "15.cx",
        "15.dx",
        "second-track.sum",
        "second-cylinder.sum",
        "far.cf",
        "far.sum",
    ];
    names
        .into_iter()
        .map(|name| Ok(format!("{name} {}", report.value(name)?)))
        .collect()
}

/// The geometry that the user gives (`lcyls=`, `lheads=`, `lsecs=`) is what callers see, by the path that QEMU writes for each bus.
#[test]
fn the_user_gives_a_disks_geometry() -> Result<()> {
    for bus in [Bus::Ide, Bus::Sata, Bus::Scsi, Bus::Virtio] {
        let drive = Drive::new(bus, std::path::Path::new(""));
        let of = |firmware| geometry(firmware, &drive, "lcyls=300,lheads=7,lsecs=21");
        let (theirs, ours) = (of(Firmware::SeaBios)?, of(Firmware::Firstlight)?);
        ensure!(ours == theirs, "{bus:?}: {ours:?} in place of {theirs:?}");
        // The last cylinder but one, 298, and 21 sectors; 7 heads of one disk.
        ensure!(
            ours[1] == "08.cx 2a55" && ours[2] == "08.dx 0601",
            "{bus:?}: {ours:?}"
        );
    }
    Ok(())
}
