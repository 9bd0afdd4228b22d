//! The registers of one IDE channel: task file, device control, bus master.
//!
//! Sources: AT Attachment 8, Parallel Transport (ATA8-APT), section 6; Programming Interface for Bus Master IDE Controller,
//! revision 1.0.

use super::identify::IDENTIFY_LEN;
use crate::arch::Hardware;
use crate::devices::pci::Bdf;
use crate::devices::poll::{self, Habit};
use crate::storage::DiskError;
use core::cell::Cell;

/// Where a channel's registers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdeChannel {
    /// First of the eight command block registers.
    pub command: u16,
    /// The device control and alternate status register.
    pub control: u16,
    /// First of the channel's bus master registers, if the controller does DMA.
    pub bus_master: Option<u16>,
    /// Interrupt line, for guests that ask.
    pub irq: u8,
    /// PCI address of the controller.
    pub pci: Bdf,
    /// 0: primary, 1: secondary.
    pub number: u8,
}

/// Status: the device is busy, and its other registers say nothing.
const BUSY: u8 = 1 << 7;
/// Status: the device stopped for good.
const DEVICE_FAULT: u8 = 1 << 5;
/// Status: the device has or wants data.
const DATA_REQUEST: u8 = 1 << 3;
/// Status: the error register says why.
const ERROR: u8 = 1 << 0;

/// Error register: data could not be corrected; on writes, the medium is protected.
const UNCORRECTABLE: u8 = 1 << 6;
/// Error register: no such sector.
const ID_NOT_FOUND: u8 = 1 << 4;

/// Device control: interrupts off (nIEN).
const INTERRUPTS_OFF: u8 = 1 << 1;
/// Device control: both drives reset (SRST).
const SOFT_RESET: u8 = 1 << 2;

/// Device register: bits that old drives want set, block addresses.
const DEVICE: u8 = 0xe0;

/// Features of a packet command: its data goes by DMA.
const BY_DMA: u8 = 1 << 0;

/// Bus master command: running.
const START: u8 = 1 << 0;
/// Bus master command: from the device to memory.
const TO_MEMORY: u8 = 1 << 3;
/// Bus master status: running.
const ACTIVE: u8 = 1 << 0;
/// Bus master status: the PCI transfer failed.
const BUS_ERROR: u8 = 1 << 1;
/// Written to the bus master status: clears error and interrupt, and says that both drives are set up for DMA.
const STATUS_CLEAR: u8 = 0x66;

/// A drive tells what it is within this time.
const IDENTIFY_US: u64 = 4_000_000;
/// A drive that was busy when we came, or was just reset.
const READY_US: u64 = 5_000_000;
/// Polls of the drive between two looks at the bus master.
const BUS_MASTER_LOOK: u32 = 8;

/// A command and its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its code.
    pub opcode: u8,
    /// Drive 1 of the channel.
    pub second: bool,
    /// First sector.
    pub lba: u64,
    /// Sectors: at most 256, or 65536 with 48-bit addresses.
    pub count: u32,
    /// 48-bit address.
    pub ext: bool,
    /// How long the drive may be silent.
    pub deadline_us: u64,
}

impl Command {
    /// A command without an address.
    pub fn plain(opcode: u8, second: bool, deadline_us: u64) -> Self {
        Self {
            opcode,
            second,
            lba: 0,
            count: 0,
            ext: false,
            deadline_us,
        }
    }
}

/// A command for a packet device.
pub struct Packet<'a> {
    /// Drive 1 of the channel.
    pub second: bool,
    /// The command block, as long as the drive wants it.
    pub block: &'a [u8],
    /// What it moves.
    pub data: PacketData,
    /// How long the drive may be silent.
    pub deadline_us: u64,
}

/// How a packet's data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketData {
    /// There is none.
    None,
    /// Through the bus master.
    Dma {
        /// First of its registers.
        bus_master: u16,
        /// The descriptors.
        prd: u64,
        /// From memory to the drive.
        writes: bool,
    },
    /// Through the data register, to memory.
    Pio {
        /// Where to.
        buffer: u64,
        /// At most so many bytes.
        len: u32,
    },
}

