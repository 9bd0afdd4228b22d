//! One firmware's costs on one machine, each from a QEMU of its own.

use super::guest::{self, Report};
use super::trace::{self, Accesses};
use anyhow::{Result, bail, ensure};
use firstlight_vm::{Bus, Chardev, Disk, Kernel, Machine, Monitor, Outcome, Running, qemu};
use serde_json::json;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The guest's memory in MiB.
const MEMORY: u64 = 256;
/// How long one QEMU may take.
const DEADLINE: Duration = Duration::from_secs(180);
/// How many reads are made where device accesses are counted: the counts repeat, so few are enough.
const COUNTED_READS: u16 = 8;
/// How many reads are made where time is measured: 33 MB.
const TIMED_READS: u16 = 507;

/// A firmware to measure.
#[derive(Clone, Debug)]
pub struct Contestant {
    /// Its name in tables.
    pub name: &'static str,
    /// Its ROM, or nothing for the one that QEMU has by itself.
    pub rom: Option<PathBuf>,
}

/// What the machine starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    /// A disk whose boot sector makes so many reads.
    Disk(u16),
    /// A kernel that is given directly, with an initial RAM disk.
    Kernel,
}

/// Where measurements are made: a machine, and a directory for the guest's disks and for logs.
pub struct Bench<'a> {
    /// The machine type.
    pub machine: Machine,
    /// A directory that outlives the measurement.
    pub directory: &'a Path,
}

/// What one timed start took.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Seconds from the start of the processor to the boot sector's first instruction.
    pub boot: f64,
    /// Bytes a second that the boot sector read.
    pub throughput: f64,
}

