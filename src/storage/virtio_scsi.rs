//! virtio SCSI host adapters: their targets' disks and CD drives.
//!
//! All devices of an adapter share one queue. Where they are is asked of all targets at once, by REPORT LUNS, so that an adapter
//! with few devices costs few notifications. The queues for task management and events stay unused.
//!
//! Sources: Virtual I/O Device (VIRTIO) 1.2, section 5.6; SCSI Primary Commands 4 (SPC-4), section 6.33 (REPORT LUNS); SCSI
//! Architecture Model 5 (SAM-5), sections 4.7 (logical unit numbers) and 5.3 (status); for the OpenFirmware path QEMU's
//! `scsi@5/channel@0/disk@3,1`.

#[cfg(test)]
mod tests;

use super::drivers::Function;
use super::scsi::{self, Command, Data, Identity, SENSE_LEN, ScsiDisk, Status, Transport};
use super::{Chs, DiskError, Dma, EddBus, EddPath, Found, Kind};
use crate::arch::Handle;
use crate::devices::name::Name;
use crate::devices::place::Place;
use crate::devices::virtio::{Device, Fault, MOST_AT_ONCE, Part, Queue};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use spin::Mutex;

/// PCI device numbers: transitional and modern.
pub const DEVICES: &[u16] = &[0x1004, 0x1048];

/// The first queue for requests.
const REQUESTS: u16 = 2;

/// Offsets in the device's configuration: sectors of 512 bytes that one command moves at most; the largest target, behind the
/// largest channel; the largest logical unit.
const CONFIG_MAX_SECTORS: u16 = 8;
const CONFIG_MAX_CHANNEL: u16 = 28;
const CONFIG_MAX_LUN: u16 = 32;

/// The lengths of sense data and of command blocks after a reset, which a driver may change.
const SENSE_SIZE: u32 = 96;
const CDB_SIZE: u32 = 32;

/// A request: logical unit, number, three bytes of attributes, command block.
const REQUEST_LEN: u32 = 19 + CDB_SIZE;
const REQUEST_TARGET: u64 = 1;
const REQUEST_ID: u64 = 8;
const REQUEST_BLOCK: u64 = 19;
/// A response: length of the sense data, bytes that were not moved, qualifier, status, response, sense data.
const RESPONSE_LEN: u32 = 12 + SENSE_SIZE;
const RESPONSE_SENSE_LEN: u64 = 0;
const RESPONSE_RESIDUAL: u64 = 4;
const RESPONSE_QUALIFIER: u64 = 8;
const RESPONSE_RESPONSE: u64 = 11;
const RESPONSE_SENSE: u64 = 12;

/// Parts of a request: header, response, data.
const PARTS: usize = 3;
/// A request's memory: its header, then its response.
const SLOT_LEN: u64 = 192;
const RESPONSE_AT: u64 = 64;
/// The answers to REPORT LUNS of all targets that are asked at once, or of one.
const LUNS_LEN: u64 = 2048;
const AREA_LEN: u64 = SLOT_LEN * MOST_AT_ONCE as u64 + LUNS_LEN;
/// An answer's header, and an entry.
const LUN_LIST_HEADER: u32 = 8;
const LUN_LEN: u32 = 8;

/// The largest target and the largest logical unit that a request can name: a byte, and 14 bits.
const TARGETS: u32 = 0xff;
const LUNS: u32 = 0x3fff;
/// How long devices may take to answer when all are asked at once; those that do not are asked one by one.
const QUICK_US: u64 = 1_000_000;
/// How long the adapter may take to say where devices are, and how many devices may be silent before the others are left out.
const LUNS_US: u64 = 4_000_000;
const MOST_SILENT: u32 = 2;
/// Most bytes of a command. What a host passes through to a disk of its own may not be larger than that disk's adapter takes,
/// which is hardly ever less than this; nor do callers in real mode ask for more.
const MOST_BYTES: u32 = 256 << 10;
/// The unit of the device's own limit.
const UNIT: u32 = 512;

const REPORT_LUNS: u8 = 0xa0;

