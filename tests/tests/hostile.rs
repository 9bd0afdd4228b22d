//! Programs that use the machine in ways of their own, each beside SeaBIOS: the boot sectors of `guest/hostile`.

use anyhow::{Context, Result, ensure};
use firstlight_tests::disk::{Disk, SECTOR};
use firstlight_tests::guest::{Config, Firmware, Log, Machine};
use firstlight_tests::script::Script;

const DISK_BYTES: u64 = 1 << 20;

macro_rules! program {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".bin"))
    };
}

fn disk(program: &[u8]) -> Result<Disk> {
    let disk = Disk::blank(DISK_BYTES)?;
    disk.write(0, program)?;
    Ok(disk)
}

/// What a program says until its end, without what Firstlight itself logs.
fn said(config: Config) -> Result<String> {
    let log = config.start()?.wait_for(Log::Debug, "Z")?;
    let own = |line: &str| {
        line.split("firstlight: ")
            .next()
            .unwrap_or_default()
            .to_string()
    };
    Ok(log.lines().map(own).collect())
}

/// The program says what it says under SeaBIOS.
fn says_the_same(machine: Machine, change: impl Fn(Config) -> Config) -> Result<String> {
    let under = |firmware| said(change(Config::new(machine, firmware)));
    let seabios = under(Firmware::SeaBios)?;
    let ours = under(Firmware::Firstlight)?;
    ensure!(ours == seabios, "SeaBIOS {seabios:?}, Firstlight {ours:?}");
    Ok(ours)
}

/// Without PIIX4's power function there is no ACPI timer to wait by.
#[test]
fn deadlines_end_without_the_acpi_timer() -> Result<()> {
    let disk = disk(program!("deadlines"))?;
    let bad = Disk::blank(DISK_BYTES)?;
    let rules = bad.directory().join("blkdebug.conf");
    std::fs::write(
        &rules,
        "[inject-error]\nevent = \"read_aio\"\nerrno = \"5\"\n",
    )?;
    let errors = format!("file=blkdebug:{}:{}", rules.display(), bad.path().display());
    for acpi in ["off", "on"] {
        let said = says_the_same(Machine::Pc, |config| {
            config
                .args(["-machine", &format!("acpi={acpi}")])
                .args(["-parallel", "null"])
                .disk(&disk.path())
                .drive(&errors)
                .deadline_seconds(120)
        })?;
        ensure!(said.ends_with("01Z"), "{said:?}");
    }
    Ok(())
}

/// What lies at 512 GiB and above is reached through a window, which must not hide what lies below.
#[test]
fn memory_at_520_gib_and_at_4_gib_are_two() -> Result<()> {
    let disk = disk(program!("window"))?;
    let (far, near) = ([0x5a; SECTOR as usize], [0xa5; SECTOR as usize]);
    disk.write(SECTOR, &far)?;
    disk.write(2 * SECTOR, &near)?;
    Config::new(Machine::Q35, Firmware::Firstlight)
        .memory_mib(530 << 10)
        .args(["-cpu", "max", "-machine", "memory-backend=all"])
        .args(["-object", "memory-backend-ram,id=all,size=530G,reserve=off"])
        .disk(&disk.path())
        .start()?
        .wait_for(Log::Debug, "Z")?;
    ensure!(disk.read(3 * SECTOR, SECTOR as usize)? == near, "4.25 GiB");
    ensure!(disk.read(4 * SECTOR, SECTOR as usize)? == far, "520 GiB");
    Ok(())
}

#[test]
fn a_jump_to_ffff_0_restarts() -> Result<()> {
    let disk = disk(program!("restart"))?;
    for machine in Machine::ALL {
        let said = says_the_same(machine, |config| config.disk(&disk.path()))?;
        ensure!(said == "012Z", "{machine}: {said:?}");
    }
    Ok(())
}

/// SeaBIOS does not print by INT 10h, so this hook is not called there.
#[test]
fn hooks_that_never_return_cost_nothing() -> Result<()> {
    let disk = disk(program!("longjump"))?;
    let config = Config::new(Machine::Pc, Firmware::Firstlight).args(["-parallel", "null"]);
    let said = said(config.disk(&disk.path()))?;
    ensure!(said == "dZ", "{said:?}");
    Ok(())
}

#[test]
fn boot_entries_that_never_return_cost_nothing() -> Result<()> {
    const ROUNDS: usize = 200;
    let files = tempfile::tempdir()?;
    let file = files.path().join("loop.bin");
    let mut rom = program!("bootloop").to_vec();
    let sum = rom.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    *rom.last_mut().expect("a ROM has bytes") = sum.wrapping_neg();
    std::fs::write(&file, rom)?;
    let mut guest = Config::new(Machine::Pc, Firmware::Firstlight)
        .args(["-option-rom", &format!("{},bootindex=0", file.display())])
        .start()?;
    guest.wait_for_count(Log::Debug, "B", ROUNDS)?;
    let log = guest.log(Log::Debug);
    ensure!(!log.contains("firstlight"), "{log}");
    Ok(())
}

