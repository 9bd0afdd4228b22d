//! Disks on every bus: what is written is on the host's disk, faults leave the turn to the next disk, and large sectors look as boot
//! programs expect.

use anyhow::{Context, Result, ensure};
use firstlight_tests::disk::{Disk, PATTERN_LBA, SECTOR, pattern};
use firstlight_tests::guest::{Bus, Config, Drive, Firmware, Log, Machine};
use firstlight_tests::report::Report;
use firstlight_tests::script::{BUFFER, Call, Script, View};
use firstlight_tests::services::disk::{far, packed, packet};
use firstlight_tests::{grub, media};
use std::path::Path;

/// The buses of hard disks on `q35`.
const BUSES: [Bus; 5] = [Bus::Ide, Bus::Sata, Bus::Scsi, Bus::Virtio, Bus::Nvme];
/// Those whose disks can have larger sectors.
const LARGE: [Bus; 3] = [Bus::Scsi, Bus::Virtio, Bus::Nvme];

const DISK_BYTES: u64 = 16 << 20;
/// What a disk that boots prints last.
const BOOTED: &str = "~E\n";
/// The first and the second hard disk.
const FIRST: u8 = 0x80;
const SECOND: u8 = 0x81;

fn q35() -> Config {
    Config::new(Machine::Q35, Firmware::Firstlight)
}

/// Runs a script from a disk on `bus`.
fn run(config: Config, drive: Drive, script: &Script) -> Result<Report> {
    let log = config.attach(drive).start()?.wait_for(Log::Debug, BOOTED)?;
    Report::parse(script, &log)
}

/// A transfer of `count` sectors at `lba`, to or from the buffer.
fn transfer(script: &mut Script, name: &str, ah: u8, drive: u8, lba: u64, count: u16) {
    packet(script, 16, count, far(0), lba);
    script.call(name, packed(ah, drive));
}

fn read(script: &mut Script, name: &str, drive: u8, lba: u64, count: u16) {
    transfer(script, name, 0x42, drive, lba, count);
}

fn write(script: &mut Script, name: &str, drive: u8, lba: u64, count: u16) {
    transfer(script, name, 0x43, drive, lba, count);
}

/// A drive without a file, whose reads and writes `options` make fail.
fn faulty(bus: Bus, options: &str) -> Drive {
    Drive {
        source: None,
        ..Drive::new(bus, Path::new(""))
    }
    .drive_option(options)
    .boot_index(1)
}

/// An image whose accesses of a kind fail (QEMU, docs/devel/blkdebug.rst).
fn failing(bus: Bus, image: &Disk, event: &str, kind: &str) -> Result<Drive> {
    let rules = image.directory().join("blkdebug.conf");
    std::fs::write(
        &rules,
        format!("[inject-error]\nevent = \"{event}\"\niotype = \"{kind}\"\nerrno = \"5\"\n"),
    )?;
    let image = image.path();
    let file = format!("file=blkdebug:{}:{}", rules.display(), image.display());
    Ok(faulty(bus, &file).drive_option("format=raw"))
}

#[test]
fn writes_are_on_the_hosts_disk_when_the_call_returns() -> Result<()> {
    const LAST: u64 = DISK_BYTES / SECTOR - 1;
    let data: Vec<u8> = (0..127 * SECTOR).map(|at| (at * 7 + 3) as u8).collect();
    for bus in BUSES {
        let mut script = Script::new();
        let second = Disk::blank(DISK_BYTES)?;
        script.poke(BUFFER, &data[..4 * SECTOR as usize]);
        let places = [(0, 1), (LAST, 1), (LAST - 5, 4)];
        for (lba, count) in places {
            write(&mut script, &format!("write.{lba}"), SECOND, lba, count);
        }
        write(&mut script, "beyond", SECOND, LAST, 2);
        let boot = Disk::running(&script, DISK_BYTES)?;
        let config = q35().attach(Drive::new(bus, &boot.path()).boot_index(1));
        let report = run(config, Drive::new(bus, &second.path()), &script)?;
        for (lba, count) in places {
            let name = format!("write.{lba}.cf");
            ensure!(report.value(&name)? == "0", "{bus:?}: {name}");
            let len = usize::from(count) * SECTOR as usize;
            let written = second.read(lba * SECTOR, len)?;
            ensure!(written == data[..len], "{bus:?}: {lba} is not written");
        }
        ensure!(report.value("beyond.cf")? == "1", "{bus:?}: beyond");
    }
    Ok(())
}

/// GRUB's own driver reads and writes through INT 13h; its environment is then on the host's disk.
#[test]
fn grub_saves_its_environment() -> Result<()> {
    for bus in BUSES {
        saves_its_environment(bus, |drive| drive)?;
    }
    Ok(())
}