/// Responses: what became of the request on its way.
mod response {
    pub const OK: u8 = 0;
    pub const OVERRUN: u8 = 1;
    pub const BAD_TARGET: u8 = 3;
    pub const RESET: u8 = 4;
    pub const BUSY: u8 = 5;
    pub const INCORRECT_LUN: u8 = 12;
    /// Before the device writes one.
    pub const NONE: u8 = 0xff;
}

/// Statuses: what the logical unit made of the command.
mod status {
    pub const GOOD: u8 = 0x00;
    pub const CHECK_CONDITION: u8 = 0x02;
    pub const BUSY: u8 = 0x08;
    pub const TASK_SET_FULL: u8 = 0x28;
}

/// A logical unit of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Address {
    target: u8,
    lun: u16,
}

impl Address {
    /// As a request names it: one, the target, and the logical unit by flat addressing.
    fn bytes(self) -> [u8; 8] {
        let [high, low] = self.lun.to_be_bytes();
        [1, self.target, 0x40 | high, low, 0, 0, 0, 0]
    }
}

/// The logical units in an answer to REPORT LUNS, and how many bytes the whole list has.
fn reported(answer: &[u8]) -> (Vec<u16>, u32) {
    let Some((header, entries)) = answer.split_at_checked(LUN_LIST_HEADER as usize) else {
        return (Vec::new(), 0);
    };
    let len = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    let listed = entries.chunks_exact(LUN_LEN as usize);
    let luns = listed.take((len / LUN_LEN) as usize).filter_map(|entry| {
        let number = u16::from_be_bytes([entry[0] & 0x3f, entry[1]]);
        match entry[0] >> 6 {
            // Peripheral addressing, of this target's own units.
            0 if entry[0] == 0 => Some(number),
            // Flat addressing.
            1 => Some(number),
            _ => None,
        }
    });
    (luns.collect(), len)
}

/// A command to one logical unit.
#[derive(Clone, Copy)]
struct Job {
    address: Address,
    block: [u8; 16],
    data: Data,
}

impl Job {
    /// Asks for a target's logical units, of which `len` bytes go to `buffer`.
    fn report_luns(target: u8, buffer: u64, len: u32) -> Self {
        let mut block = [0; 16];
        block[0] = REPORT_LUNS;
        block[6..10].copy_from_slice(&len.to_be_bytes());
        Self {
            address: Address { target, lun: 0 },
            block,
            data: Data::In { buffer, len },
        }
    }
}

/// What a unit said of itself when all were asked.
enum Answered {
    /// Nothing that is clear. It has to be asked by itself.
    Unclear,
    /// It is no disk and no CD drive.
    NoDrive,
    /// A CD drive.
    Cd(Identity),
    /// A disk.
    Disk {
        identity: Identity,
        /// Its sectors and their size, where that is clear.
        size: Option<(u64, u32)>,
        geometry: Chs,
        read_only: bool,
    },
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ended {
    status: Status,
    /// Bytes that were not moved.
    residual: u32,
}

/// The adapter, which its logical units share.
struct Adapter<H> {
    hw: H,
    device: Device<H>,
    queue: Queue<H>,
    area: u64,
}

impl<H: Handle> Adapter<H> {
    fn open(function: &Function<H>) -> Result<Self, String> {
        let device = Device::find(function.hw(), function.device(), function.around.config)
            .ok_or("its registers cannot be reached")?;
        let said = |fault: Fault| format!("{fault}");
        device.begin(0).map_err(said)?;
        let parts = (PARTS * MOST_AT_ONCE) as u16;
        let own = AREA_LEN as usize;
        let (queue, area) = device.queue(REQUESTS, parts, own).map_err(said)?;
        device.start();
        Ok(Self {
            hw: function.hw(),
            device,
            queue,
            area,
        })
    }

    /// Where the request with this number among those under way is.
    fn slot(&self, number: usize) -> u64 {
        self.area + SLOT_LEN * number as u64
    }

    /// Where answers to REPORT LUNS go.
    fn lists(&self) -> u64 {
        self.slot(MOST_AT_ONCE)
    }

