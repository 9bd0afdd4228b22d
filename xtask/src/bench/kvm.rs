//! `cargo xtask bench --kvm`: the exits to KVM on the way to a boot sector and to a kernel, and for reads, in the test bed.

use super::disks::own_bus;
use super::exits::{self, Counts, Summary};
use super::guest;
use super::kernel::QBOOT;
use crate::bed::Bed;
use crate::kvm::bed::{Config, quoted};
use crate::{build, project, xen};
use anyhow::{Context, Result, ensure};
use firstlight_vm::{Accelerator, Bus, Chardev, Disk, Guest, Kernel, Machine, qemu, wait};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one guest may take, two emulations deep.
const DEADLINE: Duration = Duration::from_secs(300);
/// The reads whose exits are counted.
const READS: u16 = 8;
/// What the trace has of each exit.
const EVENTS: &str = "kvm_exit kvm_pio kvm_mmio kvm_msr kvm_cpuid kvm_page_fault kvm_emulate_insn kvm_userspace_exit";

/// A firmware, by its file where it is not QEMU's own.
struct Firmware {
    name: &'static str,
    rom: Option<PathBuf>,
}

/// What a guest starts from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// A disk, with a screen.
    Disk(Bus),
    /// A kernel, without a screen.
    Kernel,
}

/// Counts on all `machines`, prints tables and writes target/bench-kvm.json. With `trace`, each guest's exits go to a file each
/// in that directory.
///
/// # Errors
/// The test bed or a guest does not start.
pub fn main(machines: &[Machine], trace: Option<&Path>) -> Result<()> {
    let firmware = |name, rom: Option<PathBuf>| Firmware { name, rom };
    let firstlight = firmware("Firstlight", Some(build::firmware()?.rom));
    let seabios = firmware("SeaBIOS", None);
    let qboot = firmware("qboot", Some(QBOOT.into()));
    let ovmf = firmware("OVMF", Some(xen::ovmf::file()?));
    eprintln!("Starting the test bed");
    let config = Config::new()
        .share(&project::cache()?)
        .lifetime(Duration::from_secs(2 * 3600));
    let mut bed = config.start()?;
    let mut details = Vec::new();
    for &machine in machines {
        let own = Start::Disk(own_bus(machine));
        for (start, firmwares) in [
            (own, vec![&firstlight, &seabios]),
            (Start::Kernel, vec![&firstlight, &seabios, &qboot, &ovmf]),
        ] {
            let what = match start {
                Start::Disk(_) => "to a boot sector",
                Start::Kernel => "to a given kernel, without a screen,",
            };
            let mut columns = Vec::new();
            for firmware in firmwares {
                eprintln!("Counting on {}: {what} {}", machine.name(), firmware.name);
                match summary(&mut bed, machine, start, firmware, trace) {
                    Ok(summary) => columns.push((firmware.name, summary)),
                    Err(error) if firmware.name == "Firstlight" => return Err(error),
                    // QEMU's SVM is not good enough for everybody, and then the bed may be gone.
                    Err(error) => {
                        eprintln!("{} has no figures: {error:#}", firmware.name);
                        bed = config.start()?;
                    }
                }
            }
            print_exits(machine, what, start, &columns);
            details.push(as_json(machine, what, &columns));
        }
    }
    details.push(reads(&mut bed, &firstlight, &seabios)?);
    let path = project::target().join("bench-kvm.json");
    fs::write(&path, serde_json::to_string_pretty(&details)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("\nWritten to {}", path.display());
    Ok(())
}

/// Prints the exits of all firmwares on their way, and for reads where there is a disk.
fn print_exits(machine: Machine, what: &str, start: Start, columns: &[(&str, Summary)]) {
    println!("\nExits {what} on {}:", machine.name());
    let boot: Vec<_> = columns
        .iter()
        .map(|(name, all)| (*name, &all.boot))
        .collect();
    print_counts(&boot);
    for (name, summary) in columns {
        print_steps(name, summary);
    }
    if start != Start::Kernel {
        println!(
            "\nExits for {READS} reads of 127 sectors on {}:",
            machine.name()
        );
        let reading: Vec<_> = columns
            .iter()
            .map(|(name, all)| (*name, &all.reading))
            .collect();
        print_counts(&reading);
    }
}

/// Counts the exits of one firmware on its way.
fn summary(
    bed: &mut Bed,
    machine: Machine,
    start: Start,
    firmware: &Firmware,
    trace: Option<&Path>,
) -> Result<Summary> {
    let exits = exits::parse(&traced(bed, machine, start, firmware, false)?);
    if let Some(directory) = trace {
        let kind = match start {
            Start::Disk(_) => "disk",
            Start::Kernel => "kernel",
        };
        let name = format!("{}-{kind}-{}.txt", machine.name(), firmware.name);
        let lines: Vec<_> = exits
            .iter()
            .map(|exit| format!("{} {:#x} {}\n", exit.reason, exit.rip, exit.what))
            .collect();
        fs::write(directory.join(name), lines.concat())?;
    }
    let mut summary = exits::summarize(&exits);
    if firmware.name == "Firstlight" {
        // To report its steps costs a setting's reading.
        let text = traced(bed, machine, start, firmware, true)?;
        summary.steps = exits::summarize(&exits::parse(&text)).steps;
    }
    Ok(summary)
}

/// Counts the exits of a read, disk by disk of every bus that both serve.
fn reads(bed: &mut Bed, firstlight: &Firmware, seabios: &Firmware) -> Result<Value> {
    println!(
        "\nExits for a read of 127 sectors by INT 13h:\n{:<24}{:>12}{:>12}",
        "", firstlight.name, seabios.name
    );
    let mut details = Vec::new();
    for (name, machine, bus) in [
        ("IDE", Machine::Pc, Bus::Ide),
        ("SATA (AHCI)", Machine::Q35, Bus::Sata),
        ("virtio block", Machine::Q35, Bus::Virtio),
        ("virtio SCSI", Machine::Q35, Bus::Scsi),
        ("NVMe", Machine::Q35, Bus::Nvme),
    ] {
        let mut each = |firmware| -> Result<f64> {
            let text = traced(bed, machine, Start::Disk(bus), firmware, false)?;
            let all = exits::summarize(&exits::parse(&text)).reading.total();
            Ok(all as f64 / f64::from(READS))
        };
        let ours = each(firstlight)?;
        // Now and then SeaBIOS waits for ever, for the end of an NVMe command.
        let theirs = each(seabios).ok();
        let text = theirs.map_or_else(|| "-".into(), |theirs| format!("{theirs:.0}"));
        println!("{name:<24}{ours:>12.0}{text:>12}");
        details.push(json!({ "bus": name, "firstlight": ours, "seabios": theirs }));
    }
    Ok(json!({ "what": "a read of 127 sectors", "buses": details }))
}

/// Runs a guest to its end and returns KVM's trace of it. With `steps` the firmware, ours, reports its steps.
fn traced(
    bed: &mut Bed,
    machine: Machine,
    start: Start,
    firmware: &Firmware,
    steps: bool,
) -> Result<String> {
    let job = bed.job();
    let mut guest = Guest::new(machine);
    guest.memory_mib = 256;
    guest.accelerator = Accelerator::Kvm;
    guest.bios = firmware.rom.clone();
    guest.arguments([
        "-no-reboot",
        "-device",
        "isa-debug-exit,iobase=0xf4,iosize=4",
    ]);
    let report = Chardev::File("/tmp/report".into());
    guest.debug_ports.push((guest::PORT, report));
    match start {
        Start::Disk(bus) => {
            let disk = guest::disk(&job, READS)?;
            guest.disks.push(Disk::new(bus, &disk).snapshot());
        }
        Start::Kernel => {
            let [file, initrd] = guest::kernel(&job)?;
            guest.video = None;
            guest.kernel = Some(Kernel {
                file,
                initrd: Some(initrd),
                command_line: None,
            });
        }
    }
    if steps {
        guest.setting("bench", "on");
        guest
            .debug_ports
            .push((0xE9, Chardev::File("/dev/null".into())));
    }
    let command = qemu::command(&guest)?;
    let here = job.display().to_string();
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| quoted(&word.to_string_lossy().replace(&here, "/job")))
        .collect();
    let seconds = (DEADLINE * wait::scale()).as_secs();
    let script = format!(
        "cd /sys/kernel/tracing && echo counter >trace_clock && echo 65536 >buffer_size_kb && echo >trace &&\n\
         for event in {EVENTS}; do echo 1 >events/kvm/$event/enable; done\n\
         timeout {seconds} {} >/tmp/output 2>&1; status=$?\n\
         cat /tmp/output; cp trace /job/trace; exit $status",
        words.join(" ")
    );
    let mut said = String::new();
    let limit = DEADLINE * wait::scale() + Duration::from_secs(60);
    let status = bed.run_with(&script, limit, |line| said.extend([line, "\n"]))?;
    // The guest ends QEMU with status 1.
    ensure!(
        status == 1,
        "QEMU ended with status {status}: {said}{}",
        bed.tails()
    );
    Ok(fs::read_to_string(job.join("trace"))?)
}

