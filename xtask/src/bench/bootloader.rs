//! `cargo xtask bench --bootloader`: the bootloader beside pygrub, on the demo Debian disk.
//!
//! Both do what libxl has them do: read the disk, choose the default, copy kernel and initial RAM disk. They take turns. For the memory
//! of its largest process, GNU time starts each in runs of its own, whose time does not count: to start that program takes a
//! millisecond as well.

use crate::{build, image, project, pygrub};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// How many runs tell the memory, which is nearly the same each time.
const MEMORY_RUNS: u32 = 3;

/// What many runs cost, each figure by its median.
struct Costs {
    milliseconds: f64,
    memory: f64,
}

/// Carries out `cargo xtask bench --bootloader`.
pub fn main(runs: u32) -> Result<()> {
    let disk = image::demo_disk()?;
    let ours = build::bootloader::file()?;
    let directory = tempfile::tempdir()?;
    let mut figures = Vec::new();
    for (what, arguments) in [("boot", &[][..]), ("choose only", &["--not-really"][..])] {
        let mut ours_costs = Samples::default();
        let mut pygrub_costs = Samples::default();
        // One more of each at first, which finds the files in memory.
        for turn in 0..=runs {
            let mine = run(Command::new(&ours), arguments, directory.path(), &disk)?;
            let theirs = run(pygrub::command()?, arguments, directory.path(), &disk)?;
            if turn > 0 {
                ours_costs.wall.push(mine);
                pygrub_costs.wall.push(theirs);
            }
        }
        for _ in 0..MEMORY_RUNS {
            let mine = memory(Command::new(&ours), arguments, directory.path(), &disk)?;
            ours_costs.memory.push(mine);
            let theirs = memory(pygrub::command()?, arguments, directory.path(), &disk)?;
            pygrub_costs.memory.push(theirs);
        }
        figures.push((what, ours_costs.costs(), pygrub_costs.costs()));
    }
    show(&figures, runs)
}

/// What runs cost: milliseconds, and KiB that the largest process had in memory at once.
#[derive(Default)]
struct Samples {
    wall: Vec<f64>,
    memory: Vec<f64>,
}

impl Samples {
    fn costs(self) -> Costs {
        Costs {
            milliseconds: median(self.wall),
            memory: median(self.memory),
        }
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// Runs a bootloader and returns the KiB of its largest process.
fn memory(bootloader: Command, arguments: &[&str], directory: &Path, disk: &Path) -> Result<f64> {
    let costs = directory.join("costs");
    let mut time = Command::new("time");
    time.args(["--format=%M", "--output"]).arg(&costs);
    time.arg(bootloader.get_program())
        .args(bootloader.get_args());
    for (name, value) in bootloader.get_envs() {
        time.envs(value.map(|value| (name, value)));
    }
    run(time, arguments, directory, disk)?;
    Ok(fs::read_to_string(&costs)?.trim().parse()?)
}

/// Runs a bootloader, removes what it copied, and returns the milliseconds it took.
fn run(mut program: Command, arguments: &[&str], directory: &Path, disk: &Path) -> Result<f64> {
    let copies = directory.join("copies");
    fs::create_dir(&copies)?;
    program
        .args(["--quiet", "--output-format=simple0"])
        .arg(format!("--output-directory={}", copies.display()))
        .args(arguments)
        .arg(disk);
    let start = Instant::now();
    let output = program.stdin(Stdio::null()).output();
    let wall = start.elapsed();
    let name = program.get_program().display();
    let output = output.with_context(|| format!("cannot start {name}"))?;
    ensure!(
        output.status.success() && output.stdout.starts_with(b"kernel "),
        "{name} boots nothing: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::remove_dir_all(&copies)?;
    Ok(wall.as_secs_f64() * 1000.0)
}

fn show(figures: &[(&str, Costs, Costs)], runs: u32) -> Result<()> {
    println!("{:28}{:>12}{:>12}{:>10}", "", "Firstlight", "pygrub", "");
    let mut report = Vec::new();
    for (what, ours, pygrub) in figures {
        let rows = [
            ("ms", ours.milliseconds, pygrub.milliseconds),
            ("KiB", ours.memory, pygrub.memory),
        ];
        for (unit, ours, pygrub) in rows {
            let name = format!("{what}, {unit}");
            let times = pygrub / ours.max(0.001);
            println!("{name:28}{ours:>12.1}{pygrub:>12.1}{times:>8.1} x");
            report.push(json!({
                "what": what, "unit": unit, "firstlight": ours, "pygrub": pygrub, "runs": runs,
            }));
        }
    }
    let file = project::target().join("bench-bootloader.json");
    fs::write(&file, serde_json::to_string_pretty(&report)?)?;
    println!("{}", file.display());
    Ok(())
}