#[test]
fn a_breakpoint_of_the_guests_is_the_guests() -> Result<()> {
    let disk = disk(program!("breakpoint"))?;
    let said = says_the_same(Machine::Pc, |config| config.disk(&disk.path()))?;
    ensure!(said.ends_with("DmZ"), "{said:?}");
    Ok(())
}

/// The disk is slow, so that they come while a service waits for it. On the few instructions between the modes nobody can take one,
/// as under SeaBIOS.
#[test]
fn non_maskable_interrupts_reach_the_guest() -> Result<()> {
    let disk = disk(program!("nmi"))?;
    let drive = format!("file={},throttling.iops-total=4", disk.path().display());
    for machine in Machine::ALL {
        let mut guest = Config::new(machine, Firmware::Firstlight)
            .drive(&drive)
            .start()?;
        guest.wait_for(Log::Debug, "A")?;
        for count in 1..=5 {
            guest.monitor("nmi")?;
            guest.wait_for_count(Log::Debug, "N", count)?;
        }
        let log = guest.log(Log::Debug);
        ensure!(!log.contains("firstlight"), "{machine}: {log}");
    }
    Ok(())
}

/// Where nothing can run, one line says why, on both consoles, and the guest stands still.
#[test]
fn machines_that_cannot_run_it_are_told_why() -> Result<()> {
    let no_long_mode = "the processor has no 64-bit mode";
    let machines: [&[&str]; 5] = [
        &["-cpu", "qemu32"],
        &["-cpu", "486"],
        &["-cpu", "pentium3"],
        &["-cpu", "qemu64,-lm"],
        &["-machine", "isapc", "-cpu", "486"],
    ];
    for arguments in machines {
        let mut guest = Config::new(Machine::Pc, Firmware::Firstlight)
            .video("none")
            .args(arguments)
            .start()?;
        for log in [Log::Debug, Log::Serial] {
            let text = guest.wait_for(log, no_long_mode)?;
            let count = text.matches(no_long_mode).count();
            ensure!(count == 1, "{arguments:?}: {text}");
        }
    }
    Ok(())
}

/// All of the firmware is in the first MiB then, and the guest has what is below.
#[test]
fn one_mib_of_memory_is_enough() -> Result<()> {
    let disk = disk(program!("little"))?;
    for machine in Machine::ALL {
        let said = says_the_same(machine, |config| config.memory_mib(1).disk(&disk.path()))?;
        ensure!(said == "r3mcZ", "{machine}: {said:?}");
    }
    Ok(())
}

/// On machines without a known chip set the memory below 1 MiB that the firmware writes to is its own ROM.
#[test]
fn machines_whose_rom_is_ram_are_told_that_nothing_boots() -> Result<()> {
    let machines: [&[&str]; 2] = [
        &["-machine", "microvm"],
        &["-machine", "isapc", "-cpu", "qemu64"],
    ];
    for arguments in machines {
        let mut guest = Config::new(Machine::Pc, Firmware::Firstlight)
            .video("none")
            .args(arguments)
            .start()?;
        // The last line of the report.
        guest.wait_for(Log::Serial, "boot menu")?;
        let log = guest.log(Log::Debug);
        ensure!(!log.contains("stopped"), "{arguments:?}: {log}");
    }
    Ok(())
}

/// Disks of so many AHCI controllers.
fn controllers(controllers: usize, disks: usize, image: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    for controller in 0..controllers {
        arguments.extend(["-device".into(), format!("ich9-ahci,id=c{controller}")]);
        for port in 0..disks {
            let name = format!("d{controller}-{port}");
            let drive = format!("if=none,id={name},format=raw,snapshot=on,file={image}");
            let device = format!("ide-hd,drive={name},bus=c{controller}.{port}");
            arguments.extend(["-drive".into(), drive, "-device".into(), device]);
        }
    }
    arguments
}

/// So many functions behind bridges.
fn functions(count: usize) -> Vec<String> {
    const EACH: usize = 31 * 8;
    let mut arguments = Vec::new();
    for number in 0..count {
        let (bridge, rest) = (number / EACH, number % EACH);
        if rest == 0 {
            let name = format!("pci-bridge,id=b{bridge},chassis_nr={}", bridge + 1);
            arguments.extend(["-device".into(), name]);
        }
        let (slot, function) = (rest / 8 + 1, rest % 8);
        let name = format!("pci-testdev,bus=b{bridge},addr={slot:#x}.{function},multifunction=on");
        arguments.extend(["-device".into(), name]);
    }
    arguments
}

