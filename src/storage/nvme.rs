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

use super::drivers::{Function, Search};
use super::{ANSWER_US, BlockDevice, Chs, DiskError, DiskInfo, Dma, Found, Kind, Limits, Request};
use crate::arch::Handle;
use crate::devices::name::Name;
use crate::devices::pci::Bdf;
use crate::devices::place::Place;
use crate::devices::poll;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::mem;
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
/// What the pages behind the queues are for: what the controller and then a namespace say of themselves, and then lists of pages;
/// which namespaces there are.
const ANSWERS: u64 = 0;
const LISTS: u64 = ANSWERS;
const NUMBERS: u64 = 1;
/// Pages that a controller takes: four queues, and these two.
const PAGES: u64 = 6;
/// Entries of a queue.
const ENTRIES: u16 = 8;
/// Bytes of an entry of a submission queue, and of a completion queue.
const ENTRY_LEN: u64 = 64;
const COMPLETION_LEN: u64 = 16;
/// Entries of a list of pages, which limits a transfer.
const LIST_ENTRIES: u64 = PAGE / 8;
/// No status that a completion has: the command did not end.
const NO_STATUS: u32 = u32::MAX;
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
    /// The number of the first command that is under way, and how many are.
    first: u16,
    under_way: u16,
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
            first: 0,
            under_way: 0,
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
        })
    }

    fn set(&self, register: u64, value: u32) {
        self.hw.write32(self.regs + register, value);
    }

    fn set64(&self, register: u64, value: u64) {
        self.set(register, value as u32);
        self.set(register + 4, (value >> 32) as u32);
    }

    /// A page of those behind the queues.
    fn page(&self, number: u64) -> u64 {
        self.memory + (4 + number) * PAGE
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

    /// Begins a reset.
    fn stop(&self) {
        self.set(CC, 0);
    }

    /// Gives a controller that was reset its admin queues, and lets it start.
    fn enable(&mut self) -> Result<(), DiskError> {
        self.wait(false)?;
        self.admin = Pair::new(0, self.memory);
        self.io = Pair::new(1, self.memory + 2 * PAGE);
        // What no command uses of an entry stays zero.
        for pair in [&self.admin, &self.io] {
            let entries = u64::from(ENTRIES);
            self.hw.fill(pair.submission, ENTRY_LEN * entries, 0);
            self.hw.fill(pair.completion, COMPLETION_LEN * entries, 0);
        }
        let size = u32::from(ENTRIES - 1);
        self.set(AQA, size << 16 | size);
        self.set64(ASQ, self.admin.submission);
        self.set64(ACQ, self.admin.completion);
        self.set(CC, CC_ENABLE);
        Ok(())
    }

    /// Waits until the controller takes commands.
    fn started(&self) -> Result<(), DiskError> {
        self.wait(true)?;
        self.set(INTMS, u32::MAX);
        Ok(())
    }

    /// Resets the controller and gives it its queues.
    fn restart(&mut self) -> Result<(), DiskError> {
        self.stop();
        self.enable()?;
        self.started()?;
        self.run(Way::Admin, self.completion_queue(), ANSWER_US)?;
        self.run(Way::Admin, self.submission_queue(), ANSWER_US)
    }

    /// Creates the I/O completion queue: physically contiguous, without interrupts.
    fn completion_queue(&self) -> Command {
        self.create(CREATE_COMPLETION, self.io.completion, 0)
    }

    /// Creates the I/O submission queue, whose completions go to the queue of the same number, which has to be there.
    fn submission_queue(&self) -> Command {
        self.create(CREATE_SUBMISSION, self.io.submission, self.io.id)
    }

    fn create(&self, opcode: u8, memory: u64, completions: u16) -> Command {
        const CONTIGUOUS: u32 = 1;
        let id = u32::from(self.io.id);
        Command {
            opcode,
            pages: [memory, 0],
            words: [
                u32::from(ENTRIES - 1) << 16 | id,
                u32::from(completions) << 16 | CONTIGUOUS,
                0,
            ],
            ..Command::default()
        }
    }

    fn pair(&mut self, way: Way) -> &mut Pair {
        match way {
            Way::Admin => &mut self.admin,
            Way::Io => &mut self.io,
        }
    }

    /// Carries out one command.
    fn run(&mut self, way: Way, command: Command, timeout_us: u64) -> Result<(), DiskError> {
        self.issue(way, &[command]);
        check(self.ended(way, timeout_us)?[0])
    }

    /// Lets the controller begin with commands, fewer than a queue has entries, of which none is under way.
    fn issue(&mut self, way: Way, commands: &[Command]) {
        let (hw, doorbells, stride) = (self.hw.clone(), self.regs + DOORBELLS, self.stride);
        let pair = self.pair(way);
        pair.first = pair.first.wrapping_add(pair.under_way);
        pair.under_way = commands.len() as u16;
        for (number, command) in (0..pair.under_way).zip(commands) {
            let id = pair.first.wrapping_add(number);
            let entry = pair.submission + ENTRY_LEN * u64::from(pair.tail);
            let [first, second] = command.pages;
            let [tenth, eleventh, twelfth] = command.words.map(u64::from);
            let head = u32::from(command.opcode) | u32::from(id) << 16;
            hw.write64(entry, u64::from(head) | u64::from(command.namespace) << 32);
            hw.write64(entry + 24, first);
            hw.write64(entry + 32, second);
            hw.write64(entry + 40, tenth | eleventh << 32);
            hw.write64(entry + 48, twelfth);
            pair.tail = (pair.tail + 1) % ENTRIES;
        }
        hw.write32(
            doorbells + 2 * u64::from(pair.id) * stride,
            pair.tail.into(),
        );
    }

    /// Waits for the end of all commands that are under way, and tells the status of each.
    fn ended(&mut self, way: Way, timeout_us: u64) -> Result<[u32; ENTRIES as usize], DiskError> {
        let (hw, doorbells, stride) = (self.hw.clone(), self.regs + DOORBELLS, self.stride);
        let pair = self.pair(way);
        let mut statuses = [NO_STATUS; ENTRIES as usize];
        let mut sound = true;
        for _ in 0..pair.under_way {
            let ended = pair.completion + COMPLETION_LEN * u64::from(pair.head) + 12;
            let word = poll::sparsely(&hw, timeout_us, || {
                Some(hw.read32(ended)).filter(|word| (word >> 16 & 1 != 0) == pair.phase)
            })
            .ok_or(DiskError::Timeout)?;
            pair.head = (pair.head + 1) % ENTRIES;
            pair.phase ^= pair.head == 0;
            let number = (word as u16).wrapping_sub(pair.first);
            sound &= number < pair.under_way;
            if let Some(status) = statuses.get_mut(usize::from(number)) {
                *status = word >> 17 & 0x7ff;
            }
        }
        hw.write32(
            doorbells + (2 * u64::from(pair.id) + 1) * stride,
            pair.head.into(),
        );
        if sound {
            Ok(statuses)
        } else {
            Err(DiskError::Controller)
        }
    }

    /// What it takes to know `what`; the answer goes to the page with this number.
    fn identify(&self, what: u32, namespace: u32, page: u64) -> Command {
        let page = self.page(page);
        // Neither a list nor a namespace, should the controller write nothing.
        self.hw.write64(page, 0);
        Command {
            opcode: IDENTIFY,
            namespace,
            pages: [page, 0],
            words: [what, 0, 0],
        }
    }

    /// The answer.
    fn identified(&self, page: u64, data: &mut Data) {
        self.hw.read(self.page(page), data);
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
        let list = self.page(LISTS);
        let pages = (second..end).step_by(PAGE as usize);
        for (entry, page) in (list..).step_by(8).zip(pages) {
            self.hw.write64(entry, page);
        }
        [buffer, list]
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

/// What a person calls a controller.
#[derive(Clone, Copy)]
struct ControllerName(Bdf);

impl fmt::Display for ControllerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NVMe controller at PCI {}", self.0)
    }
}

