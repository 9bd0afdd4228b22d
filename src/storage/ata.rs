//! ATA disks and ATAPI CD drives on the PIIX and ICH IDE controllers.
//!
//! True when this code first runs: PCI setup has given the controller its ports and allowed it to master the bus. A whole
//! request is one command and one bus master transfer straight into the caller's buffer; the data register is for drives and
//! controllers where that fails.

mod channel;
#[cfg(test)]
pub mod fake;
pub(crate) mod identify;
#[cfg(test)]
mod tests;

use super::drivers::Function;
use super::scsi::{self, Data, ScsiDisk, Status, Transport};
use super::{
    AtaPorts, BlockDevice, DiskError, DiskInfo, Dma, EddBus, EddPath, Found, Kind, Limits, Request,
};
use crate::arch::{Handle, PhysMem};
use crate::devices::name::Name;
use crate::devices::pci::PciDevice;
use crate::devices::place::Place;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
pub use channel::IdeChannel;
use channel::{Channel, Command, Packet, PacketData};
use identify::{CdIdentity, Flush, Identity};

/// PCI class and subclass of IDE controllers.
pub const PCI_CLASS: u16 = crate::devices::pci::IDE;

/// Prog-if bits: the channel uses the BARs and not the legacy ports.
const NATIVE: [u8; 2] = [1 << 0, 1 << 2];
/// Prog-if bit: the controller has bus master registers.
const BUS_MASTER: u8 = 1 << 7;

/// Most bytes of one command, so that its descriptors always fit their table.
const MOST_BYTES: u32 = 16 << 20;
/// Bytes of a descriptor table: one descriptor for each 64 KiB, and one more where the first begins within its own.
const PRD_TABLE_LEN: usize = (MOST_BYTES as usize / 0x1_0000 + 1) * 8;
/// A descriptor table crosses no 64 KiB boundary, which one of less than its alignment cannot.
const PRD_TABLE_ALIGN: usize = 4096;
const _: () = assert!(PRD_TABLE_LEN <= PRD_TABLE_ALIGN);
/// Most sectors of one command with 28-bit addresses.
const MOST_SECTORS_28: u32 = 256;
/// First sector beyond 28-bit addresses.
const LBA28_END: u64 = 1 << 28;

/// The two channels of a PCI IDE controller.
///
/// Source: PCI IDE Controller Specification, revision 1.0; Programming Interface for Bus Master IDE Controller.
pub fn channels(device: &PciDevice) -> [IdeChannel; 2] {
    const LEGACY: [(u16, u16, u8); 2] = [(0x1f0, 0x3f6, 14), (0x170, 0x376, 15)];
    let prog_if = device.class as u8;
    let bus_master = device.io(4).filter(|_| prog_if & BUS_MASTER != 0);
    [0, 1].map(|index| {
        let native = match (device.io(2 * index), device.io(2 * index + 1)) {
            (Some(command), Some(control)) if prog_if & NATIVE[index] != 0 => {
                Some((command, control + 2, device.irq.unwrap_or(0)))
            }
            _ => None,
        };
        let (command, control, irq) = native.unwrap_or(LEGACY[index]);
        IdeChannel {
            command,
            control,
            bus_master: bus_master.map(|port| port + 8 * index as u16),
            irq,
            pci: device.bdf,
            number: index as u8,
        }
    })
}

/// Finds the drives of a controller. A missing drive costs a few accesses and no waiting.
pub fn probe<H: Handle>(function: &Function<H>) -> Vec<Found> {
    function.enable_bus_master();
    let channels = channels(function.device());
    // Of functions with the same legacy ports it is the last one that answers there, and whose bus master serves.
    let later: Vec<u16> = function.around.pci[function.index + 1..]
        .iter()
        .filter(|device| device.subclass() == PCI_CLASS)
        .flat_map(self::channels)
        .map(|channel| channel.command)
        .collect();
    // Drives of a controller share the descriptor table: requests come one after the other.
    let prd = channels[0]
        .bus_master
        .and_then(|_| function.hw().dma_buffer(PRD_TABLE_LEN, PRD_TABLE_ALIGN));
    let before = function.around.pci[..function.index]
        .iter()
        .filter(|device| device.subclass() == PCI_CLASS)
        .count();
    let mut found = Vec::new();
    for ports in channels {
        if later.contains(&ports.command) {
            continue;
        }
        let channel = Channel::new(function.hw(), ports);
        for second in [false, true] {
            let place = || format!("drive@{}/disk@{}", ports.number, u8::from(second));
            if function.wants(place) && channel.present(second) {
                let unit = Unit {
                    channel: &channel,
                    second,
                    number: (4 * before) as u16 + u16::from(2 * ports.number) + u16::from(second),
                };
                found.extend(unit.identify(function.place(place()), prd));
            }
        }
    }
    found
}

/// A place for a drive where something answers.
struct Unit<'a, H> {
    channel: &'a Channel<H>,
    second: bool,
    /// As in [`AtaPorts::number`].
    number: u16,
}