/// Files of QEMU.
fn files(count: usize) -> Vec<String> {
    let mut arguments = vec!["-global".into(), "fw_cfg_io.x-file-slots=7000".into()];
    for number in 0..count {
        let file = format!("name=opt/example/{number},string=a");
        arguments.extend(["-fw_cfg".into(), file]);
    }
    arguments
}

/// However much there is, and however little memory: what does not fit is left out, and the rest boots.
#[test]
fn memory_that_runs_out_stops_nothing() -> Result<()> {
    let disk = Disk::running(&Script::new(), 16 << 20)?;
    let image = disk.path().display().to_string();
    // Structures of five bytes (type, length, handle, no text): type 200 is nobody's.
    let tiny: Vec<u8> = (0..16_000u16)
        .flat_map(|handle| {
            let [low, high] = handle.to_le_bytes();
            [200, 4, low, high, 0, 0]
        })
        .collect();
    let smbios = disk.directory().join("smbios");
    std::fs::write(&smbios, tiny)?;
    let smbios = vec!["-smbios".into(), format!("file={}", smbios.display())];
    let cases = [
        (128, "42 disks", controllers(7, 6, &image)),
        (128, "16 disks", controllers(8, 2, &image)),
        (128, "functions", functions(600)),
        (128, "files", files(6300)),
        (128, "SMBIOS", smbios.clone()),
        (8, "72 disks", controllers(12, 6, &image)),
        (8, "functions", functions(600)),
        (8, "files", files(6300)),
        (8, "SMBIOS", smbios),
    ];
    for (memory, name, arguments) in cases {
        let mut config = Config::new(Machine::Pc, Firmware::Firstlight)
            .memory_mib(memory)
            .args(arguments)
            .deadline_seconds(120);
        if !name.ends_with("disks") {
            config = config.disk(&disk.path());
        }
        config
            .start()?
            .wait_for(Log::Debug, "~E\n")
            .with_context(|| format!("{name}, {memory} MiB"))?;
    }
    Ok(())
}

#[test]
fn bases_of_fs_and_gs_outlive_calls() -> Result<()> {
    let disk = disk(program!("unreal"))?;
    let said = says_the_same(Machine::Pc, |config| config.disk(&disk.path()))?;
    ensure!(said == "KZ", "{said:?}");
    Ok(())
}

#[test]
fn int_15h_switches_to_protected_mode() -> Result<()> {
    let disk = disk(program!("switch"))?;
    let said = says_the_same(Machine::Pc, |config| config.disk(&disk.path()))?;
    ensure!(said == "PZ", "{said:?}");
    Ok(())
}

/// The last call switches the machine off.
#[test]
fn apm_serves_protected_mode() -> Result<()> {
    let disk = disk(program!("apm"))?;
    for machine in Machine::ALL {
        let under = |firmware| {
            let config = Config::new(machine, firmware).disk(&disk.path());
            let mut guest = config.start()?;
            guest.wait_for_end()?;
            Ok::<_, anyhow::Error>(guest.log(Log::Debug))
        };
        let seabios = under(Firmware::SeaBios)?;
        let ours = under(Firmware::Firstlight)?;
        ensure!(ours == seabios, "SeaBIOS {seabios:?}, Firstlight {ours:?}");
    }
    Ok(())
}

/// Memory managers tell ROM from RAM so. The last place is the BIOS's own.
#[test]
fn roms_cannot_be_written() -> Result<()> {
    let disk = disk(program!("upper"))?;
    for machine in Machine::ALL {
        let said = says_the_same(machine, |config| config.disk(&disk.path()))?;
        ensure!(said == "RRRRRRWZ", "{machine}: {said:?}");
    }
    Ok(())
}

#[test]
fn a_guest_cannot_break_its_firmware() -> Result<()> {
    let disk = disk(program!("overwrite"))?;
    for machine in Machine::ALL {
        let said = says_the_same(machine, |config| config.disk(&disk.path()))?;
        ensure!(said == "AmsAmsZ", "{machine}: {said:?}");
    }
    Ok(())
}

/// What a guest in virtual-8086 mode says until it waits for a key, then with that key pressed, and then with the mouse moved.
fn in_virtual_8086_mode(config: Config, key: &str) -> Result<[String; 3]> {
    let mut guest = config.start()?;
    guest.wait_for(Log::Debug, "#")?;
    guest.send_key(key)?;
    guest.wait_for(Log::Debug, "!")?;
    guest.monitor("mouse_move 5 3")?;
    let log = guest.wait_for(Log::Debug, "Z")?;
    let parts: Vec<_> = log.split(['#', '!']).map(String::from).collect();
    parts.try_into().ok().context("not three parts")
}

