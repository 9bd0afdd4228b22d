//! The test bed at work: one QEMU that runs Xen and its dom0, in which any number of guests is started.

use super::dom0::{self, Version};
use super::guest::Guest;
use super::hypervisor;
use super::instructions;
use anyhow::{Context, Result, bail, ensure};
use firstlight_vm::{Bus, Chardev, Disk, Machine, Monitor, qemu, wait};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long Xen and dom0 may take to come up, on a busy machine without hardware virtualisation.
const BOOT: Duration = Duration::from_secs(300);
/// How long one command in dom0 may take.
const COMMAND: Duration = Duration::from_secs(180);
/// How often a guest is created before the toolstack's deadlines count as a failure.
const ATTEMPTS: u32 = 4;
/// How often a guest's serial log is looked at.
const POLL: Duration = Duration::from_millis(50);
/// How much of a log a failure shows, in bytes.
const TAIL: usize = 4000;

/// What a test bed is started with.
#[derive(Clone, Debug)]
pub struct Config {
    version: Version,
    memory_mib: u32,
    disks: Vec<PathBuf>,
    console: bool,
    nested_paging: bool,
    lifetime: Duration,
}

impl Config {
    /// A test bed of 4 GiB, of which dom0 takes one, that ends by itself after half an hour.
    pub fn new(version: Version) -> Self {
        Self {
            version,
            memory_mib: 4096,
            disks: Vec::new(),
            console: false,
            nested_paging: false,
            lifetime: Duration::from_secs(1800),
        }
    }

    /// The machine's memory in MiB.
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Makes a raw disk image of the host a block device of dom0: the first is /dev/vdb, the second /dev/vdc. What is written to
    /// it is lost when the test bed ends.
    pub fn disk(mut self, image: &Path) -> Self {
        self.disks.push(image.to_owned());
        self
    }

    /// Connects this process's standard input and output to the serial port that [`Bed::attach`] names.
    pub fn console(mut self) -> Self {
        self.console = true;
        self
    }

    /// Lets Xen use nested paging. Mode switches are much faster with it, but QEMU gets it wrong: a Linux dies in its first page
    /// faults, whatever its firmware was.
    pub fn nested_paging(mut self) -> Self {
        self.nested_paging = true;
        self
    }

    /// When the test bed ends by itself, whatever it does.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Starts the test bed and waits until dom0 is up.
    ///
    /// # Errors
    /// The images cannot be made, QEMU is not installed, or Xen or dom0 do not come up: the end of their log is in the error.
    pub fn start(&self) -> Result<Bed> {
        let mut images = dom0::images(self.version)?;
        if !self.nested_paging && !self.version.has_shadow_paging() {
            images.xen = hypervisor::with_shadow_paging(self.version)?;
        }
        let files = TempDir::with_prefix("firstlight-xen-")?;
        fs::create_dir(files.path().join("job"))?;
        // On a terminal QEMU has its input, and Ctrl-A X ends it.
        let mut timeout = if self.console {
            let mut timeout = Command::new("timeout");
            timeout.stdin(Stdio::inherit());
            timeout
        } else {
            tied("timeout")
        };
        let seconds = self.lifetime.as_secs().to_string();
        timeout.args(["--foreground", "-k", "5", &seconds]);
        let child = timeout
            .arg(qemu::PROGRAM)
            .args(qemu::arguments(&self.machine(&images, files.path()))?)
            .stdout(if self.console {
                Stdio::inherit()
            } else {
                Stdio::null()
            })
            .stderr(File::create(files.path().join("qemu.log"))?)
            .spawn()
            .context("cannot start QEMU")?;
        let mut bed = Bed {
            child,
            agent: None,
            files,
            dmesg: String::new(),
        };
        bed.connect()?;
        Ok(bed)
    }