    /// Writes a request and says which parts it has.
    fn prepare(&self, number: usize, job: &Job) -> ([Part; PARTS], usize) {
        let slot = self.slot(number);
        let mut request = [0; REQUEST_LEN as usize];
        request[..8].copy_from_slice(&job.address.bytes());
        request[REQUEST_ID as usize] = number as u8;
        let block = REQUEST_BLOCK as usize;
        request[block..block + job.block.len()].copy_from_slice(&job.block);
        self.hw.write(slot, &request);
        let response = slot + RESPONSE_AT;
        self.hw.write8(response + RESPONSE_RESPONSE, response::NONE);
        let part = |addr, len, written| Part { addr, len, written };
        let header = part(slot, REQUEST_LEN, false);
        let answer = part(response, RESPONSE_LEN, true);
        match job.data {
            Data::None => ([header, answer, answer], 2),
            Data::Out { buffer, len } => ([header, part(buffer, len, false), answer], 3),
            Data::In { buffer, len } => ([header, answer, part(buffer, len, true)], 3),
        }
    }

    /// Carries out one job.
    fn run(&mut self, job: &Job, deadline_us: u64) -> Result<Ended, DiskError> {
        let (parts, count) = self.prepare(0, job);
        self.queue
            .run(&parts[..count], deadline_us)
            .map_err(error_of)?;
        self.ended(0)
    }

    /// Describes jobs that are to be carried out at the same time, at most [`MOST_AT_ONCE`].
    fn describe(&mut self, jobs: &[Job]) -> Result<Vec<u16>, DiskError> {
        let jobs = jobs.iter().enumerate();
        let parts: Vec<_> = jobs
            .map(|(number, job)| self.prepare(number, job))
            .collect();
        let requests: Vec<&[Part]> = parts
            .iter()
            .map(|(parts, count)| &parts[..*count])
            .collect();
        self.queue.describe(&requests).map_err(error_of)
    }

    /// How the job with this number ended.
    fn ended(&self, number: usize) -> Result<Ended, DiskError> {
        let at = self.slot(number) + RESPONSE_AT;
        let [_, _, status, response] = self.hw.read32(at + RESPONSE_QUALIFIER).to_le_bytes();
        let status = match response {
            response::OK | response::OVERRUN => status,
            response::BUSY | response::RESET => status::BUSY,
            // It is gone, or was never there.
            response::BAD_TARGET | response::INCORRECT_LUN => return Err(DiskError::NotReady),
            _ => return Err(DiskError::Controller),
        };
        let status = match status {
            status::GOOD => Status::Good,
            status::CHECK_CONDITION => {
                let len = self.hw.read32(at + RESPONSE_SENSE_LEN);
                let brought = (1..=SENSE_SIZE).contains(&len).then(|| {
                    let mut sense = [0; SENSE_LEN];
                    let len = SENSE_LEN.min(len as usize);
                    self.hw.read(at + RESPONSE_SENSE, &mut sense[..len]);
                    sense
                });
                Status::Check(brought)
            }
            status::BUSY | status::TASK_SET_FULL => Status::Busy,
            _ => return Err(DiskError::Controller),
        };
        Ok(Ended {
            status,
            residual: self.hw.read32(at + RESPONSE_RESIDUAL),
        })
    }

    /// Resets the device, which gives up all that it was doing.
    fn recover(&mut self) -> Result<(), DiskError> {
        self.device.begin(0).map_err(|_| DiskError::Controller)?;
        self.device.reconnect(&mut self.queue);
        self.device.start();
        Ok(())
    }

