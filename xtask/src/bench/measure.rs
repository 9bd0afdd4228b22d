//! One firmware's costs on one machine, each from a QEMU of its own.

use super::cd;
use super::guest::{self, Report};
use super::trace::{self, Accesses};
use anyhow::{Context, Result, bail, ensure};
use firstlight_vm::{Bus, Chardev, Disk, Kernel, Machine, Monitor, Outcome, Running, qemu};
use serde_json::json;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The guest's memory in MiB.
const MEMORY: u64 = 256;
/// How long one QEMU may take.
const DEADLINE: Duration = Duration::from_secs(90);
/// How often instructions are counted: waiting for a device takes some that depend on what else the host does, so the least count.
const COUNTS: u32 = 3;
/// How many reads are made where device accesses are counted.
const COUNTED_READS: u16 = 512;
/// The same where each read is tens of thousands of accesses, as without DMA.
const FEW_READS: u16 = 8;
/// How many reads are made where time is measured: 33 MB.
const TIMED_READS: u16 = 507;
/// The same from a CD, 127 MB: in less than a tenth of a second, how QEMU's threads happen to lie says more than the firmware.
const TIMED_CD_READS: u16 = 2000;

/// A firmware to measure.
#[derive(Clone, Debug)]
pub struct Contestant {
    /// Its name in tables.
    pub name: &'static str,
    /// Its ROM, or nothing for the one that QEMU has by itself.
    pub rom: Option<PathBuf>,
    /// Where instructions are counted, one takes this power of two of nanoseconds: more than 0 for one that waits much by asking a timer
    /// over and over, which takes ever fewer instructions then.
    pub shift: u32,
}

impl Contestant {
    /// One whose instructions are counted as they come.
    pub fn new(name: &'static str, rom: Option<PathBuf>) -> Self {
        Self {
            name,
            rom,
            shift: 0,
        }
    }
}

/// What the machine starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest<'a> {
    /// A disk whose boot sector makes so many reads.
    Disk(Bus, u16),
    /// A CD whose boot image makes so many reads.
    Cd(Bus, u16),
    /// The same without reads, with more hardware around it.
    Crowd(Crowd),
    /// The disk in this file.
    Image(Bus, &'a Path),
    /// A kernel that is given directly, with an initial RAM disk, in a machine with or without a VGA card.
    Kernel {
        /// The card is there.
        screen: bool,
    },
}

impl Guest<'_> {
    /// A disk whose reads are timed.
    pub fn disk(bus: Bus) -> Self {
        Self::Disk(bus, TIMED_READS)
    }

    /// A CD whose reads are timed.
    pub fn cd(bus: Bus) -> Self {
        Self::Cd(bus, TIMED_CD_READS)
    }

    /// The bytes that all of the guest's reads transfer.
    fn bytes(self) -> f64 {
        let (reads, sectors, size) = match self {
            Guest::Disk(_, reads) => (reads, guest::SECTORS_PER_READ, 512),
            Guest::Cd(_, reads) => (reads, cd::SECTORS_PER_READ, cd::SECTOR),
            Guest::Crowd(_) | Guest::Image(..) | Guest::Kernel { .. } => (0, 0, 0),
        };
        f64::from(reads) * f64::from(sectors) * f64::from(size)
    }
}

/// A disk and others like it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// How the disks are connected.
    pub bus: Bus,
    /// How many there are, of which the first is booted.
    pub disks: u32,
    /// Network cards beside them.
    pub nics: u32,
    /// Only the first may be booted: `-boot strict=on`.
    pub strict: bool,
}

impl Crowd {
    /// PCI functions that a bridge takes here.
    const BEHIND: u32 = 30;

    fn add(self, qemu: &mut firstlight_vm::Guest, image: &Path) {
        let bridges = match self.bus {
            Bus::Virtio if self.disks > Self::BEHIND => self.disks.div_ceil(Self::BEHIND),
            _ => 0,
        };
        qemu.bridges = bridges;
        for number in 0..self.disks {
            let mut disk = Disk::new(self.bus, image).snapshot();
            if number == 0 {
                disk = disk.boot_index(1);
            }
            if bridges > 0 {
                let (bridge, slot) = (number / Self::BEHIND, number % Self::BEHIND + 1);
                let place = format!("bus=b{bridge},addr={slot:#x}");
                disk = disk.device_option(&place);
            }
            qemu.disks.push(disk);
        }
        for _ in 0..self.nics {
            qemu.arguments(["-device", "e1000"]);
        }
        qemu.boot.strict = self.strict;
    }
}

