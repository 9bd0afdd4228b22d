//! SATA disks and CD drives behind AHCI controllers.
//!
//! True when this code first runs: PCI setup has given the controller its memory. One command slot a port is enough for a caller
//! that waits. The end of a command is seen in memory, where the controller puts the drive's last message, so that a read costs
//! three register accesses.
//!
//! Sources: Serial ATA AHCI 1.3.1; Serial ATA 3.0, section 10.3 (frame information structures).

#[cfg(test)]
mod tests;

use super::ata::identify::{self, CdIdentity, Flush, IDENTIFY_LEN, Identity};
use super::drivers::{Function, Search};
use super::scsi::{self, Data, ScsiDisk, Status, Transport};
use super::{BlockDevice, DiskError, DiskInfo, Dma, Found, Kind, Limits, Request};
use crate::arch::Handle;
use crate::devices::name::Name;
use crate::devices::place::Place;
use crate::devices::poll;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::{fmt, mem};

/// PCI class and subclass of AHCI controllers.
pub const PCI_CLASS: u16 = 0x0106;
/// The base address register with the controller's registers.
const BAR: usize = 5;

/// Registers of the controller: capabilities, global control, ports implemented.
const CAP: u64 = 0x00;
const GHC: u64 = 0x04;
const PI: u64 = 0x0c;
/// Global control: AHCI mode. Interrupts stay off with it.
const GHC_AHCI: u32 = 1 << 31;
/// Capabilities: 64-bit addresses.
const CAP_64: u32 = 1 << 31;
/// First port's registers, and bytes a port.
const PORTS: u64 = 0x100;
const PORT_LEN: u64 = 0x80;
/// Registers of a port.
const CLB: u64 = 0x00;
const FB: u64 = 0x08;
const IS: u64 = 0x10;
const IE: u64 = 0x14;
const CMD: u64 = 0x18;
const TFD: u64 = 0x20;
const SIG: u64 = 0x24;
const SSTS: u64 = 0x28;
const SCTL: u64 = 0x2c;
const SERR: u64 = 0x30;
const CI: u64 = 0x38;

/// Port command: start, spin up, power on, receive messages; and what of it still runs.
const CMD_START: u32 = 1 << 0;
const CMD_SPIN_UP: u32 = 1 << 1;
const CMD_POWER: u32 = 1 << 2;
const CMD_RECEIVE: u32 = 1 << 4;
const CMD_RECEIVING: u32 = 1 << 14;
const CMD_RUNNING: u32 = 1 << 15;
/// Port command of a port that receives messages and takes no commands yet.
const READY: u32 = CMD_RECEIVE | CMD_SPIN_UP | CMD_POWER;
/// Task file: busy, data request, error; fault.
const TFD_BUSY: u32 = 1 << 7 | 1 << 3;
const STATUS_ERROR: u8 = 1 << 0;
const STATUS_FAULT: u8 = 1 << 5;
/// Error: no such sector.
const ID_NOT_FOUND: u8 = 1 << 4;
/// SATA status: a device is there and the link is up.
const PRESENT: u32 = 3;
/// Interrupt status: fatal errors of the bus, the host or the task file.
const FATAL: u32 = 0x7900_0000;
/// Signatures that say what a port has.
const SIGNATURE_DISK: u32 = 0x0000_0101;
const SIGNATURE_PACKET: u32 = 0xeb14_0101;

/// Structures of a port in memory: command list, received messages, command table, what the drive says of itself.
const LIST: u64 = 0x000;
const RECEIVED: u64 = 0x400;
const TABLE: u64 = 0x500;
const IDENTITY: u64 = 0x800;
const AREA_LEN: usize = 0xa00;
const AREA_ALIGN: usize = 0x400;
/// Place of the register message that ends a command, and its type.
const RECEIVED_REGISTERS: u64 = RECEIVED + 0x40;
const REGISTERS_TYPE: u8 = 0x34;
/// Place of a packet device's command block.
const PACKET_BLOCK: u64 = TABLE + 0x40;
/// Place of the descriptors.
const DESCRIPTORS: u64 = TABLE + 0x80;
/// Most bytes of one descriptor.
const DESCRIPTOR_MAX: u64 = 4 << 20;

