//! `cargo xtask inspect`: the tables of a guest, as a small Linux in it sees them.

use crate::linux::{self, Linux, Report};
use crate::setup::{Consent, Need};
use crate::xen::bed::{Bed, Config};
use crate::xen::dom0::Version;
use crate::xen::guest::Loader;
use crate::{build, project, setup};
use anyhow::{Context, Result, bail, ensure};
use firstlight_vm::{Chardev, Firmware, Guest, Kernel, Machine, Outcome, Running, qemu};
use std::fmt::Write;
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The UUID of a guest of Xen, unless another one is given.
const UUID: &str = "3cd90213-12e3-4f46-a14e-390253fd9535";

/// Show what a guest is told about its machine: SMBIOS, ACPI, memory map and MTRRs
///
/// A small Linux is started in the guest, which reports what it finds. The report's files stay in target/inspect.
#[derive(clap::Args)]
pub struct Args {
    /// Install missing packages without asking
    #[arg(long)]
    yes: bool,
    /// Machine type of QEMU
    #[arg(long, value_enum, default_value = "pc", conflicts_with = "xen")]
    machine: Machine,
    /// Start the guest on real Xen of this version, 4.17 where none is named
    #[arg(long, value_name = "VERSION", num_args = 0..=1, default_missing_value = "4.17")]
    xen: Option<Version>,
    /// Memory in MiB
    #[arg(long, default_value_t = 512)]
    memory: u32,
    /// Number of virtual CPUs
    #[arg(long, default_value_t = 1)]
    smp: u32,
    /// Show what is different from the tables that a guest gets from SeaBIOS, or from Xen's own hvmloader
    #[arg(long)]
    diff: bool,
    /// Seconds until the guest has to have reported: 600, on Xen 1800, where the stock loader's firmware reads the kernel byte by byte
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<u64>,
    /// More arguments for QEMU, such as -smbios; or lines of an xl.cfg file
    #[arg(last = true, value_name = "DOMAIN ARGUMENTS")]
    domain: Vec<String>,
}

/// Carries out `cargo xtask inspect`.
pub fn main(args: Args) -> Result<()> {
    let needs = [Need::Qemu, Need::DebianDisk, Need::Tables];
    setup::ensure(&needs, Consent::from_flag(args.yes))?;
    let linux = Linux::get()?;
    let firmware = build::firmware()?;
    let mut bed = args
        .xen
        .map(|version| start_xen(&args, version))
        .transpose()?;
    let mut start = |ours: bool| match &mut bed {
        Some(bed) => {
            let loader = match ours {
                true => Loader::File(firmware.hvmloader.clone()),
                false => Loader::Stock,
            };
            of_xen(&args, &linux, bed, &loader)
        }
        None => of_qemu(&args, &linux, ours.then_some(&firmware.rom)),
    };
    let report = start(true)?;
    let text = match args.diff {
        true => difference(&start(false)?, &report)?,
        false => describe(&report)?,
    };
    print!("{text}");
    Ok(())
}

/// Starts Xen with room for the guest.
fn start_xen(args: &Args, version: Version) -> Result<Bed> {
    eprintln!("Starting Xen {} and its dom0", version.number());
    // Two guests, and what comes before them.
    let lifetime = 2 * xen_deadline(args) + Duration::from_secs(600);
    Config::new(version)
        .memory_mib(args.memory.saturating_add(2048))
        .lifetime(lifetime)
        .start()
}

fn xen_deadline(args: &Args) -> Duration {
    Duration::from_secs(args.deadline.unwrap_or(1800))
}

/// Starts the small Linux on Xen, and waits for its report.
fn of_xen(args: &Args, linux: &Linux, bed: &mut Bed, loader: &Loader) -> Result<Report> {
    let name = if *loader == Loader::Stock {
        "stock"
    } else {
        "firstlight"
    };
    eprintln!("Starting the guest with {name}");
    // Both guests have one UUID, the user's where there is one, or their tables would differ in it.
    let mut lines = args.domain.clone();
    if !lines
        .iter()
        .any(|line| line.trim_start().starts_with("uuid"))
    {
        lines.push(format!("uuid = \"{UUID}\""));
    }
    let guest = linux
        .xen_guest(name, loader, &linux.initrd())
        .text(&lines.join("\n"))
        .set("memory", args.memory)
        .set("vcpus", args.smp);
    let console = bed.boot(&guest, linux::REPORT_END, xen_deadline(args))?;
    bed.destroy_all()?;
    Report::unpack(&console, &place(&format!("xen-{name}")))
}

