//! SATA disks behind AHCI controllers, and CD drives as far as telling that they are there.
//!
//! True when this code first runs: PCI setup has given the controller its memory and allowed it to master the bus. One command
//! slot a port is enough for a caller that waits. The end of a command is seen in memory, where the controller puts the drive's
//! last message, so that a read costs three register accesses.
//!
//! Sources: Serial ATA AHCI 1.3.1; Serial ATA 3.0, section 10.3 (frame information structures).

#[cfg(test)]
mod tests;

use crate::arch::{Hardware, PhysMem};
use crate::devices::ata::identify::{self, Flush, IDENTIFY_LEN, Identity};
use crate::devices::ata::{Drive, reachable};
use crate::devices::block::{BlockDevice, BlockInfo, BlockKind, Chs, DiskError, Interface};
use crate::devices::dma::DmaPool;
use crate::devices::poll;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

/// PCI class and subclass of AHCI controllers.
pub const PCI_CLASS: u16 = 0x0106;
/// The base address register with the controller's registers.
pub const BAR: usize = 5;

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

/// Structures of a port in memory: command list, received messages, command table.
const LIST: u64 = 0x000;
const RECEIVED: u64 = 0x400;
const TABLE: u64 = 0x500;
const AREA_LEN: u64 = 0x800;
const AREA_ALIGN: u64 = 0x400;
/// Place of the register message that ends a command, and its type.
const RECEIVED_REGISTERS: u64 = RECEIVED + 0x40;
const REGISTERS_TYPE: u8 = 0x34;
/// Place of the descriptors.
const DESCRIPTORS: u64 = TABLE + 0x80;
/// Most bytes of one descriptor.
const DESCRIPTOR_MAX: u64 = 4 << 20;

/// Bytes of the buffer for callers whose memory the controller cannot reach.
const BOUNCE_LEN: u64 = 32 * 1024;
/// Most sectors of one command.
const MOST_SECTORS: u32 = 0x8000;
const COMMAND_US: u64 = 10_000_000;
const PORT_US: u64 = 500_000;
const LINK_US: u64 = 1_000_000;
const ATTEMPTS: u32 = 3;

const IDENTIFY_DEVICE: u8 = 0xec;
const IDENTIFY_PACKET_DEVICE: u8 = 0xa1;
const READ_DMA_EXT: u8 = 0x25;
const WRITE_DMA_EXT: u8 = 0x35;
const READ_DMA: u8 = 0xc8;
const WRITE_DMA: u8 = 0xca;
const FLUSH_CACHE: u8 = 0xe7;
const FLUSH_CACHE_EXT: u8 = 0xea;

/// A port with something behind it.
#[derive(Clone, Copy, Debug)]
struct Port {
    regs: u64,
    area: u64,
    bounce: u64,
    wide: bool,
}

/// A command and the memory it moves.
struct Command {
    opcode: u8,
    lba: u64,
    count: u32,
    buffer: u64,
    len: u64,
    writes: bool,
}

impl Command {
    fn without_data(opcode: u8) -> Self {
        Self {
            opcode,
            lba: 0,
            count: 0,
            buffer: 0,
            len: 0,
            writes: false,
        }
    }
}

impl Port {
    fn get(&self, hw: &impl PhysMem, register: u64) -> u32 {
        hw.read32(self.regs + register)
    }

    fn set(&self, hw: &impl PhysMem, register: u64, value: u32) {
        hw.write32(self.regs + register, value);
    }

    fn wait<H: Hardware>(
        &self,
        hw: &H,
        timeout_us: u64,
        done: impl Fn(&Self) -> bool,
    ) -> Result<(), DiskError> {
        poll::sparsely(hw, timeout_us, || done(self).then_some(())).ok_or(DiskError::Timeout)
    }

    /// Stops command processing and the receiving of messages (AHCI 10.1.2).
    fn stop<H: Hardware>(&self, hw: &H) -> Result<(), DiskError> {
        const ALL: u32 = CMD_START | CMD_RUNNING | CMD_RECEIVE | CMD_RECEIVING;
        let command = self.get(hw, CMD);
        if command & ALL == 0 {
            return Ok(());
        }
        self.set(hw, CMD, command & !CMD_START);
        self.wait(hw, PORT_US, |port| port.get(hw, CMD) & CMD_RUNNING == 0)?;
        self.set(hw, CMD, command & !(CMD_START | CMD_RECEIVE));
        self.wait(hw, PORT_US, |port| port.get(hw, CMD) & CMD_RECEIVING == 0)
    }

