//! A test bed at work: a QEMU whose Linux does what the host tells it through a serial port, until it is dropped.
//!
//! The beds of `cargo xtask xen` and `cargo xtask kvm` differ in what runs there; the machine, the way of commands and files, and all
//! deadlines are these.

mod emulator;
pub mod image;

use anyhow::{Context, Result, bail, ensure};
use firstlight_vm::{Bus, Chardev, Disk, Guest, qemu, wait};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a bed may take to come up, on a busy machine without hardware virtualisation.
const BOOT: Duration = Duration::from_secs(300);
/// How long one command in the bed may take by default.
const COMMAND: Duration = Duration::from_secs(180);
/// How often something in the bed is looked at.
pub const POLL: Duration = Duration::from_millis(50);
/// How much of a log a failure shows, in bytes.
const TAIL: usize = 4000;
/// The log of a bed's first serial port, in its directory.
const CONSOLE: &str = "console.log";
/// QEMU's messages, in the bed's directory.
const QEMU: &str = "qemu.log";

/// A shell script that opens the port of [`Setup::console`] as file descriptor 4.
pub const OPEN_CONSOLE: &str = "for dir in /sys/class/virtio-ports/*; do [ \"$(cat $dir/name)\" = console ] && port=/dev/${dir##*/}; done\n\
                                exec 4<>$port\n";

/// What a bed's QEMU has besides its processors, memory and kernel.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Disks, raw images: /dev/vda, which is the root, and on. What is written to them is lost when the bed ends.
    pub disks: Vec<PathBuf>,
    /// Directories of the host, each with the name that `share` mounts it by.
    pub shares: Vec<(String, PathBuf)>,
    /// Connects this process's standard input and output to the virtio port `console`.
    pub console: bool,
    /// When the bed ends by itself, whatever it does.
    pub lifetime: Duration,
}

/// A running bed. Dropping it ends it and removes its files.
#[derive(Debug)]
pub struct Bed {
    child: Child,
    agent: Option<BufReader<UnixStream>>,
    files: TempDir,
}

/// What a command in the bed came to.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit status.
    pub status: i32,
    /// What it printed, on either stream.
    pub text: String,
}

impl Bed {
    /// Starts QEMU with `machine` and the bed's own devices, and waits until the bed is up.
    ///
    /// # Errors
    /// QEMU is not installed, or the bed does not come up: the end of its log is in the error.
    pub fn start(setup: &Setup, machine: impl FnOnce(&Path) -> Result<Guest>) -> Result<Self> {
        let files = TempDir::with_prefix("firstlight-bed-")?;
        fs::create_dir(files.path().join("job"))?;
        // On a terminal QEMU has its input, and Ctrl-A X ends it.
        let mut timeout = if setup.console {
            let mut timeout = Command::new("timeout");
            timeout.stdin(Stdio::inherit());
            timeout
        } else {
            tied("timeout")
        };
        let seconds = setup.lifetime.as_secs().to_string();
        timeout.args(["--foreground", "-k", "5", &seconds]);
        timeout.args(emulator::program()?);
        let mut machine = machine(files.path())?;
        setup.devices(files.path(), &mut machine);
        let child = timeout
            .args(qemu::arguments(&machine)?)
            .stdout(if setup.console {
                Stdio::inherit()
            } else {
                Stdio::null()
            })
            .stderr(File::create(files.path().join(QEMU))?)
            .spawn()
            .context("cannot start QEMU")?;
        let mut bed = Self {
            child,
            agent: None,
            files,
        };
        bed.connect()?;
        Ok(bed)
    }

    /// Waits for the agent in the bed to say that it is up.
    fn connect(&mut self) -> Result<()> {
        let socket = self.files.path().join("agent.socket");
        let deadline = Instant::now() + BOOT * wait::scale();
        let stream = wait::until(deadline, POLL, || {
            let ended = self.child.try_wait()?.is_some();
            ensure!(!ended, "QEMU does not start\n{}", self.tails());
            Ok(UnixStream::connect(&socket).ok())
        })?;
        let stream = stream.with_context(|| format!("QEMU does not start\n{}", self.tails()))?;
        self.agent = Some(BufReader::new(stream));
        let line = self
            .line(deadline)
            .with_context(|| format!("the bed does not come up\n{}", self.tails()))?;
        ensure!(
            line.starts_with("firstlight-bed up"),
            "the bed said {line:?}\n{}",
            self.tails()
        );
        Ok(())
    }

