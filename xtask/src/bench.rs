//! `cargo xtask bench`: what Firstlight costs, beside SeaBIOS and QEMU's qboot in the same run.
//!
//! Two guests tell when they start: a boot sector (bench/guest.s), which also measures how fast it reads, and a kernel that is given
//! directly (bench/kernel.s). Instructions and device accesses repeat from run to run; times do not, so the firmwares take turns
//! and the median counts.

mod bootloader;
mod cd;
mod disks;
mod efi;
mod exits;
mod guest;
mod ioreq;
pub mod kernel;
mod kvm;
mod measure;
mod rows;
pub mod tables;
mod trace;
mod vmexits;
mod way;
mod xen;

use crate::setup::{Consent, Need};
use crate::xen::dom0::Version;
use crate::{build, project, setup};
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use firstlight_vm::{Bus, Machine};
use kernel::{Costs, QBOOT};
use measure::{Bench, Contestant, Guest};
use rows::Rows;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Measure Firstlight beside SeaBIOS and qboot: the way to a boot sector and to a kernel, and disk reads
///
/// OVMF is beside them on the way to Debian's kernel through GRUB; where its instructions are counted, each takes 128 times the time, so
/// that its waits for what is not there count for little.
///
/// Prints a table and writes target/bench.json. Device accesses are those that QEMU's translator sees, text memory among them, which is
/// plain memory on KVM: --kvm counts exits.
#[derive(clap::Args)]
pub struct Args {
    /// Install missing packages without asking
    #[arg(long)]
    yes: bool,
    /// Machines to measure on
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Machine::Pc, Machine::Q35])]
    machine: Vec<Machine>,
    /// Measure only these parts
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::value_variants().to_vec())]
    part: Vec<Part>,
    /// Measure the parts `buses`, `many` and `debian` only on these buses: ide, sata, virtio, scsi, nvme
    #[arg(long, value_delimiter = ',', value_parser = bus)]
    bus: Vec<Bus>,
    /// Measure in guests of this version of Xen instead, beside the stock loader
    #[arg(long, num_args = 0..=1, default_missing_value = "4.17")]
    xen: Option<Version>,
    /// Measure the host bootloader instead, beside pygrub
    #[arg(long)]
    bootloader: bool,
    /// Count exits to KVM instead, beside SeaBIOS, qboot and OVMF, in the test bed of `cargo xtask kvm`
    #[arg(long, conflicts_with = "xen")]
    kvm: bool,
    /// With --kvm: write each exit to files in this directory
    #[arg(long, value_name = "DIRECTORY", requires = "kvm")]
    trace: Option<PathBuf>,
    /// How often each firmware is timed; the median counts
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The way to a boot sector on the machine's own disk, and reads from there and from a CD
    Disk,
    /// The same from the other buses
    Buses,
    /// What many disks and network cards add
    Many,
    /// The way to Debian's kernel through GRUB, with --xen as well
    Debian,
    /// The way to a given kernel
    Kernel,
}

/// Reads the name of a bus.
fn bus(text: &str) -> Result<Bus, String> {
    Ok(match text {
        "ide" => Bus::Ide,
        "sata" => Bus::Sata,
        "virtio" => Bus::Virtio,
        "scsi" => Bus::Scsi,
        "nvme" => Bus::Nvme,
        _ => return Err("no such bus".into()),
    })
}

/// One line of the table.
struct Figure {
    machine: Machine,
    what: String,
    firstlight: f64,
    /// Nothing where only Firstlight has a figure.
    seabios: Option<f64>,
    /// Nothing where qboot has no part in it: it has no disks.
    qboot: Option<f64>,
    /// Nothing but on the way to Debian's kernel.
    ovmf: Option<f64>,
    /// Digits after the decimal point.
    digits: usize,
    /// Whether a larger figure is the better one.
    more_is_better: bool,
}

impl Figure {
    /// A count of which less is better.
    fn count(machine: Machine, what: impl Into<String>, firstlight: u64) -> Self {
        Self {
            machine,
            what: what.into(),
            firstlight: firstlight as f64,
            seabios: None,
            qboot: None,
            ovmf: None,
            digits: 0,
            more_is_better: false,
        }
    }

    /// How many times better than another firmware's figure Firstlight's is.
    fn better_than(&self, other: f64) -> f64 {
        if self.more_is_better {
            self.firstlight / other
        } else {
            other / self.firstlight
        }
    }
}

/// What is known of one machine.
struct Results {
    figures: Vec<Figure>,
    details: Value,
}

