//! The differential probe: every BIOS service answers as SeaBIOS does, except where `differences.toml`,
//! `removable-differences.toml` and `empty-differences.toml` say why not.

use std::fmt::Write;

use anyhow::{Result, ensure};
use firstlight_tests::differences::{compare, parse};
use firstlight_tests::disk::Disk;
use firstlight_tests::guest::{Bus, Config, Drive, Firmware, Log, Machine, workspace};
use firstlight_tests::report::Report;
use firstlight_tests::services;

/// The boot disk, and up to three more: more than 8 GiB (CHS full), more than 128 GiB (LBA48), more than 2 TiB.
const DISK_BYTES: [u64; 4] = [16 << 20, 9 << 30, 200 << 30, 3 << 40];
/// A diskette.
const FLOPPY_BYTES: u64 = 1_474_560;

/// The machine that the probe runs on.
#[derive(Clone, Copy)]
struct Setup {
    machine: Machine,
    disks: u8,
    bus: Bus,
    /// How a CD drive is connected whose functions are probed instead of the disks', as are those of a diskette drive.
    cd: Option<Bus>,
    /// Both of them are empty.
    empty: bool,
}

/// Runs the probe and leaves its readable report in `target/probe/`.
fn probe(setup: Setup, firmware: Firmware) -> Result<Report> {
    let Setup {
        machine,
        disks,
        bus,
        cd,
        empty,
    } = setup;
    let script = match cd {
        None => services::all(disks),
        Some(_) if empty => services::empty(),
        Some(_) => services::removable(),
    };
    let boot = Disk::running(&script, DISK_BYTES[0])?;
    let others = DISK_BYTES[1..usize::from(disks)]
        .iter()
        .map(|&bytes| Disk::patterned(bytes))
        .collect::<Result<Vec<_>>>()?;
    let mut config = Config::new(machine, firmware)
        .deadline_seconds(40)
        .args(["-rtc", "base=2026-03-04T05:06:07,clock=vm"]);
    config = config.attach(Drive::new(bus, &boot.path()).boot_index(1));
    for disk in &others {
        config = config.attach(Drive::new(bus, &disk.path()));
    }
    let media = match cd {
        None => None,
        Some(cd) if empty => {
            config = config
                .attach(Drive::cdrom(cd, None))
                .attach(Drive::floppy(None));
            None
        }
        Some(cd) => {
            let (iso, floppy) = (Disk::patterned(8 << 20)?, Disk::patterned(FLOPPY_BYTES)?);
            config = config
                .attach(Drive::cdrom(cd, Some(&iso.path())))
                .attach(Drive::floppy(Some(&floppy.path())));
            Some((iso, floppy))
        }
    };
    let log = config.start()?.wait_for(Log::Debug, "~E\n")?;
    drop(media);
    let report = Report::parse(&script, &log)?;
    let directory = workspace().join("target/probe");
    std::fs::create_dir_all(&directory)?;
    let mut text = String::new();
    for (field, value) in &report.fields {
        writeln!(text, "{field}={value}")?;
    }
    std::fs::write(
        directory.join(format!("{machine}-{disks}-{}-{firmware}.txt", name(setup))),
        text,
    )?;
    Ok(report)
}

fn differential(setup: Setup) -> Result<()> {
    // Now and then SeaBIOS waits for ever for the end of an NVMe command.
    let seabios = (0..3)
        .find_map(|_| probe(setup, Firmware::SeaBios).ok())
        .map_or_else(|| probe(setup, Firmware::SeaBios), Ok)?;
    let ours = probe(setup, Firmware::Firstlight)?;
    let Setup {
        machine, bus, cd, ..
    } = setup;
    let table = match cd {
        None => "tests/differences.toml",
        Some(_) if setup.empty => "tests/empty-differences.toml",
        Some(_) => "tests/removable-differences.toml",
    };
    let table = parse(&std::fs::read_to_string(workspace().join(table))?)?;
    let problems = compare(
        &match (cd, bus) {
            (Some(_), _) => format!("{} on {machine}", name(setup)),
            (None, Bus::Nvme) => format!("{machine} with NVMe"),
            (None, Bus::Scsi) => format!("{machine} with SCSI"),
            _ => machine.to_string(),
        },
        "SeaBIOS",
        &seabios.fields,
        &ours.fields,
        &table,
    );
    ensure!(
        problems.is_empty(),
        "{} problems\n{}",
        problems.len(),
        problems.join("\n")
    );
    Ok(())
}