    /// The machine that runs Xen.
    fn machine(&self, images: &dom0::Images, files: &Path) -> firstlight_vm::Guest {
        // dom0 has the first CPU for itself, and guests the second: QEMU's SVM does not keep all of a PV domain's state where an
        // HVM guest runs on the same CPU, and then dom0's programs crash.
        // A queue for each CPU: of one for both, the lock is what they spin for two thirds of their time, while the thread of QEMU
        // whose CPU holds it does not run.
        // The FPU is switched with all else: QEMU's XRSTOR ignores CR0.TS, and a guest would lose the registers that it loads.
        let xen = "console=com1 com1=115200,8n1 dom0_mem=1024M,max:1024M dom0_max_vcpus=1 dom0_vcpus_pin bootscrub=0 noreboot \
                   credit2_runqueue=cpu spec-ctrl=no,eager-fpu=yes loglvl=warning guest_loglvl=all conring_size=256k";
        let linux = "console=hvc0 loglevel=4 mitigations=off audit=0";
        let path = |path: &Path| path.display().to_string().replace(',', ",,");
        let file = |name: &str| path(&files.join(name));
        let mut machine = firstlight_vm::Guest::new(Machine::Q35);
        machine.memory_mib = self.memory_mib.into();
        machine.cpus.count = 2;
        // QEMU reports RDTSCP to Xen as RDTSC, which then looks for that instruction for ever.
        let cpu = if self.nested_paging {
            "max,-rdtscp"
        } else {
            "max,-rdtscp,-npt"
        };
        machine.cpus.model = Some(cpu.into());
        machine.video = None;
        machine.serial.push(Chardev::File(files.join("xen.log")));
        machine.monitor = Some(files.join("monitor.socket"));
        for disk in [&images.root].into_iter().chain(&self.disks) {
            let disk = Disk::new(Bus::Virtio, disk).snapshot();
            machine.disks.push(disk);
        }
        let fixed = "-no-reboot -global virtio-serial-pci.ioeventfd=off -global virtio-blk-pci.ioeventfd=off \
                     -global virtio-9p-pci.ioeventfd=off -device virtio-serial,max_ports=3";
        machine.arguments(fixed.split_whitespace());
        let agent = file("agent.socket");
        let agent = format!("socket,id=agent,server=on,wait=off,path={agent}");
        machine.arguments(["-chardev", &agent]);
        machine.arguments(["-device", "virtserialport,chardev=agent,name=agent"]);
        let Range { start, end } = instructions::LOGGED;
        machine.arguments(["-dfilter", &format!("{start:#x}..{:#x}", end - 1)]);
        machine.arguments(["-D", &file("instructions.log")]);
        machine.arguments(["-kernel", &images.xen.display().to_string()]);
        // A Multiboot module for each part, with its command line.
        let modules = (path(&images.kernel), path(&images.initrd));
        let modules = format!("{} {linux},{}", modules.0, modules.1);
        machine.arguments(["-append", xen, "-initrd", &modules]);
        let job = file("job");
        let job = format!("local,path={job},mount_tag=job,security_model=none");
        machine.arguments(["-virtfs", &job]);
        if self.console {
            machine.arguments(["-chardev", "stdio,id=console,mux=on,signal=off"]);
            machine.arguments(["-device", "virtserialport,chardev=console,name=console"]);
        }
        machine
    }
}

/// A running test bed. Dropping it ends it and removes its files.
#[derive(Debug)]
pub struct Bed {
    child: Child,
    agent: Option<BufReader<UnixStream>>,
    files: TempDir,
    dmesg: String,
}

/// What a command in dom0 came to.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit status.
    pub status: i32,
    /// What it printed, on either stream.
    pub text: String,
}