/// Looks for the namespaces of a controller.
pub fn search<'a, H: Handle>(function: Function<'a, H>) -> Box<dyn Search + 'a> {
    let begun = function
        .device()
        .memory(0)
        .ok_or("its registers have no address".into())
        .and_then(|regs| {
            function.enable_bus_master();
            Controller::new(function.hw(), regs)
        });
    if let Ok(controller) = &begun {
        controller.stop();
    }
    Box::new(Look {
        function,
        controller: begun,
        asked: Asked::ToStop,
    })
}

/// A look for namespaces.
struct Look<'a, H> {
    function: Function<'a, H>,
    /// The controller, or why it cannot be used.
    controller: Result<Controller<H>, String>,
    asked: Asked,
}

/// What the controller was asked last.
enum Asked {
    /// To stop.
    ToStop,
    /// To start.
    ToStart,
    /// For its completion queue, what it is, and which namespaces it has.
    WhatItIs,
    /// For its submission queue and what the first of its namespaces is.
    WhatItHas {
        identity: Identity,
        ids: Vec<u32>,
        first: Result<(), DiskError>,
    },
}

impl<H: Handle> Search for Look<'_, H> {
    fn go_on(&mut self) -> Option<Vec<Found>> {
        if let Ok(controller) = &mut self.controller {
            match ask(&self.function, controller, &mut self.asked) {
                Ok(false) => return None,
                Ok(true) => {}
                Err(DiskError::Timeout) => self.controller = Err("it does not answer".into()),
                Err(error) => self.controller = Err(format!("{error:?}")),
            }
        }
        let over = Err(String::new());
        Some(
            match (mem::replace(&mut self.controller, over), &self.asked) {
                (
                    Ok(controller),
                    Asked::WhatItHas {
                        identity,
                        ids,
                        first,
                    },
                ) => namespaces(&self.function, controller, identity, ids, *first),
                (Ok(_), _) => Vec::new(),
                (Err(why), _) => [Found::Unusable {
                    kind: Kind::HardDisk,
                    name: Name::new(ControllerName(self.function.device().bdf)),
                    place: self.function.place(String::new()),
                    why,
                }]
                .into(),
            },
        )
    }
}

