//! One guest under QEMU: started with a deadline, killed when dropped, its logs kept for the failure message.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
pub use firstlight_vm::{
    Accelerator, Bus, Disk as Drive, Firmware, Format, Machine, Medium, Nic, NicBackend, Rom,
};
use firstlight_vm::{Chardev, Monitor, Outcome, Running, qemu, wait};
use tempfile::TempDir;

/// How much of each log a failure shows, in bytes.
const TAIL: usize = 3000;

/// The workspace's root directory.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests package lies in the workspace")
}

/// The ROM under test.
pub fn rom_path() -> PathBuf {
    std::env::var_os("FIRSTLIGHT_ROM").map_or_else(
        || workspace().join("target/firmware/firstlight.rom"),
        PathBuf::from,
    )
}

/// What runs the guests' instructions: KVM where `FIRSTLIGHT_ACCELERATOR` is `kvm`, as in the bed of `cargo xtask test --kvm`, and
/// QEMU's translator otherwise.
pub fn accelerator() -> Accelerator {
    match std::env::var_os("FIRSTLIGHT_ACCELERATOR") {
        Some(name) if name == "kvm" => Accelerator::Kvm,
        _ => Accelerator::Tcg,
    }
}

/// What to start; see [`Config::start`].
#[derive(Clone, Debug)]
pub struct Config {
    guest: firstlight_vm::Guest,
    firmware: Firmware,
    deadline: Duration,
    sata: bool,
}

impl Config {
    /// A guest with 256 MiB, one CPU, no network card, and 60 s to do its work.
    pub fn new(machine: Machine, firmware: Firmware) -> Self {
        let config = Self {
            guest: firstlight_vm::Guest::new(machine),
            firmware,
            deadline: Duration::ZERO,
            sata: false,
        };
        config.deadline_seconds(60)
    }

    /// Starts with another firmware.
    pub fn firmware(mut self, firmware: Firmware) -> Self {
        self.firmware = firmware;
        self
    }

    /// Changes anything else of the guest.
    pub fn with(mut self, change: impl FnOnce(&mut firstlight_vm::Guest)) -> Self {
        change(&mut self.guest);
        self
    }

    /// RAM in MiB.
    pub fn memory_mib(mut self, mib: u64) -> Self {
        self.guest.memory_mib = mib;
        self
    }