/// Whether a write of 16 bits reaches two registers of the task file, as it does in QEMU: then a command costs half the exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pairs {
    /// Nobody has asked: no command but one, as on the way to a boot sector, is not worth finding out.
    Unused,
    /// To be found out.
    Untried,
    /// It does.
    Taken,
    /// It does not.
    Refused,
}

/// Access to one channel's registers.
#[derive(Clone)]
pub struct Channel<H> {
    /// The hardware.
    pub hw: H,
    /// Where the registers are.
    pub ports: IdeChannel,
    /// How long its drives take to move data.
    habit: Cell<Habit>,
    pairs: Cell<Pairs>,
}

impl<H: Hardware> Channel<H> {
    /// A channel whose registers are there.
    pub fn new(hw: H, ports: IdeChannel) -> Self {
        Self {
            hw,
            ports,
            habit: Cell::new(Habit::UNKNOWN),
            pairs: Cell::new(Pairs::Unused),
        }
    }

    fn set(&self, register: u16, value: u8) {
        self.hw.out8(self.ports.command + register, value);
    }

    fn get(&self, register: u16) -> u8 {
        self.hw.in8(self.ports.command + register)
    }

    /// The status without acknowledging an interrupt.
    fn alternate_status(&self) -> u8 {
        self.hw.in8(self.ports.control)
    }

    fn wait(&self, timeout_us: u64) -> Result<u8, DiskError> {
        self.wait_by(timeout_us, || self.alternate_status())
    }

    /// Waits until the drive is not busy, by one of the two status registers.
    fn wait_by(&self, timeout_us: u64, status: impl Fn() -> u8) -> Result<u8, DiskError> {
        poll::sparsely(&self.hw, timeout_us, || {
            let status = status();
            (status & BUSY == 0).then_some(status)
        })
        .ok_or(DiskError::Timeout)
    }

    /// Keeps the drives' interrupts away while we poll.
    pub fn begin(&self) {
        self.hw.out8(self.ports.control, INTERRUPTS_OFF);
    }

    /// Lets interrupts through again, as a guest's driver expects; none is pending.
    pub fn end(&self) {
        self.get(7);
        self.end_acknowledged();
    }

    /// The same where the status register was read after the end of the last command.
    pub fn end_acknowledged(&self) {
        self.hw.out8(self.ports.control, 0);
    }

    /// Whether anything answers as this drive, which is then selected and ready for a command. Costs a handful of accesses where
    /// nothing does.
    pub fn present(&self, second: bool) -> bool {
        self.set(6, DEVICE | u8::from(second) << 4);
        match self.alternate_status() {
            // Nothing drives the bus.
            0xff | 0x7f => false,
            // No drive, or a packet device after a reset.
            0 => self.packet_signature(),
            status => {
                let ready = match status & BUSY {
                    0 => Ok(status),
                    _ => self.wait(READY_US),
                };
                ready.is_ok_and(|status| status & DATA_REQUEST == 0)
            }
        }
    }

    /// Whether the registers hold what a packet device puts there after a reset and when it refuses IDENTIFY DEVICE.
    pub fn packet_signature(&self) -> bool {
        self.get(4) == 0x14 && self.get(5) == 0xeb
    }

    /// Writes a command to the drive once that is ready for it.
    fn issue(&self, command: &Command) -> Result<(), DiskError> {
        self.select(command);
        if self.wait(READY_US)? & DATA_REQUEST != 0 {
            return Err(DiskError::Controller);
        }
        self.write_command(command);
        Ok(())
    }

    /// The device register for a command: the drive, and the part of the address that is there.
    fn device(command: &Command) -> u8 {
        let high = if command.ext {
            0
        } else {
            (command.lba >> 24) as u8 & 0x0f
        };
        DEVICE | u8::from(command.second) << 4 | high
    }

    /// Selects the drive of a command.
    fn select(&self, command: &Command) {
        self.set(6, Self::device(command));
    }

