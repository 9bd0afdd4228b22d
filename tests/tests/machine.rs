//! The machine a guest finds: its memory, its CPUs, its PCI devices.

use anyhow::{Context, Result, ensure};
use firstlight_tests::disk::Disk;
use firstlight_tests::guest::{Config, Firmware, Log, Machine};
use firstlight_tests::pci;
use firstlight_tests::report::{Cpu, MemoryRange, Report};
use firstlight_tests::script::Script;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What the firmware may keep of RAM: 1 MiB at the top of low memory, and the megabyte below 1 MiB's upper part.
const FIRMWARE_KEEPS: u64 = MIB + 384 * 1024 + 4096;

/// E820's type of usable memory.
const RAM: u32 = 1;

fn run(config: Config, script: &Script) -> Result<Report> {
    let disk = Disk::running(script, 16 << 20)?;
    let log = config
        .disk(&disk.path())
        .start()?
        .wait_for(Log::Debug, "~E\n")?;
    Report::parse(script, &log)
}

fn memory_map(machine: Machine, firmware: Firmware, mib: u64) -> Result<Vec<MemoryRange>> {
    let mut script = Script::new();
    script.memory_map();
    let report = run(Config::new(machine, firmware).memory_mib(mib), &script)?;
    report
        .memory_maps
        .into_iter()
        .next()
        .context("no memory map")
}

fn check_memory_map(map: &[MemoryRange], mib: u64) -> Result<()> {
    for pair in map.windows(2) {
        ensure!(
            pair[0].base + pair[0].length <= pair[1].base,
            "entries overlap or are out of order"
        );
    }
    let ram: Vec<_> = map.iter().filter(|range| range.kind == RAM).collect();
    let total: u64 = ram.iter().map(|range| range.length).sum();
    ensure!(
        total <= mib * MIB,
        "{total:#x} bytes of RAM are more than there is"
    );
    ensure!(
        total + FIRMWARE_KEEPS >= mib * MIB,
        "only {total:#x} bytes of RAM"
    );
    for range in &ram {
        let end = range.base + range.length;
        ensure!(
            end <= 0xa_0000 || range.base >= MIB,
            "RAM in the VGA and ROM area"
        );
        ensure!(
            end <= 0xfec0_0000 || range.base >= 4 * GIB,
            "RAM where the interrupt controllers are"
        );
        ensure!(range.length > 0, "an empty entry");
    }
    let reserved = |address: u64| {
        map.iter().any(|range| {
            range.kind != RAM && range.base <= address && address < range.base + range.length
        })
    };
    ensure!(reserved(0xf_fff0), "the F segment is not reserved");
    ensure!(reserved(0xffff_fff0), "the ROM below 4 GiB is not reserved");
    Ok(())
}

fn memory_sizes(machine: Machine, firmware: Firmware) -> Result<()> {
    for mib in [16, 128, 1024, 2048, 3072, 3584, 6144] {
        let map = memory_map(machine, firmware, mib)?;
        check_memory_map(&map, mib)
            .with_context(|| format!("{machine} with {mib} MiB: {map:x?}"))?;
    }
    Ok(())
}

#[test]
fn pc_memory_map_fits_every_size() -> Result<()> {
    memory_sizes(Machine::Pc, Firmware::Firstlight)
}

#[test]
fn q35_memory_map_fits_every_size() -> Result<()> {
    memory_sizes(Machine::Q35, Firmware::Firstlight)
}

/// Every CPU starts when the guest calls it, once.
fn processors_start(machine: Machine, firmware: Firmware, cpus: u32) -> Result<()> {
    let mut script = Script::new();
    script.start_cpus(u16::try_from(cpus - 1)?);
    let found = processors_found(machine, firmware, cpus, &script)?;
    for cpu in &found {
        let expected = if cpu.boot { 0x900 } else { 0x800 };
        ensure!(
            cpu.apic_base & 0xfff == expected,
            "{machine}: CPU {} has APIC base {:x}",
            cpu.apic_id,
            cpu.apic_base
        );
    }
    Ok(())
}

/// The firmware left every CPU with the MTRRs of the first. QEMU clears them at INIT, hence the other way to call.
fn processors_agree(machine: Machine, cpus: u32) -> Result<()> {
    let mut script = Script::new();
    script.look_at_parked_cpus(u16::try_from(cpus - 1)?);
    let found = processors_found(machine, Firmware::Firstlight, cpus, &script)?;
    for cpu in &found {
        ensure!(
            cpu.mtrr_hash != 0,
            "{machine}: CPU {} has no MTRRs",
            cpu.apic_id
        );
        ensure!(
            cpu.mtrr_hash == found[0].mtrr_hash,
            "{machine}: CPU {} has other MTRRs than CPU {}",
            cpu.apic_id,
            found[0].apic_id
        );
    }
    Ok(())
}