/// Carries out `cargo xtask bench`.
pub fn main(args: Args) -> Result<()> {
    let consent = Consent::from_flag(args.yes);
    if args.bootloader {
        setup::ensure(&[Need::DebianDisk, Need::Pygrub], consent)?;
        return bootloader::main(args.runs);
    }
    let mut needs = vec![Need::Qemu, Need::Guests, Need::DebianDisk];
    if args.kvm || args.xen.is_some() {
        needs.push(Need::Bed);
    } else if args.part.contains(&Part::Debian) {
        needs.push(Need::Efi);
    }
    setup::ensure(&needs, consent)?;
    if args.kvm {
        return kvm::main(&args.machine, args.trace.as_deref());
    }
    if let Some(version) = args.xen {
        return xen::main(version, args.runs, &args.part);
    }
    let contestants = contestants()?;
    let directory = tempfile::tempdir()?;
    let debian = match args.part.contains(&Part::Debian) {
        true => Some((way::disk_for_all(directory.path())?, efi::ovmf()?)),
        false => None,
    };
    let mut figures = Vec::new();
    let mut failures = Vec::new();
    let mut details = BTreeMap::new();
    for &machine in &args.machine {
        let bench = Bench {
            machine,
            directory: directory.path(),
        };
        let (rows, details_here) = parts(&bench, &args, &contestants, debian.as_ref());
        figures.extend(rows.figures);
        failures.extend(rows.failures);
        details.insert(machine.name(), json!(details_here));
    }
    print_table(&figures);
    write_json(&figures, &details)?;
    for failure in &failures {
        println!("Not measured: {failure}");
    }
    ensure!(failures.is_empty(), "not everything could be measured");
    Ok(())
}

/// Firstlight, SeaBIOS and qboot.
fn contestants() -> Result<[Contestant; 3]> {
    ensure!(
        Path::new(QBOOT).exists(),
        "there is no {QBOOT} (package qemu-system-data)"
    );
    Ok([
        Contestant::new("Firstlight", Some(build::firmware()?.rom)),
        Contestant::new("SeaBIOS", None),
        Contestant::new("qboot", Some(QBOOT.into())),
    ])
}

/// All that `args` asks for on one machine, and the details by what was measured.
fn parts<'a>(
    bench: &Bench,
    args: &Args,
    contestants: &'a [Contestant; 3],
    debian: Option<&(PathBuf, Contestant)>,
) -> (Rows<'a>, BTreeMap<&'static str, Value>) {
    let machine = bench.machine;
    let [firstlight, seabios, qboot] = contestants;
    let mut rows = Rows::new(machine, firstlight, seabios);
    let mut details = BTreeMap::new();
    let mut take = |rows: &mut Rows, what, result: Result<Results>| {
        if let Some(results) = rows.keep(what, firstlight, result) {
            rows.figures.extend(results.figures);
            details.insert(what, results.details);
        }
    };
    let has = |part| args.part.contains(&part);
    if has(Part::Disk) {
        let result = disks::own(bench, firstlight, seabios, args.runs);
        take(&mut rows, "disk", result);
        cd::rows(bench, &mut rows);
    }
    if has(Part::Kernel) {
        let result = kernel_boot(bench, &[firstlight, seabios, qboot]);
        take(&mut rows, "kernel", result);
        let result = kernel_with_screen(bench, [firstlight, seabios]);
        take(&mut rows, "kernel with a screen", result);
    }
    let own = disks::own_bus(machine);
    let wanted = |bus: &Bus| args.bus.is_empty() || args.bus.contains(bus);
    let others = [Bus::Virtio, Bus::Scsi, Bus::Nvme];
    let others: Vec<Bus> = others.into_iter().filter(wanted).collect();
    let mut all = others.clone();
    if wanted(&own) {
        all.insert(0, own);
    }
    if has(Part::Buses) {
        disks::buses(bench, &mut rows, &others);
    }
    if has(Part::Many) {
        disks::many(bench, &mut rows, &all);
    }
    if let Some((disk, ovmf)) = debian {
        way::rows(bench, &mut rows, &all, disk, ovmf);
    }
    (rows, details)
}

/// From reset to the first instruction of a kernel that QEMU gives, in a machine without a VGA card. The firmwares are Firstlight,
/// SeaBIOS and qboot.
fn kernel_boot(bench: &Bench, firmwares: &[&Contestant; 3]) -> Result<Results> {
    let machine = bench.machine;
    eprintln!("Measuring on {}: a given kernel", machine.name());
    let costs = firmwares
        .iter()
        .map(|firmware| bench.kernel(firmware, false))
        .collect::<Result<Vec<Costs>>>()?;
    let steps = bench.steps(firmwares[0], Guest::Kernel { screen: false })?;
    let tables = kernel::tables(&steps)?;
    let accesses: Vec<_> = costs.iter().map(|costs| &costs.accesses).collect();
    let names = firmwares.map(|firmware| firmware.name);
    println!("\nTo a given kernel on {}:", machine.name());
    print_devices(&names, &accesses);
    print_steps(&steps);
    let figure = |what: &str, count: fn(&Costs) -> u64| Figure {
        seabios: Some(count(&costs[1]) as f64),
        qboot: Some(count(&costs[2]) as f64),
        ..Figure::count(machine, what, count(&costs[0]))
    };
    let figures = vec![
        figure("guest instructions to a given kernel", |costs| {
            costs.instructions
        }),
        figure("device accesses to a given kernel", Costs::total_accesses),
        Figure::count(machine, "guest instructions for the tables", tables),
    ];
    let devices: BTreeMap<String, _> = names
        .iter()
        .map(|name| name.to_lowercase())
        .zip(&accesses)
        .collect();
    let details = json!({ "devices": devices, "steps": steps_as_json(&steps) });
    Ok(Results { figures, details })
}

