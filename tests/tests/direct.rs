//! Kernels that QEMU gives with `-kernel`: they start without a disk, with exactly the command line and initrd that were given.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use firstlight_tests::guest::{Config, Firmware, Guest, Log, Machine, rom_path};
use firstlight_tests::linux::is_content;
use tempfile::TempDir;

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
        let image = match std::env::var_os("FIRSTLIGHT_DEBIAN") {
            Some(path) => PathBuf::from(path),
            None => xtask::image::demo_disk()?,
        };
        let directory = tempfile::tempdir()?;
        for (name, file) in [("kernel", "/vmlinuz"), ("initrd", "/initrd.img")] {
            let out = directory.path().join(name);
            xtask::image::copy_out(&image, file, &out)?;
            let size = fs::metadata(&out).map_or(0, |file| file.len());
            ensure!(size > 1 << 20, "{file} of the demo image has {size} bytes");
        }
        Ok(Self { directory })
    }

    fn kernel(&self) -> PathBuf {
        self.directory.path().join("kernel")
    }

    fn initrd(&self) -> PathBuf {
        self.directory.path().join("initrd")
    }

    /// The ELF file that is packed in the kernel, which is a PVH kernel.
    fn elf_kernel(&self) -> Result<PathBuf> {
        let kernel = fs::read(self.kernel())?;
        // payload_offset and payload_length of the setup header, the former from the protected-mode code on.
        let field = |at| {
            anyhow::Ok(
                u32::from_le_bytes(*kernel[at..].first_chunk().context("a header")?) as usize,
            )
        };
        let start = 512 * (1 + usize::from(kernel[0x1f1])) + field(0x248)?;
        let packed = kernel
            .get(start..start + field(0x24c)?)
            .context("a payload")?;
        let file = self.directory.path().join("vmlinux");
        let mut xz = Command::new("xz")
            // What follows is the unpacked size.
            .args(["-dc", "--single-stream"])
            .stdin(Stdio::piped())
            .stdout(fs::File::create(&file)?)
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start xz (package xz-utils)")?;
        xz.stdin.take().context("a pipe")?.write_all(packed)?;
        xz.wait()?;
        let elf = fs::read(&file)?.starts_with(b"\x7fELF");
        ensure!(elf, "Debian's kernel is not packed by xz");
        Ok(file)
    }
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
    is_content(&console).with_context(|| guest.tails())?;
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

/// The same with as much memory as guests have in the KVM test bed.
#[test]
#[ignore = "of `cargo xtask test --kvm`"]
fn debian_kernel_on_q35_with_8_cpus_and_1_gib() -> Result<()> {
    let debian = Debian::extract()?;
    let config = config(Machine::Q35, &debian.kernel(), COMMAND_LINE).memory_mib(1024);
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
fn debian_kernel_by_the_pvh_entry() -> Result<()> {
    let debian = Debian::extract()?;
    let config = config(Machine::Q35, &debian.elf_kernel()?, COMMAND_LINE).memory_mib(512);
    reaches_initrd(config, &debian.initrd(), COMMAND_LINE, 2).map(drop)
}

/// The PVH kernel of guest/pvh.s.
static PVH: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pvh.bin"));

fn pvh(machine: Machine, initrd: Option<&str>, command_line: &str) -> Result<String> {
    let files = tempfile::tempdir()?;
    let path = |name| files.path().join(name);
    fs::write(path("kernel"), PVH)?;
    let mut config = config(machine, &path("kernel"), command_line).memory_mib(128);
    if let Some(initrd) = initrd {
        fs::write(path("initrd"), initrd)?;
        config = config.args(["-initrd".as_ref(), path("initrd").as_os_str()]);
    }
    config.start()?.wait_for(Log::Debug, "|end\n")
}

#[test]
fn small_pvh_kernel_is_told_everything() -> Result<()> {
    for machine in Machine::ALL {
        let told = pvh(machine, Some("an initrd"), "a \"b c\" Grüße")?;
        let start = "pvh|a \"b c\" Grüße|an initrd|RSD PTR |K";
        ensure!(told.starts_with(start), "{machine}: {told}");
        let told = pvh(machine, None, "")?;
        ensure!(told.starts_with("pvh|||RSD PTR |K"), "{machine}: {told}");
    }
    Ok(())
}

#[test]
fn xen_as_a_multiboot_kernel_starts_its_module() -> Result<()> {
    let debian = Debian::extract()?;
    let xen = xtask::xen::hypervisor::file()?;
    let (kernel, initrd) = (debian.kernel(), debian.initrd());
    let modules = format!(
        "{} console=hvc0 one=\"1 2\",{}",
        kernel.display(),
        initrd.display()
    );
    let mut guest = config(
        Machine::Q35,
        &xen,
        "console=com1 com1=115200,8n1 loglvl=all",
    )
    .memory_mib(1024)
    .args(["-initrd", &modules])
    .start()?;
    let console = guest.wait_for(Log::Serial, SHELL)?;
    for text in [
        "(XEN) Command line: console=com1 com1=115200,8n1 loglvl=all",
        "Kernel command line: console=hvc0 one=\"1 2\"\r",
        "VGA is text mode 80x25",
    ] {
        ensure!(console.contains(text), "no {text:?}:\n{}", guest.tails());
    }
    Ok(())
}

/// QEMU's qboot is made for nothing but this, and installs fewer tables.
#[test]
fn the_way_to_a_kernel_is_shorter_than_qboots() -> Result<()> {
    use xtask::bench::kernel::{QBOOT, costs, table_instructions};
    for machine in Machine::ALL {
        let ours = costs(machine, &rom_path())?;
        let theirs = costs(machine, Path::new(QBOOT))?;
        ensure!(
            ours.instructions < theirs.instructions
                && ours.total_accesses() < theirs.total_accesses(),
            "{}: {ours:?}, qboot {theirs:?}",
            machine.name()
        );
        let tables = table_instructions(machine, &rom_path())?;
        ensure!(
            tables < 60_000,
            "{}: {tables} instructions for the tables",
            machine.name()
        );
    }
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