/// Where measurements are made: a machine, and a directory for the guest's disks and for logs.
pub struct Bench<'a> {
    /// The machine type.
    pub machine: Machine,
    /// A directory that outlives the measurement.
    pub directory: &'a Path,
}

/// Device accesses.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Up to the boot sector, by device.
    pub boot: BTreeMap<String, u64>,
    /// In each of the boot sector's reads, on average.
    pub a_read: f64,
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
        let clock = format!("shift={},sleep=off", firmware.shift);
        qemu.arguments(["-icount", &clock]);
        let count = || -> Result<u64> {
            Ok(Report::parse(&self.run(&qemu, firmware)?)?.start >> firmware.shift)
        };
        let mut least = count()?;
        for _ in 1..COUNTS {
            least = least.min(count()?);
        }
        Ok(least)
    }

    /// The device accesses up to the boot sector, and those of each of the boot sector's reads.
    pub fn accesses(&self, firmware: &Contestant, bus: Bus) -> Result<Counted> {
        let reads = match bus {
            Bus::Ide if firmware.rom.is_none() => FEW_READS,
            _ => COUNTED_READS,
        };
        let (report, accesses) = self.traced(firmware, Guest::Disk(bus, reads), &[])?;
        ensure!(
            report.reads_done,
            "the boot sector of {} did not finish reading",
            firmware.name
        );
        let reading = accesses.reading.values().sum::<u64>();
        Ok(Counted {
            boot: accesses.boot,
            a_read: reading as f64 / f64::from(reads),
        })
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
                    Guest::Disk(..) | Guest::Cd(..) | Guest::Crowd(_) | Guest::Image(..) => {
                        "disk and boot sector"
                    }
                    Guest::Kernel { .. } => "kernel and initrd",
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

    /// Seconds from the start of the processor to the guest's first instruction.
    pub fn seconds(&self, firmware: &Contestant, guest: Guest) -> Result<f64> {
        let (start, _, seen) = self.timed(firmware, guest)?;
        let first = seen.first().context("the guest did not start")?;
        Ok(first.duration_since(start).as_secs_f64())
    }

    /// The time to the boot sector, and the speed of its reads.
    pub fn times(&self, firmware: &Contestant, guest: Guest) -> Result<Times> {
        let (start, written, seen) = self.timed(firmware, guest)?;
        ensure!(
            Report::parse(&written)?.reads_done,
            "the boot sector of {} did not finish reading",
            firmware.name
        );
        // 'T' and eight bytes, then 'B', then 'E'.
        let seconds = |from: Instant, to: Instant| to.duration_since(from).as_secs_f64();
        Ok(Times {
            boot: seconds(start, seen[0]),
            throughput: guest.bytes() / seconds(seen[9], seen[10]),
        })
    }

    /// When the processor started, what the guest wrote, and when each byte came.
    fn timed(
        &self,
        firmware: &Contestant,
        guest: Guest,
    ) -> Result<(Instant, Vec<u8>, Vec<Instant>)> {
        let socket = self.directory.join("monitor");
        let mut qemu = self.qemu(firmware, guest)?;
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
        Ok((start, written, seen))
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
            Guest::Image(bus, file) => qemu.disks.push(Disk::new(bus, file).snapshot()),
            Guest::Crowd(crowd) => {
                let disk = guest::disk(self.directory, 0)?;
                crowd.add(&mut qemu, &disk);
            }
            Guest::Disk(bus, reads) => {
                let disk = guest::disk(self.directory, reads)?;
                qemu.disks.push(Disk::new(bus, &disk).snapshot());
            }
            Guest::Cd(bus, reads) => {
                let medium = cd::medium(self.directory, reads)?;
                qemu.disks.push(Disk::cdrom(bus, Some(&medium)));
            }
            Guest::Kernel { screen } => {
                if !screen {
                    qemu.video = None;
                }
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
