//! Every way to say what is booted first, checked by which boot programs run, one after the other.
//!
//! Each medium of these guests says its letter and gives the turn to the next ([`media`]), so one boot shows a whole order. A kind
//! of device or a bus that is not driven yet is there as well, and leaves its turn: it comes in by [`DRIVEN`].

use anyhow::{Result, ensure};
use firstlight_tests::guest::{
    Bus, Config, Drive, Firmware, Log, Machine, Medium, Nic, NicBackend,
};
use firstlight_tests::media;
use tempfile::TempDir;

/// What the report begins with, on the serial port.
const NOTHING_BOOTS: &str = "Nothing could be booted";

/// What can be booted from so far.
const DRIVEN: &[(Bus, Medium)] = &[
    (Bus::Floppy, Medium::Floppy),
    (Bus::Ide, Medium::Disk),
    (Bus::Ide, Medium::Cdrom),
    (Bus::Sata, Medium::Disk),
    (Bus::Sata, Medium::Cdrom),
    (Bus::Virtio, Medium::Disk),
    (Bus::Nvme, Medium::Disk),
    (Bus::Scsi, Medium::Disk),
    (Bus::Scsi, Medium::Cdrom),
];

/// A drive of a test's guest: its letter is that of the kind in QEMU's `-boot`, in upper case, or a digit.
#[derive(Clone, Copy)]
struct Device {
    letter: char,
    bus: Bus,
    medium: Medium,
    /// Whether it has something to boot.
    bootable: bool,
}

impl Device {
    fn new(letter: char, bus: Bus, medium: Medium) -> Self {
        Self {
            letter,
            bus,
            medium,
            bootable: true,
        }
    }

    /// What a boot of it says.
    fn says(&self) -> Option<char> {
        let driven = DRIVEN.contains(&(self.bus, self.medium));
        (driven && self.bootable).then_some(self.letter)
    }

    fn drive(&self, files: &TempDir) -> Result<Drive> {
        let directory = files.path();
        let drive = match self.medium {
            Medium::Disk => Drive::new(self.bus, &media::disk(directory, self.letter)?),
            Medium::Cdrom => Drive::cdrom(self.bus, Some(&media::cdrom(directory, self.letter)?)),
            Medium::Floppy => Drive::floppy(Some(&media::floppy(directory, self.letter)?)),
        };
        if let Some(file) = drive.source.as_ref().filter(|_| !self.bootable) {
            let size = std::fs::metadata(file)?.len();
            std::fs::File::create(file)?.set_len(size)?;
        }
        Ok(drive)
    }
}

/// The letters that the guest's boot programs say until nothing is left.
fn letters(config: Config) -> Result<String> {
    let mut guest = config.start()?;
    guest.wait_for(Log::Serial, NOTHING_BOOTS)?;
    let log = guest.log(Log::Debug);
    let (said, messages) = log
        .split_once("firstlight: nothing could")
        .unwrap_or((&log, ""));
    ensure!(
        !said.contains("firstlight"),
        "a message before the report: {log}"
    );
    ensure!(!messages.is_empty(), "no report: {log}");
    Ok(said.to_owned())
}

fn expect(what: &str, config: Config, expected: &str) -> Result<()> {
    let said = letters(config)?;
    ensure!(
        said == expected,
        "{what}: {said:?} in place of {expected:?}"
    );
    Ok(())
}

/// A floppy disk, two hard disks and a CD.
fn kinds() -> [Device; 4] {
    [
        Device::new('A', Bus::Floppy, Medium::Floppy),
        Device::new('C', Bus::Ide, Medium::Disk),
        Device::new('1', Bus::Ide, Medium::Disk),
        Device::new('D', Bus::Ide, Medium::Cdrom),
    ]
}

/// What is in a guest of the product below: nothing, a device that cannot be booted, or one that can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Absent,
    Present,
    Bootable,
}

/// A way to say an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Cmos,
    Bootorder,
    Setting,
}

/// The option ROM of guest/rom.s, which says I when it is initialised and B when it is booted.
static OPTION_ROM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rom.bin"));

