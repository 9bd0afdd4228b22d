//! NVMe controllers and their namespaces.
//!
//! One pair of I/O queues a controller, and one command at a time: its end is seen in memory, so that a read costs two register
//! accesses. Interrupts are masked. The guest's driver resets the controller, as it would any other.
//!
//! Sources: NVM Express Base Specification 1.4, sections 3.1 (registers), 4 (data structures), 5 (admin commands), 6 (NVM
//! commands), 7.6.1 (initialisation). Names of structures are its own.

mod identify;
#[cfg(test)]
mod tests;

use super::drivers::Function;
use super::{ANSWER_US, BlockDevice, Chs, DiskError, DiskInfo, Dma, Found, Kind, Limits, Request};
use crate::arch::Handle;
use crate::devices::pci::Bdf;
use crate::devices::poll;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use identify::{Controller as Identity, DATA_LEN, Data, Namespace};
use spin::Mutex;

/// PCI class, subclass and programming interface of NVMe controllers.
pub const PCI_CLASS: u32 = 0x01_0802;

/// Registers.
const CAP: u64 = 0x00;
const INTMS: u64 = 0x0c;
const CC: u64 = 0x14;
const CSTS: u64 = 0x1c;
const AQA: u64 = 0x24;
const ASQ: u64 = 0x28;
const ACQ: u64 = 0x30;
const DOORBELLS: u64 = 0x1000;
/// Controller configuration: on, with entries of 64 and 16 bytes; pages of 4 KiB and the NVM command set are zeros.
const CC_ENABLE: u32 = 1 | 6 << 16 | 4 << 20;
/// Controller status: ready; fatal.
const READY: u32 = 1 << 0;
const FATAL: u32 = 1 << 1;

/// Admin commands, I/O commands.
const CREATE_SUBMISSION: u8 = 0x01;
const CREATE_COMPLETION: u8 = 0x05;
const IDENTIFY: u8 = 0x06;
const FLUSH: u8 = 0x00;
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;
/// What is identified.
const NAMESPACE: u32 = 0;
const CONTROLLER: u32 = 1;
const NAMESPACES: u32 = 2;

const PAGE: u64 = 4096;
/// Pages that a controller takes: four queues, and one for what it says of itself and then for lists of pages.
const PAGES: u64 = 5;
/// Entries of a queue.
const ENTRIES: u16 = 8;
/// Bytes of an entry of a completion queue.
const COMPLETION_LEN: u64 = 16;
/// Entries of a list of pages, which limits a transfer.
const LIST_ENTRIES: u64 = PAGE / 8;
/// Most namespaces of a controller that are looked at.
const MOST_NAMESPACES: usize = 128;
/// What the controller's own time limit counts.
const READY_UNIT_US: u64 = 500_000;

/// A submission and a completion queue.
struct Pair {
    id: u16,
    submission: u64,
    completion: u64,
    tail: u16,
    head: u16,
    phase: bool,
}

impl Pair {
    fn new(id: u16, memory: u64) -> Self {
        Self {
            id,
            submission: memory,
            completion: memory + PAGE,
            tail: 0,
            head: 0,
            phase: true,
        }
    }
}

/// What a command has beside its opcode.
#[derive(Clone, Copy, Debug, Default)]
struct Command {
    opcode: u8,
    namespace: u32,
    pages: [u64; 2],
    words: [u32; 3],
}

/// Which of the two pairs of queues.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Admin,
    Io,
}

/// A controller, which its namespaces share.
struct Controller<H> {
    hw: H,
    regs: u64,
    /// Distance of two doorbells.
    stride: u64,
    ready_us: u64,
    memory: u64,
    admin: Pair,
    io: Pair,
    last_id: u16,
}

impl<H: Handle> Controller<H> {
    fn new(hw: H, regs: u64) -> Result<Self, String> {
        let capabilities =
            u64::from(hw.read32(regs + CAP)) | u64::from(hw.read32(regs + CAP + 4)) << 32;
        if capabilities == u64::MAX {
            return Err("its registers do not answer".into());
        }
        if capabilities >> 48 & 15 != 0 {
            return Err("it has no pages of 4 KiB".into());
        }
        let memory = hw
            .dma_buffer((PAGES * PAGE) as usize, PAGE as usize)
            .ok_or("no memory is left for it")?;
        Ok(Self {
            hw,
            regs,
            stride: 4 << (capabilities >> 32 & 15),
            ready_us: (capabilities >> 24 & 0xff).max(1) * READY_UNIT_US,
            memory,
            admin: Pair::new(0, memory),
            io: Pair::new(1, memory + 2 * PAGE),
            last_id: 0,
        })
    }

    fn set(&self, register: u64, value: u32) {
        self.hw.write32(self.regs + register, value);
    }

    fn set64(&self, register: u64, value: u64) {
        self.set(register, value as u32);
        self.set(register + 4, (value >> 32) as u32);
    }

    /// The page for what the controller says of itself, and for lists of pages.
    fn page(&self) -> u64 {
        self.memory + 4 * PAGE
    }