    /// Number of virtual CPUs.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.guest.cpus.count = cpus;
        self
    }

    /// How long the guest may run before a wait fails, scaled by `FIRSTLIGHT_DEADLINE_SCALE` (a whole number) so that
    /// a slow or busy machine can be given more.
    pub fn deadline_seconds(mut self, seconds: u64) -> Self {
        self.deadline = Duration::from_secs(seconds) * wait::scale();
        self
    }

    /// Has another video card, by the name of QEMU's device, or `none`.
    pub fn video(mut self, device: &str) -> Self {
        self.guest.video = (device != "none").then(|| device.into());
        self
    }

    /// Adds one QEMU argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.guest.arguments.push(argument.into());
        self
    }

    /// Adds QEMU arguments.
    pub fn args<I: IntoIterator<Item = S>, S: Into<OsString>>(mut self, arguments: I) -> Self {
        self.guest.arguments(arguments);
        self
    }

    /// Gives a setting of Firstlight.
    pub fn setting(self, name: &str, value: &str) -> Self {
        self.with(|guest| guest.setting(name, value))
    }

    /// Adds a drive of any kind.
    pub fn attach(self, drive: Drive) -> Self {
        self.with(|guest| guest.disks.push(drive))
    }

    /// Adds a network card.
    pub fn nic(self, nic: Nic) -> Self {
        self.with(|guest| guest.nics.push(nic))
    }

    /// On `q35`, puts what [`Config::disk`] adds on the machine's own AHCI controller. Comes before the disks.
    pub fn sata(mut self) -> Self {
        self.sata = true;
        self
    }

    /// Adds a raw image as the next disk; see [`Config::drive`].
    pub fn disk(self, image: &Path) -> Self {
        let drive = Drive::new(self.disk_bus(), image);
        self.attach(drive)
    }

    /// Adds a raw drive, described as QEMU's `-drive` wants it (`file=PATH,...`), as the next disk: an IDE disk, on `pc` of
    /// the machine's own controller and on `q35` of a PIIX3 one, unless [`Config::sata`] was asked for.
    pub fn drive(self, description: &str) -> Self {
        let drive = Drive {
            source: None,
            ..Drive::new(self.disk_bus(), Path::new(""))
        };
        self.attach(drive.drive_option(description).drive_option("format=raw"))
    }

    fn disk_bus(&self) -> Bus {
        match self.guest.machine {
            Machine::Q35 if self.sata => Bus::Sata,
            Machine::Q35 | Machine::Pc => Bus::Ide,
        }
    }

    /// Starts QEMU.
    ///
    /// # Errors
    /// QEMU is not installed, or the ROM under test was not built.
    pub fn start(mut self) -> Result<Guest> {
        let files = TempDir::with_prefix("firstlight-test-")?;
        let file = |name: &str| files.path().join(name);
        let guest = &mut self.guest;
        guest.accelerator = accelerator();
        let serial = Chardev::Socket(file("serial.socket"), file("serial"));
        guest.serial.insert(0, serial);
        let debug = Chardev::File(file("debug"));
        guest.debug_ports.push((0xE9, debug));
        guest.monitor = Some(file("qmp.socket"));
        guest.arguments(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
        if self.firmware == Firmware::Firstlight {
            let rom = rom_path();
            if !rom.exists() {
                bail!("no {}: run `cargo xtask build` first", rom.display());
            }
            guest.bios = Some(rom);
        }
        let mut command = qemu::command(guest)?;
        command.stderr(std::fs::File::create(file("stderr"))?);
        let running = Running::start(&mut command).context("run `cargo xtask setup`")?;
        Ok(Guest {
            running,
            name: format!(
                "{} {} {} MiB {} CPUs",
                self.firmware, guest.machine, guest.memory_mib, guest.cpus.count
            ),
            ends: Instant::now() + self.deadline,
            deadline: self.deadline,
            files,
        })
    }
}

/// One of a guest's logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// What the guest wrote to COM1.
    Serial,
    /// What the guest wrote to port 0xE9.
    Debug,
}

impl Log {
    fn file_name(self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::Debug => "debug",
        }
    }
}

/// A running guest. Dropping it ends QEMU and removes its files.
#[derive(Debug)]
pub struct Guest {
    running: Running,
    name: String,
    ends: Instant,
    deadline: Duration,
    files: TempDir,
}