/// A diskette drive, a hard disk, a CD drive and a network card, where they are, in this order.
fn product_guest(files: &TempDir, states: [State; 4], way: Way, order: &str) -> Result<Config> {
    let drives = [
        (Bus::Floppy, Medium::Floppy),
        (Bus::Ide, Medium::Disk),
        (Bus::Ide, Medium::Cdrom),
    ];
    let index = |letter: char| {
        let place = order.find(letter).filter(|_| way == Way::Bootorder)?;
        Some(place as u32 + 1)
    };
    let mut config = Config::new(Machine::Pc, Firmware::Firstlight);
    for ((letter, (bus, medium)), state) in "acd".chars().zip(drives).zip(states) {
        let mut device = Device::new(letter.to_ascii_uppercase(), bus, medium);
        device.bootable = state == State::Bootable;
        if state != State::Absent {
            let mut drive = device.drive(files)?;
            drive.boot_index = index(letter);
            config = config.attach(drive);
        }
    }
    if states[3] != State::Absent {
        let rom = files.path().join("card.rom");
        std::fs::write(&rom, media::rom(OPTION_ROM, true))?;
        let rom = match states[3] {
            State::Bootable => format!("romfile={}", rom.display()),
            _ => "romfile=".into(),
        };
        let index = index('n')
            .map(|index| format!(",bootindex={index}"))
            .unwrap_or_default();
        config = config.args(["-device", &format!("e1000,{rom}{index}")]);
    }
    let names = order.chars().map(|letter| match letter {
        'a' => "floppy",
        'c' => "hd",
        'd' => "cdrom",
        _ => "network",
    });
    Ok(match way {
        Way::Cmos => config.args(["-boot", &format!("order={}", &order[..3])]),
        Way::Setting => config.setting("order", &names.collect::<Vec<_>>().join(",")),
        Way::Bootorder => config,
    })
}

/// What the guest's boot programs have to say: CMOS has room for the first three kinds, and behind what is named comes the rest.
fn product_says(states: [State; 4], way: Way, order: &str) -> String {
    let named = if way == Way::Cmos { 3 } else { 4 };
    let rest = "adcn".chars();
    let mut said = String::new();
    for letter in order.chars().take(named).chain(rest) {
        let place = "acdn".find(letter).unwrap_or_default();
        let says = letter.to_ascii_uppercase();
        if states[place] == State::Bootable && !said.contains(says) {
            said.push(says);
        }
    }
    said
}

/// Every combination of what is there and what of that can be booted, by each way to say an order, and every order of the four by
/// each way.
#[test]
fn kinds_in_every_order() -> Result<()> {
    let mut orders: Vec<String> = vec![String::new()];
    for _ in 0..4 {
        let longer = orders.iter().flat_map(|order| {
            let more = "acdn".chars().filter(|letter| !order.contains(*letter));
            more.map(move |letter| format!("{order}{letter}"))
        });
        orders = longer.collect();
    }
    let mut guests = Vec::new();
    for number in 0..81 {
        let states = [1, 3, 9, 27].map(|divisor| match number / divisor % 3 {
            0 => State::Absent,
            1 => State::Present,
            _ => State::Bootable,
        });
        for way in [Way::Cmos, Way::Bootorder, Way::Setting] {
            guests.push((
                states,
                way,
                orders[guests.len() * 7 % orders.len()].as_str(),
            ));
        }
    }
    let everything = [State::Bootable; 4];
    for order in &orders {
        guests.extend(
            [Way::Cmos, Way::Bootorder, Way::Setting].map(|way| (everything, way, order.as_str())),
        );
    }
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || -> Result<()> {
        loop {
            let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(&(states, way, order)) = guests.get(number) else {
                return Ok(());
            };
            let files = tempfile::tempdir()?;
            let said = letters(product_guest(&files, states, way, order)?)?;
            let (said, expected) = (
                said.replace('I', "").replace('B', "N"),
                product_says(states, way, order),
            );
            ensure!(
                said == expected,
                "{states:?} {way:?} {order}: {said:?} in place of {expected:?}"
            );
        }
    };
    std::thread::scope(|scope| {
        let workers = [(); 3].map(|()| scope.spawn(work));
        let mut results = workers
            .into_iter()
            .map(|worker| worker.join().expect("a worker"));
        results.try_for_each(|result| result)
    })
}