/// Most sectors of one command, with 48-bit addresses and without: of 4 KiB each, they take 32 descriptors of 40.
const MOST_SECTORS: u32 = 0x8000;
const MOST_SECTORS_28: u32 = 256;
/// Most bytes of one command of a CD drive, which fit the descriptors as well.
const MOST_BYTES: u32 = 16 << 20;
/// A drive tells what it is within this time, and is ready for that after a reset.
const IDENTIFY_US: u64 = 4_000_000;
const PORT_US: u64 = 500_000;
/// A port stops processing commands within 500 ms, and receiving messages within 500 more (AHCI 10.1.2).
const STOP_US: u64 = 1_000_000;
const LINK_US: u64 = 1_000_000;

const IDENTIFY_DEVICE: u8 = 0xec;
const IDENTIFY_PACKET_DEVICE: u8 = 0xa1;
const READ_DMA_EXT: u8 = 0x25;
const WRITE_DMA_EXT: u8 = 0x35;
const READ_DMA: u8 = 0xc8;
const WRITE_DMA: u8 = 0xca;
const PACKET: u8 = 0xa0;
const FLUSH_CACHE: u8 = 0xe7;
const FLUSH_CACHE_EXT: u8 = 0xea;

/// A port with something behind it.
struct Port<H> {
    hw: H,
    regs: u64,
    area: u64,
}

/// A command and the memory it moves.
struct Command {
    opcode: u8,
    lba: u64,
    count: u32,
    buffer: u64,
    len: u64,
    writes: bool,
    /// The command block for a packet device.
    packet: Option<[u8; 16]>,
    deadline_us: u64,
}

impl Command {
    fn without_data(opcode: u8, deadline_us: u64) -> Self {
        Self {
            opcode,
            lba: 0,
            count: 0,
            buffer: 0,
            len: 0,
            writes: false,
            packet: None,
            deadline_us,
        }
    }
}

impl<H: Handle> Port<H> {
    fn get(&self, register: u64) -> u32 {
        self.hw.read32(self.regs + register)
    }

    fn set(&self, register: u64, value: u32) {
        self.hw.write32(self.regs + register, value);
    }

    fn wait(&self, timeout_us: u64, done: impl Fn(&Self) -> bool) -> Result<(), DiskError> {
        poll::sparsely(&self.hw, timeout_us, || done(self).then_some(())).ok_or(DiskError::Timeout)
    }

    /// Stops command processing, then the receiving of messages (AHCI 10.1.2): does what is next, and tells whether both have ended.
    fn has_stopped(&self) -> bool {
        let command = self.get(CMD);
        if command & CMD_START != 0 {
            self.set(CMD, command & !CMD_START);
            return false;
        }
        if command & (CMD_RECEIVE | CMD_RUNNING) == CMD_RECEIVE {
            self.set(CMD, command & !CMD_RECEIVE);
            return false;
        }
        command & (CMD_RUNNING | CMD_RECEIVING) == 0
    }

    /// Points a port that has stopped at its memory and lets it receive messages.
    fn receive(&self) {
        for (register, addr) in [(CLB, self.area + LIST), (FB, self.area + RECEIVED)] {
            self.set(register, addr as u32);
            self.set(register + 4, 0);
        }
        self.set(IE, 0);
        self.set(SERR, u32::MAX);
        self.set(IS, u32::MAX);
        self.set(CMD, READY);
    }

    fn is_busy(&self) -> bool {
        self.get(TFD) & TFD_BUSY != 0
    }

    /// Starts command processing, on a port that receives messages and is not busy.
    fn start(&self) {
        self.set(CMD, READY | CMD_START);
    }

    /// Gets the port working again after a failure: with a reset of the link if the drive is stuck.
    fn recover(&self) -> Result<(), DiskError> {
        // A port that does not stop is reset with its link.
        let stopped = self.wait(STOP_US, Self::has_stopped);
        if stopped.is_err() || self.is_busy() {
            self.set(SCTL, 1);
            self.hw.delay_us(1000);
            self.set(SCTL, 0);
            self.wait(LINK_US, |port| port.get(SSTS) & 15 == PRESENT)?;
        }
        self.receive();
        self.wait(IDENTIFY_US, |port| !port.is_busy())?;
        self.start();
        Ok(())
    }

