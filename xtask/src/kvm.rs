//! `cargo xtask kvm`: a guest on real KVM, in the test bed.
//!
//! The test bed is one QEMU that runs a small Debian with KVM and a QEMU of its own, all from Debian's packages.

pub mod bed;

use crate::bed::Bed;
use crate::setup::{Consent, Need};
use crate::{build, image, project, setup};
use anyhow::{Result, bail};
use bed::{Config, quoted};
use firstlight_vm::{Accelerator, Bus, Chardev, Disk, Guest, Machine, qemu};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the demo Debian may take to its login prompt, two emulations deep.
const LOGIN: Duration = Duration::from_secs(900);
/// The guest's serial log, in the bed's /job.
const SERIAL: &str = "serial";

/// Start a guest on real KVM: a test bed under QEMU, made from Debian's packages the first time
///
/// Without arguments the demo Debian starts. With a terminal the guest's first serial port is yours (Ctrl-A X ends it all);
/// without one, the command shows it until the login prompt is there.
#[derive(clap::Args)]
pub struct Args {
    /// Install missing packages without asking
    #[arg(long)]
    yes: bool,
    /// What the guest starts with: `firstlight`, `seabios`, or a ROM file
    #[arg(long, default_value = "firstlight")]
    firmware: String,
    /// Do without nested paging, as old processors do
    #[arg(long)]
    no_nested_paging: bool,
    /// Start this libvirt domain, as `firstlight run` does
    #[arg(value_name = "DOMAIN.XML")]
    domain: Option<PathBuf>,
    /// QEMU's arguments for the guest, in which files of this directory can be named; beside the domain's, where there is one
    #[arg(last = true, value_name = "QEMU ARGUMENTS")]
    qemu: Vec<String>,
}

impl Args {
    /// Whether the guest is the demo Debian.
    fn starts_debian(&self) -> bool {
        self.domain.is_none() && self.qemu.is_empty()
    }
}

/// Carries out `cargo xtask kvm`.
pub fn main(args: Args) -> Result<()> {
    let mut needs = vec![Need::Qemu, Need::Bed];
    if args.starts_debian() {
        needs.push(Need::DebianDisk);
    }
    setup::ensure(&needs, Consent::from_flag(args.yes))?;
    let here = std::env::current_dir()?;
    let mut config = Config::new().share(&here).share(&project::cache()?);
    let mut guest = qemu(&args, &mut config)?;
    let interactive = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    eprintln!("Starting the test bed");
    if interactive {
        config = config.console().lifetime(Duration::from_secs(7 * 86400));
        let mut bed = start(&args, &config)?;
        guest.push_str(" -serial mon:stdio");
        return bed::attach(&mut bed, &guest);
    }
    let mut bed = start(&args, &config)?;
    eprintln!("Starting the guest");
    guest.push_str(&format!(" -monitor none -serial file:/job/{SERIAL}"));
    show_until_login(&mut bed, &guest)
}

fn start(args: &Args, config: &Config) -> Result<Bed> {
    let mut bed = config.start()?;
    if args.no_nested_paging {
        bed::leave_out_nested_paging(&mut bed)?;
    }
    Ok(bed)
}

/// The guest's QEMU as a command for the bed's shell, without its serial port. What it needs of the host is shared with the bed.
fn qemu(args: &Args, config: &mut Config) -> Result<String> {
    let rom = match args.firmware.as_str() {
        "seabios" => None,
        "firstlight" => Some(build::firmware()?.rom),
        file => Some(std::path::absolute(file)?),
    };
    let mut guest = match &args.domain {
        Some(domain) => of_domain(domain, rom.clone())?,
        None => Guest::new(Machine::Pc),
    };
    guest.accelerator = Accelerator::Kvm;
    guest.bios = rom;
    if args.starts_debian() {
        let disk = image::demo_disk()?;
        guest.disks.push(Disk::new(Bus::Ide, &disk).snapshot());
        guest.memory_mib = 512;
        guest.arguments(["-no-reboot"]);
    }
    let files = guest.disks.iter().filter_map(|disk| disk.source.as_ref());
    for file in files.chain(&guest.bios) {
        if let Some(directory) = std::path::absolute(file)?.parent() {
            *config = config.clone().share(directory);
        }
    }
    let mut words = vec![qemu::PROGRAM.into()];
    if args.domain.is_none() && !args.qemu.is_empty() {
        // All is the user's but the accelerator and the firmware.
        words.extend(["-accel", "kvm", "-display", "none"].map(Into::into));
        if let Some(rom) = &guest.bios {
            words.extend(["-bios".into(), rom.clone().into_os_string()]);
        }
    } else {
        words.extend(qemu::arguments(&guest)?);
    }
    words.extend(args.qemu.iter().map(Into::into));
    let words: Vec<String> = words
        .iter()
        .map(|word| quoted(&word.to_string_lossy()))
        .collect();
    let here = std::env::current_dir()?;
    Ok(format!(
        "cd {} && {}",
        quoted(&here.display().to_string()),
        words.join(" ")
    ))
}

/// The guest of a domain's XML, whose serial port is left for this tool to connect.
fn of_domain(domain: &Path, rom: Option<PathBuf>) -> Result<Guest> {
    let domain = firstlight_host::cli::read(domain)?;
    let options = firstlight_host::run::Options {
        rom: rom.unwrap_or_default(),
        accelerator: Some(Accelerator::Kvm),
        ..Default::default()
    };
    let (mut guest, notes) = firstlight_host::run::guest(&domain, &options)?;
    for note in notes {
        eprintln!("{note}");
    }
    guest.serial.retain(|port| *port != Chardev::Terminal);
    Ok(guest)
}

/// Prints what the guest writes to its serial port, until that is a login prompt or the guest ends.
fn show_until_login(bed: &mut Bed, guest: &str) -> Result<()> {
    const STATUS: &str = "status";
    bed.check(&format!(
        "({guest} >/job/output 2>&1; echo $? >/job/{STATUS}) </dev/null >/dev/null 2>&1 &"
    ))?;
    let start = Instant::now();
    let mut shown = 0;
    loop {
        let serial = std::fs::read(bed.job().join(SERIAL)).unwrap_or_default();
        std::io::stdout().write_all(serial.get(shown..).unwrap_or_default())?;
        std::io::stdout().flush()?;
        shown = serial.len();
        if serial.windows(7).any(|window| window == b"login: ") {
            println!(
                "\nThe login prompt is there after {} s.",
                start.elapsed().as_secs()
            );
            return Ok(());
        }
        if let Ok(status) = std::fs::read_to_string(bed.job().join(STATUS)) {
            let output = std::fs::read_to_string(bed.job().join("output")).unwrap_or_default();
            println!("\n{output}QEMU ended with status {}.", status.trim());
            return Ok(());
        }
        if start.elapsed() > LOGIN * firstlight_vm::wait::scale() {
            bail!(
                "no login prompt in {} s\n{}",
                start.elapsed().as_secs(),
                bed.tails()
            );
        }
        std::thread::sleep(crate::bed::POLL);
    }
}
