//! `cargo xtask bench --bootloader`: the bootloader beside pygrub, on the demo Debian disk.
//!
//! Both do what libxl has them do: read the disk, choose the default, copy kernel and initial RAM disk. They take turns. GNU time,
//! a small program, starts each and says what its largest process had of memory.

use crate::{build, image, project, pygrub};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What one run costs.
#[derive(Clone, Copy, Debug)]
struct Run {
    wall: Duration,
    /// KiB that the largest process had in memory at once.
    memory: u64,
}

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
        let mut of_ours = Vec::new();
        let mut of_pygrub = Vec::new();
        // One more of each at first, which finds the files in memory.
        for turn in 0..=runs {
            let mine = run(Command::new(&ours), arguments, directory.path(), &disk)?;
            let theirs = run(pygrub::command()?, arguments, directory.path(), &disk)?;
            if turn > 0 {
                of_ours.push(mine);
                of_pygrub.push(theirs);
            }
        }
        figures.push((what, costs(&of_ours), costs(&of_pygrub)));
    }
    show(&figures, runs)
}

/// Runs a bootloader and removes what it copied.
fn run(bootloader: Command, arguments: &[&str], directory: &Path, disk: &Path) -> Result<Run> {
    let costs = directory.join("costs");
    let copies = directory.join("copies");
    fs::create_dir(&copies)?;
    let mut time = Command::new("time");
    time.args(["--format=%M", "--output"]).arg(&costs);
    time.arg(bootloader.get_program())
        .args(bootloader.get_args());
    for (name, value) in bootloader.get_envs() {
        time.envs(value.map(|value| (name, value)));
    }
    time.args(["--quiet", "--output-format=simple0"])
        .arg(format!("--output-directory={}", copies.display()))
        .args(arguments)
        .arg(disk);
    let start = Instant::now();
    let output = time.stdin(Stdio::null()).output();
    let wall = start.elapsed();
    let output = output.context("cannot start GNU time")?;
    ensure!(
        output.status.success() && output.stdout.starts_with(b"kernel "),
        "{} boots nothing: {}",
        bootloader.get_program().display(),
        String::from_utf8_lossy(&output.stderr)
    );
    let text = fs::read_to_string(&costs)?;
    fs::remove_dir_all(&copies)?;
    Ok(Run {
        wall,
        memory: text.trim().parse()?,
    })
}

fn costs(runs: &[Run]) -> Costs {
    let median = |figure: fn(&Run) -> f64| {
        let mut figures: Vec<f64> = runs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or_default()
    };
    Costs {
        milliseconds: median(|run| run.wall.as_secs_f64() * 1000.0),
        memory: median(|run| run.memory as f64),
    }
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