/// Waits for what the controller was asked, and asks for more; whether that was all.
fn ask<H: Handle>(
    function: &Function<H>,
    controller: &mut Controller<H>,
    asked: &mut Asked,
) -> Result<bool, DiskError> {
    match asked {
        Asked::ToStop => {
            controller.enable()?;
            *asked = Asked::ToStart;
        }
        Asked::ToStart => {
            controller.started()?;
            let commands = [
                controller.completion_queue(),
                controller.identify(CONTROLLER, 0, ANSWERS),
                controller.identify(NAMESPACES, 0, NUMBERS),
            ];
            controller.issue(Way::Admin, &commands);
            *asked = Asked::WhatItIs;
        }
        Asked::WhatItIs => {
            let [created, identified, listed, ..] = controller.ended(Way::Admin, ANSWER_US)?;
            check(created)?;
            check(identified)?;
            let mut data = [0; DATA_LEN];
            controller.identified(ANSWERS, &mut data);
            let identity = Identity::read(&data);
            let mut ids = Vec::new();
            if check(listed).is_ok() {
                controller.identified(NUMBERS, &mut data);
                ids.extend(identify::namespaces(&data).take(MOST_NAMESPACES + 1));
            } else {
                // Before version 1.1 there was no such list.
                ids.extend((1..=identity.namespaces).take(MOST_NAMESPACES + 1));
            }
            if ids.len() > MOST_NAMESPACES {
                let name = ControllerName(function.device().bdf);
                log::warn!("{name}: more than {MOST_NAMESPACES} namespaces: the rest is left out");
                ids.truncate(MOST_NAMESPACES);
            }
            ids.retain(|&id| function.wants(|| unit(id)));
            // Where there is none, this one fails, and nobody minds.
            let first = ids.first().copied().unwrap_or(0);
            let commands = [
                controller.submission_queue(),
                controller.identify(NAMESPACE, first, ANSWERS),
            ];
            controller.issue(Way::Admin, &commands);
            *asked = Asked::WhatItHas {
                identity,
                ids,
                first: Ok(()),
            };
        }
        Asked::WhatItHas { first, .. } => {
            let [created, identified, ..] = controller.ended(Way::Admin, ANSWER_US)?;
            check(created)?;
            *first = check(identified);
            return Ok(true);
        }
    }
    Ok(false)
}

/// The namespaces with these numbers, of which the first was asked already.
fn namespaces<H: Handle>(
    function: &Function<H>,
    controller: Controller<H>,
    identity: &Identity,
    ids: &[u32],
    first: Result<(), DiskError>,
) -> Vec<Found> {
    let controller_name = ControllerName(function.device().bdf);
    let controller = Arc::new(Mutex::new(controller));
    let mut asked = Some(first);
    let mut data = [0; DATA_LEN];
    let mut found = Vec::with_capacity(ids.len());
    for &id in ids {
        let mut locked = controller.lock();
        let result = asked.take().unwrap_or_else(|| {
            let command = locked.identify(NAMESPACE, id, ANSWERS);
            locked.run(Way::Admin, command, ANSWER_US)
        });
        locked.identified(ANSWERS, &mut data);
        drop(locked);
        if let Err(error) = result {
            log::warn!("{controller_name}: namespace {id}: {error:?}");
            continue;
        }
        let model = identity.model;
        let name = || {
            Name::new(fmt::from_fn(move |f| {
                write!(f, "{model} (namespace {id} of {controller_name})")
            }))
        };
        let place = || function.place(unit(id));
        match Namespace::read(&data) {
            Ok(None) => {}
            Ok(Some(namespace)) => {
                let disk = Disk::new(&controller, identity, id, namespace, name(), place());
                found.push(Found::Device(Box::new(disk)));
            }
            Err(why) => found.push(Found::Unusable {
                kind: Kind::HardDisk,
                name: name(),
                place: place(),
                why,
            }),
        }
    }
    found
}

/// What QEMU calls a namespace.
fn unit(id: u32) -> String {
    format!("namespace@{id:x},0")
}

/// A namespace.
struct Disk<H> {
    info: DiskInfo,
    id: u32,
    flushes: bool,
    read_only: bool,
    controller: Arc<Mutex<Controller<H>>>,
}

impl<H> Disk<H> {
    fn new(
        controller: &Arc<Mutex<Controller<H>>>,
        identity: &Identity,
        id: u32,
        namespace: Namespace,
        name: Name,
        place: Place,
    ) -> Self {
        Self {
            info: DiskInfo {
                kind: Kind::HardDisk,
                name,
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
                place: place.into(),
                edd: None,
            },
            id,
            flushes: identity.has_cache,
            read_only: namespace.read_only,
            controller: controller.clone(),
        }
    }
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
        self.controller.lock().restart()
    }
}
