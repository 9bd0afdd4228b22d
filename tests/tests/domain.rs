//! The examples of domains, run by the host tool under QEMU.

use anyhow::{Context, Result, ensure};
use firstlight_host::domain::Domain;
use firstlight_host::run;
use firstlight_tests::guest::NicBackend;
use firstlight_tests::guest::{Config, Firmware, Guest, Log, Machine, rom_path, workspace};
use firstlight_tests::linux::dmidecode_says;
use firstlight_tests::media;
use firstlight_vm::wait;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use xtask::linux::{Linux, REPORT_END, Report};

/// Starts an example in which some names of files have others in their place. Its serial port is the test's.
fn start(example: &str, names: &[(&str, &Path)]) -> Result<Guest> {
    let file = workspace().join("docs/examples").join(example);
    let mut text = fs::read_to_string(&file)?;
    for (from, to) in names {
        ensure!(text.contains(from), "{example} does not name {from}");
        text = text.replacen(from, &to.display().to_string(), 1);
    }
    let options = run::Options {
        rom: rom_path(),
        ..run::Options::default()
    };
    let (mut guest, _) = run::guest(&Domain::parse(&text, &file)?, &options)?;
    guest.serial.clear();
    for disk in &mut guest.disks {
        disk.snapshot = !disk.read_only;
    }
    Config::new(Machine::Pc, Firmware::Firstlight)
        .with(|own| *own = guest)
        .deadline_seconds(300)
        .start()
}

/// The menu is offered, the disk is booted before the CD, and dmidecode shows what `<sysinfo>` says.
#[test]
fn a_bios_boot_has_its_menu_its_order_and_its_sysinfo() -> Result<()> {
    let debian = std::env::var_os("FIRSTLIGHT_DEBIAN").map(PathBuf::from);
    let debian = debian.context("FIRSTLIGHT_DEBIAN is not set: use `cargo xtask test`")?;
    let cd = tempfile::NamedTempFile::new()?;
    cd.as_file().set_len(1 << 20)?;
    let mut guest = start(
        "bios.xml",
        &[("disk.img", &debian), ("boot.iso", cd.path())],
    )?;
    guest.wait_for(Log::Serial, "Esc or F12")?;
    guest.wait_for(Log::Serial, " login: ")?;
    guest.type_serial("root\n")?;
    guest.wait_for(Log::Serial, ":~# ")?;
    // Put together by the shell, so that the echo of what is typed is no answer.
    guest.type_serial("clear; dmidecode; echo e''nd; nproc\n")?;
    let said = guest.wait_for(Log::Serial, "\nend\r\n")?;
    for value in [
        "Vendor: Acme Firmware Works",
        "Manufacturer: Acme",
        "Product Name: Rack Guest",
        "Serial Number: AC-0001",
        "SKU Number: RG-7",
        "Serial Number: BB-0001",
        "Location In Chassis: Slot 3",
        "SKU Number: CH-SKU",
        "String 1: com.example:rack=12",
    ] {
        ensure!(said.contains(value), "no {value}:\n{said}");
    }
    Ok(())
}

#[test]
fn a_kernel_has_its_initrd_and_its_command_line() -> Result<()> {
    let linux = Linux::get()?;
    let files = [
        ("vmlinuz", &*linux.kernel()),
        ("initrd.img", &*linux.initrd()),
    ];
    let mut guest = start("direct-kernel.xml", &files)?;
    let console = guest.wait_for(Log::Serial, REPORT_END)?;
    let directory = tempfile::tempdir()?;
    let report = Report::unpack(&console, &directory.path().join("report"))?;
    let messages = report.text("dmesg.txt");
    let line = "Kernel command line: console=ttyS0 ks=http://example.com/f8-i386/os/\n";
    ensure!(messages.contains(line), "{messages}");
    dmidecode_says(&report, &[])
}

/// A swtpm, which ends with this.
struct Tpm(Child);