    /// Points the port at its memory and starts it.
    fn start<H: Hardware>(&self, hw: &H) -> Result<(), DiskError> {
        const RECEIVE: u32 = CMD_RECEIVE | CMD_SPIN_UP | CMD_POWER;
        for (register, addr) in [(CLB, self.area + LIST), (FB, self.area + RECEIVED)] {
            self.set(hw, register, addr as u32);
            self.set(hw, register + 4, 0);
        }
        self.set(hw, IE, 0);
        self.set(hw, SERR, u32::MAX);
        self.set(hw, IS, u32::MAX);
        self.set(hw, CMD, RECEIVE);
        self.wait(hw, COMMAND_US, |port| port.get(hw, TFD) & TFD_BUSY == 0)?;
        self.set(hw, CMD, RECEIVE | CMD_START);
        Ok(())
    }

    /// Gets the port working again after a failure: with a reset of the link if the drive is stuck.
    fn recover<H: Hardware>(&self, hw: &H) -> Result<(), DiskError> {
        // A port that does not stop is reset with its link.
        let stopped = self.stop(hw);
        if stopped.is_err() || self.get(hw, TFD) & TFD_BUSY != 0 {
            self.set(hw, SCTL, 1);
            hw.delay_us(1000);
            self.set(hw, SCTL, 0);
            self.wait(hw, LINK_US, |port| port.get(hw, SSTS) & 15 == PRESENT)?;
        }
        self.start(hw)
    }

    /// Writes command header, message and descriptors.
    fn prepare(&self, hw: &impl PhysMem, command: &Command) {
        const FIS_DWORDS: u32 = 5;
        const WRITE: u32 = 1 << 6;
        const HOST_TO_DEVICE: u8 = 0x27;
        const IS_COMMAND: u8 = 1 << 7;
        const LBA_MODE: u8 = 1 << 6;
        let lba = command.lba.to_le_bytes();
        let short = matches!(command.opcode, READ_DMA | WRITE_DMA);
        let device = LBA_MODE | if short { lba[3] & 15 } else { 0 };
        let mut message = [0; 20];
        message[..4].copy_from_slice(&[HOST_TO_DEVICE, IS_COMMAND, command.opcode, 0]);
        message[4..8].copy_from_slice(&[lba[0], lba[1], lba[2], device]);
        if !short {
            message[8..11].copy_from_slice(&lba[3..6]);
            message[13] = (command.count >> 8) as u8;
        }
        message[12] = command.count as u8;
        hw.write(self.area + TABLE, &message);
        let mut entries = 0;
        let mut addr = command.buffer;
        let end = addr + command.len;
        while addr < end {
            let len = (end - addr).min(DESCRIPTOR_MAX);
            let entry = self.area + DESCRIPTORS + 16 * u64::from(entries);
            hw.write64(entry, addr);
            hw.write64(entry + 8, (len - 1) << 32);
            addr += len;
            entries += 1;
        }
        let write = if command.writes { WRITE } else { 0 };
        hw.write32(self.area + LIST, FIS_DWORDS | write | entries << 16);
        hw.write32(self.area + LIST + 4, 0);
        hw.write64(self.area + LIST + 8, self.area + TABLE);
    }