/// The cases of QEMU's own test of the order in CMOS (tests/qtest/boot-order-test.c): the order at the start, and that after a restart.
#[test]
fn the_order_after_a_restart_is_another_one() -> Result<()> {
    for (options, first, then) in [
        (&[][..], "CADN", "CADN"),
        (&["c"], "CADN", "CADN"),
        (&["nda"], "NDAC", "NDAC"),
        (&["order="], "ADCN", "ADCN"),
        (&["order=", "order=c"], "CADN", "CADN"),
        (&["once=a"], "ADCN", "CADN"),
        (&["once=a,order=c"], "ADCN", "CADN"),
        (&["once=d", "order=nda"], "DACN", "NDAC"),
        (&["once=a", "once=b", "once=c"], "CADN", "CADN"),
    ] {
        let files = tempfile::tempdir()?;
        let mut config = product_guest(&files, [State::Bootable; 4], Way::Bootorder, "")?;
        for option in options {
            config = config.args(["-boot", option]);
        }
        let mut guest = config.start()?;
        guest.wait_for(Log::Serial, "Press a key to restart")?;
        guest.send_key("ret")?;
        guest.wait_for_count(Log::Serial, NOTHING_BOOTS, 2)?;
        let log = guest.log(Log::Debug);
        let said: Vec<String> = log
            .split("firstlight: nothing could be booted")
            .filter_map(|part| part.rsplit('\n').next())
            .map(|said| said.replace('I', "").replace('B', "N"))
            .collect();
        ensure!(said[..2] == [first, then], "{options:?}: {said:?}");
    }
    Ok(())
}

/// A diskette without a signature boots where the user does not want it looked at.
#[test]
fn a_diskettes_signature_is_not_looked_at_where_the_user_says_so() -> Result<()> {
    for firmware in [Firmware::SeaBios, Firmware::Firstlight] {
        for (check, expected) in [("on", 'C'), ("off", 'A')] {
            let files = tempfile::tempdir()?;
            let floppy = media::floppy(files.path(), 'A')?;
            let file = std::fs::File::options().write(true).open(&floppy)?;
            std::os::unix::fs::FileExt::write_all_at(&file, &[0, 0], 510)?;
            let disk = media::disk(files.path(), 'C')?;
            let mut guest = Config::new(Machine::Pc, firmware)
                .attach(Drive::floppy(Some(&floppy)))
                .attach(Drive::new(Bus::Ide, &disk))
                .with(|guest| guest.machine_options.push(format!("fd-bootchk={check}")))
                .args(["-boot", "order=ac"])
                .start()?;
            let said =
                guest.wait_until("a letter", |guest| guest.log(Log::Debug).chars().next())?;
            ensure!(said == expected, "{firmware} {check}: {said}");
        }
    }
    Ok(())
}

/// What is booted first is what SeaBIOS boots first.
#[test]
fn the_first_is_seabios_first() -> Result<()> {
    for (order, index) in [("c", None), ("d", None), ("dc", Some(2)), ("a", Some(1))] {
        let first = |firmware| -> Result<char> {
            let files = tempfile::tempdir()?;
            let mut config =
                Config::new(Machine::Pc, firmware).args(["-boot", &format!("order={order}")]);
            for (number, device) in kinds().into_iter().enumerate() {
                if device.says().is_none() {
                    continue;
                }
                let mut drive = device.drive(&files)?;
                drive.boot_index = index.filter(|index| *index == number).map(|_| 1);
                config = config.attach(drive);
            }
            let mut guest = config.start()?;
            let said =
                guest.wait_until("a letter", |guest| guest.log(Log::Debug).chars().next())?;
            Ok(said)
        };
        let (ours, theirs) = (first(Firmware::Firstlight)?, first(Firmware::SeaBios)?);
        ensure!(
            ours == theirs,
            "{order} {index:?}: {ours} in place of {theirs}"
        );
    }
    Ok(())
}

/// Four disks, each at another place; `bootindex` gives each permutation that is tried.
fn four_disks(indexes: [u32; 4], files: &TempDir) -> Result<Config> {
    const AHCI: &str = "ahci,id=sata,bus=bridge,addr=3";
    const FAR_AHCI: &str = "ahci,id=far,bus=root,addr=4";
    let image = |letter| media::disk(files.path(), letter);
    let disk = |bus: &str, letter: char, index: u32| -> Result<[String; 4]> {
        let image = image(letter)?;
        let drive = format!(
            "if=none,id=disk{letter},format=raw,file={}",
            image.display()
        );
        let device = format!("ide-hd,drive=disk{letter},bus={bus},bootindex={index}");
        Ok(["-drive".into(), drive, "-device".into(), device])
    };
    Ok(Config::new(Machine::Pc, Firmware::Firstlight)
        .args([
            "-device",
            "pci-bridge,id=bridge,chassis_nr=1,bus=pci.0,addr=8",
        ])
        .args(["-device", "pxb,id=root,bus_nr=64,bus=pci.0"])
        .args(["-device", "ahci,id=near,bus=pci.0,addr=4"])
        .args(["-device", AHCI, "-device", FAR_AHCI])
        .args(disk("near.0", '1', indexes[0])?)
        .args(disk("far.0", '2', indexes[1])?)
        .args(disk("sata.2", '3', indexes[2])?)
        .args(disk("ide.1", '4', indexes[3])?))
}

