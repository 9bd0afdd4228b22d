//! One guest under QEMU: started with a deadline, killed when dropped, its logs kept for the failure message.

use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// How often a log is read while waiting for a text in it.
const POLL: Duration = Duration::from_millis(20);

/// How much of each log a failure shows, in bytes.
const TAIL: usize = 3000;

/// A QEMU machine type Firstlight supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// i440FX with PIIX3: IDE disks.
    Pc,
    /// Q35 with ICH9: AHCI disks.
    Q35,
}

impl Machine {
    /// Both machines, for tests that run on each.
    pub const ALL: [Self; 2] = [Self::Pc, Self::Q35];
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pc => "pc",
            Self::Q35 => "q35",
        })
    }
}

/// The firmware a guest starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// QEMU's own default.
    SeaBios,
    /// The ROM at `FIRSTLIGHT_ROM`, or `target/firmware/firstlight.rom` of this workspace.
    Firstlight,
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SeaBios => "seabios",
            Self::Firstlight => "firstlight",
        })
    }
}

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

/// What to start; see [`Config::start`].
#[derive(Clone, Debug)]
pub struct Config {
    machine: Machine,
    firmware: Firmware,
    memory_mib: u64,
    cpus: u32,
    deadline: Duration,
    disks: u32,
    sata: bool,
    video: String,
    arguments: Vec<OsString>,
}

impl Config {
    /// A guest with 256 MiB, one CPU, no network card, and 60 s to do its work.
    pub fn new(machine: Machine, firmware: Firmware) -> Self {
        Self {
            machine,
            firmware,
            memory_mib: 256,
            cpus: 1,
            deadline: Duration::from_secs(60),
            disks: 0,
            sata: false,
            video: "VGA".into(),
            arguments: Vec::new(),
        }
    }

    /// Starts with another firmware.
    pub fn firmware(mut self, firmware: Firmware) -> Self {
        self.firmware = firmware;
        self
    }

    /// RAM in MiB.
    pub fn memory_mib(mut self, mib: u64) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Number of virtual CPUs.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// How long the guest may run before a wait fails, scaled by `FIRSTLIGHT_DEADLINE_SCALE` (a whole number) so that
    /// a slow or busy machine can be given more.
    pub fn deadline_seconds(mut self, seconds: u64) -> Self {
        let scale = std::env::var("FIRSTLIGHT_DEADLINE_SCALE")
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(1);
        self.deadline = Duration::from_secs(seconds * scale);
        self
    }

    /// Has another video card, by the name of QEMU's device, or `none`.
    pub fn video(mut self, device: &str) -> Self {
        self.video = device.into();
        self
    }

    /// Adds one QEMU argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds QEMU arguments.
    pub fn args<I: IntoIterator<Item = S>, S: Into<OsString>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds a raw image as the next disk; see [`Config::drive`].
    pub fn disk(self, image: &Path) -> Self {
        let file = format!("file={}", image.display());
        self.drive(&file)
    }

    /// On `q35`, puts all disks on the machine's own AHCI controller. Comes before the disks.
    pub fn sata(mut self) -> Self {
        self.sata = true;
        self
    }

    /// Adds a raw drive, described as QEMU's `-drive` wants it (`file=PATH,...`), as the next disk: an IDE disk, on `pc` of
    /// the machine's own controller and on `q35` of a PIIX3 one, unless [`Config::sata`] was asked for.
    pub fn drive(mut self, description: &str) -> Self {
        let index = self.disks;
        self.disks += 1;
        let place = match self.machine {
            Machine::Q35 if self.sata => format!("bus=ide.{index}"),
            Machine::Q35 => format!("bus=piix.{},unit={}", index / 2, index % 2),
            Machine::Pc => format!("bus=ide.{},unit={}", index / 2, index % 2),
        };
        if index == 0 && self.machine == Machine::Q35 && !self.sata {
            self = self.args(["-device", "piix3-ide,id=piix"]);
        }
        let drive = format!("{description},format=raw,if=none,id=disk{index}");
        let device = format!("ide-hd,drive=disk{index},{place}");
        self.args(["-drive", &drive, "-device", &device])
    }