    /// A line that the agent says before `deadline`.
    fn line(&mut self, deadline: Instant) -> Result<String> {
        let agent = self.agent.as_mut().context("the bed is gone")?;
        let mut line = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "the time is over");
            agent.get_ref().set_read_timeout(Some(left))?;
            match agent.read_until(b'\n', &mut line) {
                Ok(_) if line.ends_with(b"\n") => {
                    return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
                }
                Ok(_) => bail!("the bed ended"),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A file of this bed's own, outside of what the bed sees.
    pub fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Whether the bed is gone.
    ///
    /// # Errors
    /// Its process cannot be asked for.
    pub fn is_gone(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// The directory of the host that the bed has as /job.
    pub fn job(&self) -> PathBuf {
        self.files.path().join("job")
    }

    /// Runs a shell script in the bed.
    ///
    /// # Errors
    /// The bed does not answer in three minutes. A script that fails is no error: see [`Output::status`].
    pub fn run(&mut self, script: &str) -> Result<Output> {
        let mut text = String::new();
        let status = self
            .run_with(script, COMMAND * wait::scale(), |line| {
                text.extend([line, "\n"])
            })
            .with_context(|| format!("{text}\n{}", self.tails()))?;
        Ok(Output { status, text })
    }

    /// Runs a shell script in the bed, hands each line that it prints to `take` as it comes, and returns its exit status.
    ///
    /// # Errors
    /// It does not end within `limit`.
    pub fn run_with(
        &mut self,
        script: &str,
        limit: Duration,
        mut take: impl FnMut(&str),
    ) -> Result<i32> {
        fs::write(self.job().join("command"), script)?;
        let deadline = Instant::now() + limit;
        self.agent
            .as_mut()
            .context("the bed is gone")?
            .get_mut()
            .write_all(b"run\n")?;
        loop {
            let line = self
                .line(deadline)
                .with_context(|| format!("in the bed: {script}"))?;
            match line.split_once("firstlight-bed status ") {
                Some((before, status)) => {
                    if !before.is_empty() {
                        take(before);
                    }
                    return status
                        .trim()
                        .parse()
                        .with_context(|| format!("the bed said {line:?}"));
                }
                None => take(&line),
            }
        }
    }

    /// Runs a shell script in the bed that has to succeed, and returns what it printed.
    ///
    /// # Errors
    /// As [`Bed::run`], or the script's status is not 0.
    pub fn check(&mut self, script: &str) -> Result<String> {
        let output = self.run(script)?;
        ensure!(
            output.status == 0,
            "in the bed: {script}\nstatus {}\n{}{}",
            output.status,
            output.text,
            self.tails()
        );
        Ok(output.text)
    }

    /// The ends of the bed's log and of QEMU's, for a failure message.
    pub fn tails(&self) -> String {
        let read = |name| {
            String::from_utf8_lossy(&fs::read(self.file(name)).unwrap_or_default()).into_owned()
        };
        let mut text = String::new();
        for name in [QEMU, CONSOLE] {
            text.push_str(&format!("--- {name} ---\n{}\n", tail(&read(name))));
        }
        text
    }
}

impl Setup {
    /// Gives a machine the devices of every bed.
    fn devices(&self, files: &Path, machine: &mut Guest) {
        let path = |path: &Path| path.display().to_string().replace(',', ",,");
        machine.video = None;
        machine.serial.push(Chardev::File(files.join(CONSOLE)));
        for disk in &self.disks {
            machine.disks.push(Disk::new(Bus::Virtio, disk).snapshot());
        }
        let fixed = "-no-reboot -global virtio-serial-pci.ioeventfd=off -global virtio-blk-pci.ioeventfd=off \
                     -global virtio-9p-pci.ioeventfd=off -device virtio-serial,max_ports=3";
        machine.arguments(fixed.split_whitespace());
        let agent = path(&files.join("agent.socket"));
        let agent = format!("socket,id=agent,server=on,wait=off,path={agent}");
        machine.arguments(["-chardev", &agent]);
        machine.arguments(["-device", "virtserialport,chardev=agent,name=agent"]);
        let job = ("job".to_owned(), files.join("job"));
        for (name, directory) in [&job].into_iter().chain(&self.shares) {
            let share = path(directory);
            let share = format!("local,path={share},mount_tag={name},security_model=none");
            machine.arguments(["-virtfs", &share]);
        }
        if self.console {
            machine.arguments(["-chardev", "stdio,id=console,mux=on,signal=off"]);
            machine.arguments(["-device", "virtserialport,chardev=console,name=console"]);
        }
    }
}

/// The end of a log, as much as a failure message shows.
pub fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(TAIL);
    let start = (start..=text.len())
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(text.len());
    &text[start..]
}

/// A command that runs `program`, and is terminated when this process is gone, however that ended, or drops the child's input.
fn tied(program: &str) -> Command {
    let mut command = Command::new("sh");
    let script = "exec 3<&0; { read -r _ <&3; kill $$; } & exec \"$@\" </dev/null 3<&-";
    command.args(["-c", script, "sh", program]);
    command.stdin(Stdio::piped());
    command
}

impl Drop for Bed {
    fn drop(&mut self) {
        // Without the agent's connection the bed has nothing to wait for, but it need not be asked: nothing it has is kept.
        // `timeout` passes the signal on to QEMU.
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tied_program_ends_with_its_input() {
        let start = Instant::now();
        let mut child = tied("sleep").arg("60").spawn().expect("sh");
        drop(child.stdin.take());
        let status = child.wait().expect("an end");
        assert!(!status.success());
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_tail_starts_at_a_character() {
        let text = "ä".repeat(TAIL);
        assert_eq!(tail(&text), "ä".repeat(TAIL / 2));
        assert_eq!(tail("short"), "short");
    }
}