/// The same in a machine with a VGA card, whose screen the kernel asks the BIOS for; qboot has no screen. The firmwares are
/// Firstlight and SeaBIOS.
fn kernel_with_screen(bench: &Bench, firmwares: [&Contestant; 2]) -> Result<Results> {
    let machine = bench.machine;
    let [ours, theirs] = [
        bench.kernel(firmwares[0], true)?,
        bench.kernel(firmwares[1], true)?,
    ];
    let steps = bench.steps(firmwares[0], Guest::Kernel { screen: true })?;
    println!("\nTo a given kernel with a screen on {}:", machine.name());
    print_devices(
        &["Firstlight", "SeaBIOS"],
        &[&ours.accesses, &theirs.accesses],
    );
    print_steps(&steps);
    let figure = |what, count: fn(&Costs) -> u64| Figure {
        seabios: Some(count(&theirs) as f64),
        ..Figure::count(machine, what, count(&ours))
    };
    let figures = vec![
        figure("instructions to a kernel with a screen", |costs| {
            costs.instructions
        }),
        figure("accesses to a kernel with a screen", Costs::total_accesses),
    ];
    let devices = json!({ "firstlight": ours.accesses, "seabios": theirs.accesses });
    let details = json!({ "devices": devices, "steps": steps_as_json(&steps) });
    Ok(Results { figures, details })
}

fn steps_as_json(steps: &[trace::Step]) -> Vec<Value> {
    let step = |step: &trace::Step| json!({ "name": step.name, "end": step.end, "accesses": step.accesses });
    steps.iter().map(step).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Device accesses, a column a firmware.
fn print_devices(names: &[&str], counts: &[&BTreeMap<String, u64>]) {
    let mut devices: BTreeMap<&String, Vec<u64>> = BTreeMap::new();
    for device in counts.iter().flat_map(|counts| counts.keys()) {
        let row = counts
            .iter()
            .map(|counts| counts.get(device).copied().unwrap_or(0));
        devices.insert(device, row.collect());
    }
    let mut rows: Vec<_> = devices.into_iter().collect();
    rows.sort_by(|a, b| b.1.cmp(&a.1));
    print!("  {:<24}", "accesses to the device");
    for name in names {
        print!(" {name:>12}");
    }
    println!();
    for (device, counts) in rows {
        print!("  {device:<24}");
        for count in counts {
            print!(" {count:>12}");
        }
        println!();
    }
}

/// Firstlight's steps.
fn print_steps(steps: &[trace::Step]) {
    println!(
        "  {:<24} {:>12} {:>12}",
        "Firstlight's step", "instructions", "accesses"
    );
    let mut start = 0;
    for step in steps {
        println!(
            "  {:<24} {:>12} {:>12}",
            step.name,
            step.end.saturating_sub(start),
            step.accesses
        );
        start = step.end;
    }
}

fn print_table(figures: &[Figure]) {
    println!(
        "\n{:<8} {:<48} {:>12} {:>12} {:>8} {:>12} {:>8} {:>12} {:>8}",
        "machine", "", "Firstlight", "SeaBIOS", "better", "qboot", "better", "OVMF", "better"
    );
    for figure in figures {
        let digits = figure.digits;
        let mut line = format!(
            "{:<8} {:<48} {:>12.digits$}",
            figure.machine.name(),
            figure.what,
            figure.firstlight
        );
        for other in [figure.seabios, figure.qboot, figure.ovmf] {
            line += &match other {
                Some(value) => format!(" {value:>12.digits$} {:>7.1}x", figure.better_than(value)),
                None => format!(" {:>12} {:>8}", "-", ""),
            };
        }
        println!("{}", line.trim_end());
    }
}

fn write_json(figures: &[Figure], details: &BTreeMap<&str, Value>) -> Result<()> {
    let figures: Vec<Value> = figures
        .iter()
        .map(|figure| {
            json!({
                "machine": figure.machine.name(),
                "what": figure.what,
                "firstlight": figure.firstlight,
                "seabios": figure.seabios,
                "qboot": figure.qboot,
                "ovmf": figure.ovmf,
                "ratio": figure.seabios.map(|other| figure.better_than(other)),
                "ratio-qboot": figure.qboot.map(|other| figure.better_than(other)),
                "ratio-ovmf": figure.ovmf.map(|other| figure.better_than(other)),
            })
        })
        .collect();
    let path = project::target().join("bench.json");
    let text = serde_json::to_string_pretty(&json!({ "figures": figures, "details": details }))?;
    fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    println!("\nWritten to {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_value_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![1.0]), 1.0);
    }
}
