//! The command line of `firstlight`.
#![allow(
    rustdoc::invalid_html_tags,
    reason = "elements of XML are named as --help shows them"
)]

use crate::domain::{Domain, TOOLSTACKS};
use crate::{check, divert, doctor, firmware, run, smbios, source, xl};
use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use firstlight_vm::{Accelerator, Virtualization, qemu};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs, checks and converts a libvirt domain's XML with the Firstlight firmware
#[derive(Parser)]
#[command(name = "firstlight", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(Run),
    Xl(Xl),
    Smbios(Smbios),
    Check(Check),
    Doctor(Doctor),
    Divert(Divert),
}

/// Run a domain under QEMU, its serial port on this terminal
///
/// Ctrl-A X ends the guest, Ctrl-A C switches between its console and QEMU's monitor. No program that the domain names is run:
/// an <emulator> or a network script is ignored with a warning.
#[derive(clap::Args)]
struct Run {
    /// The domain, as `virsh dumpxml` prints it
    domain: PathBuf,
    /// Open a window with the guest's screen
    #[arg(long)]
    display: bool,
    /// Print QEMU's command, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// What runs the guest's instructions, in place of what the domain says
    #[arg(long, value_enum)]
    accel: Option<Accelerator>,
    /// The control socket of a swtpm, for a domain with an emulated TPM
    #[arg(long, value_name = "SOCKET")]
    tpm: Option<PathBuf>,
    /// Another firmware ROM
    #[arg(long, value_name = "FILE")]
    rom: Option<PathBuf>,
    /// More arguments for QEMU
    #[arg(last = true, value_name = "QEMU ARGUMENTS")]
    arguments: Vec<String>,
}

/// Make a configuration for Xen of a domain: xl.cfg, and the SMBIOS structures that carry what xl.cfg cannot say
///
/// A domain with a BIOS is started by Firstlight's loader. A paravirtual one (PV, PVH) has its kernel picked by
/// firstlight-bootloader, whatever program its <bootloader> names.
#[derive(clap::Args)]
struct Xl {
    /// The domain, as `virsh dumpxml` prints it
    domain: PathBuf,
    /// The directory that xl.cfg and smbios.bin go to
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Start the guest: xl create
    #[arg(long)]
    start: bool,
    /// Another loader
    #[arg(long, value_name = "FILE")]
    loader: Option<PathBuf>,
    /// Another bootloader
    #[arg(long, value_name = "FILE")]
    bootloader: Option<PathBuf>,
}

/// Make a blob of SMBIOS structures, or show one
///
/// The blob is what xl.cfg's smbios_firmware= takes, and QEMU's -fw_cfg name=opt/firstlight/smbios,file=FILE.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
struct Smbios {
    /// Copy blocks 0 and 1 of this host (libvirt's mode='host'). The guest keeps its own UUID
    #[arg(long, group = "what")]
    host: bool,
    /// Take the values of this domain's <sysinfo> element (libvirt's mode='sysinfo')
    #[arg(long, value_name = "DOMAIN.XML", group = "what")]
    domain: Option<PathBuf>,
    /// Tell in words what is in a blob, or in a table such as /sys/firmware/dmi/tables/DMI
    #[arg(long, value_name = "FILE", group = "what")]
    show: Option<PathBuf>,
    /// Where the blob goes; without it, it is told in words
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Show what each element of a domain does under each toolstack, and what is lost
///
/// The exit code is 1 if something is lost, and 2 if the domain cannot be read.
#[derive(clap::Args)]
struct Check {
    /// The domain, as `virsh dumpxml` prints it
    domain: PathBuf,
    /// For a program to read
    #[arg(long)]
    json: bool,
    /// Look at these toolstacks only; for a paravirtual domain, Xen's are looked at unless others are named
    #[arg(long, value_enum, value_delimiter = ',', value_name = "TOOLSTACK")]
    on: Vec<Toolstack>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Toolstack {
    /// QEMU, started by firstlight run
    Run,
    /// QEMU, started by libvirt
    LibvirtQemu,
    /// Xen, by xl and what firstlight xl makes
    Xl,
    /// Xen, started by libvirt
    LibvirtXen,
}

/// Tell what is installed, which firmware a guest gets today, and what is in the way
///
/// The exit code is 1 if something is in the way.
#[derive(clap::Args)]
struct Doctor {
    /// A domain, to tell the same of it
    domain: Option<PathBuf>,
}

/// Put Firstlight's loader in place of Xen's hvmloader, for libvirt's Xen driver, which cannot name one; or back
#[derive(clap::Args)]
struct Divert {
    /// Go back to Xen's own loader
    #[arg(long)]
    undo: bool,
    /// The loader to replace, in place of those of the Xen that is installed
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Another loader than the installed one
    #[arg(long, value_name = "FILE")]
    loader: Option<PathBuf>,
}

/// The program's description, from which manual pages and completions are made.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Carries out what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let unreadable = match &cli.command {
        Command::Check(_) => 2,
        _ => 1,
    };
    let done = match cli.command {
        Command::Run(args) => run_domain(args),
        Command::Xl(args) => convert(args),
        Command::Smbios(args) => make_smbios(args),
        Command::Check(args) => check_domain(args),
        Command::Doctor(args) => Ok(diagnose(args)),
        Command::Divert(args) => divert_loaders(args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(unreadable)
    })
}

