//! Kernels that QEMU gives with `-kernel`: they start without a disk, with exactly the command line and initrd that were given.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use firstlight_tests::guest::{Config, Firmware, Guest, Log, Machine};
use tempfile::TempDir;

/// Where the demo image's only partition starts, in bytes.
const PARTITION: u64 = 1 << 20;
/// What Debian's initramfs shows when nothing names a root file system.
const SHELL: &str = "(initramfs) ";
/// The command line of a libvirt domain that starts an installer.
const COMMAND_LINE: &str = "console=ttyS0 ks=http://example.com/f8-i386/os/";

/// Debian's kernel and initrd, out of the demo image.
struct Debian {
    directory: TempDir,
}

impl Debian {
    fn extract() -> Result<Self> {
        let image = std::env::var_os("FIRSTLIGHT_DEBIAN")
            .map(PathBuf::from)
            .context("FIRSTLIGHT_DEBIAN is not set: use `cargo xtask test`")?;
        let directory = tempfile::tempdir()?;
        for (name, file) in [("kernel", "/vmlinuz"), ("initrd", "/initrd.img")] {
            let link = debugfs(&image, &format!("stat {file}"))?;
            let target = link
                .split_once("Fast link dest: \"")
                .and_then(|(_, rest)| rest.split('"').next())
                .map_or_else(|| file.to_owned(), |target| format!("/{target}"));
            let out = directory.path().join(name);
            debugfs(&image, &format!("dump {target} {}", out.display()))?;
            let size = fs::metadata(&out).map_or(0, |file| file.len());
            ensure!(
                size > 1 << 20,
                "{target} of the demo image has {size} bytes"
            );
        }
        Ok(Self { directory })
    }

    fn kernel(&self) -> PathBuf {
        self.directory.path().join("kernel")
    }

    fn initrd(&self) -> PathBuf {
        self.directory.path().join("initrd")
    }
}