    /// Writes command header, message and descriptors.
    fn prepare(&self, command: &Command) {
        const FIS_DWORDS: u32 = 5;
        const IS_PACKET: u32 = 1 << 5;
        const WRITE: u32 = 1 << 6;
        const HOST_TO_DEVICE: u8 = 0x27;
        const IS_COMMAND: u8 = 1 << 7;
        const LBA_MODE: u8 = 1 << 6;
        const PACKET_DMA: u8 = 1 << 0;
        let lba = command.lba.to_le_bytes();
        let short = matches!(command.opcode, READ_DMA | WRITE_DMA);
        let device = LBA_MODE | if short { lba[3] & 15 } else { 0 };
        let features = match command.packet {
            Some(_) if command.len != 0 => PACKET_DMA,
            _ => 0,
        };
        let mut message = [0; 20];
        message[..4].copy_from_slice(&[HOST_TO_DEVICE, IS_COMMAND, command.opcode, features]);
        message[4..8].copy_from_slice(&[lba[0], lba[1], lba[2], device]);
        if !short {
            message[8..11].copy_from_slice(&lba[3..6]);
            message[13] = (command.count >> 8) as u8;
        }
        message[12] = command.count as u8;
        self.hw.write(self.area + TABLE, &message);
        if let Some(packet) = command.packet {
            self.hw.write(self.area + PACKET_BLOCK, &packet);
        }
        let mut entries = 0;
        let mut addr = command.buffer;
        let end = addr + command.len;
        while addr < end {
            let len = (end - addr).min(DESCRIPTOR_MAX);
            let entry = self.area + DESCRIPTORS + 16 * u64::from(entries);
            self.hw.write64(entry, addr);
            self.hw.write64(entry + 8, (len - 1) << 32);
            addr += len;
            entries += 1;
        }
        let write = if command.writes { WRITE } else { 0 };
        let packet = command.packet.map_or(0, |_| IS_PACKET);
        self.hw.write32(
            self.area + LIST,
            FIS_DWORDS | packet | write | entries << 16,
        );
        self.hw.write32(self.area + LIST + 4, 0);
        self.hw.write64(self.area + LIST + 8, self.area + TABLE);
    }

    /// Issues a command in slot 0.
    fn issue(&self, command: &Command) {
        self.prepare(command);
        self.set(IS, u32::MAX);
        self.set(CI, 1);
    }

    /// How the command ended, as far as the port is concerned; `None` if it has not.
    fn ended(&self) -> Option<Result<(), DiskError>> {
        if self.get(CI) & 1 == 0 {
            return Some(Ok(()));
        }
        (self.get(IS) & FATAL != 0).then_some(Err(DiskError::Controller))
    }

    /// Runs a command, and returns the drive's status and error.
    fn run(&self, command: &Command) -> Result<(u8, u8), DiskError> {
        self.hw.write32(self.area + RECEIVED_REGISTERS, 0);
        self.issue(command);
        // Should the message not come, the register decides below.
        let _ = poll::sparsely(&self.hw, command.deadline_us, || {
            (self.hw.read8(self.area + RECEIVED_REGISTERS) == REGISTERS_TYPE).then_some(())
        });
        let received = self.hw.read32(self.area + RECEIVED_REGISTERS);
        let [_, _, status, error] = received.to_le_bytes();
        if status & STATUS_ERROR == 0 {
            poll::sparsely(&self.hw, PORT_US, || self.ended())
                .unwrap_or(Err(DiskError::Timeout))?;
        }
        Ok((status, error))
    }

    /// Runs a command that either works or fails.
    fn carry_out(&self, command: &Command) -> Result<(), DiskError> {
        let (status, error) = self.run(command)?;
        check(status, error)
    }

    /// Asks the drive what it is.
    fn identify(&self, kind: Kind) {
        let opcode = match kind {
            Kind::CdRom => IDENTIFY_PACKET_DEVICE,
            _ => IDENTIFY_DEVICE,
        };
        self.issue(&Command {
            buffer: self.area + IDENTITY,
            len: IDENTIFY_LEN as u64,
            ..Command::without_data(opcode, IDENTIFY_US)
        });
    }

    /// Whether it has told; `None` if it still may. What is asked for by PIO ends without the message that other commands end with.
    fn identified(&self) -> Option<Result<(), DiskError>> {
        let ended = self.ended()?;
        Some(ended.and_then(|()| {
            let [status, error, ..] = self.get(TFD).to_le_bytes();
            check(status, error)
        }))
    }

    /// What it told.
    fn identity(&self) -> [u8; IDENTIFY_LEN] {
        let mut data = [0; IDENTIFY_LEN];
        self.hw.read(self.area + IDENTITY, &mut data);
        data
    }
}

fn check(status: u8, error: u8) -> Result<(), DiskError> {
    if status & STATUS_FAULT != 0 && status & STATUS_ERROR != 0 {
        Err(DiskError::Controller)
    } else if status & STATUS_ERROR == 0 {
        Ok(())
    } else if error & ID_NOT_FOUND != 0 {
        Err(DiskError::SectorNotFound)
    } else {
        Err(DiskError::Media)
    }
}

