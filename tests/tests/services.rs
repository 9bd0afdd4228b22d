//! The differential probe: every BIOS service answers as SeaBIOS does, except where `differences.toml` says why not.

use std::fmt::Write;

use anyhow::{Result, ensure};
use firstlight_tests::differences::{compare, parse};
use firstlight_tests::disk::Disk;
use firstlight_tests::guest::{Config, Firmware, Log, Machine, workspace};
use firstlight_tests::report::Report;
use firstlight_tests::services;

/// The boot disk, and up to three more: more than 8 GiB (CHS full), more than 128 GiB (LBA48), more than 2 TiB.
const DISK_BYTES: [u64; 4] = [16 << 20, 9 << 30, 200 << 30, 3 << 40];

/// Runs the probe and leaves its readable report in `target/probe/`.
fn probe(machine: Machine, firmware: Firmware, disks: u8) -> Result<Report> {
    let script = services::all(disks);
    let boot = Disk::running(&script, DISK_BYTES[0])?;
    let others = DISK_BYTES[1..usize::from(disks)]
        .iter()
        .map(|&bytes| Disk::patterned(bytes))
        .collect::<Result<Vec<_>>>()?;
    let mut config = Config::new(machine, firmware)
        .deadline_seconds(90)
        .args(["-rtc", "base=2026-03-04T05:06:07,clock=vm"])
        .disk(&boot.path());
    for disk in &others {
        config = config.disk(&disk.path());
    }
    let log = config.start()?.wait_for(Log::Debug, "~E\n")?;
    let report = Report::parse(&script, &log)?;
    let directory = workspace().join("target/probe");
    std::fs::create_dir_all(&directory)?;
    let mut text = String::new();
    for (field, value) in &report.fields {
        writeln!(text, "{field}={value}")?;
    }
    std::fs::write(
        directory.join(format!("{machine}-{disks}-{firmware}.txt")),
        text,
    )?;
    Ok(report)
}

fn differential(machine: Machine, disks: u8) -> Result<()> {
    let seabios = probe(machine, Firmware::SeaBios, disks)?;
    let ours = probe(machine, Firmware::Firstlight, disks)?;
    let table = parse(&std::fs::read_to_string(
        workspace().join("tests/differences.toml"),
    )?)?;
    let problems = compare(machine, &seabios.fields, &ours.fields, &table);
    ensure!(
        problems.is_empty(),
        "{} problems\n{}",
        problems.len(),
        problems.join("\n")
    );
    Ok(())
}

#[test]
fn pc_with_one_disk_answers_as_seabios() -> Result<()> {
    differential(Machine::Pc, 1)
}

#[test]
fn pc_with_four_disks_answers_as_seabios() -> Result<()> {
    differential(Machine::Pc, 4)
}

#[test]
fn q35_with_two_disks_answers_as_seabios() -> Result<()> {
    differential(Machine::Q35, 2)
}

/// What varies from run to run under one firmware would be noise between two.
#[test]
fn seabios_answers_as_itself() -> Result<()> {
    let first = probe(Machine::Pc, Firmware::SeaBios, 2)?;
    let second = probe(Machine::Pc, Firmware::SeaBios, 2)?;
    let problems = compare(Machine::Pc, &first.fields, &second.fields, &[]);
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}