    /// Asks all of these targets for their logical units: the same requests over and over, but for the target.
    fn survey(&mut self, targets: &[u8]) -> Result<Vec<Address>, DiskError> {
        const FIRST_LEN: u32 = LUN_LIST_HEADER + LUN_LEN;
        let buffers = (self.lists()..).step_by(FIRST_LEN as usize);
        let jobs: Vec<Job> = buffers
            .take(MOST_AT_ONCE.min(targets.len()))
            .map(|buffer| Job::report_luns(0, buffer, FIRST_LEN))
            .collect();
        let heads = self.describe(&jobs)?;
        let mut found = Vec::new();
        let mut longer = Vec::new();
        for targets in targets.chunks(MOST_AT_ONCE) {
            let len = u64::from(FIRST_LEN) * targets.len() as u64;
            self.hw.fill(self.lists(), len, 0);
            for (number, &target) in targets.iter().enumerate() {
                let slot = self.slot(number);
                self.hw.write8(slot + REQUEST_TARGET, target);
                let response = slot + RESPONSE_AT + RESPONSE_RESPONSE;
                self.hw.write8(response, response::NONE);
            }
            self.queue
                .run_described(&heads[..targets.len()], LUNS_US)
                .map_err(error_of)?;
            let lists = (self.lists()..).step_by(FIRST_LEN as usize);
            for ((number, &target), list) in targets.iter().enumerate().zip(lists) {
                let response = self.slot(number) + RESPONSE_AT + RESPONSE_RESPONSE;
                if self.hw.read8(response) == response::BAD_TARGET {
                    continue;
                }
                let luns = match self.ended(number) {
                    Err(DiskError::NotReady) => continue,
                    Ok(ended) if ended.status == Status::Good => {
                        let mut answer = [0; FIRST_LEN as usize];
                        self.hw.read(list, &mut answer);
                        let (luns, len) = reported(&answer);
                        if len > LUN_LEN {
                            longer.push(target);
                            continue;
                        }
                        luns
                    }
                    // It does not know the command, or has something else to say: there is something.
                    _ => [0].into(),
                };
                found.extend(luns.into_iter().map(|lun| Address { target, lun }));
            }
        }
        for target in longer {
            let luns = self.all_luns(target)?;
            found.extend(luns.into_iter().map(|lun| Address { target, lun }));
        }
        found.sort_unstable_by_key(|address| (address.target, address.lun));
        Ok(found)
    }

    /// Sends each of these units the same command, many at a time. `None` of those that have something else to say than `N` bytes.
    fn ask<const N: usize>(
        &mut self,
        units: &[Address],
        block: &[u8],
    ) -> Result<Vec<Option<[u8; N]>>, DiskError> {
        const { assert!(N * MOST_AT_ONCE <= LUNS_LEN as usize) };
        let mut whole = [0; 16];
        whole[..block.len()].copy_from_slice(block);
        let mut answers = Vec::with_capacity(units.len());
        for units in units.chunks(MOST_AT_ONCE) {
            self.hw.fill(self.lists(), (N * units.len()) as u64, 0);
            let buffers = (self.lists()..).step_by(N);
            let jobs: Vec<Job> = units
                .iter()
                .zip(buffers)
                .map(|(&address, buffer)| Job {
                    address,
                    block: whole,
                    data: Data::In {
                        buffer,
                        len: N as u32,
                    },
                })
                .collect();
            let heads = self.describe(&jobs)?;
            self.queue
                .run_described(&heads, QUICK_US)
                .map_err(error_of)?;
            for (number, buffer) in (0..units.len()).zip((self.lists()..).step_by(N)) {
                let good = matches!(self.ended(number), Ok(ended) if ended.status == Status::Good);
                answers.push(good.then(|| {
                    let mut answer = [0; N];
                    self.hw.read(buffer, &mut answer);
                    answer
                }));
            }
        }
        Ok(answers)
    }