/// What tells set-ups of a machine apart.
fn name(setup: Setup) -> String {
    match setup.cd {
        None => format!("{:?}", setup.bus),
        Some(cd) if setup.empty => format!("{cd:?}-CD-empty"),
        Some(cd) => format!("{cd:?}-CD"),
    }
}

fn ide(machine: Machine, disks: u8) -> Setup {
    Setup {
        machine,
        disks,
        bus: Bus::Ide,
        cd: None,
        empty: false,
    }
}

fn removable(machine: Machine, bus: Bus, cd: Bus) -> Setup {
    Setup {
        machine,
        disks: 1,
        bus,
        cd: Some(cd),
        empty: false,
    }
}

#[test]
fn pc_with_a_floppy_and_an_ide_cd_answers_as_seabios() -> Result<()> {
    differential(removable(Machine::Pc, Bus::Ide, Bus::Ide))
}

#[test]
fn q35_with_a_floppy_and_a_sata_cd_answers_as_seabios() -> Result<()> {
    differential(removable(Machine::Q35, Bus::Sata, Bus::Sata))
}

#[test]
fn pc_with_a_floppy_and_a_scsi_cd_answers_as_seabios() -> Result<()> {
    differential(removable(Machine::Pc, Bus::Scsi, Bus::Scsi))
}

#[test]
fn pc_with_an_empty_floppy_drive_and_an_empty_ide_cd_drive_answers_as_seabios() -> Result<()> {
    differential(Setup {
        empty: true,
        ..removable(Machine::Pc, Bus::Ide, Bus::Ide)
    })
}

#[test]
fn q35_with_an_empty_floppy_drive_and_an_empty_sata_cd_drive_answers_as_seabios() -> Result<()> {
    differential(Setup {
        empty: true,
        ..removable(Machine::Q35, Bus::Sata, Bus::Sata)
    })
}

#[test]
fn pc_with_one_disk_answers_as_seabios() -> Result<()> {
    differential(ide(Machine::Pc, 1))
}

#[test]
fn pc_with_four_disks_answers_as_seabios() -> Result<()> {
    differential(ide(Machine::Pc, 4))
}

#[test]
fn q35_with_two_disks_answers_as_seabios() -> Result<()> {
    differential(ide(Machine::Q35, 2))
}

#[test]
fn q35_with_four_sata_disks_answers_as_seabios() -> Result<()> {
    differential(Setup {
        machine: Machine::Q35,
        disks: 4,
        bus: Bus::Sata,
        cd: None,
        empty: false,
    })
}

#[test]
fn pc_with_two_virtio_disks_answers_as_seabios() -> Result<()> {
    differential(Setup {
        machine: Machine::Pc,
        disks: 2,
        bus: Bus::Virtio,
        cd: None,
        empty: false,
    })
}

#[test]
fn q35_with_two_virtio_scsi_disks_answers_as_seabios() -> Result<()> {
    differential(Setup {
        machine: Machine::Q35,
        disks: 2,
        bus: Bus::Scsi,
        cd: None,
        empty: false,
    })
}

#[test]
fn q35_with_two_nvme_disks_answers_as_seabios() -> Result<()> {
    differential(Setup {
        machine: Machine::Q35,
        disks: 2,
        bus: Bus::Nvme,
        cd: None,
        empty: false,
    })
}

/// What varies from run to run under one firmware would be noise between two.
#[test]
fn seabios_answers_as_itself() -> Result<()> {
    let setup = ide(Machine::Pc, 2);
    let first = probe(setup, Firmware::SeaBios)?;
    let second = probe(setup, Firmware::SeaBios)?;
    let problems = compare("pc", "the first time", &first.fields, &second.fields, &[]);
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}