impl Drop for Tpm {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Tpm {
    /// Starts it with its files in `directory`, and returns it with its control socket.
    fn start(directory: &Path) -> Result<(Self, PathBuf)> {
        let socket = directory.join("swtpm.sock");
        let state = format!("dir={}", directory.display());
        let control = format!("type=unixio,path={}", socket.display());
        let child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--tpmstate", &state, "--ctrl", &control])
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start swtpm: run `cargo xtask setup`")?;
        let tpm = Self(child);
        let deadline = Instant::now() + Duration::from_secs(20) * wait::scale();
        let there = wait::until(deadline, wait::POLL, || Ok(socket.exists().then_some(())))?;
        there.context("swtpm makes no socket")?;
        Ok((tpm, socket))
    }
}

/// A TPM that a swtpm emulates reaches the guest: Linux finds its table and what it says of itself.
#[test]
fn a_domain_has_a_tpm() -> Result<()> {
    let linux = Linux::get()?;
    let files = tempfile::tempdir()?;
    for model in ["tpm-tis", "tpm-crb"] {
        let state = files.path().join(model);
        fs::create_dir(&state)?;
        let (_tpm, socket) = Tpm::start(&state)?;
        let text = format!(
            "<domain type='qemu'><name>guest</name><memory unit='MiB'>512</memory><os><type machine='q35'>hvm</type>\
             <kernel>{}</kernel><initrd>{}</initrd><cmdline>console=ttyS0</cmdline></os><features><acpi/></features>\
             <devices><serial type='pty'/><tpm model='{model}'><backend type='emulator' version='2.0'/></tpm></devices></domain>",
            linux.kernel().display(),
            linux.initrd().display()
        );
        let domain = Domain::parse(&text, &files.path().join("domain.xml"))?;
        let options = run::Options {
            rom: rom_path(),
            tpm: Some(socket),
            ..run::Options::default()
        };
        let (mut guest, _) = run::guest(&domain, &options)?;
        guest.serial.clear();
        let mut guest = Config::new(Machine::Q35, Firmware::Firstlight)
            .with(|own| *own = guest)
            .deadline_seconds(300)
            .start()?;
        let console = guest.wait_for(Log::Serial, REPORT_END)?;
        let report = Report::unpack(&console, &state.join("report"))?;
        let messages = report.text("dmesg.txt");
        ensure!(messages.contains("ACPI: TPM2 "), "{model}:\n{messages}");
    }
    Ok(())
}

/// A name with all that QEMU's options take as their own.
const NAME: &str = "a b,c'd\"e\\f=g\n";

/// What the boot programs of a domain say, one after the other. It has a floppy disk, two hard disks, a CD and a card on a network
/// with a boot program; all but the second disk (2) say the letters of their kinds.
fn letters(os: &str, orders: [&str; 4]) -> Result<String> {
    let files = tempfile::tempdir()?;
    // Every path has this in it.
    let directory = files.path().join(NAME);
    fs::create_dir(&directory)?;
    let mut names = Vec::new();
    for file in [
        media::floppy(&directory, 'A')?,
        media::disk(&directory, 'C')?,
        media::disk(&directory, '2')?,
        media::cdrom(&directory, 'D')?,
    ] {
        let name = file.display().to_string();
        let name = name.replace('"', "&quot;").replace('\'', "&apos;");
        names.push(name.replace('\n', "&#10;"));
    }
    fs::write(files.path().join("program"), media::program('N'))?;
    let order = |index: usize| match orders[index] {
        "" => String::new(),
        order => format!("<boot order='{order}'/>"),
    };
    let text = format!(
        "<domain type='qemu'><name>guest</name><memory unit='MiB'>128</memory><os><type>hvm</type>{os}<bios useserial='yes'/></os>\
         <features><acpi/></features><devices>\
         <disk device='floppy'><source file=\"{}\"/><target dev='fda'/>{}</disk>\
         <disk><source file=\"{}\"/><target dev='hda' bus='ide'/>{}</disk>\
         <disk><source file=\"{}\"/><target dev='vda' bus='virtio'/></disk>\
         <disk device='cdrom'><source file=\"{}\"/><target dev='sda' bus='sata'/>{}</disk>\
         <interface type='user'><model type='virtio'/>{}</interface><serial type='pty'/></devices></domain>",
        names[0],
        order(0),
        names[1],
        order(1),
        names[2],
        names[3],
        order(2),
        order(3)
    );
    let options = run::Options {
        rom: rom_path(),
        ..run::Options::default()
    };
    let domain = Domain::parse(&text, &files.path().join("domain.xml"))?;
    let (mut guest, _) = run::guest(&domain, &options)?;
    guest.serial.clear();
    guest.nics[0].backend = NicBackend::User(vec![
        ("tftp".into(), files.path().display().to_string()),
        ("bootfile".into(), "program".into()),
    ]);
    let mut guest = Config::new(Machine::Pc, Firmware::Firstlight)
        .with(|own| *own = guest)
        .deadline_seconds(120)
        .start()?;
    guest.wait_for(Log::Serial, "Nothing could be booted")?;
    let log = guest.log(Log::Debug);
    let said = log.split("firstlight:").next().unwrap_or_default();
    Ok(said.to_owned())
}

/// `<boot dev>` stands for the first device of a kind, and what has no place is not booted, as libvirt has it.
#[test]
fn the_order_by_kind_is_followed() -> Result<()> {
    for (kinds, expected) in [
        (&["hd"][..], "C"),
        (&["cdrom", "hd"], "DC"),
        (&["network", "cdrom"], "ND"),
        (&["hd", "network", "fd"], "CNA"),
        (&["fd", "cdrom", "network", "hd"], "ADNC"),
    ] {
        let os: String = kinds
            .iter()
            .map(|kind| format!("<boot dev='{kind}'/>"))
            .collect();
        let said = letters(&os, [""; 4])?;
        ensure!(said == expected, "{kinds:?}: {said}");
    }
    Ok(())
}

#[test]
fn the_order_by_device_is_followed() -> Result<()> {
    for (orders, expected) in [
        (["", "2", "1", ""], "DC"),
        (["3", "4", "2", "1"], "NDAC"),
        (["5", "", "7", "9"], "ADN"),
    ] {
        let said = letters("", orders)?;
        ensure!(said == expected, "{orders:?}: {said}");
    }
    Ok(())
}