/// Equal slots on two root buses, behind a bridge, and on two kinds of controllers.
#[test]
fn single_devices_wherever_they_are() -> Result<()> {
    for (indexes, expected) in [
        ([1, 2, 3, 4], "1234"),
        ([2, 1, 4, 3], "2143"),
        ([4, 3, 2, 1], "4321"),
        ([3, 4, 1, 2], "3412"),
    ] {
        let files = tempfile::tempdir()?;
        expect(
            &format!("{indexes:?}"),
            four_disks(indexes, &files)?,
            expected,
        )?;
    }
    Ok(())
}

/// A disk on each bus of a `q35`: targets and units of a SCSI controller, behind a root port, and behind a port of a second
/// root (`pxb-pcie`), where the slots have the same numbers.
fn every_bus(indexes: &[u32], files: &TempDir) -> Result<Config> {
    const CONTROLLERS: &str = "pcie-root-port,id=behind,chassis=1,bus=pcie.0,addr=8
        pxb-pcie,id=root,bus_nr=64,bus=pcie.0
        pcie-root-port,id=far,chassis=2,bus=root,addr=8
        virtio-scsi-pci,id=scsi,bus=pcie.0";
    const DISKS: [&str; 9] = [
        "virtio-blk-pci,bus=pcie.0",
        "nvme,serial=1,bus=behind",
        "virtio-blk-pci,bus=far",
        "scsi-hd,bus=scsi.0,scsi-id=2",
        "scsi-hd,bus=scsi.0,scsi-id=2,lun=3",
        "scsi-hd,bus=scsi.0,scsi-id=11",
        "ide-hd,bus=ide.0",
        "ide-hd,bus=ide.3",
        "nvme,serial=2,bus=pcie.0",
    ];
    let mut config = Config::new(Machine::Q35, Firmware::Firstlight);
    for controller in CONTROLLERS.lines() {
        config = config.args(["-device", controller.trim()]);
    }
    for (letter, (disk, index)) in ('1'..).zip(DISKS.into_iter().zip(indexes)) {
        let image = media::disk(files.path(), letter)?;
        let drive = format!(
            "if=none,id=disk{letter},format=raw,file={}",
            image.display()
        );
        let device = format!("{disk},drive=disk{letter},bootindex={index}");
        config = config.args(["-drive", &drive, "-device", &device]);
    }
    Ok(config)
}

#[test]
fn single_devices_on_every_bus() -> Result<()> {
    for (indexes, expected) in [
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], "123456789"),
        ([9, 8, 7, 6, 5, 4, 3, 2, 1], "987654321"),
        ([5, 9, 1, 7, 3, 8, 2, 6, 4], "375918462"),
    ] {
        let files = tempfile::tempdir()?;
        expect(
            &format!("{indexes:?}"),
            every_bus(&indexes, &files)?,
            expected,
        )?;
    }
    Ok(())
}

#[test]
fn a_strict_order_stops_where_it_ends() -> Result<()> {
    let files = tempfile::tempdir()?;
    let disk = |letter, index| -> Result<Drive> {
        let mut drive = Drive::new(Bus::Ide, &media::disk(files.path(), letter)?);
        drive.boot_index = index;
        Ok(drive)
    };
    let strict = |index| -> Result<Config> {
        let config =
            Config::new(Machine::Pc, Firmware::Firstlight).with(|guest| guest.boot.strict = true);
        Ok(config.attach(disk('1', None)?).attach(disk('2', index)?))
    };
    expect("one is named", strict(Some(1))?, "2")?;
    // QEMU says nothing then.
    expect("none is named", strict(None)?, "12")?;
    expect(
        "the setting names it",
        strict(Some(1))?.setting("order", "hd"),
        "21",
    )?;
    let wrong = strict(Some(1))?.setting("order", "zebra");
    expect("a name that matches nothing", wrong, "2")
}

/// Names as the menu shows them, paths, and what is said twice.
#[test]
fn the_setting_names_devices() -> Result<()> {
    let files = tempfile::tempdir()?;
    let start = |order: &str| -> Result<Config> {
        let mut config = Config::new(Machine::Pc, Firmware::Firstlight).setting("order", order);
        for letter in ['1', '2', '3'] {
            let image = media::disk(files.path(), letter)?;
            config = config.attach(Drive::new(Bus::Ide, &image));
        }
        Ok(config)
    };
    for (order, expected) in [
        ("/pci@i0cf8/*@1,1/drive@1/disk@0", "312"),
        ("qemu harddisk (ide primary slave)", "213"),
        ("hd,/pci@i0cf8/ide@1,1/drive@1", "123"),
        ("zebra,cdrom,QEMU HARDDISK (IDE secondary,hd,hd", "312"),
        ("QEMU HARDDISK (IDE primary slave),halt", "2"),
    ] {
        expect(order, start(order)?, expected)?;
    }
    Ok(())
}