fn saves_its_environment(bus: Bus, kind: impl Fn(Drive) -> Drive) -> Result<()> {
    let files = tempfile::tempdir()?;
    let save = "x=written\nsave_env -f (hd0,msdos1)/grubenv x\necho saved\n";
    let image = grub::disk(files.path(), save)?;
    q35()
        .attach(kind(Drive::new(bus, &image)))
        .start()?
        .wait_for(Log::Serial, "saved")?;
    let disk = std::fs::read(&image)?;
    let saved = disk.windows(10).any(|bytes| bytes == b"\nx=written");
    ensure!(saved, "{bus:?}: nothing is saved");
    Ok(())
}

#[test]
fn the_next_disk_boots_after_read_errors() -> Result<()> {
    let good = Disk::running(&Script::new(), DISK_BYTES)?;
    for bus in BUSES {
        let bad = Disk::running(&Script::new(), DISK_BYTES)?;
        q35()
            .attach(failing(bus, &bad, "read_aio", "read")?)
            .attach(Drive::new(bus, &good.path()).snapshot())
            .start()?
            .wait_for(Log::Debug, BOOTED)
            .with_context(|| format!("{bus:?}"))?;
    }
    Ok(())
}

#[test]
fn failing_writes_and_flushes_are_said() -> Result<()> {
    for bus in BUSES {
        for (event, kind) in [("write_aio", "write"), ("flush_to_disk", "flush")] {
            let mut script = Script::new();
            write(&mut script, "write", FIRST, PATTERN_LBA, 1);
            read(&mut script, "read", FIRST, PATTERN_LBA, 1);
            let disk = Disk::running(&script, DISK_BYTES)?;
            let report = run(q35(), failing(bus, &disk, event, kind)?, &script)?;
            ensure!(report.value("write.cf")? == "1", "{bus:?}: {event}");
            ensure!(report.value("read.cf")? == "0", "{bus:?}: {event}: read");
        }
    }
    Ok(())
}

/// A drive that is taken away does not answer any more, and the others do.
#[test]
fn a_scsi_disk_can_go_away() -> Result<()> {
    let mut script = Script::new();
    read(&mut script, "before", SECOND, PATTERN_LBA, 1);
    script.text("now\n");
    script.wait_ticks("wait", 54);
    read(&mut script, "after", SECOND, PATTERN_LBA, 1);
    read(&mut script, "other", FIRST, PATTERN_LBA, 1);
    let boot = Disk::running(&script, DISK_BYTES)?;
    let second = Disk::patterned(DISK_BYTES)?;
    let leaving = Drive::new(Bus::Scsi, &second.path()).device_option("id=leaving");
    let mut guest = q35()
        .attach(Drive::new(Bus::Scsi, &boot.path()).boot_index(1))
        .attach(leaving)
        .start()?;
    guest.wait_for(Log::Debug, "now")?;
    guest.monitor("device_del leaving")?;
    let log = guest.wait_for(Log::Debug, BOOTED)?;
    let report = Report::parse(&script, &log)?;
    ensure!(report.value("before.cf")? == "0", "before");
    ensure!(report.value("after.cf")? == "1", "after");
    ensure!(report.value("other.cf")? == "0", "other");
    Ok(())
}

/// The same for every bus, as far as a guest sees: from some moment on nothing can be read or written.
#[test]
fn a_disk_whose_host_takes_it_away_fails_and_leaves_the_others() -> Result<()> {
    for bus in BUSES {
        let mut script = Script::new();
        read(&mut script, "before", SECOND, PATTERN_LBA, 1);
        script.text("now\n");
        script.wait_ticks("wait", 54);
        read(&mut script, "read", SECOND, PATTERN_LBA, 1);
        write(&mut script, "write", SECOND, PATTERN_LBA, 1);
        read(&mut script, "other", FIRST, PATTERN_LBA, 1);
        let boot = Disk::running(&script, DISK_BYTES)?;
        let second = Disk::patterned(DISK_BYTES)?;
        let mut guest = q35()
            .attach(Drive::new(bus, &boot.path()).boot_index(1))
            .attach(Drive::new(bus, &second.path()))
            .start()?;
        guest.wait_for(Log::Debug, "now")?;
        guest.monitor("drive_del disk1")?;
        let log = guest.wait_for(Log::Debug, BOOTED)?;
        let report = Report::parse(&script, &log)?;
        for (name, failed) in [
            ("before", "0"),
            ("read", "1"),
            ("write", "1"),
            ("other", "0"),
        ] {
            let said = report.value(&format!("{name}.cf"))?;
            ensure!(said == failed, "{bus:?}: {name}: {said}");
        }
    }
    Ok(())
}

/// A disk that answers to nothing that moves data: its host has used up all that it may read in the next minutes.
#[test]
fn the_next_disk_boots_after_silence() -> Result<()> {
    let good = Disk::running(&Script::new(), DISK_BYTES)?;
    for bus in BUSES {
        let silent = Disk::running(&Script::new(), DISK_BYTES)?;
        let mut guest = q35()
            .attach(
                Drive::new(bus, &silent.path())
                    .drive_option("throttling.bps-total=1000")
                    .boot_index(1),
            )
            .attach(Drive::new(bus, &good.path()).snapshot())
            .arg("-S")
            .start()?;
        guest.monitor("qemu-io disk0 \"read 0 1M\"")?;
        guest.monitor("cont")?;
        let log = guest
            .wait_for(Log::Debug, BOOTED)
            .with_context(|| format!("{bus:?}"))?;
        ensure!(!log.contains("firmware stopped"), "{bus:?}: a panic: {log}");
    }
    Ok(())
}

