//! `cargo xtask bench --bootloader`: the bootloader beside pygrub, on the demo Debian disk.
//!
//! Both do what libxl has them do: read the disk, choose the default, copy kernel and initial RAM disk. They take turns, each with
//! its files in memory. This one reads the disk in a sandbox always, pygrub where it is restricted: the only way that Xen's security
//! support covers. For the memory of its largest process, GNU time starts each in runs of its own, whose time does not count: to start
//! that program takes a millisecond as well.

use crate::build::host::Program;
use crate::{build, image, project, pygrub, setup};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// How many runs tell the memory, which is nearly the same each time.
const MEMORY_RUNS: u32 = 3;

/// The user that reads the disk: nobody.
const RESTRICTED: &str = "--runas=65534";

/// What many runs cost, each figure by its median.
struct Costs {
    milliseconds: f64,
    memory: f64,
}

/// Carries out `cargo xtask bench --bootloader`.
pub fn main(runs: u32) -> Result<()> {
    let disk = image::demo_disk()?;
    let ours = build::host::file(Program::Bootloader)?;
    let directory = tempfile::tempdir()?;
    let mut figures = Vec::new();
    let mut rows = vec![("boot", &[][..]), ("choose only", &["--not-really"][..])];
    // Only root can become someone else.
    if setup::is_root()? {
        rows.insert(0, ("boot, restricted", &[RESTRICTED][..]));
    }
    for (what, arguments) in rows {
        let mut ours_costs = Samples::default();
        let mut pygrub_costs = Samples::default();
        for _ in 0..runs {
            // The first of two does not count: it has the processor's caches full of what the other program left there.
            let warm = |program: &dyn Fn() -> Result<Command>| {
                run(program()?, arguments, directory.path(), &disk)?;
                run(program()?, arguments, directory.path(), &disk)
            };
            ours_costs.wall.push(warm(&|| Ok(Command::new(&ours)))?);
            pygrub_costs.wall.push(warm(&pygrub::command)?);
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
    // One directory for all, as /var/run/xen is one: where the file system puts a new one is another matter.
    let copies = directory.join("copies");
    fs::create_dir_all(&copies)?;
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
    for copy in fs::read_dir(&copies)? {
        fs::remove_file(copy?.path())?;
    }
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