    /// Waits until the controller is ready, or is no more.
    fn wait(&self, ready: bool) -> Result<(), DiskError> {
        poll::sparsely(&self.hw, self.ready_us, || {
            let status = self.hw.read32(self.regs + CSTS);
            if status & FATAL != 0 && ready || status == u32::MAX {
                return Some(Err(DiskError::Controller));
            }
            ((status & READY != 0) == ready).then_some(Ok(()))
        })
        .unwrap_or(Err(DiskError::Timeout))
    }

    /// Resets the controller and gives it its queues.
    fn start(&mut self) -> Result<(), DiskError> {
        self.set(CC, 0);
        self.wait(false)?;
        self.admin = Pair::new(0, self.memory);
        self.io = Pair::new(1, self.memory + 2 * PAGE);
        for pair in [&self.admin, &self.io] {
            self.hw
                .fill(pair.completion, COMPLETION_LEN * u64::from(ENTRIES), 0);
        }
        let size = u32::from(ENTRIES - 1);
        self.set(AQA, size << 16 | size);
        self.set64(ASQ, self.admin.submission);
        self.set64(ACQ, self.admin.completion);
        self.set(CC, CC_ENABLE);
        self.wait(true)?;
        self.set(INTMS, u32::MAX);
        // Physically contiguous, without interrupts; the submission queue's completions go to the completion queue 1.
        const CONTIGUOUS: u32 = 1;
        let (submission, completion) = (self.io.submission, self.io.completion);
        let create = |opcode, memory, flags| Command {
            opcode,
            pages: [memory, 0],
            words: [size << 16 | 1, flags, 0],
            ..Command::default()
        };
        self.run(
            Way::Admin,
            create(CREATE_COMPLETION, completion, CONTIGUOUS),
            ANSWER_US,
        )?;
        self.run(
            Way::Admin,
            create(CREATE_SUBMISSION, submission, CONTIGUOUS | 1 << 16),
            ANSWER_US,
        )
    }

    /// Carries out one command.
    fn run(&mut self, way: Way, command: Command, timeout_us: u64) -> Result<(), DiskError> {
        self.last_id = self.last_id.wrapping_add(1);
        let id = self.last_id;
        let (hw, doorbells, stride) = (self.hw.clone(), self.regs + DOORBELLS, self.stride);
        let pair = match way {
            Way::Admin => &mut self.admin,
            Way::Io => &mut self.io,
        };
        let mut entry = [0; 64];
        entry[..4]
            .copy_from_slice(&(u32::from(command.opcode) | u32::from(id) << 16).to_le_bytes());
        entry[4..8].copy_from_slice(&command.namespace.to_le_bytes());
        for (at, page) in [24, 32].into_iter().zip(command.pages) {
            entry[at..at + 8].copy_from_slice(&page.to_le_bytes());
        }
        for (at, word) in [40, 44, 48].into_iter().zip(command.words) {
            entry[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        hw.write(pair.submission + 64 * u64::from(pair.tail), &entry);
        pair.tail = (pair.tail + 1) % ENTRIES;
        let doorbell = doorbells + 2 * u64::from(pair.id) * stride;
        hw.write32(doorbell, pair.tail.into());
        let ended = pair.completion + COMPLETION_LEN * u64::from(pair.head) + 12;
        let word = poll::sparsely(&hw, timeout_us, || {
            Some(hw.read32(ended)).filter(|word| (word >> 16 & 1 != 0) == pair.phase)
        })
        .ok_or(DiskError::Timeout)?;
        pair.head = (pair.head + 1) % ENTRIES;
        pair.phase ^= pair.head == 0;
        hw.write32(doorbell + stride, pair.head.into());
        if word as u16 != id {
            return Err(DiskError::Controller);
        }
        check(word >> 17 & 0x7ff)
    }

    fn identify(&mut self, what: u32, namespace: u32, data: &mut Data) -> Result<(), DiskError> {
        let page = self.page();
        self.hw.fill(page, DATA_LEN as u64, 0);
        self.run(
            Way::Admin,
            Command {
                opcode: IDENTIFY,
                namespace,
                pages: [page, 0],
                words: [what, 0, 0],
            },
            ANSWER_US,
        )?;
        self.hw.read(page, data);
        Ok(())
    }

    /// The two words that tell the controller where the data is: the first page, then the second or a list of all others.
    fn pages(&self, buffer: u64, len: u64) -> [u64; 2] {
        let end = buffer + len;
        let second = (buffer & !(PAGE - 1)) + PAGE;
        if end <= second {
            return [buffer, 0];
        }
        if end <= second + PAGE {
            return [buffer, second];
        }
        let pages = (second..end).step_by(PAGE as usize);
        for (entry, page) in (self.page()..).step_by(8).zip(pages) {
            self.hw.write64(entry, page);
        }
        [buffer, self.page()]
    }
}

/// What a completion's status (code 7:0, type 10:8) means.
fn check(status: u32) -> Result<(), DiskError> {
    match (status >> 8, status & 0xff) {
        (0, 0) => Ok(()),
        (0, 0x80) => Err(DiskError::SectorNotFound),
        (0, 0x82) => Err(DiskError::NotReady),
        (0, 0x20) | (1, 0x82) => Err(DiskError::WriteProtected),
        (0, 0x01..=0x0f) => Err(DiskError::BadRequest),
        (2, _) => Err(DiskError::Media),
        _ => Err(DiskError::Controller),
    }
}

/// Finds the namespaces of a controller.
pub fn probe<H: Handle>(function: &Function<H>) -> Vec<Found> {
    let name = Name(function.device().bdf);
    look(function, name).unwrap_or_else(|why| {
        [Found::Unusable {
            kind: Kind::HardDisk,
            name: format!("{name}"),
            place: function.place(String::new()),
            why,
        }]
        .into()
    })
}

/// What a person calls a controller.
#[derive(Clone, Copy)]
struct Name(Bdf);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NVMe controller at PCI {}", self.0)
    }
}