fn large(drive: Drive) -> Drive {
    drive
        .device_option("logical_block_size=4096")
        .device_option("physical_block_size=4096")
}

/// The boot program, which reads and writes sectors of 512 bytes, does not see that the device's are larger.
#[test]
fn large_sectors_look_like_small_ones() -> Result<()> {
    for bus in LARGE {
        let mut script = Script::new();
        script.fill(BUFFER, 0x50, 0);
        script.poke(BUFFER, &[0x1a, 0]);
        script.call("48", Call::new(0x13, 0x4800).dx(FIRST.into()).carry().si(0));
        script.dump("48.sectors", BUFFER + 16, 10, View::Bytes);
        script.fill(BUFFER, 3 * SECTOR as u32, 0xa5);
        write(&mut script, "write", FIRST, PATTERN_LBA + 6, 3);
        read(&mut script, "read", FIRST, PATTERN_LBA + 5, 5);
        script.sum("read", BUFFER, 5 * SECTOR as u32);
        let disk = Disk::running(&script, DISK_BYTES)?;
        let report = run(q35(), large(Drive::new(bus, &disk.path())), &script)?;
        ensure!(
            report.value("48.sectors")? == "00800000000000000002",
            "{bus:?}: {}",
            report.value("48.sectors")?
        );
        for lba in PATTERN_LBA..PATTERN_LBA + 16 {
            let expected = match lba - PATTERN_LBA {
                6..9 => [0xa5; SECTOR as usize],
                _ => pattern(lba),
            };
            let found = disk.read(lba * SECTOR, SECTOR as usize)?;
            ensure!(found == expected, "{bus:?}: sector {lba}");
        }
        let read = disk.read((PATTERN_LBA + 5) * SECTOR, 5 * SECTOR as usize)?;
        let sum = firstlight_tests::disk::sum(&read);
        let said = report.value("read.sum")?;
        ensure!(said == format!("{sum:08x}"), "{bus:?}: {said} {sum:08x}");
    }
    Ok(())
}

#[test]
fn grub_starts_from_large_sectors() -> Result<()> {
    for bus in LARGE {
        saves_its_environment(bus, large)?;
    }
    Ok(())
}

/// With the setting, callers that ask for the size of sectors get the device's own.
#[test]
fn grub_reads_large_sectors_as_they_are() -> Result<()> {
    for bus in LARGE {
        let files = tempfile::tempdir()?;
        let boot = grub::disk(files.path(), "cat (hd1)/hello\necho end\n")?;
        let data = grub::file_system(files.path(), "hello", b"from large sectors\n")?;
        let log = q35()
            .setting("sector-size", "native")
            .attach(Drive::new(Bus::Ide, &boot).boot_index(1))
            .attach(large(Drive::new(bus, &data)))
            .start()?
            .wait_for(Log::Serial, "end")?;
        ensure!(log.contains("from large sectors"), "{bus:?}: {log}");
    }
    Ok(())
}

/// Every way in which virtio's registers can be reached.
#[test]
fn virtio_devices_of_every_age_boot() -> Result<()> {
    const AGES: [&str; 3] = [
        "disable-legacy=off,disable-modern=on",
        "disable-legacy=off,disable-modern=off",
        "disable-legacy=on,disable-modern=off",
    ];
    for age in AGES {
        let files = tempfile::tempdir()?;
        let disk = media::disk(files.path(), 'S')?;
        let cd = media::cdrom(files.path(), 'D')?;
        let controller = format!("virtio-scsi-pci,{age}");
        let log = q35()
            .with(|guest| drop(guest.scsi_controllers.insert(0, controller)))
            .attach(Drive::new(Bus::Scsi, &disk))
            .attach(Drive::cdrom(Bus::Scsi, Some(&cd)))
            .attach(Drive::new(Bus::Virtio, &media::disk(files.path(), 'V')?).device_option(age))
            .args(["-boot", "order=cd"])
            .start()?
            .wait_for(Log::Debug, "D")?;
        ensure!(log.contains("VSD") || log.contains("SVD"), "{age}: {log}");
    }
    Ok(())
}

#[test]
fn units_far_away_are_found() -> Result<()> {
    let files = tempfile::tempdir()?;
    let unit = |letter, place: &str, index| -> Result<Drive> {
        let image = media::disk(files.path(), letter)?;
        Ok(Drive::new(Bus::Scsi, &image)
            .device_option(place)
            .boot_index(index))
    };
    let mut guest = q35()
        .attach(unit('1', "scsi-id=255,lun=300", 3)?)
        .attach(unit('2', "scsi-id=17,lun=0", 1)?)
        .attach(unit('3', "scsi-id=17,lun=5", 2)?)
        .start()?;
    guest.wait_for(Log::Debug, "231")?;
    Ok(())
}