/// A floppy disk, a hard disk, a CD and a network with a boot program, at places in `bootorder` where there are some.
fn with_network(files: &TempDir, places: Option<[u32; 4]>) -> Result<Config> {
    std::fs::write(files.path().join("program"), media::program('N'))?;
    let [floppy, disk, _, cdrom] = kinds();
    let mut config = Config::new(Machine::Pc, Firmware::Firstlight).deadline_seconds(120);
    for (index, device) in [floppy, disk, cdrom].into_iter().enumerate() {
        let mut drive = device.drive(files)?;
        drive.boot_index = places.map(|places| places[index]);
        config = config.attach(drive);
    }
    let tftp = files.path().display().to_string();
    Ok(config.nic(Nic {
        backend: NicBackend::User(vec![
            ("tftp".into(), tftp),
            ("bootfile".into(), "program".into()),
        ]),
        boot_index: places.map(|places| places[3]),
        ..Nic::new("virtio-net-pci")
    }))
}

/// All four kinds, by each way to say an order. CMOS has room for three.
#[test]
fn the_network_has_its_place_among_the_kinds() -> Result<()> {
    for (order, expected) in [("ncd", "NCD"), ("dna", "DNA"), ("can", "CAN")] {
        let files = tempfile::tempdir()?;
        let config = with_network(&files, None)?.args(["-boot", &format!("order={order}")]);
        let said = letters(config)?;
        ensure!(said.starts_with(expected), "{order}: {said:?}");
    }
    for (order, expected) in [
        ("network,floppy,cdrom,hd", "NADC"),
        ("cdrom,hd,network,floppy", "DCNA"),
        ("hd,cdrom,floppy,network", "CDAN"),
    ] {
        let files = tempfile::tempdir()?;
        let config = with_network(&files, None)?.setting("order", order);
        expect(order, config, expected)?;
    }
    for (places, expected) in [
        ([1, 2, 3, 4], "ACDN"),
        ([4, 3, 2, 1], "NDCA"),
        ([2, 4, 1, 3], "DANC"),
    ] {
        let files = tempfile::tempdir()?;
        let config = with_network(&files, Some(places))?;
        expect(&format!("{places:?}"), config, expected)?;
    }
    Ok(())
}

/// A boot program is told of the order, of what has failed and by what it came; by SeaBIOS, that nobody tells (82h).
#[test]
fn a_boot_program_can_read_the_order() -> Result<()> {
    let files = tempfile::tempdir()?;
    let directory = files.path();
    let disk = media::disk(directory, 'C')?;
    let drives = [
        Drive::cdrom(Bus::Sata, Some(&media::cdrom(directory, 'D')?)),
        Drive::new(Bus::Nvme, &media::asking_disk(directory, 'Q')?),
        Drive::new(Bus::Virtio, &disk),
    ];
    let start = |firmware, drives: &[Drive]| {
        let mut config = Config::new(Machine::Q35, firmware);
        for (place, drive) in (1..).zip(drives) {
            let mut drive = drive.clone();
            drive.boot_index = Some(place);
            config = config.attach(drive);
        }
        config.nic(Nic {
            boot_index: Some(4),
            ..Nic::new("virtio-net-pci")
        })
    };
    let mut guest = start(Firmware::Firstlight, &drives).start()?;
    let said = guest.wait_for(Log::Debug, "!")?;
    let expected = "D0101 \n\
        0003 0700 QEMU DVD-ROM (SATA port 0)\n\
        0002 0901 QEMU NVMe Ctrl (namespace 1 of NVMe controller at PCI 00:02.0)\n\
        0002 0502 Virtio disk at PCI 00:03.0\n\
        0080 0503 Network card virtio at PCI 00:04.0\n\
        0002 0900 QEMU NVMe Ctrl (namespace 1 of NVMe controller at PCI 00:02.0)\n\
        0002 0501 Virtio disk at PCI 00:03.0\n\
        0001 !";
    ensure!(said == expected, "{said:?}");
    drop(guest);
    let mut guest = start(Firmware::SeaBios, &drives[1..]).start()?;
    let said = guest.wait_for(Log::Debug, "!")?;
    ensure!(said.ends_with("0082 !"), "{said:?}");
    Ok(())
}