    /// Runs a command in slot 0.
    fn run<H: Hardware>(&self, hw: &H, command: &Command) -> Result<(), DiskError> {
        // A drive that is asked for data by PIO ends with another message.
        let by_message = !matches!(command.opcode, IDENTIFY_DEVICE | IDENTIFY_PACKET_DEVICE);
        self.prepare(hw, command);
        hw.write32(self.area + RECEIVED_REGISTERS, 0);
        self.set(hw, IS, u32::MAX);
        self.set(hw, CI, 1);
        if by_message {
            // Should the message not come, the register decides below.
            let _ = poll::sparsely(hw, COMMAND_US, || {
                (hw.read8(self.area + RECEIVED_REGISTERS) == REGISTERS_TYPE).then_some(())
            });
            let [_, _, status, error] = hw.read32(self.area + RECEIVED_REGISTERS).to_le_bytes();
            check(status, error)?;
        }
        let timeout_us = if by_message { PORT_US } else { COMMAND_US };
        let mut polls = 0;
        poll::sparsely(hw, timeout_us, || {
            polls += 1;
            if self.get(hw, CI) & 1 == 0 {
                return Some(Ok(()));
            }
            (polls % 4 == 0 && self.get(hw, IS) & FATAL != 0).then_some(Err(DiskError::Controller))
        })
        .unwrap_or(Err(DiskError::Timeout))?;
        if !by_message {
            let task_file = self.get(hw, TFD).to_le_bytes();
            check(task_file[0], task_file[1])?;
        }
        Ok(())
    }

