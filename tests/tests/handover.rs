//! What programs find where the firmware leaves off, each beside SeaBIOS: the programs of `guest/handover` say it themselves.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use firstlight_tests::disk::Disk;
use firstlight_tests::guest::{Config, Firmware, Guest, Log, Machine};
use firstlight_tests::media;
use tempfile::TempDir;

macro_rules! program {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".bin"))
    };
}

/// Registers by name.
type Registers = BTreeMap<String, String>;

/// A place for files, each with these bytes.
fn files(files: &[(&str, &[u8])]) -> Result<TempDir> {
    let directory = tempfile::tempdir()?;
    for (name, bytes) in files {
        std::fs::write(directory.path().join(name), bytes)?;
    }
    Ok(directory)
}

/// What the program says until its end, from `start` on.
fn said(guest: &mut Guest, start: &str) -> Result<String> {
    let log = guest.wait_for(Log::Debug, "Z")?;
    let at = log
        .find(start)
        .with_context(|| format!("no {start:?}: {log}"))?;
    Ok(log[at..].trim_end_matches(['Z', '\n']).to_owned())
}

/// The registers, but those that `free` names, since each firmware has its own and no program can count on them.
fn registers(said: &str, free: &[&str]) -> Registers {
    let pairs = said
        .split_whitespace()
        .filter_map(|word| word.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .filter(|(name, _)| !free.contains(&name.as_str()))
        .collect()
}

/// What `start` says of both firmwares is the same.
fn same<T: PartialEq + std::fmt::Debug>(start: impl Fn(Firmware) -> Result<T>) -> Result<T> {
    let [theirs, ours] = [start(Firmware::SeaBios)?, start(Firmware::Firstlight)?];
    ensure!(ours == theirs, "SeaBIOS {theirs:x?}\nFirstlight {ours:x?}");
    Ok(ours)
}

#[test]
fn boot_sectors_of_disks_and_cds() -> Result<()> {
    let disk = Disk::blank(1 << 20)?;
    disk.write(0, program!("sector"))?;
    let directory = tempfile::tempdir()?;
    let cd = media::cdrom_of(directory.path(), "sector", program!("sector"))?;
    for machine in Machine::ALL {
        let disk = same(|firmware| {
            let config = Config::new(machine, firmware).disk(&disk.path());
            let said = said(&mut config.start()?, "lim=")?;
            Ok(registers(&said, &["esp"]))
        })?;
        ensure!(disk["edx"] == "00000080", "{disk:?}");
        same(|firmware| {
            let config = Config::new(machine, firmware).args(["-cdrom".as_ref(), cd.as_os_str()]);
            let said = said(&mut config.start()?, "lim=")?;
            Ok(registers(&said, &["esp"]))
        })?;
    }
    Ok(())
}

/// A ROM is initialised and booted with ES:DI at the Plug and Play header (BIOS Boot Specification, appendix D). SeaBIOS leaves that out
/// when it boots, and has the ROM elsewhere.
#[test]
fn option_roms() -> Result<()> {
    let mut rom = program!("bootrom").to_vec();
    let sum = rom.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    *rom.last_mut().context("a ROM has bytes")? = sum.wrapping_neg();
    let files = files(&[("rom", &rom)])?;
    let rom = format!("{},bootindex=0", files.path().join("rom").display());
    same(|firmware| {
        let config = Config::new(Machine::Pc, firmware).args(["-option-rom", &rom]);
        let said = said(&mut config.start()?, "Ilim=")?;
        let (init, boot) = said.split_once("Blim=").context("it is booted")?;
        let differ = ["esp", "cs_", "edi", "es_", "ebx", "edx"];
        Ok((
            registers(init, &["esp", "cs_", "edi"]),
            registers(boot, &differ),
        ))
    })
    .map(drop)
}

#[test]
fn guests_that_wake_up() -> Result<()> {
    let disk = Disk::blank(1 << 20)?;
    disk.write(0, program!("wake"))?;
    for machine in Machine::ALL {
        same(|firmware| {
            let mut guest = Config::new(machine, firmware).disk(&disk.path()).start()?;
            guest.wait_for_status("paused (suspended)")?;
            guest.monitor("system_wakeup")?;
            let said = said(&mut guest, "slim=")?;
            let stack = said.split_whitespace().next_back().unwrap_or_default();
            ensure!(stack == "0000", "SS is {stack}");
            // The program has set a stack of its own by then.
            Ok(registers(&said, &["esp", "ss_"]))
        })?;
    }
    Ok(())
}

/// What the kernel in a file says of the entry that it came by, and of what it finds.
fn kernel_of(config: Config, file: &Path, line: &str) -> Result<String> {
    let config = config.arg("-kernel").arg(file).args(["-append", line]);
    said(&mut config.start()?, "")
}

/// With a display, a Linux kernel is entered by its setup code, in the world that a BIOS leaves, and asks itself for the mode that
/// `vga=` names. Without one it is entered at once.
#[test]
fn given_kernels_with_and_without_a_display() -> Result<()> {
    let files = files(&[("kernel", program!("kernel"))])?;
    let file = files.path().join("kernel");
    for machine in Machine::ALL {
        for line in ["hello world", "vga=0x317 x", "vga=ask"] {
            let found = same(|firmware| {
                let said = kernel_of(Config::new(machine, firmware), &file, line)?;
                let said = said.trim_start_matches(|letter| letter != 'R');
                let mut words: Vec<_> = said.split_whitespace().map(String::from).collect();
                ensure!(words.len() > 18, "{machine} {firmware}: {said:?}");
                // Diskette drives, the keyboard controller's system flag, and the row of the cursor are the firmware's choice.
                words[8].pop();
                words[15].pop();
                words.remove(if line.contains("0x317") { 19 } else { 17 });
                Ok(words)
            })?;
            ensure!(found.join(" ").contains(line), "{machine}: {found:?}");
        }
        let without = Config::new(machine, Firmware::Firstlight).video("none");
        let said = kernel_of(without, &file, "")?;
        ensure!(said == "L", "{machine}: {said:?}");
    }
    Ok(())
}

/// The setup code of a kernel of old lies above the kernel, which is loaded to 64 KiB.
#[test]
fn kernels_that_are_loaded_low() -> Result<()> {
    let mut kernel = program!("zimage").to_vec();
    let mut body = vec![0; 0x1_1000];
    (body[0], body[0x1_0000]) = (b'1', b'2');
    kernel.extend(body);
    let files = files(&[("kernel", &kernel)])?;
    let file = files.path().join("kernel");
    let found = same(|firmware| {
        let said = kernel_of(Config::new(Machine::Pc, firmware), &file, "x")?;
        Ok(said.lines().next_back().unwrap_or_default().to_owned())
    })?;
    ensure!(found == "S12", "{found:?}");
    Ok(())
}

/// Under SeaBIOS the information is written over this kernel.
#[test]
fn multiboot_kernels_where_their_information_goes() -> Result<()> {
    let files = files(&[("kernel", program!("multiboot"))])?;
    for machine in Machine::ALL {
        let config = Config::new(machine, Firmware::Firstlight);
        let said = kernel_of(config, &files.path().join("kernel"), "x")?;
        ensure!(said == "Mkom", "{machine}: {said:?}");
    }
    Ok(())
}

/// QEMU makes the ACPI tables longer once so many bridges have their buses; a guest that sleeps has found them.
#[test]
fn tables_of_a_machine_with_forty_bridges() -> Result<()> {
    let disk = Disk::blank(1 << 20)?;
    disk.write(0, program!("wake"))?;
    for machine in Machine::ALL {
        let mut config = Config::new(machine, Firmware::Firstlight).disk(&disk.path());
        for bridge in 0..25 {
            let device = format!(
                "pci-bridge,id=a{bridge},chassis_nr={},addr={:#x}",
                bridge + 1,
                bridge + 5
            );
            config = config.args(["-device", &device]);
        }
        for bridge in 0..15 {
            let device = format!(
                "pci-bridge,id=b{bridge},chassis_nr={},bus=a{bridge},addr=1",
                bridge + 60
            );
            config = config.args(["-device", &device]);
        }
        let mut guest = config.start()?;
        guest.wait_for_status("paused (suspended)")?;
        let log = guest.log(Log::Debug);
        ensure!(!log.contains("firstlight"), "{machine}: {log}");
    }
    Ok(())
}