/// Reads a domain, and says what is ignored in it.
pub fn read(file: &Path) -> Result<Domain> {
    let domain = Domain::read(file)?;
    for warning in &domain.warnings {
        eprintln!("warning: {}:{warning}", file.display());
    }
    Ok(domain)
}

fn run_domain(args: Run) -> Result<ExitCode> {
    let domain = read(&args.domain)?;
    let options = run::Options {
        rom: firmware::find(args.rom.as_deref(), firmware::ROM)?,
        display: args.display,
        accelerator: args.accel,
        tpm: args.tpm,
        arguments: args.arguments,
    };
    let (guest, notes) = run::guest(&domain, &options)?;
    for note in notes {
        eprintln!("note: {note}");
    }
    if args.dry_run {
        println!("{}", run::shell(&qemu::command(&guest)?));
    } else {
        run::foreground(&guest)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn convert(args: Xl) -> Result<ExitCode> {
    let domain = read(&args.domain)?;
    let starter = match domain.guest.virtualization {
        Virtualization::Hvm => {
            let loader = firmware::find(args.loader.as_deref(), firmware::HVMLOADER)?;
            xl::Starter::Loader(loader)
        }
        Virtualization::Pvh | Virtualization::Pv => {
            let bootloader = firmware::find(args.bootloader.as_deref(), firmware::BOOTLOADER)?;
            xl::Starter::Bootloader(bootloader)
        }
    };
    let file = xl::write(&domain, starter, &args.output)?;
    println!("{}", file.display());
    if args.start {
        xl::start(&file)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn make_smbios(args: Smbios) -> Result<ExitCode> {
    let blob = if let Some(file) = &args.show {
        std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?
    } else if let Some(file) = &args.domain {
        let sysinfo = crate::domain::sysinfo_of(&source::read(file)?, file)?;
        smbios::from_values(&sysinfo)
    } else {
        smbios::from_host(&smbios::host_table(smbios::HOST_TABLE.as_ref())?)?
    };
    match &args.output {
        Some(output) => {
            let written = std::fs::write(output, &blob);
            written.with_context(|| format!("cannot write {}", output.display()))?;
            println!("{}: {} bytes", output.display(), blob.len());
        }
        None => print!("{}", smbios::describe(&blob)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn check_domain(args: Check) -> Result<ExitCode> {
    let domain = Domain::read(&args.domain)?;
    let mut columns: Vec<usize> = args
        .on
        .iter()
        .map(|&toolstack| toolstack as usize)
        .collect();
    if columns.is_empty() {
        columns = match domain.guest.virtualization {
            Virtualization::Hvm => (0..TOOLSTACKS.len()).collect(),
            Virtualization::Pvh | Virtualization::Pv => {
                vec![Toolstack::Xl as usize, Toolstack::LibvirtXen as usize]
            }
        };
    }
    if args.json {
        println!("{:#}", check::json(&domain, &columns));
    } else {
        print!("{}", check::table(&domain, &columns));
        std::io::stdout().flush()?;
        for warning in &domain.warnings {
            eprintln!("warning: {}:{warning}", args.domain.display());
        }
    }
    Ok(ExitCode::from(u8::from(check::loses(&domain, &columns))))
}

fn diagnose(args: Doctor) -> ExitCode {
    let findings = doctor::examine(args.domain.as_deref());
    print!("{}", findings.text());
    ExitCode::from(u8::from(findings.trouble))
}

fn divert_loaders(args: Divert) -> Result<ExitCode> {
    let files = match args.file.is_empty() {
        true => divert::installed(),
        false => args.file,
    };
    if files.is_empty() {
        println!("There is no hvmloader: Xen is not installed.");
    }
    for file in files {
        if args.undo {
            divert::undo(&file)?;
            println!("{} is Xen's own", file.display());
        } else {
            let loader = firmware::find(args.loader.as_deref(), firmware::HVMLOADER)?;
            divert::divert(&file, &loader)?;
            println!("{} is Firstlight", file.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