impl<H: Handle> Unit<'_, H> {
    /// Asks the drive that was just found [present](Channel::present) what it is.
    fn identify(&self, place: Place, prd: Option<u64>) -> Option<Found> {
        self.channel.prepare_bus_master();
        self.channel.begin();
        let found = self.ask(place, prd);
        self.channel.end_acknowledged();
        found
    }

    fn ask(&self, place: Place, prd: Option<u64>) -> Option<Found> {
        const IDENTIFY_DEVICE: u8 = 0xec;
        const IDENTIFY_PACKET_DEVICE: u8 = 0xa1;
        match self.channel.identify(IDENTIFY_DEVICE) {
            Ok(data) => Some(match identify::disk(&data) {
                Ok(identity) => Found::Device(Box::new(self.disk(place, identity, prd))),
                Err(why) => Found::Unusable {
                    kind: Kind::HardDisk,
                    name: self.name(),
                    place,
                    why: format!("{why}"),
                },
            }),
            Err(_) if self.channel.packet_signature() => {
                let identity = self
                    .channel
                    .identify(IDENTIFY_PACKET_DEVICE)
                    .ok()
                    .and_then(|data| identify::cd(&data))?;
                self.cd(place, identity, prd)
                    .map(|cd| Found::Device(Box::new(cd)))
            }
            Err(_) => None,
        }
    }

    fn name(&self) -> Name {
        Name::from(match (self.channel.ports.number, self.second) {
            (0, false) => "IDE primary master",
            (0, true) => "IDE primary slave",
            (_, false) => "IDE secondary master",
            (_, true) => "IDE secondary slave",
        })
    }

    fn edd(&self, interface: &[u8; 8]) -> EddPath {
        let ports = self.channel.ports;
        let mut device = [0; 16];
        device[0] = u8::from(self.second);
        EddPath {
            bus: EddBus::Pci(ports.pci),
            interface: *interface,
            device,
            ata: Some(AtaPorts {
                command: ports.command,
                control: ports.control,
                irq: ports.irq,
                second: self.second,
                number: self.number,
            }),
        }
    }

    /// The bus master, for a drive that can use it.
    fn bus_master(&self, wanted: bool, prd: Option<u64>) -> Option<BusMaster> {
        let registers = self.channel.ports.bus_master.filter(|_| wanted);
        let found = registers.zip(prd);
        found.map(|(registers, table)| BusMaster { registers, table })
    }

    fn cd(
        &self,
        place: Place,
        identity: CdIdentity,
        prd: Option<u64>,
    ) -> Option<ScsiDisk<H, Atapi<H>>> {
        let dma = self.bus_master(identity.dma, prd);
        let transport = Atapi {
            channel: self.channel.clone(),
            second: self.second,
            block_len: identity.block_len,
            dma,
        };
        let found = scsi::Found {
            name: self.name(),
            place,
            edd: Some(self.edd(b"ATAPI   ")),
            most_bytes: MOST_BYTES,
            dma: dma.map(|_| Dma::BELOW_4G),
        };
        let identity = scsi::Identity {
            kind: Kind::CdRom,
            model: identity.model,
        };
        ScsiDisk::new(self.channel.hw.clone(), transport, identity, found)
    }

    fn disk(&self, place: Place, identity: Identity, prd: Option<u64>) -> Disk<H> {
        let dma = self.bus_master(identity.dma, prd);
        let sectors = if identity.lba48 {
            MOST_BYTES / identity.sector_size
        } else {
            MOST_SECTORS_28
        };
        Disk {
            info: DiskInfo {
                kind: Kind::HardDisk,
                name: Name::of_model(identity.model, self.name()),
                sector_size: identity.sector_size,
                sectors: identity.sectors,
                geometry: identity.geometry,
                limits: Limits {
                    sectors,
                    dma: dma.map(|_| Dma::BELOW_4G),
                },
                place: place.into(),
                edd: Some(self.edd(b"ATA     ")),
            },
            channel: self.channel.clone(),
            second: self.second,
            flush: identity.flush,
            dma,
            dma_error: None,
        }
    }
}

/// What it takes to transfer by the bus master.
#[derive(Clone, Copy)]
struct BusMaster {
    /// First of its registers.
    registers: u16,
    /// The descriptor table.
    table: u64,
}

/// A disk.
struct Disk<H> {
    info: DiskInfo,
    channel: Channel<H>,
    second: bool,
    flush: Flush,
    /// The bus master, while it works.
    dma: Option<BusMaster>,
    /// How the last command by the bus master failed.
    dma_error: Option<DiskError>,
}

/// The commands that move sectors, by (DMA, 48-bit address, write).
fn opcode(dma: bool, ext: bool, writes: bool) -> u8 {
    match (dma, ext, writes) {
        (true, false, false) => 0xc8,
        (true, false, true) => 0xca,
        (true, true, false) => 0x25,
        (true, true, true) => 0x35,
        (false, false, false) => 0x20,
        (false, false, true) => 0x30,
        (false, true, false) => 0x24,
        (false, true, true) => 0x34,
    }
}

