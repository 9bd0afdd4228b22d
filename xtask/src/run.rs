//! `cargo xtask run`: a real Debian, or another disk, started by Firstlight under QEMU.

use crate::setup::{Consent, Need};
use crate::{build, image, setup};
use anyhow::{Context, Result, bail, ensure};
use firstlight_vm::{
    Accelerator, Bus, Chardev, Disk, Firmware, Format, Guest, Machine, Outcome, Running, qemu,
};
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Boot a Debian guest, or a libvirt domain, under QEMU with Firstlight, its serial console on this terminal
///
/// Log in as root; there is no password. Ctrl-A X ends QEMU. Where standard input is no terminal, the command shows the console until
/// the login prompt appears and then ends the guest.
#[derive(clap::Args)]
pub struct Args {
    /// Install missing packages without asking
    #[arg(long)]
    yes: bool,
    /// Run this libvirt domain, as `firstlight run` does, in place of the demo Debian
    #[arg(value_name = "DOMAIN.XML", conflicts_with_all = ["disk", "machine", "memory", "smp"])]
    domain: Option<PathBuf>,
    /// Boot this disk image (raw or qcow2), which the guest may write to, in place of the demo Debian, which stays as it is
    #[arg(long, value_name = "FILE")]
    disk: Option<PathBuf>,
    /// Machine type
    #[arg(long, value_enum, default_value = "pc")]
    machine: Machine,
    /// Memory, in MiB or with the suffix M or G
    #[arg(long, default_value = "512", value_parser = mebibytes)]
    memory: u64,
    /// Number of virtual CPUs
    #[arg(long, default_value_t = 1)]
    smp: u32,
    /// Open QEMU's window with the guest's screen
    #[arg(long)]
    display: bool,
    /// What runs the guest's instructions
    #[arg(long, value_enum)]
    accel: Option<Accelerator>,
    /// Firmware to start with; `seabios` is there for comparison
    #[arg(long, value_enum, default_value = "firstlight")]
    firmware: Firmware,
    /// Seconds until the login prompt has to be there, where standard input is no terminal
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    deadline: u64,
    /// More arguments for QEMU
    #[arg(last = true, value_name = "QEMU ARGUMENTS")]
    extra: Vec<String>,
}

/// What getty prints before it reads a user's name, on whatever host name.
const LOGIN_PROMPT: &[u8] = b" login: ";

/// Carries out `cargo xtask run`.
pub fn main(args: Args) -> Result<()> {
    let mut needs = vec![Need::Qemu];
    let demo = args.disk.is_none() && args.domain.is_none();
    if demo {
        needs.push(Need::DebianDisk);
    }
    setup::ensure(&needs, Consent::from_flag(args.yes))?;
    let mut guest = match &args.domain {
        Some(domain) => of_domain(domain, &args)?,
        None => of_options(&args)?,
    };
    guest.arguments(&args.extra);
    if std::io::stdin().is_terminal() {
        if demo {
            eprintln!("Log in as root; there is no password.");
        }
        interactive(guest)
    } else {
        to_login_prompt(guest, args.deadline)
    }
}

/// The guest of a domain's XML, whose first serial port is left for this tool to connect.
fn of_domain(domain: &Path, args: &Args) -> Result<Guest> {
    let domain = firstlight_host::cli::read(domain)?;
    let rom = build::firmware()?.rom;
    let options = firstlight_host::run::Options {
        rom,
        display: args.display,
        accelerator: args.accel,
        ..Default::default()
    };
    let (mut guest, notes) = firstlight_host::run::guest(&domain, &options)?;
    for note in notes {
        eprintln!("{note}");
    }
    guest.serial.retain(|port| *port != Chardev::Terminal);
    if args.firmware == Firmware::SeaBios {
        guest.bios = None;
    }
    Ok(guest)
}

/// The guest that the command line describes.
fn of_options(args: &Args) -> Result<Guest> {
    let mut guest = Guest::new(args.machine);
    guest.accelerator = args.accel.unwrap_or_default();
    guest.memory_mib = args.memory;
    guest.cpus.count = args.smp;
    guest.window = args.display;
    if args.firmware == Firmware::Firstlight {
        guest.bios = Some(build::firmware()?.rom);
    }
    let own_bus = match args.machine {
        Machine::Pc => Bus::Ide,
        Machine::Q35 => Bus::Sata,
    };
    guest.disks.push(match &args.disk {
        Some(disk) => {
            let format = Format::detect(disk);
            let format = format.with_context(|| format!("cannot read {}", disk.display()))?;
            Disk::new(own_bus, disk).format(format)
        }
        None => Disk::new(own_bus, &image::demo_disk()?).snapshot(),
    });
    Ok(guest)
}

/// A size in MiB, as QEMU's `-m` takes it.
fn mebibytes(text: &str) -> Result<u64> {
    let (number, unit) = match text.strip_suffix(['G', 'g']) {
        Some(number) => (number, 1024),
        None => (text.strip_suffix(['M', 'm']).unwrap_or(text), 1),
    };
    let number: u64 = number.parse().context("no number of MiB")?;
    number.checked_mul(unit).context("too much memory")
}

/// Starts a guest whose first serial port is this terminal.
fn interactive(mut guest: Guest) -> Result<()> {
    eprintln!(
        "Starting the guest. Ctrl-A X ends it, Ctrl-A C switches between its console and QEMU's monitor."
    );
    guest.serial.insert(0, Chardev::Terminal);
    let status = qemu::command(&guest)?
        .status()
        .context("cannot start QEMU")?;
    ensure!(status.success(), "QEMU failed ({status})");
    Ok(())
}

/// Starts a guest and shows its first serial port until a login prompt appears there.
fn to_login_prompt(mut guest: Guest, seconds: u64) -> Result<()> {
    guest.serial.insert(0, Chardev::Stdio);
    let start = Instant::now();
    let deadline = start + Duration::from_secs(seconds);
    let mut said = Vec::new();
    let outcome = Running::start(&mut qemu::command(&guest)?)?.read(deadline, |_, bytes| {
        std::io::stdout().write_all(bytes)?;
        std::io::stdout().flush()?;
        // Only as much of the past is kept as a prompt may reach back into.
        said.drain(..said.len().saturating_sub(LOGIN_PROMPT.len()));
        said.extend_from_slice(bytes);
        let mut windows = said.windows(LOGIN_PROMPT.len());
        Ok(match windows.any(|window| window == LOGIN_PROMPT) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    })?;
    match outcome {
        Outcome::Found(()) => {}
        Outcome::Late => bail!("no login prompt within {seconds} s"),
        Outcome::Ended(status) => bail!("QEMU ended ({status}) before the login prompt appeared"),
    }
    println!(
        "\nThe login prompt is there after {:.1} s. The guest ends here, since standard input is no terminal.",
        start.elapsed().as_secs_f32()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_a_unit_or_none() {
        let sizes = ["512", "512M", "2G", "2g"].map(|text| mebibytes(text).expect("a size"));
        assert_eq!(sizes, [512, 512, 2048, 2048]);
        assert!(mebibytes("2T").is_err());
        assert!(mebibytes("99999999999999999999G").is_err());
    }
}