fn look<H: Handle>(function: &Function<H>, name: Name) -> Result<Vec<Found>, String> {
    let regs = function
        .device()
        .memory(0)
        .ok_or("its registers have no address")?;
    function.enable_bus_master();
    let mut controller = Controller::new(function.hw(), regs)?;
    let said = |error: DiskError| match error {
        DiskError::Timeout => "it does not answer".into(),
        error => format!("{error:?}"),
    };
    controller.start().map_err(said)?;
    let mut data = [0; DATA_LEN];
    controller
        .identify(CONTROLLER, 0, &mut data)
        .map_err(said)?;
    let identity = Identity::read(&data);
    let ids = match controller.identify(NAMESPACES, 0, &mut data) {
        Ok(()) => identify::namespaces(&data).collect(),
        // Before version 1.1 there was no such list.
        Err(_) => (1..=identity.namespaces)
            .take(MOST_NAMESPACES)
            .collect::<Vec<_>>(),
    };
    if ids.len() >= MOST_NAMESPACES {
        log::warn!("{name}: more than {MOST_NAMESPACES} namespaces: the rest is left out");
    }
    let controller = Arc::new(Mutex::new(controller));
    let mut found = Vec::new();
    for id in ids.into_iter().take(MOST_NAMESPACES) {
        let unit = || format!("namespace@{id:x},0");
        if !function.wants(unit) {
            continue;
        }
        let result = controller.lock().identify(NAMESPACE, id, &mut data);
        let namespace = match result.map(|()| Namespace::read(&data)) {
            Ok(Ok(namespace)) => namespace,
            Ok(Err(why)) => {
                found.push(Found::Unusable {
                    kind: Kind::HardDisk,
                    name: format!("{} (namespace {id} of {name})", identity.model),
                    place: function.place(unit()),
                    why,
                });
                continue;
            }
            Err(error) => {
                log::warn!("{name}: namespace {id}: {error:?}");
                continue;
            }
        };
        let Some(namespace) = namespace else {
            continue;
        };
        found.push(Found::Device(Box::new(Disk {
            info: DiskInfo {
                kind: Kind::HardDisk,
                name: format!("{} (namespace {id} of {name})", identity.model),
                sector_size: namespace.sector_size,
                sectors: namespace.sectors,
                geometry: Chs::default(),
                limits: Limits {
                    sectors: identity.most_bytes(LIST_ENTRIES * PAGE) / namespace.sector_size,
                    dma: Some(Dma {
                        align: 4,
                        ..Dma::ALL
                    }),
                },
                place: function.place(unit()),
                edd: None,
            },
            id,
            flushes: identity.has_cache,
            read_only: namespace.read_only,
            controller: controller.clone(),
        })));
    }
    Ok(found)
}

/// A namespace.
struct Disk<H> {
    info: DiskInfo,
    id: u32,
    flushes: bool,
    read_only: bool,
    controller: Arc<Mutex<Controller<H>>>,
}

impl<H: Handle> BlockDevice for Disk<H> {
    fn info(&self) -> &DiskInfo {
        &self.info
    }

    fn transfer(&mut self, request: &Request) -> Result<(), DiskError> {
        if request.writes() && self.read_only {
            return Err(DiskError::WriteProtected);
        }
        let mut controller = self.controller.lock();
        let len = u64::from(request.count) * u64::from(self.info.sector_size);
        let command = Command {
            opcode: if request.writes() { WRITE } else { READ },
            namespace: self.id,
            pages: controller.pages(request.buffer, len),
            words: [
                request.lba as u32,
                (request.lba >> 32) as u32,
                request.count - 1,
            ],
        };
        controller.run(Way::Io, command, request.deadline_us)
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        if !self.flushes {
            return Ok(());
        }
        let command = Command {
            opcode: FLUSH,
            namespace: self.id,
            ..Command::default()
        };
        self.controller
            .lock()
            .run(Way::Io, command, super::FLUSH_US)
    }

    fn recover(&mut self) -> Result<(), DiskError> {
        self.controller.lock().start()
    }
}