fn print_counts(columns: &[(&str, &Counts)]) {
    let line = |name: &str, figure: &dyn Fn(&Counts) -> u64| {
        let figures: Vec<String> = columns
            .iter()
            .map(|(_, counts)| format!("{:>12}", figure(counts)))
            .collect();
        println!("{name:<24}{}", figures.concat());
    };
    let names: Vec<String> = columns
        .iter()
        .map(|(name, _)| format!("{name:>12}"))
        .collect();
    println!("{:<24}{}", "", names.concat());
    let kinds: BTreeSet<&String> = columns
        .iter()
        .flat_map(|(_, counts)| counts.kinds.keys())
        .collect();
    for kind in kinds {
        line(kind, &|counts| counts.kinds.get(kind).copied().unwrap_or(0));
    }
    line("all", &Counts::total);
    line("  emulated by KVM", &|counts| counts.emulated);
    line("  with a part of QEMU's", &|counts| counts.to_qemu);
}

fn print_steps(name: &str, summary: &Summary) {
    if summary.steps.is_empty() {
        return;
    }
    println!("\n{name}'s steps:");
    for (step, counts) in &summary.steps {
        let kinds: Vec<String> = counts
            .kinds
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        println!("{step:<28}{:>6}  {}", counts.total(), kinds.join(", "));
    }
}

fn as_json(machine: Machine, what: &str, columns: &[(&str, Summary)]) -> Value {
    let counts = |counts: &Counts| {
        json!({
            "all": counts.total(),
            "kinds": counts.kinds,
            "emulated": counts.emulated,
            "to_qemu": counts.to_qemu,
        })
    };
    let firmwares: Vec<Value> = columns
        .iter()
        .map(|(name, summary)| {
            let steps: Vec<Value> = summary
                .steps
                .iter()
                .map(|(step, of_step)| json!({ "step": step, "exits": counts(of_step) }))
                .collect();
            json!({
                "firmware": name,
                "boot": counts(&summary.boot),
                "reads": counts(&summary.reading),
                "steps": steps,
            })
        })
        .collect();
    json!({ "machine": machine.name(), "what": what, "firmwares": firmwares })
}