impl Bed {
    /// Waits for the agent in dom0 to say that it is up.
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
            .with_context(|| format!("Xen or its dom0 does not come up\n{}", self.tails()))?;
        ensure!(
            line.starts_with("firstlight-bed up"),
            "dom0 said {line:?}\n{}",
            self.tails()
        );
        Ok(())
    }

    /// A line that the agent says before `deadline`.
    fn line(&mut self, deadline: Instant) -> Result<String> {
        let agent = self.agent.as_mut().context("dom0 is gone")?;
        let mut line = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "the time is over");
            agent.get_ref().set_read_timeout(Some(left))?;
            match agent.read_until(b'\n', &mut line) {
                Ok(_) if line.ends_with(b"\n") => {
                    return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
                }
                Ok(_) => bail!("dom0 ended"),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The directory of the host that dom0 has as /job.
    pub fn job(&self) -> PathBuf {
        self.files.path().join("job")
    }

    /// Runs a shell script in dom0.
    ///
    /// # Errors
    /// dom0 does not answer in three minutes. A script that fails is no error: see [`Output::status`].
    pub fn run(&mut self, script: &str) -> Result<Output> {
        fs::write(self.job().join("command"), script)?;
        let deadline = Instant::now() + COMMAND * wait::scale();
        self.agent
            .as_mut()
            .context("dom0 is gone")?
            .get_mut()
            .write_all(b"run\n")?;
        let mut text = String::new();
        loop {
            let line = self
                .line(deadline)
                .with_context(|| format!("in dom0: {script}\n{text}\n{}", self.tails()))?;
            match line.split_once("firstlight-bed status ") {
                Some((before, status)) => {
                    text.push_str(before);
                    let status = status
                        .trim()
                        .parse()
                        .with_context(|| format!("dom0 said {line:?}"))?;
                    return Ok(Output { status, text });
                }
                None => text.extend([line.as_str(), "\n"]),
            }
        }
    }

    /// Runs a shell script in dom0 that has to succeed, and returns what it printed.
    ///
    /// # Errors
    /// As [`Bed::run`], or the script's status is not 0.
    pub fn check(&mut self, script: &str) -> Result<String> {
        let output = self.run(script)?;
        ensure!(
            output.status == 0,
            "in dom0: {script}\nstatus {}\n{}{}",
            output.status,
            output.text,
            self.tails()
        );
        Ok(output.text)
    }

    /// Creates a guest and lets it run.
    ///
    /// # Errors
    /// The guest's files cannot be handed to dom0, or xl refuses.
    pub fn create(&mut self, guest: &Guest) -> Result<()> {
        self.create_with("", guest)
    }

    /// Creates a guest that does not run until `xl unpause`.
    ///
    /// # Errors
    /// As [`Bed::create`].
    pub fn create_paused(&mut self, guest: &Guest) -> Result<()> {
        self.create_with("-p", guest)
    }

    fn create_with(&mut self, flags: &str, guest: &Guest) -> Result<()> {
        guest.prepare(&self.job())?;
        let name = guest.name();
        // Two emulations deep, the toolstack's own deadlines of 10 s are short on a busy machine.
        for _ in 0..ATTEMPTS {
            let output = self.run(&format!("xl create {flags} {}", guest.file()))?;
            if output.status == 0 {
                return self.follow_console(guest);
            }
            self.run(&format!("xl destroy {name}"))?;
            // libxl's ERROR_TIMEDOUT is -9.
            let timed_out = output.text.contains("timed out") || output.text.contains("rc=-9");
            ensure!(
                timed_out,
                "xl create {name}: {}\n{}",
                output.text,
                self.tails()
            );
        }
        bail!(
            "xl create {name} timed out {ATTEMPTS} times\n{}",
            self.tails()
        );
    }

    /// Has dom0 log the paravirtual console of a new guest that has a log of it, or of one that started again; the log begins anew.
    ///
    /// # Errors
    /// There is no such guest, or it gets no console.
    pub fn follow_console(&mut self, guest: &Guest) -> Result<()> {
        if guest.has_pv_console() {
            let (name, log) = (guest.name(), guest.log());
            self.check(&format!(
                ": >/job/{log}\n\
                 at=/local/domain/$(xl domid {name})/console/tty\n\
                 for i in $(seq 60); do tty=$(xenstore-read $at 2>/dev/null) && [ \"$tty\" ] && break; sleep 1; done\n\
                 [ \"$tty\" ] || exit 1\n\
                 cat $tty >>/job/{log} 2>/dev/null </dev/null &"
            ))?;
        }
        Ok(())
    }

    /// Creates a guest, waits until it has written `text` to its serial port, and returns all that it has written.
    ///
    /// # Errors
    /// As [`Bed::create`] and [`Bed::wait_for`].
    pub fn boot(&mut self, guest: &Guest, text: &str, deadline: Duration) -> Result<String> {
        self.create(guest)?;
        self.wait_for(guest, text, deadline)
    }

    /// Gives a command to the monitor of the QEMU that runs Xen, and returns what it says.
    pub(super) fn monitor(&self, command: &str) -> Result<String> {
        Monitor::connect(&self.files.path().join("monitor.socket"))?.command(command)
    }

    /// The log of the QEMU that runs Xen, if it was told to write one.
    pub(super) fn instruction_log(&self) -> PathBuf {
        self.files.path().join("instructions.log")
    }

    /// What a guest has written so far to its serial port, or to its paravirtual console where that is logged; bytes that are not
    /// UTF-8 are replaced.
    pub fn serial(&self, guest: &Guest) -> String {
        String::from_utf8_lossy(&fs::read(self.job().join(guest.log())).unwrap_or_default())
            .into_owned()
    }

    /// Waits until a guest has written `text` to its serial port, and returns all that it has written.
    ///
    /// # Errors
    /// It has not within `deadline`: the ends of its log and of Xen's are in the error.
    pub fn wait_for(&mut self, guest: &Guest, text: &str, deadline: Duration) -> Result<String> {
        self.wait_until(guest, &format!("{text:?}"), deadline, |serial| {
            serial.contains(text)
        })
    }

    /// Waits until `check` is satisfied with what a guest has written to its serial port, and returns that.
    ///
    /// # Errors
    /// As [`Bed::wait_for`].
    pub fn wait_until(
        &mut self,
        guest: &Guest,
        what: &str,
        deadline: Duration,
        check: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let deadline = deadline * wait::scale();
        let mut gone = false;
        let found = wait::until(Instant::now() + deadline, POLL, || {
            gone = self.child.try_wait()?.is_some();
            let serial = self.serial(guest);
            let done = check(&serial);
            Ok((done || gone).then_some((done, serial)))
        })?;
        if let Some((true, serial)) = found {
            return Ok(serial);
        }
        let dmesg = if gone { String::new() } else { self.dmesg()? };
        bail!(
            "{}: no {what} in {} s\n--- serial ---\n{}\n--- xl dmesg ---\n{}\n{}",
            guest.name(),
            deadline.as_secs(),
            tail(&self.serial(guest)),
            tail(&dmesg),
            self.tails()
        );
    }

    /// Ends all guests.
    ///
    /// # Errors
    /// dom0 does not answer.
    pub fn destroy_all(&mut self) -> Result<()> {
        self.run("xl list | awk 'NR > 1 && $2 > 0 { print $2 }' | while read -r id; do xl destroy $id; done")?;
        Ok(())
    }

    /// Lets the Debian in the first partition of `disk`, a device of dom0, wait longer for its devices: two emulations deep on a busy
    /// machine, systemd's 90 s are short, and without its serial port there is no login prompt.
    ///
    /// # Errors
    /// The disk has no ext4 there, or dom0 does not answer.
    pub fn give_debian_time(&mut self, disk: &str) -> Result<()> {
        self.check(&format!(
            "mkdir -p /tmp/disk && mount -t ext4 {disk}1 /tmp/disk && cd /tmp/disk/etc/systemd && mkdir -p system.conf.d &&\n\
             printf '[Manager]\\nDefaultDeviceTimeoutSec=15min\\nDefaultTimeoutStartSec=15min\\n' >system.conf.d/slow.conf &&\n\
             cd / && umount /tmp/disk && sync"
        ))?;
        Ok(())
    }

    /// What Xen's console has got since the last call: what guests write to port 0xE9 is there, a line each, as `(dN) ...`.
    ///
    /// # Errors
    /// dom0 does not answer.
    pub fn dmesg(&mut self) -> Result<String> {
        let text = self.check("xl dmesg -c")?;
        self.dmesg.push_str(&text);
        Ok(text)
    }

    /// Connects a guest's serial port, configured as `pty`, with the terminal: see [`Config::console`]. Returns when the guest is
    /// gone.
    ///
    /// # Errors
    /// dom0 ends first.
    pub fn attach(&mut self, guest: &Guest) -> Result<()> {
        let name = guest.name();
        let script = format!(
            "for dir in /sys/class/virtio-ports/*; do [ \"$(cat $dir/name)\" = console ] && port=/dev/${{dir##*/}}; done\n\
             exec 4<>$port\n\
             while xl domid {name} >/dev/null 2>&1; do xl console -t serial {name} <&4 >&4 2>&1; sleep 1; done\n"
        );
        fs::write(self.job().join("command"), script)?;
        self.agent
            .as_mut()
            .context("dom0 is gone")?
            .get_mut()
            .write_all(b"run\n")?;
        // A person decides when this ends.
        let deadline = Instant::now() + Duration::from_secs(1 << 30);
        while !self.line(deadline)?.contains("firstlight-bed status ") {}
        Ok(())
    }

    /// The ends of Xen's log and of QEMU's, for a failure message.
    pub fn tails(&self) -> String {
        let read = |name| {
            String::from_utf8_lossy(&fs::read(self.files.path().join(name)).unwrap_or_default())
                .into_owned()
        };
        let mut text = String::new();
        for name in ["qemu.log", "xen.log"] {
            text.push_str(&format!("--- {name} ---\n{}\n", tail(&read(name))));
        }
        text
    }
}

fn tail(text: &str) -> &str {
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
        // Without the agent's connection dom0 has nothing to wait for, but it need not be asked: nothing it has is kept.
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