    fn identify<H: Hardware>(&self, hw: &H, opcode: u8) -> Result<[u8; IDENTIFY_LEN], DiskError> {
        let mut data = [0; IDENTIFY_LEN];
        self.run(
            hw,
            &Command {
                buffer: self.bounce,
                len: IDENTIFY_LEN as u64,
                ..Command::without_data(opcode)
            },
        )?;
        hw.read(self.bounce, &mut data);
        Ok(data)
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

/// Finds the drives of the controller whose registers are at `base`. An empty port costs one access.
///
/// `memory` gives so many bytes below 4 GiB for good.
pub fn probe<H: Hardware>(
    hw: &H,
    base: u64,
    pci: u16,
    mut memory: impl FnMut(usize) -> DmaPool,
) -> Vec<Drive<H>> {
    hw.write32(base + GHC, GHC_AHCI);
    let (capabilities, implemented) = (hw.read32(base + CAP), hw.read32(base + PI));
    let wide = capabilities & CAP_64 != 0;
    let mut bounce = None;
    let mut found = Vec::new();
    for number in (0..32u8).filter(|number| implemented >> number & 1 != 0) {
        let regs = base + PORTS + PORT_LEN * u64::from(number);
        if hw.read32(regs + SSTS) & 15 != PRESENT {
            continue;
        }
        let shared =
            *bounce.get_or_insert_with(|| memory(BOUNCE_LEN as usize + 2).take(BOUNCE_LEN, 2));
        let area = memory((AREA_LEN + AREA_ALIGN) as usize).take(AREA_LEN, AREA_ALIGN);
        let (Some(area), Some(bounce)) = (area, shared) else {
            continue;
        };
        let port = Port {
            regs,
            area,
            bounce,
            wide,
        };
        match identify_drive(hw, port, number, pci) {
            Ok(drive) => found.extend(drive),
            Err(error) => log::warn!("SATA port {number}: not used: {error:?}"),
        }
    }
    found
}

fn identify_drive<H: Hardware>(
    hw: &H,
    port: Port,
    number: u8,
    pci: u16,
) -> Result<Option<Drive<H>>, DiskError> {
    let place = format!("SATA port {number}");
    port.stop(hw)?;
    port.start(hw)?;
    Ok(match port.get(hw, SIG) {
        SIGNATURE_DISK => {
            let data = port.identify(hw, IDENTIFY_DEVICE)?;
            Some(match identify::disk(&data) {
                Ok(identity) => Drive::Disk(Box::new(Disk::new(port, number, pci, identity))),
                Err(why) => Drive::Unusable {
                    unit: number,
                    name: place,
                    why,
                },
            })
        }
        SIGNATURE_PACKET => {
            let data = port.identify(hw, IDENTIFY_PACKET_DEVICE)?;
            identify::cd(&data).map(|model| {
                Drive::CdRom(BlockInfo {
                    kind: BlockKind::CdRom,
                    name: format!("{model} ({place})"),
                    sector_size: 2048,
                    sectors: 0,
                    pci: Some(pci),
                    unit: number,
                    geometry: Chs::default(),
                    interface: Interface::Sata { port: number },
                })
            })
        }
        _ => None,
    })
}

/// A disk.
struct Disk {
    info: BlockInfo,
    port: Port,
    lba48: bool,
    flush: Flush,
}

impl Disk {
    fn new(port: Port, number: u8, pci: u16, identity: Identity) -> Self {
        Self {
            info: BlockInfo {
                kind: BlockKind::HardDisk,
                name: format!("{} (SATA port {number})", identity.model),
                sector_size: identity.sector_size,
                sectors: identity.sectors,
                pci: Some(pci),
                unit: number,
                geometry: identity.geometry,
                interface: Interface::Sata { port: number },
            },
            port,
            lba48: identity.lba48,
            flush: identity.flush,
        }
    }

    /// Whether the controller can move `len` bytes at `buffer` itself.
    fn direct(&self, buffer: u64, len: u64) -> bool {
        reachable(buffer, len) || self.port.wide && buffer & 1 == 0 && buffer >= 1 << 32
    }

    /// Moves as many sectors as one command can, and says how many.
    fn part<H: Hardware>(
        &self,
        hw: &H,
        lba: u64,
        count: u32,
        buffer: u64,
        writes: bool,
    ) -> Result<u32, DiskError> {
        let size = u64::from(self.info.sector_size);
        let count = count.min(if self.lba48 { MOST_SECTORS } else { 256 });
        let direct = self.direct(buffer, u64::from(count) * size);
        let count = if direct {
            count
        } else {
            count.min((BOUNCE_LEN / size) as u32)
        };
        let len = u64::from(count) * size;
        let target = if direct { buffer } else { self.port.bounce };
        if !direct && writes {
            hw.copy(target, buffer, len);
        }
        let command = Command {
            opcode: match (self.lba48, writes) {
                (true, false) => READ_DMA_EXT,
                (true, true) => WRITE_DMA_EXT,
                (false, false) => READ_DMA,
                (false, true) => WRITE_DMA,
            },
            lba,
            count,
            buffer: target,
            len,
            writes,
        };
        self.retry(hw, &command)?;
        if !direct && !writes {
            hw.copy(buffer, target, len);
        }
        Ok(count)
    }

    fn retry<H: Hardware>(&self, hw: &H, command: &Command) -> Result<(), DiskError> {
        let mut result = Ok(());
        for attempt in 0..ATTEMPTS {
            result = self.port.run(hw, command);
            if result.is_ok() {
                break;
            }
            self.port.recover(hw)?;
            // A drive that is silent twice would only hold up the guest.
            if result == Err(DiskError::Timeout) && attempt > 0 {
                break;
            }
        }
        result
    }

    fn transfer<H: Hardware>(
        &self,
        hw: &H,
        mut lba: u64,
        mut count: u32,
        mut buffer: u64,
        writes: bool,
    ) -> Result<(), DiskError> {
        let end = lba.checked_add(count.into());
        if end.is_none_or(|end| end > self.info.sectors) {
            return Err(DiskError::BadRequest);
        }
        while count > 0 {
            let done = self
                .part(hw, lba, count, buffer, writes)
                .inspect_err(|error| {
                    log::warn!("{}: from sector {lba}: {error:?}", self.info.name);
                })?;
            lba += u64::from(done);
            count -= done;
            buffer += u64::from(done) * u64::from(self.info.sector_size);
        }
        let opcode = match self.flush {
            _ if !writes => return Ok(()),
            Flush::None => return Ok(()),
            Flush::Short => FLUSH_CACHE,
            Flush::Ext => FLUSH_CACHE_EXT,
        };
        self.retry(hw, &Command::without_data(opcode))
    }
}

impl<H: Hardware> BlockDevice<H> for Disk {
    fn info(&self) -> &BlockInfo {
        &self.info
    }

    fn read(&mut self, hw: &H, lba: u64, count: u32, buffer: u64) -> Result<(), DiskError> {
        self.transfer(hw, lba, count, buffer, false)
    }

    fn write(&mut self, hw: &H, lba: u64, count: u32, buffer: u64) -> Result<(), DiskError> {
        self.transfer(hw, lba, count, buffer, true)
    }

    fn reset(&mut self, hw: &H) -> Result<(), DiskError> {
        let running = self.port.get(hw, CMD) & CMD_RUNNING != 0;
        if running && self.port.get(hw, TFD) & (TFD_BUSY | 1) == 0 {
            return Ok(());
        }
        self.port.recover(hw)
    }
}