    /// Starts QEMU.
    ///
    /// # Errors
    /// QEMU is not installed, or the ROM under test was not built.
    pub fn start(self) -> Result<Guest> {
        let files = TempDir::with_prefix("firstlight-test-")?;
        let log = |name: &str| files.path().join(name);
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-machine", &self.machine.to_string()])
            .args(["-accel", "tcg", "-display", "none", "-nodefaults"])
            .args(["-net", "none"])
            .args(["-m", &format!("{}M", self.memory_mib)])
            .args(["-smp", &self.cpus.to_string()])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"])
            .args(["-chardev".into(), chardev("debug", &log("debug"))])
            .args(["-device", "isa-debugcon,iobase=0xe9,chardev=debug"])
            .args(["-chardev".into(), socket("serial", files.path())])
            .args(["-serial", "chardev:serial"])
            .args(["-qmp".into(), qmp(files.path())]);
        if self.firmware == Firmware::Firstlight {
            let rom = rom_path();
            if !rom.exists() {
                bail!("no {}: run `cargo xtask build` first", rom.display());
            }
            command.arg("-bios").arg(rom);
        }
        if self.video != "none" {
            command.args(["-device", &self.video]);
        }
        command.args(&self.arguments);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(log("stderr"))?)
            .spawn()
            .context("qemu-system-x86_64 does not start: run `cargo xtask setup`")?;
        Ok(Guest {
            child,
            name: format!(
                "{} {} {} MiB {} CPUs",
                self.firmware, self.machine, self.memory_mib, self.cpus
            ),
            ends: Instant::now() + self.deadline,
            deadline: self.deadline,
            files,
        })
    }
}

fn chardev(id: &str, path: &Path) -> OsString {
    format!("file,id={id},path={}", path.display()).into()
}

fn socket(id: &str, directory: &Path) -> OsString {
    let directory = directory.display();
    format!(
        "socket,id={id},path={directory}/{id}.socket,server=on,wait=off,logfile={directory}/{id}"
    )
    .into()
}

fn qmp(directory: &Path) -> OsString {
    format!("unix:{}/qmp.socket,server=on,wait=off", directory.display()).into()
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
    child: Child,
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
        while self.child.try_wait()?.is_none() {
            if Instant::now() > self.ends {
                bail!("{}: it does not end\n{}", self.name, self.tails());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn wait_until<T>(&mut self, what: &str, check: impl Fn(&Self) -> Option<T>) -> Result<T> {
        loop {
            let ended = self.child.try_wait()?;
            if let Some(found) = check(self) {
                return Ok(found);
            }
            if let Some(status) = ended {
                bail!(
                    "{}: QEMU ended ({status}) before {what}\n{}",
                    self.name,
                    self.tails()
                );
            }
            if Instant::now() > self.ends {
                bail!(
                    "{}: no {what} within {} s\n{}",
                    self.name,
                    self.deadline.as_secs(),
                    self.tails()
                );
            }
            std::thread::sleep(POLL);
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
        let stream = UnixStream::connect(self.files.path().join("qmp.socket"))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut writer = stream.try_clone()?;
        let mut lines = BufReader::new(stream).lines();
        let mut answer = move || -> Result<serde_json::Value> {
            loop {
                let line = lines.next().context("QEMU closed its monitor")??;
                let value: serde_json::Value = serde_json::from_str(&line)?;
                if value.get("event").is_none() {
                    return Ok(value);
                }
            }
        };
        answer()?;
        writer.write_all(b"{\"execute\":\"qmp_capabilities\"}\n")?;
        answer()?;
        let request = serde_json::json!({
            "execute": "human-monitor-command",
            "arguments": { "command-line": command },
        });
        writer.write_all(format!("{request}\n").as_bytes())?;
        let reply = answer()?;
        let text = reply["return"]
            .as_str()
            .with_context(|| format!("monitor command {command:?}: {reply}"))?;
        Ok(text.replace('\r', ""))
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

impl Drop for Guest {
    fn drop(&mut self) {
        // Either it already ended or it is no longer wanted; there is nothing to do about a failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