/// Starts the small Linux under QEMU, by `rom` or by QEMU's own firmware, and waits for its report.
fn of_qemu(args: &Args, linux: &Linux, rom: Option<&PathBuf>) -> Result<Report> {
    let firmware = match rom {
        Some(_) => Firmware::Firstlight,
        None => Firmware::SeaBios,
    };
    let mut guest = Guest::new(args.machine);
    guest.bios = rom.cloned();
    guest.memory_mib = args.memory.into();
    guest.cpus.count = args.smp;
    guest.serial.push(Chardev::Stdio);
    guest.kernel = Some(Kernel {
        file: linux.kernel(),
        initrd: Some(linux.initrd()),
        command_line: Some(linux::COMMAND_LINE.into()),
    });
    guest.arguments(["-no-reboot"]);
    guest.arguments(&args.domain);
    let seconds = args.deadline.unwrap_or(600);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut console = Vec::new();
    let outcome = Running::start(&mut qemu::command(&guest)?)?.read(deadline, |_, bytes| {
        console.extend_from_slice(bytes);
        Ok(ControlFlow::<()>::Continue(()))
    })?;
    let console = String::from_utf8_lossy(&console);
    match outcome {
        Outcome::Ended(status) => ensure!(status.success(), "QEMU failed ({status})"),
        _ => bail!("no report from the guest in {seconds} s:\n{console}"),
    }
    let name = format!("{}-{firmware}", args.machine);
    Report::unpack(&console, &place(&name)).with_context(|| format!("with {firmware}"))
}

/// The directory of the report called `name`.
fn place(name: &str) -> PathBuf {
    project::target().join("inspect").join(name)
}

/// All of a report that a person can read, section by section.
///
/// # Errors
/// iasl is not installed, or a table is damaged.
pub fn describe(report: &Report) -> Result<String> {
    let mut text = String::new();
    let mut section = |title: &str, content: &str| {
        let _ = write!(text, "=== {title} ===\n{}\n\n", content.trim_end());
    };
    section("memory map", &report.e820());
    section("MTRRs", &report.text("mtrr.txt"));
    section("dmidecode", &report.text("dmidecode.txt"));
    let tables = report.acpi()?;
    let mut list = String::new();
    for table in &tables {
        let sum = if table.sum_is_right() {
            "right"
        } else {
            "WRONG"
        };
        let _ = writeln!(
            list,
            "{:6} {:6} bytes, checksum {sum}",
            table.name,
            table.bytes.len()
        );
    }
    section("ACPI tables", &list);
    for table in &tables {
        let decompiled = table.decompile()?;
        // The head of the text tells the time at which it was made.
        let source = match decompiled.source.split_once("*/") {
            Some((_, source)) => source.trim_start(),
            None => &decompiled.source,
        };
        // The same once more, in hexadecimal.
        let source = match source.split_once("\nRaw Table Data:") {
            Some((fields, _)) => fields.trim_end(),
            None => source,
        };
        let messages = decompiled.messages.join("\n");
        section(
            &format!("ACPI {}", table.name),
            &format!("{source}\n{messages}"),
        );
    }
    let messages: String = report
        .text("dmesg.txt")
        .lines()
        .filter(|line| {
            ["ACPI", "BIOS", "DMI", "irmware"]
                .iter()
                .any(|word| line.contains(word))
        })
        .map(|line| {
            let message = line.split_once("] ").map_or(line, |(_, message)| message);
            format!("{message}\n")
        })
        .collect();
    section("what the kernel said of them", &messages);
    Ok(text)
}

/// What `ours` has and `peer` has not, and the other way round, as a unified diff.
fn difference(peer: &Report, ours: &Report) -> Result<String> {
    let mut diff = Command::new("diff");
    diff.args(["-U", "2"]);
    let mut files = Vec::new();
    for report in [peer, ours] {
        let file = report.directory().with_extension("txt");
        fs::write(&file, describe(report)?)?;
        let name = file.file_stem().context("a report has a name")?;
        diff.arg("--label").arg(name);
        files.push(file);
    }
    let diff = diff
        .args(&files)
        .stdin(Stdio::null())
        .output()
        .context("cannot start diff")?;
    Ok(String::from_utf8_lossy(&diff.stdout).into_owned())
}
