//! ATA disks on the PIIX and ICH IDE controllers, and CD drives as far as telling that they are there.
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

use crate::arch::{Hardware, PhysMem};
use crate::devices::block::{BlockDevice, BlockInfo, BlockKind, Chs, DiskError, Interface};
use crate::devices::dma::DmaPool;
use crate::devices::pci::PciDevice;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
pub use channel::IdeChannel;
use channel::{Channel, Command};
pub use identify::IdentityError;
use identify::{Flush, Identity};

/// PCI class and subclass of IDE controllers.
pub const PCI_CLASS: u16 = 0x0101;

/// Prog-if bits: the channel uses the BARs and not the legacy ports.
const NATIVE: [u8; 2] = [1 << 0, 1 << 2];
/// Prog-if bit: the controller has bus master registers.
const BUS_MASTER: u8 = 1 << 7;

/// Bytes of one descriptor table.
const PRD_TABLE_LEN: u64 = 4096;
/// Bytes of the buffer for callers whose memory the bus master cannot reach.
const BOUNCE_LEN: u64 = 32 * 1024;
/// Most sectors of one command, so that the descriptors of 16 MiB always fit their table.
const MOST_SECTORS: u32 = 0x8000;
/// Most sectors of one command with 28-bit addresses.
const MOST_SECTORS_28: u32 = 256;
/// First sector beyond 28-bit addresses.
const LBA28_END: u64 = 1 << 28;
/// Times a command is tried.
const ATTEMPTS: u32 = 3;

/// Memory that all drives share: requests come one after the other.
#[derive(Clone, Copy, Debug)]
pub struct DmaArea {
    prd: u64,
    bounce: u64,
}

impl DmaArea {
    /// Bytes that [`DmaArea::new`] takes, with room for alignment.
    pub const LEN: usize = (PRD_TABLE_LEN * 2 + BOUNCE_LEN) as usize;

    /// Takes the memory out of `pool`, which has to lie below 4 GiB; `None` when the pool is too small.
    pub fn new(pool: &mut DmaPool) -> Option<Self> {
        Some(Self {
            prd: pool.take(PRD_TABLE_LEN, PRD_TABLE_LEN)?,
            bounce: pool.take(BOUNCE_LEN, 4)?,
        })
    }
}

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
            pci: device.bdf.0,
            number: index as u8,
        }
    })
}

/// A drive that was found.
pub enum Drive<H: Hardware> {
    /// A disk, ready for use.
    Disk(Box<dyn BlockDevice<H>>),
    /// A CD or DVD drive. Nothing reads it yet.
    CdRom(BlockInfo),
    /// A disk that this driver cannot use.
    Unusable {
        /// Channel × 2 + drive, or the port of an AHCI controller.
        unit: u8,
        /// What a person knows it by.
        name: String,
        /// Why.
        why: IdentityError,
    },
}

/// Finds the drives of a channel. A missing drive costs a few accesses and no waiting.
pub fn probe<H: Hardware>(hw: &H, ports: IdeChannel, area: Option<DmaArea>) -> Vec<Drive<H>> {
    let channel = Channel::new(hw, ports);
    channel.begin();
    let mut found = Vec::new();
    for second in [false, true] {
        if channel.present(second) {
            found.extend(identify_drive(&channel, ports, second, area));
        }
    }
    channel.end();
    found
}

fn identify_drive<H: Hardware>(
    channel: &Channel<H>,
    ports: IdeChannel,
    second: bool,
    area: Option<DmaArea>,
) -> Option<Drive<H>> {
    const IDENTIFY_DEVICE: u8 = 0xec;
    const IDENTIFY_PACKET_DEVICE: u8 = 0xa1;
    let place = place_name(&ports, second);
    match channel.identify(IDENTIFY_DEVICE, second) {
        Ok(data) => Some(match identify::disk(&data) {
            Ok(identity) => Drive::Disk(Box::new(Disk::new(ports, second, identity, area))),
            Err(why) => Drive::Unusable {
                unit: unit(&ports, second),
                name: place,
                why,
            },
        }),
        Err(_) if channel.packet_signature() => {
            let model = channel
                .identify(IDENTIFY_PACKET_DEVICE, second)
                .ok()
                .and_then(|data| identify::cd(&data))?;
            Some(Drive::CdRom(BlockInfo {
                kind: BlockKind::CdRom,
                name: format!("{model} ({place})"),
                sector_size: 2048,
                sectors: 0,
                pci: Some(ports.pci),
                unit: unit(&ports, second),
                geometry: Chs::default(),
                interface: interface(&ports, second),
            }))
        }
        Err(_) => None,
    }
}