/// Writes the descriptors of `len` bytes at `buffer`, none of which crosses a 64 KiB boundary.
fn write_prd(hw: &impl PhysMem, table: u64, buffer: u64, len: u64) {
    const LAST: u64 = 1 << 63;
    let (mut addr, end, mut entry) = (buffer, buffer + len, table);
    while addr < end {
        let next = ((addr | 0xffff) + 1).min(end);
        let last = if next == end { LAST } else { 0 };
        // A length of 64 KiB is written as zero.
        hw.write64(entry, addr | ((next - addr) & 0xffff) << 32 | last);
        (addr, entry) = (next, entry + 8);
    }
}

impl<H: Handle> Disk<H> {
    fn command(&self, request: &Request, dma: bool) -> Command {
        let end = request.lba + u64::from(request.count);
        let ext = request.count > MOST_SECTORS_28 || end > LBA28_END;
        Command {
            opcode: opcode(dma, ext, request.writes()),
            second: self.second,
            lba: request.lba,
            count: request.count,
            ext,
            deadline_us: request.deadline_us,
        }
    }

    fn by_dma(&self, request: &Request, dma: BusMaster) -> Result<(), DiskError> {
        let len = u64::from(request.count) * u64::from(self.info.sector_size);
        write_prd(&self.channel.hw, dma.table, request.buffer, len);
        self.channel.run_dma(
            &self.command(request, true),
            dma.registers,
            dma.table,
            request.writes(),
        )
    }

    fn by_pio(&self, request: &Request) -> Result<(), DiskError> {
        let (size, command) = (self.info.sector_size, self.command(request, false));
        self.channel
            .run_pio(&command, size, request.buffer, request.writes())
    }

    fn serve(&mut self, request: &Request) -> Result<(), DiskError> {
        match self.dma {
            Some(dma) if !request.last_try => {
                let result = self.by_dma(request, dma);
                self.dma_error = result.err();
                result
            }
            _ => {
                let result = self.by_pio(request);
                // Where the data register does what the bus master could not, it is the bus master that is to blame.
                let blamed = self.dma_error.take() == Some(DiskError::Controller);
                if result.is_ok() && blamed {
                    log::warn!("{}: DMA does not work, using PIO", self.info.name);
                    self.dma = None;
                    self.info.limits.dma = None;
                }
                result
            }
        }
    }
}

impl<H: Handle> BlockDevice for Disk<H> {
    fn info(&self) -> &DiskInfo {
        &self.info
    }

    fn transfer(&mut self, request: &Request) -> Result<(), DiskError> {
        self.channel.begin();
        let by_dma = self.dma.is_some() && !request.last_try;
        let result = self.serve(request);
        match result {
            Ok(()) if by_dma => self.channel.end_acknowledged(),
            _ => self.channel.end(),
        }
        result
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        const FLUSH_CACHE: u8 = 0xe7;
        const FLUSH_CACHE_EXT: u8 = 0xea;
        let opcode = match self.flush {
            Flush::None => return Ok(()),
            Flush::Short => FLUSH_CACHE,
            Flush::Ext => FLUSH_CACHE_EXT,
        };
        self.channel.begin();
        let result = self
            .channel
            .run(&Command::plain(opcode, self.second, super::FLUSH_US));
        self.channel.end();
        result
    }

    fn recover(&mut self) -> Result<(), DiskError> {
        let result = self.channel.reset(self.second);
        self.channel.end();
        result
    }
}

/// The way to a packet device.
struct Atapi<H> {
    channel: Channel<H>,
    second: bool,
    /// Bytes of a command block.
    block_len: u8,
    dma: Option<BusMaster>,
}

impl<H: Handle> Transport for Atapi<H> {
    fn run(&mut self, command: &scsi::Command) -> Result<Status, DiskError> {
        let data = match (command.data, self.dma) {
            (Data::None, _) => PacketData::None,
            (Data::In { buffer, len } | Data::Out { buffer, len }, Some(dma)) => {
                write_prd(&self.channel.hw, dma.table, buffer, len.into());
                PacketData::Dma {
                    bus_master: dma.registers,
                    prd: dma.table,
                    writes: matches!(command.data, Data::Out { .. }),
                }
            }
            (Data::In { buffer, len }, None) => PacketData::Pio { buffer, len },
            // CDs are read.
            (Data::Out { .. }, None) => return Err(DiskError::BadRequest),
        };
        self.channel.begin();
        let result = self.channel.run_packet(&Packet {
            second: self.second,
            block: &command.block[..self.block_len.into()],
            data,
            deadline_us: command.deadline_us,
        });
        match (&result, data) {
            (Ok(true), PacketData::Dma { .. }) => self.channel.end_acknowledged(),
            _ => self.channel.end(),
        }
        Ok(match result? {
            true => Status::Good,
            false => Status::Check(None),
        })
    }

    fn recover(&mut self) -> Result<(), DiskError> {
        let result = self.channel.reset(self.second);
        self.channel.end();
        result
    }
}
