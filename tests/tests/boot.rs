//! What happens when a disk does not boot, and that starting again and again changes nothing.

use anyhow::{Result, ensure};
use firstlight_tests::disk::{Disk, SECTOR};
use firstlight_tests::guest::{Config, Firmware, Log, Machine};
use firstlight_tests::report::Report;
use firstlight_tests::script::{Call, Script};

/// The first line of what a guest shows when nothing boots.
const NOTHING_BOOTS: &str = "Nothing could be booted";

/// What a disk that boots prints first.
const BOOTED: &str = "~E\n";

fn good_disk() -> Result<Disk> {
    Disk::running(&Script::new(), 16 << 20)
}

/// Starts a guest whose disks cannot boot, and returns what it says on the serial port and on the screen.
fn refused(machine: Machine, disks: &[&Disk]) -> Result<(String, String)> {
    let mut config = Config::new(machine, Firmware::Firstlight);
    for disk in disks {
        config = config.disk(&disk.path());
    }
    let mut guest = config.start()?;
    let serial = guest.wait_for(Log::Serial, NOTHING_BOOTS)?;
    let screen = guest.wait_for_screen(NOTHING_BOOTS)?;
    Ok((serial, screen))
}

#[test]
fn no_disk_at_all_is_said() -> Result<()> {
    for machine in Machine::ALL {
        refused(machine, &[])?;
    }
    Ok(())
}

#[test]
fn disks_that_cannot_boot_are_named_with_the_reason() -> Result<()> {
    let blank = Disk::blank(16 << 20)?;
    let short = Disk::blank(100)?;
    let (serial, screen) = refused(Machine::Pc, &[&blank, &short])?;
    // The screen breaks lines where it ends.
    for (log, text) in [("serial", serial), ("screen", screen.replace('\n', ""))] {
        ensure!(
            text.contains("no 55AAh at the end of sector 0"),
            "no reason on the {log}:\n{text}"
        );
    }
    Ok(())
}

#[test]
fn the_next_disk_boots_after_one_without_a_boot_sector() -> Result<()> {
    let blank = Disk::blank(16 << 20)?;
    let good = good_disk()?;
    Config::new(Machine::Pc, Firmware::Firstlight)
        .disk(&blank.path())
        .disk(&good.path())
        .start()?
        .wait_for(Log::Debug, BOOTED)?;
    Ok(())
}

#[test]
fn the_next_disk_boots_after_a_short_one() -> Result<()> {
    let short = Disk::blank(100)?;
    let good = good_disk()?;
    Config::new(Machine::Q35, Firmware::Firstlight)
        .disk(&short.path())
        .disk(&good.path())
        .start()?
        .wait_for(Log::Debug, BOOTED)?;
    Ok(())
}

/// A disk whose every sector fails to read is given up, in time, and the next is booted.
fn read_errors(firmware: Firmware) -> Result<()> {
    let bad = good_disk()?;
    let rules = bad.directory().join("blkdebug.conf");
    std::fs::write(
        &rules,
        "[inject-error]\nevent = \"read_aio\"\nerrno = \"5\"\n",
    )?;
    let good = good_disk()?;
    let description = format!("file=blkdebug:{}:{}", rules.display(), bad.path().display());
    Config::new(Machine::Pc, firmware)
        .drive(&description)
        .disk(&good.path())
        .start()?
        .wait_for(Log::Debug, BOOTED)?;
    Ok(())
}

#[test]
fn the_next_disk_boots_after_one_with_read_errors() -> Result<()> {
    read_errors(Firmware::Firstlight)
}

/// A boot sector that gives up with INT 18h leaves the turn to the next disk.
#[test]
fn the_next_disk_boots_after_int_18h() -> Result<()> {
    let gives_up = Disk::blank(16 << 20)?;
    gives_up.write(0, &[0xcd, 0x18])?;
    gives_up.write(SECTOR - 2, &[0x55, 0xaa])?;
    let good = good_disk()?;
    Config::new(Machine::Pc, Firmware::Firstlight)
        .disk(&gives_up.path())
        .disk(&good.path())
        .start()?
        .wait_for(Log::Debug, BOOTED)?;
    Ok(())
}

/// A register of the CMOS that no firmware uses, and how often the guest is to start again.
const REBOOT_COUNTER: u8 = 0x7e;
const REBOOTS: u8 = 50;

/// Resets by the keyboard controller, port CF9h and a triple fault in turn; the memory map is the same every time.
fn reboots(machine: Machine, firmware: Firmware) -> Result<()> {
    let mut script = Script::new();
    script.memory_map();
    script.reboot(REBOOT_COUNTER, REBOOTS);
    let disk = Disk::running(&script, 16 << 20)?;
    let log = Config::new(machine, firmware)
        .deadline_seconds(120)
        .disk(&disk.path())
        .start()?
        .wait_for(Log::Debug, "~E\n")?;
    let starts: Vec<&str> = log.split("~B").skip(1).collect();
    ensure!(
        starts.len() == usize::from(REBOOTS) + 1,
        "{machine}: the guest started {} times",
        starts.len()
    );
    let maps = starts
        .iter()
        .map(|start| Ok(Report::parse(&script, start)?.memory_maps.remove(0)))
        .collect::<Result<Vec<_>>>()?;
    for (number, map) in maps.iter().enumerate() {
        ensure!(
            *map == maps[0],
            "{machine}: start {number} has another memory map:\n{map:x?}\nthe first had\n{:x?}",
            maps[0]
        );
    }
    Ok(())
}

#[test]
fn pc_starts_50_times_with_one_memory_map() -> Result<()> {
    reboots(Machine::Pc, Firmware::Firstlight)
}

#[test]
fn q35_starts_50_times_with_one_memory_map() -> Result<()> {
    reboots(Machine::Q35, Firmware::Firstlight)
}

#[test]
fn apm_switches_the_machine_off() -> Result<()> {
    for machine in Machine::ALL {
        let mut script = Script::new();
        script.call("off", Call::new(0x15, 0x5307).bx(1).cx(3));
        script.halt();
        let disk = Disk::running(&script, 16 << 20)?;
        Config::new(machine, Firmware::Firstlight)
            .disk(&disk.path())
            .start()?
            .wait_for_end()?;
    }
    Ok(())
}

/// The option ROM of guest/rom.s: says I when it is initialised and B when it is booted, and gives up.
static OPTION_ROM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rom.bin"));

#[test]
fn an_option_rom_is_booted_where_the_order_has_it() -> Result<()> {
    let files = tempfile::tempdir()?;
    // Without a kernel to start, a ROM of this name is one like any other.
    let file = files.path().join("linuxboot.bin");
    let mut rom = OPTION_ROM.to_vec();
    let sum = rom.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    *rom.last_mut().expect("a ROM has bytes") = sum.wrapping_neg();
    std::fs::write(&file, rom)?;
    let disk = good_disk()?;
    let start = |index: &str| {
        let rom = format!("{}{index}", file.display());
        Config::new(Machine::Pc, Firmware::Firstlight)
            .args(["-option-rom", &rom])
            .disk(&disk.path())
            .start()?
            .wait_for(Log::Debug, BOOTED)
    };
    let first = start(",bootindex=0")?;
    ensure!(first.starts_with("IB"), "named first: {first}");
    let last = start("")?;
    ensure!(
        last.starts_with('I') && !last.starts_with("IB"),
        "not named: {last}"
    );
    Ok(())
}