fn unit(ports: &IdeChannel, second: bool) -> u8 {
    ports.number * 2 + u8::from(second)
}

fn place_name(ports: &IdeChannel, second: bool) -> String {
    format!(
        "IDE {} {}",
        if ports.number == 0 {
            "primary"
        } else {
            "secondary"
        },
        if second { "slave" } else { "master" }
    )
}

fn interface(ports: &IdeChannel, second: bool) -> Interface {
    Interface::Ata {
        command: ports.command,
        control: ports.control,
        irq: ports.irq,
        second,
    }
}

/// A disk.
struct Disk {
    info: BlockInfo,
    ports: IdeChannel,
    second: bool,
    lba48: bool,
    flush: Flush,
    /// Bus master registers and memory for it, while DMA works.
    dma: Option<(u16, DmaArea)>,
}

/// A part of a request that one command serves.
#[derive(Clone, Copy)]
struct Part {
    lba: u64,
    count: u32,
    buffer: u64,
    writes: bool,
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

/// Whether the bus master reaches `len` bytes at `buffer` in RAM: even, below 4 GiB, outside the window between 640 KiB and
/// 1 MiB where devices and shadow memory are.
pub(crate) fn reachable(buffer: u64, len: u64) -> bool {
    let end = buffer.saturating_add(len);
    buffer & 1 == 0 && end <= 1 << 32 && (end <= 0xa_0000 || buffer >= 0x10_0000)
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

impl Disk {
    fn new(ports: IdeChannel, second: bool, identity: Identity, area: Option<DmaArea>) -> Self {
        let place = place_name(&ports, second);
        Self {
            info: BlockInfo {
                kind: BlockKind::HardDisk,
                name: format!("{} ({place})", identity.model),
                sector_size: identity.sector_size,
                sectors: identity.sectors,
                pci: Some(ports.pci),
                unit: unit(&ports, second),
                geometry: identity.geometry,
                interface: interface(&ports, second),
            },
            ports,
            second,
            lba48: identity.lba48,
            flush: identity.flush,
            dma: ports.bus_master.filter(|_| identity.dma).zip(area),
        }
    }

    fn bytes(&self, count: u32) -> u64 {
        u64::from(count) * u64::from(self.info.sector_size)
    }

    /// Sectors of the next command for a request that still has `count` to go.
    fn part_len(&self, lba: u64, count: u32, buffer: u64) -> u32 {
        let short_address = lba + u64::from(count) <= LBA28_END;
        let most = match (self.lba48, self.dma) {
            (false, _) => MOST_SECTORS_28,
            (true, _) if short_address && count <= MOST_SECTORS_28 => MOST_SECTORS_28,
            (true, _) => MOST_SECTORS,
        };
        let count = count.min(most);
        if self.dma.is_none() || reachable(buffer, self.bytes(count)) {
            return count;
        }
        count.min((BOUNCE_LEN / u64::from(self.info.sector_size)) as u32)
    }

    fn command(&self, part: &Part, dma: bool) -> Command {
        let ext = part.count > MOST_SECTORS_28 || part.lba + u64::from(part.count) > LBA28_END;
        Command {
            opcode: opcode(dma, ext, part.writes),
            second: self.second,
            lba: part.lba,
            count: part.count,
            ext,
        }
    }

    fn by_dma<H: Hardware>(
        &self,
        hw: &H,
        part: &Part,
        bus_master: u16,
        area: DmaArea,
    ) -> Result<(), DiskError> {
        let len = self.bytes(part.count);
        let direct = reachable(part.buffer, len);
        let target = if direct { part.buffer } else { area.bounce };
        if !direct && part.writes {
            hw.copy(target, part.buffer, len);
        }
        write_prd(hw, area.prd, target, len);
        let channel = Channel::new(hw, self.ports);
        let command = self.command(part, true);
        channel.run_dma(&command, bus_master, area.prd, part.writes)?;
        if !direct && !part.writes {
            hw.copy(part.buffer, target, len);
        }
        Ok(())
    }

    fn by_pio<H: Hardware>(&self, hw: &H, part: &Part) -> Result<(), DiskError> {
        let (size, command) = (self.info.sector_size, self.command(part, false));
        Channel::new(hw, self.ports).run_pio(&command, size, part.buffer, part.writes)
    }

    /// Serves a part: by DMA with retries, then by the data register.
    fn serve<H: Hardware>(&mut self, hw: &H, part: &Part) -> Result<(), DiskError> {
        let Some((bus_master, area)) = self.dma else {
            return self.retry(hw, |disk| disk.by_pio(hw, part));
        };
        let by_dma = self.retry(hw, |disk| disk.by_dma(hw, part, bus_master, area));
        if matches!(by_dma, Ok(()) | Err(DiskError::WriteProtected)) {
            return by_dma;
        }
        let result = self.by_pio(hw, part);
        if result.is_err() {
            Channel::new(hw, self.ports).reset(self.second)?;
        } else if by_dma != Err(DiskError::Media) {
            log::warn!("{}: DMA does not work, using PIO", self.info.name);
            self.dma = None;
        }
        result
    }

    /// Tries a few times, with a reset after each failure.
    fn retry<H: Hardware>(
        &self,
        hw: &H,
        mut operation: impl FnMut(&Self) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let mut result = Ok(());
        for attempt in 0..ATTEMPTS {
            result = operation(self);
            if matches!(result, Ok(()) | Err(DiskError::WriteProtected)) {
                break;
            }
            Channel::new(hw, self.ports).reset(self.second)?;
            // A device that is silent twice would only hold up the guest.
            if result == Err(DiskError::Timeout) && attempt > 0 {
                break;
            }
        }
        result
    }

    fn transfer<H: Hardware>(
        &mut self,
        hw: &H,
        lba: u64,
        count: u32,
        buffer: u64,
        writes: bool,
    ) -> Result<(), DiskError> {
        let end = lba.checked_add(count.into());
        if end.is_none_or(|end| end > self.info.sectors) {
            return Err(DiskError::BadRequest);
        }
        if count == 0 {
            return Ok(());
        }
        let channel = Channel::new(hw, self.ports);
        channel.begin();
        let mut result = Ok(());
        let (mut lba, mut left, mut buffer) = (lba, count, buffer);
        while left > 0 && result.is_ok() {
            let count = self.part_len(lba, left, buffer);
            result = self.serve(
                hw,
                &Part {
                    lba,
                    count,
                    buffer,
                    writes,
                },
            );
            if let Err(error) = result {
                log::warn!("{}: from sector {lba}: {error:?}", self.info.name);
            }
            lba += u64::from(count);
            left -= count;
            buffer += self.bytes(count);
        }
        if writes && result.is_ok() {
            result = self.flush(&channel);
        }
        channel.end();
        result
    }

    /// Makes writes lasting: a BIOS caller has no other way to ask for it.
    fn flush<H: Hardware>(&self, channel: &Channel<H>) -> Result<(), DiskError> {
        const FLUSH_CACHE: u8 = 0xe7;
        const FLUSH_CACHE_EXT: u8 = 0xea;
        let opcode = match self.flush {
            Flush::None => return Ok(()),
            Flush::Short => FLUSH_CACHE,
            Flush::Ext => FLUSH_CACHE_EXT,
        };
        channel.run(&Command::plain(opcode, self.second))
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
        let channel = Channel::new(hw, self.ports);
        channel.begin();
        let result = if channel.idle(self.second) {
            Ok(())
        } else {
            channel.reset(self.second)
        };
        channel.end();
        result
    }
}
