//! `cargo xtask run`: a real Debian, or another disk, started by Firstlight under QEMU.

use crate::qemu::{self, Accelerator, Event, Machine, Running};
use crate::setup::{Consent, Need};
use crate::{build, image, setup};
use anyhow::{Context, Result, bail, ensure};
use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Boot a Debian guest under QEMU with Firstlight, its serial console on this terminal
///
/// Log in as root; there is no password. Ctrl-A X ends QEMU. Where standard input is no terminal, the command shows the console until
/// the login prompt appears and then ends the guest.
#[derive(clap::Args)]
pub struct Args {
    /// Install missing packages without asking
    #[arg(long)]
    yes: bool,
    /// Boot this disk image (raw or qcow2), which the guest may write to, in place of the demo Debian, which stays as it is
    #[arg(long, value_name = "FILE")]
    disk: Option<PathBuf>,
    /// Machine type
    #[arg(long, value_enum, default_value = "pc")]
    machine: Machine,
    /// Memory, in MiB or with QEMU's suffix M or G
    #[arg(long, default_value = "512")]
    memory: String,
    /// Number of virtual CPUs
    #[arg(long, default_value_t = 1)]
    smp: u32,
    /// Open QEMU's window with the guest's screen
    #[arg(long)]
    display: bool,
    /// What runs the guest's instructions
    #[arg(long, value_enum, default_value = "tcg")]
    accel: Accelerator,
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

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Firmware {
    Firstlight,
    Seabios,
}

/// What getty prints before it reads a user's name, on whatever host name.
const LOGIN_PROMPT: &[u8] = b" login: ";

/// Carries out `cargo xtask run`.
pub fn main(args: Args) -> Result<()> {
    let mut needs = vec![Need::Qemu];
    if args.disk.is_none() {
        needs.push(Need::DebianDisk);
    }
    setup::ensure(&needs, Consent::from_flag(args.yes))?;
    let mut qemu = qemu::command(args.machine, args.accel, &args.memory, args.smp);
    if args.firmware == Firmware::Firstlight {
        qemu.arg("-bios").arg(build::firmware()?.rom);
    }
    let (disk, format, snapshot) = match &args.disk {
        Some(disk) => (disk.clone(), disk_format(disk)?, false),
        None => (image::demo_disk()?, "raw", true),
    };
    qemu.args(qemu::disk(&disk, format, snapshot));
    if !args.display {
        qemu.args(["-display", "none"]);
    }
    if std::io::stdin().is_terminal() {
        interactive(qemu, &args)
    } else {
        to_login_prompt(qemu, &args)
    }
}

/// The format of a disk image by its first bytes: qcow2, or raw.
fn disk_format(disk: &std::path::Path) -> Result<&'static str> {
    let mut start = Vec::new();
    let file =
        std::fs::File::open(disk).with_context(|| format!("cannot open {}", disk.display()))?;
    file.take(4)
        .read_to_end(&mut start)
        .with_context(|| format!("cannot read {}", disk.display()))?;
    Ok(if start == b"QFI\xFB" { "qcow2" } else { "raw" })
}

fn interactive(mut qemu: Command, args: &Args) -> Result<()> {
    eprintln!(
        "Starting the guest. Ctrl-A X ends it, Ctrl-A C switches between its console and QEMU's monitor."
    );
    if args.disk.is_none() {
        eprintln!("Log in as root; there is no password.");
    }
    let status = qemu
        .args(["-serial", "mon:stdio"])
        .args(&args.extra)
        .status()
        .context("cannot start QEMU")?;
    ensure!(status.success(), "QEMU failed ({status})");
    Ok(())
}

fn to_login_prompt(mut qemu: Command, args: &Args) -> Result<()> {
    let start = Instant::now();
    let deadline = start + Duration::from_secs(args.deadline);
    let mut guest = Running::start(
        qemu.args(["-monitor", "none", "-serial", "stdio"])
            .args(&args.extra),
    )?;
    let mut said = Vec::new();
    loop {
        match guest.wait(deadline)? {
            Event::Output(_, bytes) => {
                std::io::stdout().write_all(&bytes)?;
                std::io::stdout().flush()?;
                // Only as much of the past is kept as a prompt may reach back into.
                said.drain(..said.len().saturating_sub(LOGIN_PROMPT.len()));
                said.extend(bytes);
                if said
                    .windows(LOGIN_PROMPT.len())
                    .any(|window| window == LOGIN_PROMPT)
                {
                    break;
                }
            }
            Event::Late => bail!("no login prompt within {} s", args.deadline),
            Event::Ended(status) => bail!("QEMU ended ({status}) before the login prompt appeared"),
        }
    }
    println!(
        "\nThe login prompt is there after {:.1} s. The guest ends here, since standard input is no terminal.",
        start.elapsed().as_secs_f32()
    );
    Ok(())
}