    /// Selects the drive of a command that moves sectors, and writes the command, with as few accesses as the controller takes.
    fn send(&self, command: &Command) {
        if !self.takes_pairs() {
            self.select(command);
            self.write_command(command);
            return;
        }
        let lba = command.lba.to_le_bytes();
        if command.ext {
            self.set_pair(2, [(command.count >> 8) as u8, lba[3]]);
            self.set_pair(4, [lba[4], lba[5]]);
        }
        self.set_pair(2, [command.count as u8, lba[0]]);
        self.set_pair(4, [lba[1], lba[2]]);
        self.set_pair(6, [Self::device(command), command.opcode]);
    }

    fn set_pair(&self, register: u16, values: [u8; 2]) {
        self.hw
            .out16(self.ports.command + register, u16::from_le_bytes(values));
    }

    fn takes_pairs(&self) -> bool {
        let pairs = match self.pairs.get() {
            Pairs::Unused => Pairs::Untried,
            Pairs::Untried => {
                let values = [!self.get(2), !self.get(3)];
                self.set_pair(2, values);
                match [self.get(2), self.get(3)] == values {
                    true => Pairs::Taken,
                    false => Pairs::Refused,
                }
            }
            known => known,
        };
        self.pairs.set(pairs);
        pairs == Pairs::Taken
    }

    /// Writes a command to the drive that is selected.
    fn write_command(&self, command: &Command) {
        let lba = command.lba.to_le_bytes();
        if command.ext {
            self.set(2, (command.count >> 8) as u8);
            self.set(3, lba[3]);
            self.set(4, lba[4]);
            self.set(5, lba[5]);
        }
        if command.count != 0 {
            self.set(2, command.count as u8);
            self.set(3, lba[0]);
            self.set(4, lba[1]);
            self.set(5, lba[2]);
        }
        self.set(7, command.opcode);
    }

    fn check(&self, status: u8, writes: bool) -> Result<(), DiskError> {
        if status & DEVICE_FAULT != 0 {
            return Err(DiskError::Controller);
        }
        if status & ERROR == 0 {
            return Ok(());
        }
        let error = self.get(1);
        Err(if error & ID_NOT_FOUND != 0 {
            DiskError::SectorNotFound
        } else if error & UNCORRECTABLE != 0 && writes {
            DiskError::WriteProtected
        } else {
            // QEMU reports a read error of the host as "aborted", and range and command were checked before.
            DiskError::Media
        })
    }

    /// Runs a command that moves no data.
    ///
    /// # Errors
    /// What the drive reports.
    pub fn run(&self, command: &Command) -> Result<(), DiskError> {
        self.issue(command)?;
        let status = self.wait(command.deadline_us)?;
        self.check(status, false)
    }

    /// Runs a command that moves sectors through the bus master, with the descriptors at physical address `prd`. It costs seven
    /// accesses where registers are written in pairs, else ten: that the drive is idle is taken for granted, and what is not is seen from the end, and from the
    /// [`reset`](Self::reset) after it. The status register has been read where it worked.
    ///
    /// # Errors
    /// What drive and bus master report.
    pub fn run_dma(
        &self,
        command: &Command,
        bus_master: u16,
        prd: u64,
        writes: bool,
    ) -> Result<(), DiskError> {
        self.set_descriptors(bus_master, prd);
        self.send(command);
        let status = self.move_by_dma(bus_master, writes, command.deadline_us)?;
        self.check(status, writes)
    }

    fn set_descriptors(&self, bus_master: u16, prd: u64) {
        self.hw.out32(bus_master + 4, prd as u32);
    }

    /// Gets the bus master ready for its first transfer. It rests: a machine's reset stops it.
    pub fn prepare_bus_master(&self) {
        if let Some(bus_master) = self.ports.bus_master {
            self.hw.out8(bus_master + 2, STATUS_CLEAR);
        }
    }