/// Looks for the drives of a controller. An empty port costs one access.
pub fn search<'a, H: Handle>(function: Function<'a, H>) -> Box<dyn Search + 'a> {
    let mut look = Look {
        function,
        dma: Dma::BELOW_4G,
        ports: Vec::new(),
    };
    if let Some(base) = function.device().memory(BAR) {
        look.begin(base);
    }
    Box::new(look)
}

/// A look for drives.
struct Look<'a, H> {
    function: Function<'a, H>,
    dma: Dma,
    /// The ports with something behind them, with their numbers and what they were asked last.
    ports: Vec<(u8, Port<H>, Asked)>,
}

/// What a port was asked last.
enum Asked {
    /// To stop, where it runs.
    ToStop,
    /// To get ready for commands.
    ToGetReady,
    /// What the drive is; its signature tells the kind.
    WhatItIs(Kind),
    /// Nothing more: there is such a drive, or none that is known here.
    Nothing(Result<Option<Kind>, DiskError>),
}

impl<H: Handle> Port<H> {
    /// Asks for more where the port has done what it was asked, which it then returns. Does not wait.
    fn ask(&self, asked: &Asked) -> Option<Asked> {
        match *asked {
            Asked::ToStop if self.has_stopped() => {
                self.receive();
                Some(Asked::ToGetReady)
            }
            Asked::ToGetReady if !self.is_busy() => {
                self.start();
                let kind = match self.get(SIG) {
                    SIGNATURE_DISK => Kind::HardDisk,
                    SIGNATURE_PACKET => Kind::CdRom,
                    _ => return Some(Asked::Nothing(Ok(None))),
                };
                self.identify(kind);
                Some(Asked::WhatItIs(kind))
            }
            Asked::WhatItIs(kind) => {
                let told = self.identified()?;
                Some(Asked::Nothing(told.map(|()| Some(kind))))
            }
            _ => None,
        }
    }
}

impl<H: Handle> Look<'_, H> {
    fn begin(&mut self, base: u64) {
        self.function.enable_bus_master();
        let hw = self.function.hw();
        hw.write32(base + GHC, GHC_AHCI);
        let (capabilities, implemented) = (hw.read32(base + CAP), hw.read32(base + PI));
        if capabilities & CAP_64 != 0 {
            self.dma = Dma::ALL;
        }
        for number in (0..32u8).filter(|number| implemented >> number & 1 != 0) {
            let regs = base + PORTS + PORT_LEN * u64::from(number);
            if !self.function.wants(|| unit(number)) || hw.read32(regs + SSTS) & 15 != PRESENT {
                continue;
            }
            let Some(area) = hw.dma_memory(AREA_LEN, AREA_ALIGN) else {
                log::warn!("SATA port {number}: not used: no memory");
                continue;
            };
            let hw = hw.clone();
            self.ports
                .push((number, Port { hw, regs, area }, Asked::ToStop));
        }
        self.ask();
    }

    /// Asks all ports for more that have done what they were asked; whether there was one.
    fn ask(&mut self) -> bool {
        let mut some = false;
        for (_, port, asked) in &mut self.ports {
            if let Some(next) = port.ask(asked) {
                *asked = next;
                some = true;
            }
        }
        some
    }

    /// Whether all have done all.
    fn is_over(&self) -> bool {
        let mut asked = self.ports.iter().map(|(_, _, asked)| asked);
        asked.all(|asked| matches!(asked, Asked::Nothing(_)))
    }

    /// The drive at a port.
    fn found(&self, number: u8, port: Port<H>, asked: &Asked) -> Result<Option<Found>, DiskError> {
        let Asked::Nothing(kind) = *asked else {
            return Err(DiskError::Timeout);
        };
        let Some(kind) = kind? else {
            return Ok(None);
        };
        let dma = self.dma;
        let place = self.function.place(unit(number));
        let name = Name::new(fmt::from_fn(move |f| write!(f, "SATA port {number}")));
        let data = port.identity();
        if kind == Kind::CdRom {
            let identity = identify::cd(&data);
            let cd = identity.and_then(|identity| cd(port, identity, dma, name, place));
            return Ok(cd.map(|cd| Found::Device(Box::new(cd))));
        }
        Ok(Some(match identify::disk(&data) {
            Ok(identity) => Found::Device(Box::new(Disk::new(port, identity, dma, name, place))),
            Err(why) => Found::Unusable {
                kind,
                name,
                place,
                why: format!("{why}"),
            },
        }))
    }
}