    /// Asks all units at once what they are, and the disks among them how large, so that many of them take little longer than one.
    fn ask_all(&mut self, units: &[Address]) -> Result<Vec<Answered>, DiskError> {
        let answers = self.ask(units, &scsi::INQUIRY)?;
        let mut answered: Vec<Answered> = answers
            .iter()
            .map(|answer| match answer.as_ref().map(scsi::identity) {
                None => Answered::Unclear,
                Some(None) => Answered::NoDrive,
                Some(Some(identity)) if identity.kind == Kind::CdRom => Answered::Cd(identity),
                Some(Some(identity)) => Answered::Disk {
                    identity,
                    size: None,
                    geometry: Chs::default(),
                    read_only: false,
                },
            })
            .collect();
        // After a reset the first answer is only that there was one.
        for _ in 0..2 {
            let open: Vec<usize> = (0..units.len())
                .filter(|&index| matches!(answered[index], Answered::Disk { size: None, .. }))
                .collect();
            let asked: Vec<Address> = open.iter().map(|&index| units[index]).collect();
            let answers = self.ask(&asked, &scsi::READ_CAPACITY)?;
            for (index, answer) in open.into_iter().zip(answers) {
                if let Answered::Disk { size, .. } = &mut answered[index] {
                    *size = answer.and_then(scsi::capacity_10);
                }
            }
        }
        let answers = self.ask(units, &scsi::MODE_SENSE_GEOMETRY)?;
        for (answered, answer) in answered.iter_mut().zip(answers) {
            if let (
                Answered::Disk {
                    size,
                    geometry,
                    read_only,
                    ..
                },
                Some(answer),
            ) = (answered, answer)
            {
                *read_only = scsi::is_read_only(&answer);
                // Heads and cylinders are for sectors of 512 bytes, whatever the disk has.
                if let Some((sectors, UNIT)) = *size {
                    *geometry = scsi::geometry(answer, sectors);
                }
            }
        }
        Ok(answered)
    }

    /// The logical units of a target that has more than one.
    fn all_luns(&mut self, target: u8) -> Result<Vec<u16>, DiskError> {
        let job = Job::report_luns(target, self.lists(), LUNS_LEN as u32);
        self.hw.fill(self.lists(), LUNS_LEN, 0);
        if self.run(&job, LUNS_US)?.status != Status::Good {
            return Ok([0].into());
        }
        let mut answer = [0; LUNS_LEN as usize];
        self.hw.read(self.lists(), &mut answer);
        let (luns, len) = reported(&answer);
        if len > LUNS_LEN as u32 - LUN_LIST_HEADER {
            log::warn!("SCSI target {target}: it has too many units: the rest is left out");
        }
        Ok(luns)
    }
}

fn error_of(fault: Fault) -> DiskError {
    match fault {
        Fault::Silent => DiskError::Timeout,
        _ => DiskError::Controller,
    }
}

/// The way to one logical unit.
struct Unit<H> {
    adapter: Arc<Mutex<Adapter<H>>>,
    address: Address,
}

impl<H: Handle> Transport for Unit<H> {
    fn run(&mut self, command: &Command) -> Result<Status, DiskError> {
        let job = Job {
            address: self.address,
            block: command.block,
            data: command.data,
        };
        let ended = self.adapter.lock().run(&job, command.deadline_us)?;
        if command.whole && ended.status == Status::Good && ended.residual != 0 {
            return Err(DiskError::Controller);
        }
        Ok(ended.status)
    }

    fn recover(&mut self) -> Result<(), DiskError> {
        self.adapter.lock().recover()
    }
}

/// What the adapter says that it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Config {
    most_target: u8,
    most_lun: u16,
    most_bytes: u32,
}

impl Config {
    fn read<H: Handle>(device: &Device<H>) -> Self {
        let most_sectors = device.config32(CONFIG_MAX_SECTORS);
        Self {
            most_target: (device.config32(CONFIG_MAX_CHANNEL) >> 16).min(TARGETS) as u8,
            most_lun: device.config32(CONFIG_MAX_LUN).min(LUNS) as u16,
            most_bytes: most_sectors.saturating_mul(UNIT).min(MOST_BYTES),
        }
    }
}

/// Finds the disks and CD drives of a virtio SCSI function.
pub fn probe<H: Handle>(function: &Function<H>) -> Vec<Found> {
    function.enable_bus_master();
    look(function).unwrap_or_else(|why| {
        [Found::Unusable {
            kind: Kind::HardDisk,
            name: Name::new(format!(
                "Virtio SCSI adapter at PCI {}",
                function.device().bdf
            )),
            place: function.place(String::new()),
            why,
        }]
        .into()
    })
}