fn processors_found(
    machine: Machine,
    firmware: Firmware,
    cpus: u32,
    script: &Script,
) -> Result<Vec<Cpu>> {
    found_by(Config::new(machine, firmware), machine, cpus, script)
}

fn found_by(config: Config, machine: Machine, cpus: u32, script: &Script) -> Result<Vec<Cpu>> {
    let config = config.cpus(cpus).deadline_seconds(150);
    let found = run(config, script)?.cpus.remove(0);
    ensure!(
        found.len() == cpus as usize,
        "{machine}: {} of {cpus} CPUs",
        found.len()
    );
    Ok(found)
}

#[test]
fn processors_are_parked_with_equal_mtrrs() -> Result<()> {
    processors_agree(Machine::Pc, 2)?;
    processors_agree(Machine::Q35, 8)
}

#[test]
fn one_and_two_processors_start() -> Result<()> {
    processors_start(Machine::Pc, Firmware::Firstlight, 1)?;
    processors_start(Machine::Q35, Firmware::Firstlight, 2)
}

#[test]
fn eight_processors_start() -> Result<()> {
    processors_start(Machine::Pc, Firmware::Firstlight, 8)
}

/// The interrupt controller's registers are MSRs on a processor that can do so, and memory on others.
#[test]
fn eight_processors_start_with_and_without_x2apic() -> Result<()> {
    for model in ["qemu64,+x2apic", "qemu64,-x2apic"] {
        let mut script = Script::new();
        script.start_cpus(7);
        let config = Config::new(Machine::Q35, Firmware::Firstlight)
            .with(|guest| guest.cpus.model = Some(model.into()));
        found_by(config, Machine::Q35, 8, &script)?;
    }
    Ok(())
}

#[test]
fn sixty_four_processors_start() -> Result<()> {
    processors_start(Machine::Q35, Firmware::Firstlight, 64)
}

/// Thirty devices on two levels of bridges, some with BARs that only fit above 4 GiB.
fn many_devices(machine: Machine) -> Config {
    let mut arguments = Vec::new();
    match machine {
        Machine::Pc => {
            arguments.push("pci-bridge,id=outer,chassis_nr=1,addr=10".to_owned());
            arguments.push("pci-bridge,id=inner,bus=outer,chassis_nr=2,addr=1".to_owned());
            arguments.push("pci-bridge,id=empty,bus=outer,chassis_nr=3,addr=2".to_owned());
        }
        Machine::Q35 => {
            arguments.push("pcie-root-port,id=upper,chassis=1,addr=10".to_owned());
            arguments.push("pcie-root-port,id=unused,chassis=2,addr=11".to_owned());
            arguments.push("pcie-pci-bridge,id=outer,bus=upper".to_owned());
            arguments.push("pci-bridge,id=inner,bus=outer,chassis_nr=3,addr=1".to_owned());
        }
    }
    for slot in 4..14 {
        arguments.push(format!("virtio-rng-pci,bus=outer,addr={slot:x}"));
        arguments.push(format!("e1000,bus=inner,addr={slot:x},romfile="));
        arguments.push(format!(
            "pci-testdev,bus=inner,addr={:x},membar={}K",
            slot + 12,
            4 << (slot - 4)
        ));
    }
    arguments.push("pci-testdev,bus=outer,addr=1d,membar=4G".to_owned());
    arguments.push("pci-testdev,addr=1c,membar=8G".to_owned());
    let devices = arguments
        .into_iter()
        .flat_map(|device| ["-device".to_owned(), device]);
    Config::new(machine, Firmware::Firstlight).args(devices)
}

fn devices(machine: Machine, firmware: Firmware, mib: u64) -> Result<()> {
    let mut script = Script::new();
    script.memory_map();
    script.functions();
    let config = many_devices(machine).firmware(firmware).memory_mib(mib);
    let report = run(config, &script)?;
    let bridged = report
        .functions
        .iter()
        .filter(|function| function.address >= 0x100)
        .count();
    ensure!(
        bridged >= 30,
        "{machine}: only {bridged} functions behind bridges"
    );
    let problems = pci::problems(&report.functions, &report.memory_maps[0]);
    ensure!(
        problems.is_empty(),
        "{machine} with {mib} MiB:\n{}",
        problems.join("\n")
    );
    Ok(())
}

#[test]
fn pc_places_thirty_devices_behind_bridges() -> Result<()> {
    devices(Machine::Pc, Firmware::Firstlight, 256)?;
    devices(Machine::Pc, Firmware::Firstlight, 6144)
}

#[test]
fn q35_places_thirty_devices_behind_bridges() -> Result<()> {
    devices(Machine::Q35, Firmware::Firstlight, 256)?;
    devices(Machine::Q35, Firmware::Firstlight, 6144)
}