    /// Lets the bus master work for a drive that has its command, and returns the drive's status. It is the drive that says when it
    /// is done, and how: the controllers that hypervisors have are done with the data by then. The bus master is looked at now and
    /// then, since it may stop on its own.
    fn move_by_dma(
        &self,
        bus_master: u16,
        writes: bool,
        deadline_us: u64,
    ) -> Result<u8, DiskError> {
        let direction = if writes { 0 } else { TO_MEMORY };
        self.hw.out8(bus_master, direction | START);
        let mut polls = 0;
        let mut habit = self.habit.get();
        let done = habit.wait(&self.hw, deadline_us, || {
            let status = self.get(7);
            if status & (BUSY | DATA_REQUEST) == 0 {
                return Some(Ok(status));
            }
            polls += 1;
            let stopped = polls % BUS_MASTER_LOOK == 0
                && self.hw.in8(bus_master + 2) & (ACTIVE | BUS_ERROR) != ACTIVE;
            // It also stops when all is done, which may have come between the two reads.
            stopped.then(|| match self.get(7) {
                status if status & (BUSY | DATA_REQUEST) == 0 => Ok(status),
                _ => Err(DiskError::Controller),
            })
        });
        self.habit.set(habit);
        self.hw.out8(bus_master, direction);
        done.unwrap_or(Err(DiskError::Timeout))
    }

    /// Selects a packet device and tells it that a command block comes, with as few accesses as the controller takes.
    fn send_packet(&self, second: bool, features: u8, most: u16) -> Result<(), DiskError> {
        const PACKET: u8 = 0xa0;
        let device = DEVICE | u8::from(second) << 4;
        let most = most.to_le_bytes();
        if self.takes_pairs() {
            self.set(1, features);
            self.set_pair(4, most);
            self.set_pair(6, [device, PACKET]);
            return Ok(());
        }
        self.set(6, device);
        self.wait(READY_US)?;
        self.set(1, features);
        self.set(4, most[0]);
        self.set(5, most[1]);
        self.set(7, PACKET);
        Ok(())
    }

    /// Runs a command of a packet device; whether the device carried it out, or has something to say. Where data went by DMA and it
    /// did, the status register has been read.
    ///
    /// # Errors
    /// The drive is silent, or the bus master fails.
    pub fn run_packet(&self, packet: &Packet) -> Result<bool, DiskError> {
        /// Most bytes of one block of data; it is even.
        const MOST: u32 = 0xfffe;
        let (features, most) = match packet.data {
            PacketData::None => (0, 0),
            PacketData::Dma {
                bus_master, prd, ..
            } => {
                self.set_descriptors(bus_master, prd);
                (BY_DMA, 0)
            }
            PacketData::Pio { len, .. } => (0, len.min(MOST) as u16),
        };
        self.send_packet(packet.second, features, most)?;
        let status = self.wait(READY_US)?;
        if status & ERROR != 0 {
            return Ok(false);
        }
        if status & DATA_REQUEST == 0 {
            return Err(DiskError::Controller);
        }
        self.write_block(packet.block);
        match packet.data {
            PacketData::None => {
                let status = self.wait(packet.deadline_us)?;
                Ok(status & ERROR == 0)
            }
            PacketData::Dma {
                bus_master, writes, ..
            } => {
                let status = self.move_by_dma(bus_master, writes, packet.deadline_us)?;
                Ok(status & ERROR == 0)
            }
            PacketData::Pio { buffer, len } => self.read_packet(buffer, len, packet.deadline_us),
        }
    }

    /// Takes what a packet device has, block by block, each as long as the device says.
    fn read_packet(&self, buffer: u64, len: u32, deadline_us: u64) -> Result<bool, DiskError> {
        let mut done = 0;
        loop {
            let status = self.wait(deadline_us)?;
            if status & (ERROR | DATA_REQUEST) != DATA_REQUEST {
                return Ok(status & ERROR == 0);
            }
            let bytes = u32::from(self.get(4)) | u32::from(self.get(5)) << 8;
            if bytes == 0 {
                return Err(DiskError::Controller);
            }
            for _ in 0..bytes.div_ceil(2) {
                let [low, high] = self.hw.in16(self.ports.command).to_le_bytes();
                for byte in [low, high] {
                    if done < len {
                        self.hw.write8(buffer + u64::from(done), byte);
                    }
                    done = done.saturating_add(1);
                }
            }
        }
    }