fn look<H: Handle>(function: &Function<H>) -> Result<Vec<Found>, String> {
    let mut adapter = Adapter::open(function)?;
    let config = Config::read(&adapter.device);
    let targets = match function.wanted() {
        None => (0..=config.most_target).collect(),
        Some(wanted) => targets_of(wanted, config.most_target),
    };
    let mut addresses = adapter.survey(&targets).map_err(|error| match error {
        DiskError::Timeout => format!("{}", Fault::Silent),
        _ => format!("{}", Fault::Nonsense),
    })?;
    addresses.retain(|&Address { target, lun }| {
        lun <= config.most_lun && function.wants(|| format!("channel@0/disk@{target:x},{lun:x}"))
    });
    let mut answers = adapter.ask_all(&addresses).unwrap_or_default();
    if answers.len() < addresses.len() && adapter.recover().is_err() {
        return Err(format!("{}", Fault::Silent));
    }
    answers.resize_with(addresses.len(), || Answered::Unclear);
    let adapter = Arc::new(Mutex::new(adapter));
    let mut found = Vec::new();
    let mut silent = 0;
    for (address, answer) in addresses.into_iter().zip(answers) {
        match look_at(function, &adapter, address, answer, config.most_bytes) {
            Ok(Some(disk)) => found.push(Found::Device(Box::new(disk))),
            Ok(None) => {}
            Err(error) => {
                found.push(Found::Unusable {
                    kind: Kind::HardDisk,
                    name: name(function, address),
                    place: unit_place(function, address),
                    why: format!("it does not say what it is: {error:?}"),
                });
                silent += u32::from(error == DiskError::Timeout);
                if silent == MOST_SILENT || adapter.lock().recover().is_err() {
                    log::warn!("PCI {}: the rest is left out", function.device().bdf);
                    break;
                }
            }
        }
    }
    Ok(found)
}

/// The targets that paths name, given the nodes behind the adapter, up to the last one that there may be.
fn targets_of<'a>(paths: impl Iterator<Item = &'a str>, most: u8) -> Vec<u8> {
    let mut targets = Vec::new();
    for nodes in paths {
        let target = nodes
            .strip_prefix("channel@0/disk@")
            .and_then(|address| address.split(',').next())
            .and_then(|target| u8::from_str_radix(target, 16).ok())
            .filter(|target| *target <= most && !targets.contains(target));
        targets.extend(target);
    }
    targets
}

fn name<H: Handle>(function: &Function<H>, Address { target, lun }: Address) -> Name {
    let bdf = function.device().bdf;
    Name::new(fmt::from_fn(move |f| {
        write!(f, "SCSI {target},{lun} at PCI {bdf}")
    }))
}

fn unit_place<H: Handle>(function: &Function<H>, Address { target, lun }: Address) -> Place {
    function.place(format!("channel@0/disk@{target:x},{lun:x}"))
}

/// The drive that a logical unit is, which is asked where its `answer` is not clear.
fn look_at<H: Handle>(
    function: &Function<H>,
    adapter: &Arc<Mutex<Adapter<H>>>,
    address: Address,
    answer: Answered,
    most_bytes: u32,
) -> Result<Option<ScsiDisk<H, Unit<H>>>, DiskError> {
    if matches!(answer, Answered::NoDrive) {
        return Ok(None);
    }
    // Identifier, then logical unit.
    let mut device = [0; 16];
    device[0] = address.target;
    device[2..4].copy_from_slice(&address.lun.to_le_bytes());
    let found = scsi::Found {
        name: name(function, address),
        place: unit_place(function, address),
        edd: Some(EddPath {
            bus: EddBus::Pci(function.device().bdf),
            interface: *b"SCSI    ",
            device,
            ata: None,
        }),
        most_bytes,
        dma: Some(Dma {
            align: 1,
            ..Dma::ALL
        }),
    };
    let unit = Unit {
        adapter: adapter.clone(),
        address,
    };
    let hw = function.hw();
    match answer {
        Answered::Cd(identity) => Ok(ScsiDisk::new(hw, unit, identity, found)),
        Answered::Disk {
            identity,
            size: Some((sectors, size)),
            geometry,
            read_only,
        } => {
            let disk = ScsiDisk::new(hw, unit, identity, found);
            Ok(disk.map(|disk| {
                disk.with_size(sectors, size, geometry)
                    .with_protection(read_only)
            }))
        }
        _ => ScsiDisk::probe(hw, unit, found),
    }
}