impl Guest {
    /// Everything in a log so far; bytes that are not UTF-8 are replaced.
    pub fn log(&self, log: Log) -> String {
        let bytes = std::fs::read(self.files.path().join(log.file_name())).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until `text` stands in a log, and returns the log.
    ///
    /// # Errors
    /// The deadline passed or QEMU ended first; the message has the ends of all logs.
    pub fn wait_for(&mut self, log: Log, text: &str) -> Result<String> {
        self.wait_until(&format!("{text:?} in the {log:?} log"), |guest| {
            let contents = guest.log(log);
            contents.contains(text).then_some(contents)
        })
    }

    /// Waits until a text stands on the VGA text screen, and returns the screen.
    ///
    /// # Errors
    /// As [`Guest::wait_for`].
    pub fn wait_for_screen(&mut self, text: &str) -> Result<String> {
        self.wait_until(&format!("{text:?} on the screen"), |guest| {
            std::thread::sleep(Duration::from_millis(200));
            let screen = guest.screen().ok()?;
            screen.contains(text).then_some(screen)
        })
    }

    /// Waits until `text` stands `count` times in a log.
    ///
    /// # Errors
    /// As [`Guest::wait_for`].
    pub fn wait_for_count(&mut self, log: Log, text: &str, count: usize) -> Result<()> {
        self.wait_until(&format!("{count} times {text:?}"), |guest| {
            (guest.log(log).matches(text).count() >= count).then_some(())
        })
    }

    /// Waits until QEMU's `info status` has `status` in it.
    ///
    /// # Errors
    /// As [`Guest::wait_for`].
    pub fn wait_for_status(&mut self, status: &str) -> Result<()> {
        self.wait_until(&format!("status {status:?}"), |guest| {
            std::thread::sleep(Duration::from_millis(100));
            let answer = guest.monitor("info status").ok()?;
            answer.contains(status).then_some(())
        })
    }

    /// Waits until the guest has switched itself off.
    ///
    /// # Errors
    /// As [`Guest::wait_for`].
    pub fn wait_for_end(&mut self) -> Result<()> {
        match wait::until(self.ends, wait::POLL, || self.running.ended())? {
            Some(_) => Ok(()),
            None => bail!("{}: it does not end\n{}", self.name, self.tails()),
        }
    }

    /// Waits until `check` finds something; `what` says in the failure message what was waited for.
    ///
    /// # Errors
    /// As [`Guest::wait_for`].
    pub fn wait_until<T>(&mut self, what: &str, check: impl Fn(&Self) -> Option<T>) -> Result<T> {
        let outcome = wait::until(self.ends, wait::POLL, || {
            // What it wrote last still counts.
            let ended = self.running.ended()?;
            let found = check(self).map(Outcome::Found);
            Ok(found.or(ended.map(Outcome::Ended)))
        })?;
        match outcome.unwrap_or(Outcome::Late) {
            Outcome::Found(found) => Ok(found),
            Outcome::Ended(status) => bail!(
                "{}: QEMU ended ({status}) before {what}\n{}",
                self.name,
                self.tails()
            ),
            Outcome::Late => bail!(
                "{}: no {what} within {} s\n{}",
                self.name,
                self.deadline.as_secs(),
                self.tails()
            ),
        }
    }

    /// The ends of all logs, for a failure message.
    pub fn tails(&self) -> String {
        ["stderr", "debug", "serial"]
            .iter()
            .map(|name| {
                let bytes = std::fs::read(self.files.path().join(name)).unwrap_or_default();
                let tail = &bytes[bytes.len().saturating_sub(TAIL)..];
                format!("--- {name} ---\n{}\n", String::from_utf8_lossy(tail))
            })
            .collect()
    }

    /// Types bytes on COM1.
    ///
    /// # Errors
    /// QEMU no longer runs.
    pub fn type_serial(&self, text: &str) -> Result<()> {
        let mut serial = UnixStream::connect(self.files.path().join("serial.socket"))?;
        serial.write_all(text.as_bytes())?;
        // QEMU reads what is left in the socket only while it is open.
        std::thread::sleep(Duration::from_millis(300));
        Ok(())
    }

    /// Runs a command of QEMU's human monitor and returns what it prints.
    ///
    /// # Errors
    /// QEMU no longer runs or its answer is not QMP.
    pub fn monitor(&self, command: &str) -> Result<String> {
        Monitor::connect(&self.files.path().join("qmp.socket"))?.command(command)
    }

    /// Presses and releases a key, in QEMU's key names (`a`, `ret`, `f12`, `shift-a`).
    ///
    /// # Errors
    /// As [`Guest::monitor`].
    pub fn send_key(&self, key: &str) -> Result<()> {
        self.monitor(&format!("sendkey {key}")).map(drop)
    }

    /// What the display shows, as a PPM file.
    ///
    /// # Errors
    /// As [`Guest::monitor`].
    pub fn picture(&self) -> Result<Vec<u8>> {
        let file = self.files.path().join("picture");
        self.monitor(&format!("screendump \"{}\"", file.display()))?;
        Ok(std::fs::read(&file)?)
    }

    /// The 80x25 text screen, a line each row, without trailing blanks.
    ///
    /// # Errors
    /// As [`Guest::monitor`].
    pub fn screen(&self) -> Result<String> {
        let file = self.files.path().join("screen");
        self.monitor(&format!("pmemsave 0xb8000 4000 \"{}\"", file.display()))?;
        let cells = std::fs::read(&file)?;
        Ok(cells
            .chunks(160)
            .map(|row| {
                let text: String = row.iter().step_by(2).map(|&byte| byte as char).collect();
                text.replace('\0', " ").trim_end().to_owned() + "\n"
            })
            .collect())
    }
}