    /// Waits until the drive has or wants a block of data.
    fn wait_data(&self, writes: bool, deadline_us: u64) -> Result<(), DiskError> {
        let status = self.wait(deadline_us)?;
        self.check_data(status, writes)
    }

    fn check_data(&self, status: u8, writes: bool) -> Result<(), DiskError> {
        self.check(status, writes)?;
        if status & DATA_REQUEST == 0 {
            return Err(DiskError::Controller);
        }
        Ok(())
    }

    fn read_block(&self, block: &mut [u8]) {
        self.hw.in32_repeated(self.ports.command, block);
    }

    fn write_block(&self, block: &[u8]) {
        self.hw.out32_repeated(self.ports.command, block);
    }

    /// Runs a command that moves sectors through the data register, 32 bits at a time, which every PCI controller can.
    ///
    /// # Errors
    /// What the drive reports; sectors before the bad one have been moved.
    pub fn run_pio(
        &self,
        command: &Command,
        sector_size: u32,
        buffer: u64,
        writes: bool,
    ) -> Result<(), DiskError> {
        let mut sector = [0; 4096];
        let sector = &mut sector[..sector_size as usize];
        self.issue(command)?;
        for index in 0..u64::from(command.count) {
            let addr = buffer + index * u64::from(sector_size);
            self.wait_data(writes, command.deadline_us)?;
            if writes {
                self.hw.read(addr, sector);
                self.write_block(sector);
            } else {
                self.read_block(sector);
                self.hw.write(addr, sector);
            }
        }
        let status = self.wait(command.deadline_us)?;
        self.check(status, writes)
    }

    /// The answer to one of the IDENTIFY commands of the drive that is selected and ready, as [`present`](Self::present) leaves it,
    /// and an IDENTIFY that was refused. The status register has been read after the command's only interrupt, which announces the
    /// data.
    ///
    /// # Errors
    /// The drive refuses, which is how a packet device answers IDENTIFY DEVICE.
    pub fn identify(&self, opcode: u8) -> Result<[u8; IDENTIFY_LEN], DiskError> {
        let mut data = [0; IDENTIFY_LEN];
        self.set(7, opcode);
        let status = self.wait_by(IDENTIFY_US, || self.get(7))?;
        self.check_data(status, false)?;
        self.read_block(&mut data);
        Ok(data)
    }

    /// Resets both drives, and waits until the given one is ready.
    ///
    /// # Errors
    /// It does not come back.
    pub fn reset(&self, second: bool) -> Result<(), DiskError> {
        if let Some(bus_master) = self.ports.bus_master {
            self.hw.out8(bus_master, 0);
        }
        self.prepare_bus_master();
        // ATA8-APT 9.2: 5 us of reset, then 2 ms before the status counts.
        self.hw
            .out8(self.ports.control, SOFT_RESET | INTERRUPTS_OFF);
        self.hw.delay_us(5);
        self.hw.out8(self.ports.control, INTERRUPTS_OFF);
        self.hw.delay_us(2000);
        self.set(6, DEVICE | u8::from(second) << 4);
        self.wait(READY_US)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::PORTS;
    use super::*;
    use crate::arch::fake::Fake;

    const BUS_MASTER: u16 = 0xc000;

    /// What comes of a transfer whose bus master has stopped when it is looked at, after which the drive's status is `then`.
    fn stopped(then: u32) -> Result<u8, DiskError> {
        let hw = Fake::default();
        let mut statuses = vec![0x58; BUS_MASTER_LOOK as usize];
        statuses.push(then);
        hw.script_port(PORTS.command + 7, &statuses);
        hw.script_port(BUS_MASTER + 2, &[0x60]);
        Channel::new(hw, PORTS).move_by_dma(BUS_MASTER, false, 1_000_000)
    }

    #[test]
    fn a_bus_master_that_stops_is_done_or_broken() {
        assert_eq!(stopped(0x50), Ok(0x50));
        assert_eq!(stopped(0x51), Ok(0x51));
        assert_eq!(stopped(0x58), Err(DiskError::Controller));
    }
}
