//! The test bed at work: one QEMU that runs Xen and its dom0, in which any number of guests is started.

use super::dom0::{self, Toolstack, Version};
use super::guest::Guest;
use super::hypervisor;
use super::instructions;
use crate::bed::image::Images;
use crate::bed::{self, POLL, Setup, tail};
use anyhow::{Result, bail, ensure};
use firstlight_vm::{Machine, Monitor, wait};
use std::fs;
use std::ops::{Deref, DerefMut, Range};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a guest is created before the toolstack's deadlines count as a failure.
const ATTEMPTS: u32 = 4;
/// The socket of QEMU's monitor, in the bed's directory.
const MONITOR: &str = "monitor.socket";
/// Xen as QEMU starts it, in the bed's directory.
const HYPERVISOR: &str = "xen";
/// What is typed on a guest's serial port, a pipe in dom0.
const KEYS: &str = "/tmp/keys";
/// QEMU's log of instructions, in the bed's directory.
const INSTRUCTIONS: &str = "instructions.log";

/// What a test bed is started with.
#[derive(Clone, Debug)]
pub struct Config {
    version: Version,
    toolstack: Toolstack,
    memory_mib: u32,
    disks: Vec<PathBuf>,
    console: bool,
    lifetime: Duration,
}

impl Config {
    /// A test bed of 4 GiB, of which dom0 takes one, that ends by itself after half an hour.
    pub fn new(version: Version) -> Self {
        Self {
            version,
            toolstack: Toolstack::default(),
            memory_mib: 4096,
            disks: Vec::new(),
            console: false,
            lifetime: Duration::from_secs(1800),
        }
    }

    /// What manages guests in dom0.
    pub fn toolstack(mut self, toolstack: Toolstack) -> Self {
        self.toolstack = toolstack;
        self
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
        let images = dom0::images(self.version, self.toolstack)?;
        let setup = Setup {
            disks: [&images.root]
                .into_iter()
                .chain(&self.disks)
                .cloned()
                .collect(),
            shares: Vec::new(),
            console: self.console,
            lifetime: self.lifetime,
        };
        let bed = bed::Bed::start(&setup, |files| {
            hypervisor::for_qemu(&images.xen, &files.join(HYPERVISOR))?;
            Ok(self.machine(&images, files))
        })?;
        Ok(Bed {
            bed,
            dmesg: String::new(),
            end: None,
        })
    }

    /// The machine that runs Xen.
    fn machine(&self, images: &Images, files: &Path) -> firstlight_vm::Guest {
        // dom0 has the first CPU for itself, and guests the second: QEMU's SVM does not keep all of a PV domain's state where an
        // HVM guest runs on the same CPU, and then dom0's programs crash.
        // A queue for each CPU: of one for both, the lock is what they spin for two thirds of their time, while the thread of QEMU
        // whose CPU holds it does not run.
        // The FPU is switched with all else: QEMU's XRSTOR ignores CR0.TS, and a guest would lose the registers that it loads.
        let xen = "console=com1 com1=115200,8n1 dom0_mem=1024M,max:1024M dom0_max_vcpus=1 dom0_vcpus_pin bootscrub=0 noreboot \
                   credit2_runqueue=cpu spec-ctrl=no,eager-fpu=yes loglvl=warning guest_loglvl=all conring_size=256k";
        let linux = "console=hvc0 loglevel=4 mitigations=off audit=0";
        let path = |path: &Path| path.display().to_string().replace(',', ",,");
        let mut machine = firstlight_vm::Guest::new(Machine::Q35);
        machine.memory_mib = self.memory_mib.into();
        machine.cpus.count = 2;
        // QEMU reports RDTSCP to Xen as RDTSC, which then looks for that instruction for ever.
        machine.cpus.model = Some("max,-rdtscp".into());
        machine.monitor = Some(files.join(MONITOR));
        let Range { start, end } = instructions::LOGGED;
        machine.arguments(["-dfilter", &format!("{start:#x}..{:#x}", end - 1)]);
        machine.arguments(["-D", &path(&files.join(INSTRUCTIONS))]);
        machine.arguments(["-kernel", &files.join(HYPERVISOR).display().to_string()]);
        // A Multiboot module for each part, with its command line.
        let modules = (path(&images.kernel), path(&images.initrd));
        let modules = format!("{} {linux},{}", modules.0, modules.1);
        machine.arguments(["-append", xen, "-initrd", &modules]);
        machine
    }
}

/// A running test bed. Dropping it ends it and removes its files.
#[derive(Debug)]
pub struct Bed {
    bed: bed::Bed,
    dmesg: String,
    /// When no guest is waited for any more.
    end: Option<Instant>,
}

impl Deref for Bed {
    type Target = bed::Bed;

    fn deref(&self) -> &bed::Bed {
        &self.bed
    }
}

impl DerefMut for Bed {
    fn deref_mut(&mut self) -> &mut bed::Bed {
        &mut self.bed
    }
}