impl Bench<'_> {
    /// The instructions from reset to the guest's first.
    pub fn instructions(&self, firmware: &Contestant, guest: Guest) -> Result<u64> {
        let mut qemu = self.qemu(firmware, guest)?;
        qemu.arguments(["-icount", "shift=0,sleep=off"]);
        Ok(Report::parse(&self.run(&qemu, firmware)?)?.start)
    }

    /// The device accesses up to the boot sector, and those of each of the boot sector's reads.
    pub fn accesses(&self, firmware: &Contestant) -> Result<Accesses> {
        let (report, mut accesses) = self.traced(firmware, Guest::Disk(COUNTED_READS), &[])?;
        ensure!(
            report.reads_done,
            "the boot sector of {} did not finish reading",
            firmware.name
        );
        for count in accesses.reading.values_mut() {
            *count = count.div_ceil(u64::from(COUNTED_READS));
        }
        Ok(accesses)
    }

    /// The device accesses up to the guest's first instruction, by device.
    pub fn accesses_to_start(
        &self,
        firmware: &Contestant,
        guest: Guest,
    ) -> Result<BTreeMap<String, u64>> {
        Ok(self.traced(firmware, guest, &[])?.1.boot)
    }

    /// The firmware's steps to the guest, as it reports them itself; their ends are in guest instructions.
    pub fn steps(&self, firmware: &Contestant, guest: Guest) -> Result<Vec<trace::Step>> {
        let log = format!("file:{}", self.directory.join("steps.log").display());
        let setting = [
            "-fw_cfg",
            "name=opt/firstlight/bench,string=on",
            "-icount",
            "shift=0,sleep=off",
            "-debugcon",
            &log,
        ];
        let (report, accesses) = self.traced(firmware, guest, &setting)?;
        let mut steps = accesses.steps;
        if let Some(last) = steps.last().map(|step| step.end) {
            // What follows the last reported step.
            let reported: u64 = steps.iter().map(|step| step.accesses).sum();
            let accesses = accesses.boot.values().sum::<u64>().saturating_sub(reported);
            steps.push(trace::Step {
                name: match guest {
                    Guest::Disk(_) => "disk and boot sector",
                    Guest::Kernel => "kernel and initrd",
                }
                .to_owned(),
                end: report.start.max(last),
                accesses,
            });
        }
        Ok(steps)
    }

    fn traced(
        &self,
        firmware: &Contestant,
        guest: Guest,
        arguments: &[&str],
    ) -> Result<(Report, Accesses)> {
        let log = self.directory.join("accesses.log");
        let mut qemu = self.qemu(firmware, guest)?;
        qemu.arguments([
            "-trace",
            "memory_region_ops_read",
            "-trace",
            "memory_region_ops_write",
            "-D",
        ]);
        qemu.arguments([&log]);
        qemu.arguments(arguments);
        let report = Report::parse(&self.run(&qemu, firmware)?)?;
        let accesses = trace::count(&log)?;
        // The logs are large and of no further use; one that stays is only untidy.
        let _ = std::fs::remove_file(&log);
        Ok((report, accesses))
    }

    /// The time to the boot sector, and the speed of its reads.
    pub fn times(&self, firmware: &Contestant) -> Result<Times> {
        let socket = self.directory.join("monitor");
        let mut qemu = self.qemu(firmware, Guest::Disk(TIMED_READS))?;
        // The processor starts on our word, so that QEMU's own start is not part of the time.
        qemu.arguments(["-S"]);
        qemu.monitor = Some(socket.clone());
        let _ = std::fs::remove_file(&socket);
        let mut running = Running::start(&mut qemu::command(&qemu)?)?;
        let mut monitor = Monitor::connect(&socket)?;
        let start = Instant::now();
        monitor.execute("cont", json!({}))?;
        let mut written = Vec::new();
        let mut seen = Vec::new();
        self.collect(&mut running, firmware, |time, bytes| {
            seen.extend(std::iter::repeat_n(time, bytes.len()));
            written.extend_from_slice(bytes);
        })?;
        ensure!(
            Report::parse(&written)?.reads_done,
            "the boot sector of {} did not finish reading",
            firmware.name
        );
        // 'T' and eight bytes, then 'B', then 'E'.
        let read = f64::from(TIMED_READS) * f64::from(guest::SECTORS_PER_READ) * 512.0;
        let seconds = |from: Instant, to: Instant| to.duration_since(from).as_secs_f64();
        Ok(Times {
            boot: seconds(start, seen[0]),
            throughput: read / seconds(seen[9], seen[10]),
        })
    }

    fn qemu(&self, firmware: &Contestant, guest: Guest) -> Result<firstlight_vm::Guest> {
        let mut qemu = firstlight_vm::Guest::new(self.machine);
        qemu.memory_mib = MEMORY;
        qemu.bios = firmware.rom.clone();
        qemu.arguments([
            "-no-reboot",
            "-device",
            "isa-debug-exit,iobase=0xf4,iosize=4",
        ]);
        qemu.debug_ports.push((guest::PORT, Chardev::Stdio));
        match guest {
            Guest::Disk(reads) => {
                let bus = match self.machine {
                    Machine::Pc => Bus::Ide,
                    Machine::Q35 => Bus::Sata,
                };
                let disk = guest::disk(self.directory, reads)?;
                qemu.disks.push(Disk::new(bus, &disk).snapshot());
            }
            Guest::Kernel => {
                let [file, initrd] = guest::kernel(self.directory)?;
                qemu.kernel = Some(Kernel {
                    file,
                    initrd: Some(initrd),
                    command_line: None,
                });
            }
        }
        Ok(qemu)
    }

    /// Runs a guest to its end and returns what it wrote.
    fn run(&self, qemu: &firstlight_vm::Guest, firmware: &Contestant) -> Result<Vec<u8>> {
        let mut written = Vec::new();
        let mut running = Running::start(&mut qemu::command(qemu)?)?;
        self.collect(&mut running, firmware, |_, bytes| {
            written.extend_from_slice(bytes)
        })?;
        Ok(written)
    }

    fn collect(
        &self,
        running: &mut Running,
        firmware: &Contestant,
        mut take: impl FnMut(Instant, &[u8]),
    ) -> Result<()> {
        let outcome = running.read(Instant::now() + DEADLINE, |time, bytes| {
            take(time, bytes);
            Ok(ControlFlow::<()>::Continue(()))
        })?;
        if outcome == Outcome::Late {
            bail!(
                "{} on {}: the guest did not finish in {} s",
                firmware.name,
                self.machine,
                DEADLINE.as_secs()
            );
        }
        Ok(())
    }
}
