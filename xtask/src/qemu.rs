//! How this tool starts QEMU: the machines that Firstlight supports, and the arguments that every guest has in common.

use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How long QEMU's monitor may take to answer.
const MONITOR: Duration = Duration::from_secs(20);

/// A machine type of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Machine {
    /// i440FX and PIIX3, with IDE disks.
    Pc,
    /// Q35 and ICH9, with AHCI disks.
    Q35,
}

impl Machine {
    /// QEMU's name of the machine, and this tool's.
    pub fn name(self) -> &'static str {
        match self {
            Machine::Pc => "pc",
            Machine::Q35 => "q35",
        }
    }
}

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Accelerator {
    /// QEMU's translator: works everywhere.
    Tcg,
    /// Linux's KVM, where /dev/kvm is there and may be used.
    Kvm,
}

/// A QEMU without defaults but the machine's own devices, no firmware named and no disk.
pub fn command(machine: Machine, accelerator: Accelerator, memory: &str, cpus: u32) -> Command {
    let accelerator = match accelerator {
        Accelerator::Tcg => "tcg",
        Accelerator::Kvm => "kvm",
    };
    let mut command = Command::new("qemu-system-x86_64");
    command.args([
        "-machine",
        &format!("{},accel={accelerator}", machine.name()),
    ]);
    command.args([
        "-m",
        memory,
        "-smp",
        &cpus.to_string(),
        "-nodefaults",
        "-vga",
        "std",
    ]);
    command
}

/// The arguments that give a machine the raw or qcow2 image `file` as the first disk of its own controller: IDE on `pc`, AHCI on `q35`.
/// With `snapshot`, what the guest writes is thrown away when QEMU ends.
pub fn disk(file: &Path, format: &str, snapshot: bool) -> [String; 4] {
    let snapshot = if snapshot { "on" } else { "off" };
    // A comma in a value is doubled for QEMU.
    let file = file.display().to_string().replace(',', ",,");
    let drive = format!("if=none,id=disk,format={format},snapshot={snapshot},file={file}");
    [
        "-drive".to_owned(),
        drive,
        "-device".to_owned(),
        "ide-hd,bus=ide.0,drive=disk".to_owned(),
    ]
}

/// A started QEMU, which does not outlive this value. What it writes to its standard output arrives in pieces, each with its time.
pub struct Running {
    child: Child,
    output: Receiver<(Instant, Vec<u8>)>,
}

/// What a wait for a running QEMU's output ended with.
pub enum Event {
    /// The next piece of output, and when it came.
    Output(Instant, Vec<u8>),
    /// QEMU ended by itself.
    Ended(ExitStatus),
    /// The deadline passed.
    Late,
}

impl Running {
    /// Starts `command` with no standard input.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start QEMU")?;
        let mut output = child.stdout.take().context("QEMU has no standard output")?;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                if sender
                    .send((Instant::now(), buffer[..length].to_vec()))
                    .is_err()
                {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            output: receiver,
        })
    }

    /// Waits for what happens next, until `deadline` at most.
    pub fn wait(&mut self, deadline: Instant) -> Result<Event> {
        match self
            .output
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            Ok((time, bytes)) => Ok(Event::Output(time, bytes)),
            Err(RecvTimeoutError::Timeout) => Ok(Event::Late),
            Err(RecvTimeoutError::Disconnected) => Ok(Event::Ended(self.child.wait()?)),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Neither can fail in a way that matters: QEMU has either ended already or is ended by this.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The human monitor of a QEMU with `-monitor unix:PATH,server=on,wait=off`.
#[derive(Debug)]
pub struct Monitor(UnixStream);

impl Monitor {
    /// Connects to the monitor of a QEMU that may have just been started, and waits for its prompt.
    ///
    /// # Errors
    /// There is none within 20 s.
    pub fn connect(socket: &Path) -> Result<Self> {
        let deadline = Instant::now() + MONITOR;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => {
                    return Err(error).context("no connection to QEMU's monitor");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        stream.set_read_timeout(Some(MONITOR))?;
        let mut monitor = Self(stream);
        monitor.wait_for_prompt()?;
        Ok(monitor)
    }

    /// Gives a command, and does not wait for what comes of it.
    ///
    /// # Errors
    /// QEMU is gone.
    pub fn send(&mut self, command: &str) -> Result<()> {
        Ok(writeln!(self.0, "{command}")?)
    }

    /// Gives a command and returns what QEMU says, the echo of the command with it.
    ///
    /// # Errors
    /// QEMU does not answer within 20 s.
    pub fn command(&mut self, command: &str) -> Result<String> {
        self.send(command)?;
        self.wait_for_prompt()
    }

    fn wait_for_prompt(&mut self) -> Result<String> {
        let mut said = Vec::new();
        while !said.ends_with(b"(qemu) ") {
            let mut buffer = [0; 256];
            let length = self
                .0
                .read(&mut buffer)
                .context("QEMU's monitor does not answer")?;
            ensure!(length > 0, "QEMU's monitor closed");
            said.extend_from_slice(&buffer[..length]);
        }
        Ok(String::from_utf8_lossy(&said).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_file_name_does_not_end_it() {
        let arguments = disk(Path::new("/tmp/a,b.img"), "raw", true);
        assert!(arguments[1].ends_with("snapshot=on,file=/tmp/a,,b.img"));
    }
}