impl<H: Handle> Search for Look<'_, H> {
    fn go_on(&mut self) -> Option<Vec<Found>> {
        if !self.is_over() {
            let hw = self.function.hw();
            // Ports are given up when none has done anything for so long: many that are silent cost no more time than one.
            let some = poll::sparsely(&hw, IDENTIFY_US, || self.ask().then_some(()));
            if some.is_some() {
                return None;
            }
        }
        let mut found = Vec::with_capacity(self.ports.len());
        for (number, port, asked) in mem::take(&mut self.ports) {
            match self.found(number, port, &asked) {
                Ok(drive) => found.extend(drive),
                Err(error) => log::warn!("SATA port {number}: not used: {error:?}"),
            }
        }
        Some(found)
    }
}

/// What QEMU calls the drive at a port.
fn unit(number: u8) -> String {
    format!("drive@{number:x}/disk@0")
}

fn cd<H: Handle>(
    port: Port<H>,
    identity: CdIdentity,
    dma: Dma,
    name: Name,
    place: Place,
) -> Option<ScsiDisk<H, Atapi<H>>> {
    let found = scsi::Found {
        name,
        place,
        edd: None,
        most_bytes: MOST_BYTES,
        dma: Some(dma),
    };
    let identity = scsi::Identity {
        kind: Kind::CdRom,
        model: identity.model,
    };
    ScsiDisk::new(port.hw.clone(), Atapi { port }, identity, found)
}

/// A disk.
struct Disk<H> {
    info: DiskInfo,
    port: Port<H>,
    lba48: bool,
    flush: Flush,
}

impl<H: Handle> Disk<H> {
    fn new(port: Port<H>, identity: Identity, dma: Dma, name: Name, place: Place) -> Self {
        Self {
            info: DiskInfo {
                kind: Kind::HardDisk,
                name: Name::of_model(identity.model, name),
                sector_size: identity.sector_size,
                sectors: identity.sectors,
                geometry: identity.geometry,
                limits: Limits {
                    sectors: if identity.lba48 {
                        MOST_SECTORS
                    } else {
                        MOST_SECTORS_28
                    },
                    dma: Some(dma),
                },
                place: place.into(),
                // The tables have no word for AHCI, and SeaBIOS says nothing either.
                edd: None,
            },
            port,
            lba48: identity.lba48,
            flush: identity.flush,
        }
    }
}

impl<H: Handle> BlockDevice for Disk<H> {
    fn info(&self) -> &DiskInfo {
        &self.info
    }

    fn transfer(&mut self, request: &Request) -> Result<(), DiskError> {
        self.port.carry_out(&Command {
            opcode: match (self.lba48, request.writes()) {
                (true, false) => READ_DMA_EXT,
                (true, true) => WRITE_DMA_EXT,
                (false, false) => READ_DMA,
                (false, true) => WRITE_DMA,
            },
            lba: request.lba,
            count: request.count,
            buffer: request.buffer,
            len: u64::from(request.count) * u64::from(self.info.sector_size),
            writes: request.writes(),
            packet: None,
            deadline_us: request.deadline_us,
        })
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        let opcode = match self.flush {
            Flush::None => return Ok(()),
            Flush::Short => FLUSH_CACHE,
            Flush::Ext => FLUSH_CACHE_EXT,
        };
        self.port
            .carry_out(&Command::without_data(opcode, super::FLUSH_US))
    }

    fn recover(&mut self) -> Result<(), DiskError> {
        self.port.recover()
    }
}

/// The way to a packet device.
struct Atapi<H> {
    port: Port<H>,
}

impl<H: Handle> Transport for Atapi<H> {
    fn run(&mut self, command: &scsi::Command) -> Result<Status, DiskError> {
        let (buffer, len) = match command.data {
            Data::None => (0, 0),
            Data::In { buffer, len } | Data::Out { buffer, len } => (buffer, len.into()),
        };
        let (status, _) = self.port.run(&Command {
            buffer,
            len,
            writes: matches!(command.data, Data::Out { .. }),
            packet: Some(command.block),
            ..Command::without_data(PACKET, command.deadline_us)
        })?;
        if status & STATUS_ERROR == 0 {
            return Ok(Status::Good);
        }
        // The port takes no further command until it was stopped, and the device is to be asked what it has.
        self.port.recover()?;
        Ok(Status::Check(None))
    }

    fn recover(&mut self) -> Result<(), DiskError> {
        self.port.recover()
    }
}
