//! Every video card that QEMU has answers INT 10h as it does under SeaBIOS: its ROM was started with what it needs.

use std::process::Command;

use anyhow::{Result, ensure};
use firstlight_tests::differences::compare;
use firstlight_tests::disk::Disk;
use firstlight_tests::guest::{Config, Firmware, Log, Machine};
use firstlight_tests::report::Report;
use firstlight_tests::script::{Call, Script};
use firstlight_tests::services::video;

const DISK_BYTES: u64 = 16 << 20;

fn run(machine: Machine, card: &str, firmware: Firmware, script: &Script) -> Result<String> {
    let disk = Disk::running(script, DISK_BYTES)?;
    Config::new(machine, firmware)
        .video(card)
        .disk(&disk.path())
        .deadline_seconds(60)
        .start()?
        .wait_for(Log::Debug, "~E\n")
}

fn answers_as_seabios(machine: Machine, cards: &[&str]) -> Result<()> {
    let mut script = Script::new();
    video::vbe(&mut script);
    for card in cards {
        let report = |firmware| {
            let log = run(machine, card, firmware, &script)?;
            Report::parse(&script, &log)
        };
        let seabios = report(Firmware::SeaBios)?;
        let ours = report(Firmware::Firstlight)?;
        let problems = compare(
            &machine.to_string(),
            "SeaBIOS",
            &seabios.fields,
            &ours.fields,
            &[],
        );
        ensure!(
            problems.is_empty(),
            "{card}: {} problems\n{}",
            problems.len(),
            problems.join("\n")
        );
    }
    Ok(())
}

/// Whether this QEMU has a device: Debian packs some by themselves (qemu-system-modules-spice), and not in each release.
fn qemu_has(device: &str) -> Result<bool> {
    let help = Command::new("qemu-system-x86_64")
        .args(["-device", "help"])
        .output()?;
    let name = format!("name \"{device}\"");
    Ok(String::from_utf8_lossy(&help.stdout).contains(&name))
}

#[test]
fn cards_of_pc_answer_as_under_seabios() -> Result<()> {
    let cards = [
        "VGA",
        "cirrus-vga",
        "vmware-svga",
        "ramfb",
        "bochs-display",
        "isa-vga",
        "none",
    ];
    answers_as_seabios(Machine::Pc, &cards)
}

#[test]
fn cards_of_q35_answer_as_under_seabios() -> Result<()> {
    let mut cards = vec!["VGA", "virtio-vga", "ati-vga"];
    if qemu_has("qxl-vga")? {
        cards.push("qxl-vga");
    }
    answers_as_seabios(Machine::Q35, &cards)
}

/// What comes in by a vector that interrupts share, and is none, is spoken of once, and changes nothing.
#[test]
fn an_exception_is_told_from_an_interrupt() -> Result<()> {
    let mut script = Script::new();
    for name in ["first", "second"] {
        script.call(name, Call::new(0x0d, 0x1234));
    }
    let log = run(Machine::Pc, "VGA", Firmware::Firstlight, &script)?;
    ensure!(
        log.matches("general protection fault (INT 0Dh) at ")
            .count()
            == 1,
        "{log}"
    );
    let fields = Report::parse(&script, &log)?.fields;
    // The registers are all as they were, as are the flags.
    ensure!(fields.iter().all(|(_, value)| value == "0"), "{fields:?}");
    Ok(())
}
