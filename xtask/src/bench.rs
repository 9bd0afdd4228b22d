//! `cargo xtask bench`: what Firstlight costs, beside SeaBIOS in the same run.
//!
//! A boot sector (bench/guest.s) tells when it starts and how fast it reads. Instructions and device accesses repeat from run to run;
//! times do not, so the firmwares take turns and the median counts.

mod guest;
mod measure;
mod trace;

use crate::qemu::Machine;
use crate::setup::{Consent, Need};
use crate::{build, project, setup};
use anyhow::{Context, Result};
use measure::{Bench, Firmware};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;

/// Measure Firstlight beside SeaBIOS: the way to the boot sector, and disk reads
///
/// Prints a table and writes target/bench.json.
#[derive(clap::Args)]
pub struct Args {
    /// Install missing packages without asking
    #[arg(long)]
    yes: bool,
    /// Machines to measure on
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Machine::Pc, Machine::Q35])]
    machine: Vec<Machine>,
    /// How often each firmware is timed; the median counts
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

/// One line of the table.
struct Figure {
    machine: Machine,
    what: &'static str,
    firstlight: f64,
    seabios: f64,
    /// Digits after the decimal point.
    digits: usize,
    /// Whether a larger figure is the better one.
    more_is_better: bool,
}

impl Figure {
    /// How many times better Firstlight is.
    fn ratio(&self) -> f64 {
        if self.more_is_better {
            self.firstlight / self.seabios
        } else {
            self.seabios / self.firstlight
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
    setup::ensure(&[Need::Qemu, Need::Guests], Consent::from_flag(args.yes))?;
    let firstlight = Firmware {
        name: "Firstlight",
        rom: Some(build::firmware()?.rom),
    };
    let seabios = Firmware {
        name: "SeaBIOS",
        rom: None,
    };
    let directory = tempfile::tempdir()?;
    let mut figures = Vec::new();
    let mut details = BTreeMap::new();
    for &machine in &args.machine {
        let bench = Bench {
            machine,
            directory: directory.path(),
        };
        let results = disk_boot(&bench, &firstlight, &seabios, args.runs)?;
        figures.extend(results.figures);
        details.insert(machine.name(), results.details);
    }
    print_table(&figures);
    write_json(&figures, &details)
}

/// From reset to a boot sector on the machine's first disk, and reads from there by INT 13h.
fn disk_boot(
    bench: &Bench,
    firstlight: &Firmware,
    seabios: &Firmware,
    runs: u32,
) -> Result<Results> {
    let machine = bench.machine;
    eprintln!("Measuring on {}: instructions", machine.name());
    let instructions = [
        bench.instructions(firstlight)?,
        bench.instructions(seabios)?,
    ];
    eprintln!("Measuring on {}: device accesses", machine.name());
    let accesses = [bench.accesses(firstlight)?, bench.accesses(seabios)?];
    let steps = bench.steps(firstlight)?;
    eprintln!("Measuring on {}: time, {runs} times each", machine.name());
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..runs {
        times[0].push(bench.times(firstlight)?);
        times[1].push(bench.times(seabios)?);
    }

    println!(
        "\nDevice accesses from reset to the boot sector on {}:",
        machine.name()
    );
    let [ours, theirs] = [&accesses[0].boot, &accesses[1].boot];
    print_devices(ours, theirs);
    if !steps.is_empty() {
        println!(
            "\nFirstlight's steps to the boot sector on {}:",
            machine.name()
        );
        print_steps(&steps);
    }
    let total = |devices: &BTreeMap<String, u64>| devices.values().sum::<u64>() as f64;
    let of_times = |figure: fn(&measure::Times) -> f64| {
        [0, 1].map(|who| median(times[who].iter().map(figure).collect()))
    };
    let figure = |what, [firstlight, seabios]: [f64; 2], digits, more_is_better| Figure {
        machine,
        what,
        firstlight,
        seabios,
        digits,
        more_is_better,
    };
    let figures = vec![
        figure(
            "guest instructions to the boot sector",
            instructions.map(|count| count as f64),
            0,
            false,
        ),
        figure(
            "device accesses to the boot sector",
            [total(ours), total(theirs)],
            0,
            false,
        ),
        figure(
            "ms to the boot sector",
            of_times(|times| times.boot * 1e3),
            1,
            false,
        ),
        figure(
            "device accesses a read of 127 sectors",
            [0, 1].map(|who| total(&accesses[who].reading)),
            0,
            false,
        ),
        figure(
            "MB/s read by INT 13h",
            of_times(|times| times.throughput / 1e6),
            1,
            true,
        ),
    ];
    let details = json!({
        "devices": { "firstlight": ours, "seabios": theirs },
        "steps": steps.iter().map(|step| json!({ "name": step.name, "end": step.end, "accesses": step.accesses })).collect::<Vec<_>>(),
    });
    Ok(Results { figures, details })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print_devices(ours: &BTreeMap<String, u64>, theirs: &BTreeMap<String, u64>) {
    let count =
        |devices: &BTreeMap<String, u64>, device: &str| devices.get(device).copied().unwrap_or(0);
    let mut devices: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
    devices.sort_by_key(|&device| {
        (
            std::cmp::Reverse((count(ours, device), count(theirs, device))),
            device,
        )
    });
    devices.dedup();
    println!("  {:<24} {:>12} {:>12}", "device", "Firstlight", "SeaBIOS");
    for device in devices {
        println!(
            "  {device:<24} {:>12} {:>12}",
            count(ours, device),
            count(theirs, device)
        );
    }
}

fn print_steps(steps: &[trace::Step]) {
    println!("  {:<24} {:>12} {:>12}", "step", "instructions", "accesses");
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
        "\n{:<8} {:<40} {:>12} {:>12} {:>8}",
        "machine", "", "Firstlight", "SeaBIOS", "better"
    );
    for figure in figures {
        let digits = figure.digits;
        println!(
            "{:<8} {:<40} {:>12.digits$} {:>12.digits$} {:>7.1}x",
            figure.machine.name(),
            figure.what,
            figure.firstlight,
            figure.seabios,
            figure.ratio()
        );
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
                "ratio": figure.ratio(),
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