#[test]
fn virtual_8086_mode_has_all_services() -> Result<()> {
    let disk = disk(program!("v86"))?;
    for machine in Machine::ALL {
        let under =
            |firmware| in_virtual_8086_mode(Config::new(machine, firmware).disk(&disk.path()), "a");
        let seabios = under(Firmware::SeaBios)?;
        let ours = under(Firmware::Firstlight)?;
        // A busy host is a slow disk.
        let same = seabios
            .iter()
            .zip(&ours)
            .all(|(seabios, ours)| seabios.replace('T', "") == ours.replace('T', ""));
        ensure!(same, "SeaBIOS {seabios:?}, Firstlight {ours:?}");
    }
    Ok(())
}

/// The read in virtual-8086 mode waits for the one before it, of 20 KiB in one piece, to have been slow enough.
#[test]
fn time_goes_on_in_virtual_8086_mode() -> Result<()> {
    let disk = disk(program!("v86"))?;
    let drive = format!("file={},throttling.bps-total=4096", disk.path().display());
    for machine in Machine::ALL {
        let config = Config::new(machine, Firmware::Firstlight).drive(&drive);
        let [services, ..] = in_virtual_8086_mode(config, "a")?;
        ensure!(services.contains('T'), "{machine}: {services}");
    }
    Ok(())
}

/// Where there is no system management mode, 16-bit code has the keyboard and the mouse at least: the key comes, and INT 15h AH=4Fh
/// sees it first.
#[test]
fn virtual_8086_mode_has_keys_and_mouse_by_16_bit_code() -> Result<()> {
    /// Status (Y is negative), X, Y and Z, the digits after 9 being those characters that follow.
    const MOVED: &str = "0028000500?=0000Z";
    let disk = disk(program!("v86"))?;
    for (key, character) in [("a", "a"), ("shift-b", "B"), ("ctrl-c", "\u{3}")] {
        let config = Config::new(Machine::Pc, Firmware::Firstlight)
            .args(["-machine", "smm=off"])
            .disk(&disk.path());
        let said = in_virtual_8086_mode(config, key)?;
        let [services, typed, moved] = &said;
        // The service before has no way in, which the 1 says.
        ensure!(services.ends_with('1'), "{key}: {said:?}");
        ensure!(typed.replace('k', "") == character, "{key}: {said:?}");
        ensure!(moved == MOVED, "{key}: {said:?}");
    }
    Ok(())
}

/// QEMU makes its memory map anew with every write to a bridge, and the more there is in it the longer that takes.
#[test]
fn a_hundred_root_ports_take_less_than_under_seabios() -> Result<()> {
    let disk = disk(program!("restart"))?;
    let costs = |firmware| {
        let trace = disk.directory().join("trace");
        let mut config = Config::new(Machine::Q35, firmware)
            .video("none")
            .sata()
            .disk(&disk.path())
            .args(["-trace", "flatview_new", "-trace", "memory_region_ops_*"])
            .arg("-D")
            .arg(&trace);
        for port in 0..100 {
            let (slot, function) = (2 + port / 8, port % 8);
            let device = format!(
                "pcie-root-port,id=port{port},chassis={},addr={slot:#x}.{function},multifunction=on",
                port + 1
            );
            config = config.args(["-device", &device]);
        }
        // The program restarts the machine once it has begun.
        let mut guest = config.arg("-no-reboot").start()?;
        guest.wait_for(Log::Debug, "0")?;
        guest.wait_for_end()?;
        let trace = std::fs::read_to_string(&trace)?;
        let count = |what: &str| trace.lines().filter(|line| line.starts_with(what)).count();
        anyhow::Ok([count("flatview_new"), count("memory_region_ops")])
    };
    let [theirs, ours] = [costs(Firmware::SeaBios)?, costs(Firmware::Firstlight)?];
    let less = ours.iter().zip(theirs).all(|(ours, theirs)| *ours < theirs);
    ensure!(
        less,
        "maps and accesses: SeaBIOS {theirs:?}, Firstlight {ours:?}"
    );
    Ok(())
}

/// PIIX4's IDE function answers at the ports of the machine's own one, which then has no disks.
#[test]
fn a_second_ide_function_at_the_same_ports_costs_no_time() -> Result<()> {
    let disk = disk(program!("restart"))?;
    let mut said = Vec::new();
    for firmware in [Firmware::SeaBios, Firmware::Firstlight] {
        let drive = format!("if=none,id=d,format=raw,file={}", disk.path().display());
        let config = Config::new(Machine::Pc, firmware)
            .args(["-device", "piix4-ide,id=other", "-drive", &drive])
            .args(["-device", "ide-hd,drive=d,bus=other.0"]);
        let mut guest = config.arg("-no-reboot").start()?;
        guest.wait_for(Log::Debug, "0")?;
        guest.wait_for_end()?;
        said.push(guest.log(Log::Debug));
    }
    ensure!(said[0] == said[1], "{said:?}");
    Ok(())
}