fn debugfs(image: &Path, request: &str) -> Result<String> {
    let output = Command::new("debugfs")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .args(["-R", request])
        .arg(format!("{}?offset={PARTITION}", image.display()))
        .output()
        .context("cannot start debugfs (package e2fsprogs)")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn config(machine: Machine, kernel: &Path, command_line: &str) -> Config {
    Config::new(machine, Firmware::Firstlight)
        .deadline_seconds(240)
        .arg("-no-reboot")
        .args(["-kernel".as_ref(), kernel.as_os_str()])
        .args(["-append", command_line])
}

/// Starts Debian's kernel, waits for its initrd's shell, and checks what the kernel was told.
fn reaches_initrd(config: Config, initrd: &Path, command_line: &str, cpus: u32) -> Result<Guest> {
    let mut guest = config
        .args(["-initrd".as_ref(), initrd.as_os_str()])
        .cpus(cpus)
        .start()?;
    let console = guest.wait_for(Log::Serial, SHELL)?;
    for trouble in [
        "Kernel panic",
        "Firmware Bug",
        "BIOS bug",
        "ACPI Error",
        "ACPI BIOS Error",
    ] {
        ensure!(!console.contains(trouble), "{trouble}:\n{}", guest.tails());
    }
    // QEMU logs a character twice when the socket that we type on closes at that moment: hence the sleep.
    // Markers around the answer, put together by the shell so that the echo of what is typed is none.
    guest.type_serial("sleep 2; echo be''gin; cat /proc/cmdline; echo e''nd\n")?;
    let console = guest.wait_for(Log::Serial, "\r\nend\r\n")?;
    let answer = console.split_once("\r\nbegin\r\n").context("no answer")?.1;
    ensure!(
        answer.split("\r\n").next() == Some(command_line),
        "command line: {answer}"
    );
    let up = format!("smp: Brought up 1 node, {cpus} CPU");
    ensure!(
        console.contains(&up),
        "not all of {cpus} CPUs came up\n{}",
        guest.tails()
    );
    Ok(guest)
}

#[test]
fn debian_kernel_on_pc_with_1_cpu_and_512_mib() -> Result<()> {
    let debian = Debian::extract()?;
    let config = config(Machine::Pc, &debian.kernel(), COMMAND_LINE).memory_mib(512);
    reaches_initrd(config, &debian.initrd(), COMMAND_LINE, 1).map(drop)
}

#[test]
fn debian_kernel_on_q35_with_8_cpus_and_6_gib() -> Result<()> {
    let debian = Debian::extract()?;
    let config = config(Machine::Q35, &debian.kernel(), COMMAND_LINE).memory_mib(6144);
    reaches_initrd(config, &debian.initrd(), COMMAND_LINE, 8).map(drop)
}

#[test]
fn long_command_line_with_quotes_and_utf_8() -> Result<()> {
    let debian = Debian::extract()?;
    let mut line = format!("{COMMAND_LINE} text=\"a b\" name=Grüße");
    while line.len() < 1990 {
        line.push_str(" x=0123456");
    }
    line = format!("{line:x<2000}");
    let config = config(Machine::Pc, &debian.kernel(), &line).memory_mib(384);
    reaches_initrd(config, &debian.initrd(), &line, 2).map(drop)
}

#[test]
fn debian_kernel_with_128_mib() -> Result<()> {
    let debian = Debian::extract()?;
    let config = config(Machine::Q35, &debian.kernel(), COMMAND_LINE).memory_mib(128);
    reaches_initrd(config, &debian.initrd(), COMMAND_LINE, 1).map(drop)
}

#[test]
fn debian_kernel_from_a_configuration_device_without_dma() -> Result<()> {
    let debian = Debian::extract()?;
    let config = config(Machine::Pc, &debian.kernel(), COMMAND_LINE)
        .memory_mib(384)
        .args(["-global", "fw_cfg_io.dma_enabled=off"]);
    reaches_initrd(config, &debian.initrd(), COMMAND_LINE, 2).map(drop)
}

#[test]
fn initrd_of_300_mib() -> Result<()> {
    let debian = Debian::extract()?;
    // Zeros after an archive are padding.
    fs::File::options()
        .write(true)
        .open(debian.initrd())?
        .set_len(300 << 20)?;
    let config = config(Machine::Q35, &debian.kernel(), COMMAND_LINE).memory_mib(1024);
    reaches_initrd(config, &debian.initrd(), COMMAND_LINE, 1).map(drop)
}

#[test]
fn kernel_larger_than_memory_is_said_and_the_disks_are_tried() -> Result<()> {
    let debian = Debian::extract()?;
    let kernel = fs::read(debian.kernel())?;
    let setup_end = 512 * (1 + usize::from(kernel[0x1f1]));
    let mut damaged = kernel[..setup_end + 4096].to_vec();
    // Says that it needs 3 GiB to unpack itself.
    damaged[0x260..0x264].copy_from_slice(&0xc000_0000u32.to_le_bytes());
    let file = debian.directory.path().join("damaged");
    fs::write(&file, damaged)?;
    let mut guest = config(Machine::Pc, &file, COMMAND_LINE).start()?;
    guest.wait_for(
        Log::Debug,
        "the given kernel cannot be started: no 3145728 KiB of memory",
    )?;
    Ok(())
}

#[test]
fn ipxe_by_the_real_mode_entry() -> Result<()> {
    let kernel = Path::new("/usr/lib/ipxe/ipxe.lkrn");
    let mut guest = Config::new(Machine::Pc, Firmware::Firstlight)
        .deadline_seconds(120)
        .args(["-kernel".as_ref(), kernel.as_os_str()])
        .start()?;
    guest.wait_for_screen("iPXE").map(drop)
}

#[test]
fn memtest_by_the_64_bit_entry() -> Result<()> {
    let kernel = Path::new("/boot/memtest86+x64.bin");
    let mut guest = config(Machine::Pc, kernel, "console=ttyS0,115200").start()?;
    guest.wait_for(Log::Serial, "Memtest86+").map(drop)
}
