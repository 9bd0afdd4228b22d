//! A real Debian boots from its disk, on each bus, to the login prompt.

use std::path::PathBuf;

use anyhow::{Context, Result};
use firstlight_tests::guest::{Bus, Config, Drive, Firmware, Log, Machine};
use firstlight_tests::linux::is_content;

/// What getty prints before it reads a user's name.
const LOGIN_PROMPT: &str = " login: ";

/// The demo image; `cargo xtask test` makes it and tells where it is.
fn image() -> Result<PathBuf> {
    std::env::var_os("FIRSTLIGHT_DEBIAN")
        .map(PathBuf::from)
        .context("FIRSTLIGHT_DEBIAN is not set: use `cargo xtask test`")
}

fn boots(machine: Machine, firmware: Firmware, cpus: u32, memory_mib: u64) -> Result<()> {
    boots_from(Bus::Ide, machine, firmware, cpus, memory_mib)
}

fn boots_from(
    bus: Bus,
    machine: Machine,
    firmware: Firmware,
    cpus: u32,
    memory_mib: u64,
) -> Result<()> {
    let mut guest = Config::new(machine, firmware)
        .cpus(cpus)
        .memory_mib(memory_mib)
        .deadline_seconds(300)
        .arg("-no-reboot")
        .attach(Drive::new(bus, &image()?).snapshot())
        .start()?;
    let console = guest.wait_for(Log::Serial, LOGIN_PROMPT)?;
    is_content(&console).with_context(|| guest.tails())
}

#[test]
fn debian_on_pc_with_1_cpu_and_128_mib() -> Result<()> {
    boots(Machine::Pc, Firmware::Firstlight, 1, 128)
}

#[test]
fn debian_on_pc_with_2_cpus_and_6_gib() -> Result<()> {
    boots(Machine::Pc, Firmware::Firstlight, 2, 6144)
}

#[test]
fn debian_on_q35_with_1_cpu_and_6_gib() -> Result<()> {
    boots(Machine::Q35, Firmware::Firstlight, 1, 6144)
}

/// The two above with as much memory as guests have in the KVM test bed.
#[test]
#[ignore = "of `cargo xtask test --kvm`"]
fn debian_on_pc_with_2_cpus_and_1_gib() -> Result<()> {
    boots(Machine::Pc, Firmware::Firstlight, 2, 1024)
}

#[test]
#[ignore = "of `cargo xtask test --kvm`"]
fn debian_on_q35_with_1_cpu_and_1_gib() -> Result<()> {
    boots(Machine::Q35, Firmware::Firstlight, 1, 1024)
}

#[test]
fn debian_on_q35_with_2_cpus_and_128_mib() -> Result<()> {
    boots(Machine::Q35, Firmware::Firstlight, 2, 128)
}

#[test]
fn debian_on_pc_from_virtio() -> Result<()> {
    boots_from(Bus::Virtio, Machine::Pc, Firmware::Firstlight, 1, 512)
}

#[test]
fn debian_on_q35_from_nvme() -> Result<()> {
    boots_from(Bus::Nvme, Machine::Q35, Firmware::Firstlight, 1, 512)
}

#[test]
fn debian_on_pc_from_virtio_scsi() -> Result<()> {
    boots_from(Bus::Scsi, Machine::Pc, Firmware::Firstlight, 1, 512)
}

#[test]
fn debian_on_q35_from_virtio_scsi() -> Result<()> {
    boots_from(Bus::Scsi, Machine::Q35, Firmware::Firstlight, 1, 512)
}

/// GRUB writes to the VGA card by INT 10h, which the card's ROM serves, and reads its kernel by INT 13h.
#[test]
fn grub_writes_to_the_screen_and_starts_a_kernel() -> Result<()> {
    let mut guest = Config::new(Machine::Pc, Firmware::Firstlight)
        .deadline_seconds(120)
        .attach(Drive::new(Bus::Ide, &image()?).snapshot())
        .start()?;
    guest.wait_for_screen("GRUB")?;
    guest.wait_for(Log::Serial, "Linux version").map(drop)
}
