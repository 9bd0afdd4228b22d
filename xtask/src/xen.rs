//! `cargo xtask xen`: a guest on real Xen, in the test bed.
//!
//! The test bed is one QEMU that runs Xen with a small Debian as its dom0, all from Debian's packages: [`dom0`] makes it, [`bed`]
//! runs it, and [`guest`] describes the guests in it.

pub mod bed;
pub mod dom0;
pub mod guest;
pub mod hypervisor;
mod instructions;
pub mod ovmf;
mod transfer;

use crate::build::host::Program;
use crate::setup::{Consent, Need};
use crate::{build, image, setup};
use anyhow::{Context, Result};
use bed::{Bed, Config};
use dom0::Version;
use firstlight_host::xl::Starter;
use firstlight_vm::Virtualization;
use guest::{Guest, Loader};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a guest may take to its login prompt: a Debian runs two emulations deep here.
const LOGIN: Duration = Duration::from_secs(1200);

/// Start a guest on real Xen: a test bed under QEMU, made from Debian's packages the first time.
///
/// The guest's first serial port is shown. With a terminal it is yours until the guest is turned off (Ctrl-A X ends it all);
/// without one, the command ends when the guest's login prompt is there.
#[derive(clap::Args)]
pub struct Args {
    /// Install missing packages without asking
    #[arg(long)]
    yes: bool,
    /// The version of Xen.
    #[arg(long, default_value = "4.17")]
    xen: Version,
    /// What the guest starts with: `firstlight`, `stock` for the hvmloader that comes with Xen, or a file.
    #[arg(long, default_value = "firstlight")]
    loader: String,
    /// Show Xen's console, with what guests write to port 0xE9, at the end.
    #[arg(long)]
    dmesg: bool,
    /// The guest's xl.cfg(5) file, with paths of this machine, or its libvirt domain (*.xml). Without one, the demo Debian disk is started.
    config: Option<PathBuf>,
}

/// Carries out `cargo xtask xen`.
pub fn main(args: Args) -> Result<()> {
    let mut needs = vec![Need::Qemu, Need::Bed];
    if args.config.is_none() {
        needs.push(Need::DebianDisk);
    }
    setup::ensure(&needs, Consent::from_flag(args.yes))?;
    let loader = match args.loader.as_str() {
        "stock" => Loader::Stock,
        "firstlight" => Loader::File(build::firmware()?.hvmloader),
        file => Loader::File(file.into()),
    };
    let files = tempfile::tempdir()?;
    let (guest, config) = match &args.config {
        Some(file) => configured(file, files.path(), &loader, args.xen)?,
        None => (
            Guest::new("demo", &loader)
                .set("memory", 512)
                .disk("/dev/vdb"),
            Config::new(args.xen).disk(&image::demo_disk()?),
        ),
    };
    let interactive = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    eprintln!("Starting Xen {} and its dom0", args.xen.number());
    if interactive {
        let guest = guest.string("serial", "pty").string("on_reboot", "restart");
        let mut bed = config
            .console()
            .lifetime(Duration::from_secs(7 * 86400))
            .start()?;
        prepare(&args, &mut bed)?;
        bed.create(&guest)?;
        bed.attach(&guest)?;
        return show_dmesg(&args, &mut bed);
    }
    let mut bed = config.start()?;
    prepare(&args, &mut bed)?;
    eprintln!("Starting the guest {}", guest.name());
    bed.create(&guest)?;
    show_until_login(&mut bed, &guest)?;
    show_dmesg(&args, &mut bed)
}

/// Prepares the demo disk, if that is what starts.
fn prepare(args: &Args, bed: &mut Bed) -> Result<()> {
    match args.config {
        Some(_) => Ok(()),
        None => bed.give_debian_time("/dev/vdb"),
    }
}

/// The guest of an xl.cfg file or a domain, and a test bed that has its disks. `directory` outlives the guest's start.
fn configured(
    file: &Path,
    directory: &Path,
    loader: &Loader,
    version: Version,
) -> Result<(Guest, Config)> {
    let file = match file.extension().is_some_and(|extension| extension == "xml") {
        true => {
            let domain = firstlight_host::cli::read(file)?;
            let starter = match domain.guest.virtualization {
                Virtualization::Hvm => Starter::Loader(build::firmware()?.hvmloader),
                _ => Starter::Bootloader(build::host::file(Program::Bootloader)?),
            };
            firstlight_host::xl::write(&domain, starter, directory)?
        }
        false => file.to_owned(),
    };
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    let transfer = transfer::transfer(&text, file.parent().unwrap_or(Path::new(".")))?;
    let mut config = Config::new(version);
    if let Some(memory) = transfer.memory_mib {
        config = config.memory_mib(memory.saturating_add(2048));
    }
    for disk in &transfer.disks {
        config = config.disk(disk);
    }
    let mut guest = match transfer.paravirtual {
        false => Guest::new("guest", loader),
        // It has no serial port, and whoever picks its kernel is named in the file.
        true => Guest::new("guest", &Loader::Stock)
            .unset("type")
            .unset("serial")
            .pv_console(),
    };
    guest = guest.text(&transfer.text).unset("memory").unset("vcpus");
    for (path, name) in &transfer.files {
        guest = guest.file_of_host(path, name);
    }
    Ok((guest, config))
}

/// Prints what the guest writes to its serial port, until that is a login prompt.
fn show_until_login(bed: &mut Bed, guest: &Guest) -> Result<()> {
    let shown = std::cell::Cell::new(0);
    bed.wait_until(guest, "login prompt", LOGIN, |serial| {
        print!("{}", serial.get(shown.get()..).unwrap_or_default());
        let _ = std::io::stdout().flush();
        shown.set(serial.len());
        serial.contains("login: ")
    })?;
    println!();
    Ok(())
}

fn show_dmesg(args: &Args, bed: &mut Bed) -> Result<()> {
    if args.dmesg {
        println!("{}", bed.dmesg()?);
    }
    Ok(())
}