impl Bed {
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
                 cat $tty >>/job/{log} 2>/dev/null </dev/null &\n\
                 echo $! >/tmp/{name}.follower"
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
        Monitor::connect(&self.bed.file(MONITOR))?.command(command)
    }

    /// The log of the QEMU that runs Xen, if it was told to write one.
    pub(super) fn instruction_log(&self) -> PathBuf {
        self.bed.file(INSTRUCTIONS)
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
        let start = Instant::now();
        let end = start + deadline * wait::scale();
        let end = self.end.map_or(end, |earlier| end.min(earlier));
        loop {
            let serial = self.serial(guest);
            if check(&serial) {
                return Ok(serial);
            }
            let gone = self.bed.is_gone()?;
            if gone || Instant::now() > end {
                let dmesg = if gone { String::new() } else { self.dmesg()? };
                let name = guest.name();
                let waited = start.elapsed().as_secs();
                bail!(
                    "{name}: no {what} in {waited} s\n--- serial ---\n{}\n--- xl dmesg ---\n{}\n{}",
                    tail(&serial),
                    tail(&dmesg),
                    self.tails()
                );
            }
            std::thread::sleep(POLL);
        }
    }

    /// Does `work`, in which no guest is waited for longer than `time` from now, whatever a deadline says.
    pub fn within<T>(&mut self, time: Duration, work: impl FnOnce(&mut Self) -> T) -> T {
        self.end = Some(Instant::now() + time);
        let result = work(self);
        self.end = None;
        result
    }

    /// A guest's first disk in the syntax of xl-disk-configuration(5): the block device `device` of dom0 by the kernel's back end, with
    /// which the toolstack makes no emulated disk beside it here.
    ///
    /// # Errors
    /// The kernel has no such back end.
    pub fn kernels_disk(&mut self, device: &str) -> Result<String> {
        const SCRIPT: &str = "/tmp/block";
        // What Xen's own block script comes to, for a device that is there.
        self.check(&format!(
            "modprobe xen-blkback && printf '%s\\n' '#!/bin/sh' 'export PATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin' \\\n\
             '[ \"$1\" = add ] || exit 0' \\\n\
             'xenstore-write $XENBUS_PATH/physical-device '$(stat -c %t:%T {device}) \\\n\
             'xenstore-write $XENBUS_PATH/hotplug-status connected' >{SCRIPT} && chmod 755 {SCRIPT}"
        ))?;
        Ok(format!(
            "format=raw,vdev=hda,access=rw,backendtype=phy,script={SCRIPT},target={device}"
        ))
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
    /// machine, systemd's 90 s are short, and without its serial port there is no login prompt. Its kernel does not complain either that
    /// it was stuck for a while, as it is wherever it writes to that port for so long.
    ///
    /// # Errors
    /// The disk has no ext4 there, or dom0 does not answer.
    pub fn give_debian_time(&mut self, disk: &str) -> Result<()> {
        self.check(&format!(
            "mkdir -p /tmp/disk && mount -t ext4 {disk}1 /tmp/disk && cd /tmp/disk/etc/systemd && mkdir -p system.conf.d &&\n\
             printf '[Manager]\\nDefaultDeviceTimeoutSec=15min\\nDefaultTimeoutStartSec=15min\\n' >system.conf.d/slow.conf &&\n\
             grub=/tmp/disk/boot/grub/grub.cfg && {{ grep -q nowatchdog $grub ||\n\
             sed -i '/^ *linux /s/$/ nowatchdog rcupdate.rcu_cpu_stall_suppress=1/' $grub; }} && cd / && umount /tmp/disk && sync"
        ))?;
        Ok(())
    }

    /// Connects a terminal to the first serial port of a new guest, which is a `pty`: the program behind `xl console -t serial`. What it
    /// shows is the guest's log.
    ///
    /// # Errors
    /// dom0 does not answer, or the guest has no such port.
    pub fn open_terminal(&mut self, guest: &Guest) -> Result<()> {
        let (name, log) = (guest.name(), guest.serial());
        // A pipe that is open for writing as well does not end.
        self.check(&format!(
            "[ -p {KEYS} ] || mkfifo {KEYS}\n\
             kill $(cat {KEYS}.reader) 2>/dev/null\n\
             xenconsole --interactive --type serial --num 0 $(xl domid {name}) 0<>{KEYS} >/job/{log} 2>&1 &\n\
             echo $! >{KEYS}.reader"
        ))?;
        Ok(())
    }

    /// Types keys, in printf(1)'s words, on the terminal of [`Bed::open_terminal`] as soon as it shows `text`.
    ///
    /// # Errors
    /// dom0 does not answer, or the terminal does not show the text within two minutes.
    pub fn type_after(&mut self, guest: &Guest, text: &str, keys: &str) -> Result<()> {
        let log = guest.serial();
        // dom0 waits for it: a menu of a few seconds would be gone until the host has seen it.
        self.check(&format!(
            "for i in $(seq 1200); do grep -q '{text}' /job/{log} && break; sleep 0.1; done\n\
             grep -q '{text}' /job/{log} && printf '{keys}' >{KEYS}"
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

    /// Connects a guest's serial port, configured as `pty`, or its paravirtual console with the terminal: see [`Config::console`].
    /// Returns when the guest is gone.
    ///
    /// # Errors
    /// dom0 ends first.
    pub fn attach(&mut self, guest: &Guest) -> Result<()> {
        let name = guest.name();
        let kind = match guest.has_pv_console() {
            true => "pv",
            false => "serial",
        };
        let script = format!(
            "{}\
             kill $(cat /tmp/{name}.follower 2>/dev/null) 2>/dev/null\n\
             while xl domid {name} >/dev/null 2>&1; do xl console -t {kind} {name} <&4 >&4 2>&1; sleep 1; done\n",
            bed::OPEN_CONSOLE
        );
        // A person decides when this ends.
        self.bed
            .run_with(&script, Duration::from_secs(1 << 30), |_| ())?;
        Ok(())
    }
}
