//! An IDE channel for host tests: drives with sparse contents, a bus master, and faults on demand.

use super::identify::{IDENTIFY_LEN, tests::sample};
use super::{IdeChannel, PCI_CLASS, probe};
use crate::arch::PhysMem;
use crate::arch::fake::{Fake, FakeDevice};
use crate::devices::pci::{Bar, BarKind, Bdf, PciDevice};
use crate::storage::drivers;
use crate::storage::{Bounce, Disk, Found};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// The channel's ports.
pub const PORTS: IdeChannel = IdeChannel {
    command: 0x1f0,
    control: 0x3f6,
    bus_master: Some(0xc000),
    irq: 14,
    pci: Bdf::new(0, 1, 1),
    number: 0,
};

/// A drive.
pub struct FakeDrive {
    /// What IDENTIFY DEVICE answers; packet devices refuse it.
    pub identity: [u8; IDENTIFY_LEN],
    /// Answers IDENTIFY PACKET DEVICE only.
    pub packet: bool,
    /// Written sectors; others hold their number in every 64-bit word.
    pub written: BTreeMap<u64, [u8; 512]>,
    /// Sectors that cannot be read.
    pub bad: Vec<u64>,
    /// Numbers of commands that get stuck from now on.
    pub hang: u32,
    /// DMA commands from now on that fail on the bus.
    pub bus_errors: u32,
    /// Every command: opcode, first sector, sectors.
    pub commands: Vec<(u8, u64, u32)>,
    /// Soft resets seen.
    pub resets: u32,
}

impl FakeDrive {
    /// A disk of `sectors` sectors.
    pub fn disk(sectors: u64) -> Self {
        Self {
            identity: sample(sectors),
            packet: false,
            written: BTreeMap::new(),
            bad: Vec::new(),
            hang: 0,
            bus_errors: 0,
            commands: Vec::new(),
            resets: 0,
        }
    }

    /// A CD drive.
    pub fn cd() -> Self {
        let mut drive = Self::disk(0);
        drive.packet = true;
        drive.identity[..2].copy_from_slice(&0x8580_u16.to_le_bytes());
        drive
    }

    /// A sector's contents.
    pub fn sector(&self, lba: u64) -> [u8; 512] {
        self.written.get(&lba).copied().unwrap_or_else(|| {
            let mut data = [0; 512];
            for word in data.chunks_exact_mut(8) {
                word.copy_from_slice(&lba.to_le_bytes());
            }
            data
        })
    }
}

/// A channel.
pub struct FakeChannel {
    /// Its drives.
    pub drives: [Option<FakeDrive>; 2],
    /// Polls that a DMA transfer lasts.
    pub latency: u32,
    /// A write of 16 bits reaches two registers.
    pub pairs: bool,
    regs: [u8; 8],
    old: [u8; 8],
    status: u8,
    data: VecDeque<u8>,
    writing: Option<(u64, u32)>,
    /// A packet is awaited, whose data goes by DMA or not.
    packet: Option<bool>,
    /// What a packet's DMA will move.
    reply: Option<Vec<u8>>,
    bus_master: [u8; 3],
    prd: u32,
    dma: Option<(u64, u32, bool)>,
    running: u32,
    interrupts_off: bool,
}

const READY: u8 = 0x50;
const FAILED: u8 = 0x51;
const HAS_DATA: u8 = 0x58;
const STUCK: u8 = 0xd0;

impl FakeChannel {
    /// A channel that answers on `hw`.
    pub fn attach(
        hw: &Fake,
        first: Option<FakeDrive>,
        second: Option<FakeDrive>,
    ) -> Rc<RefCell<Self>> {
        let channel = Rc::new(RefCell::new(Self {
            drives: [first, second],
            latency: 3,
            pairs: true,
            regs: [0; 8],
            old: [0; 8],
            status: READY,
            data: VecDeque::new(),
            writing: None,
            packet: None,
            reply: None,
            bus_master: [0; 3],
            prd: 0,
            dma: None,
            running: 0,
            interrupts_off: false,
        }));
        hw.attach(channel.clone());
        channel
    }

    /// A register of the command block is written.
    fn set(&mut self, port: u16, value: u8) {
        if port == 0x1f7 {
            assert!(self.interrupts_off, "a command that raises interrupts");
            return self.command(value);
        }
        let index = usize::from(port - 0x1f0);
        self.old[index] = self.regs[index];
        self.regs[index] = value;
    }

    fn selected(&self) -> usize {
        usize::from(self.regs[6] >> 4 & 1)
    }

    /// The first drive.
    pub fn first(&mut self) -> &mut FakeDrive {
        self.drives[0].as_mut().unwrap()
    }

    fn fail(&mut self, error: u8) {
        self.regs[1] = error;
        self.status = FAILED;
        self.dma = None;
    }

    fn command(&mut self, opcode: u8) {
        let r = self.regs.map(u64::from);
        let o = self.old.map(u64::from);
        let ext = matches!(opcode, 0x24 | 0x25 | 0x34 | 0x35);
        let low = r[3] | r[4] << 8 | r[5] << 16;
        let (lba, count) = if ext {
            let high = o[3] | o[4] << 8 | o[5] << 16;
            (low | high << 24, (r[2] | o[2] << 8) as u32)
        } else {
            (low | (r[6] & 15) << 24, r[2] as u32)
        };
        let count = match (count, ext) {
            (0, true) => 65536,
            (0, false) => 256,
            (count, _) => count,
        };
        let selected = self.selected();
        let Some(drive) = &mut self.drives[selected] else {
            return;
        };
        drive.commands.push((opcode, lba, count));
        self.status = READY;
        self.data.clear();
        if drive.hang > 0 {
            drive.hang -= 1;
            self.status = STUCK;
            return;
        }
        match opcode {
            0xec if drive.packet => {
                (self.regs[4], self.regs[5]) = (0x14, 0xeb);
                self.fail(4);
            }
            0xec | 0xa1 => {
                self.data = drive.identity.into();
                self.status = HAS_DATA;
            }
            0x20 | 0x24 => {
                let sectors: Vec<_> = (lba..lba + u64::from(count)).collect();
                if sectors.iter().any(|lba| drive.bad.contains(lba)) {
                    return self.fail(0x40);
                }
                self.data = sectors.iter().flat_map(|&lba| drive.sector(lba)).collect();
                self.status = HAS_DATA;
            }
            0x30 | 0x34 => {
                self.writing = Some((lba, count));
                self.status = HAS_DATA;
            }
            0xc8 | 0x25 | 0xca | 0x35 => {
                self.dma = Some((lba, count, matches!(opcode, 0xca | 0x35)));
                self.status = HAS_DATA;
            }
            0xe7 | 0xea => {}
            0xa0 if drive.packet => {
                self.packet = Some(self.regs[1] & 1 != 0);
                self.status = HAS_DATA;
            }
            _ => self.fail(4),
        }
    }

    fn take_data(&mut self, bytes: &[u8]) {
        self.data.extend(bytes);
        if let Some(dma) = self.packet {
            if self.data.len() == 12 {
                let block: Vec<u8> = self.data.drain(..).collect();
                self.packet = None;
                self.serve_packet(&block, dma);
            }
            return;
        }
        if self.data.len() < 512 {
            return;
        }
        let sector: Vec<u8> = self.data.drain(..).collect();
        let Some((lba, count)) = self.writing.take() else {
            return;
        };
        self.first().written.insert(lba, sector.try_into().unwrap());
        self.status = READY;
        if count > 1 {
            self.writing = Some((lba + 1, count - 1));
            self.status = HAS_DATA;
        }
    }

    /// A CD of 100 sectors, which hold their number in every 64-bit word.
    fn serve_packet(&mut self, block: &[u8], dma: bool) {
        let lba = u32::from_be_bytes([block[2], block[3], block[4], block[5]]);
        let reply = match block[0] {
            0x00 | 0x1b => Vec::new(),
            0x25 => [99u32, 2048].map(u32::to_be_bytes).concat(),
            0x28 => (lba..lba + u32::from(block[8]))
                .flat_map(|lba| u64::from(lba).to_le_bytes().repeat(256))
                .collect(),
            _ => return self.fail(0x50),
        };
        self.status = READY;
        if dma {
            self.reply = Some(reply);
            self.status = HAS_DATA;
        } else if !reply.is_empty() {
            let len = reply.len() as u16;
            [self.regs[4], self.regs[5]] = len.to_le_bytes();
            self.data = reply.into();
            self.status = HAS_DATA;
        }
    }

    /// Moves a packet's data by the descriptors.
    fn run_packet_dma(&mut self, hw: &Fake, reply: &[u8]) {
        self.bus_master[2] &= !1;
        self.status = READY;
        let (mut entry, mut rest) = (u64::from(self.prd), reply);
        while !rest.is_empty() {
            let (addr, len) = (hw.read32(entry), hw.read32(entry + 4) & 0xffff);
            let len = if len == 0 { 0x1_0000 } else { len as usize };
            let (now, later) = rest.split_at(len.min(rest.len()));
            hw.write(addr.into(), now);
            (rest, entry) = (later, entry + 8);
        }
    }

    fn run_dma(&mut self, hw: &Fake) {
        if let Some(reply) = self.reply.take() {
            return self.run_packet_dma(hw, &reply);
        }
        let Some((lba, count, to_disk)) = self.dma.take() else {
            return;
        };
        self.bus_master[2] &= !1;
        let selected = self.selected();
        let drive = self.drives[selected].as_mut().unwrap();
        if drive.bus_errors > 0 {
            drive.bus_errors -= 1;
            self.bus_master[2] |= 2;
            return;
        }
        self.status = READY;
        if (lba..lba + u64::from(count)).any(|lba| drive.bad.contains(&lba)) {
            return self.fail(0x40);
        }
        let mut places = Vec::new();
        let mut entry = u64::from(self.prd);
        loop {
            let (addr, len) = (hw.read32(entry), hw.read32(entry + 4));
            let bytes = if len & 0xffff == 0 {
                0x10000
            } else {
                len & 0xffff
            };
            assert_eq!(addr & 1, 0);
            assert!(
                addr % 0x10000 + bytes <= 0x10000,
                "descriptor crosses 64 KiB"
            );
            places.push((u64::from(addr), u64::from(bytes)));
            if len >> 31 != 0 {
                break;
            }
            entry += 8;
        }
        assert_eq!(
            places.iter().map(|place| place.1).sum::<u64>(),
            512 * u64::from(count)
        );
        let addresses = places.iter().flat_map(|&(addr, len)| addr..addr + len);
        let addresses: Vec<u64> = addresses.step_by(2).collect();
        for (index, chunk) in addresses.chunks_exact(256).enumerate() {
            let lba = lba + index as u64;
            let mut sector = drive.sector(lba);
            for (pair, &addr) in sector.chunks_exact_mut(2).zip(chunk) {
                if to_disk {
                    hw.read(addr, pair);
                } else {
                    hw.write(addr, pair);
                }
            }
            if to_disk {
                drive.written.insert(lba, sector);
            }
        }
    }

    /// Lets the bus master go on while somebody looks.
    fn pass_time(&mut self, hw: &Fake) {
        if self.bus_master[2] & 1 != 0 && self.status != STUCK {
            self.running += 1;
            if self.running > self.latency {
                self.run_dma(hw);
            }
        }
    }

    fn reset(&mut self) {
        for drive in self.drives.iter_mut().flatten() {
            drive.resets += 1;
        }
        self.dma = None;
        self.writing = None;
        self.status = READY;
    }
}

impl FakeDevice for FakeChannel {
    fn read(&mut self, hw: &Fake, port: u16, size: u8) -> Option<u32> {
        let selected = self.selected();
        let absent = self.drives[selected].is_none();
        Some(match port {
            0x1f0 => {
                let bytes: Vec<u8> = self.data.drain(..usize::from(size)).collect();
                if self.data.is_empty() {
                    self.status = READY;
                }
                bytes
                    .iter()
                    .rev()
                    .fold(0, |sum, &byte| sum << 8 | u32::from(byte))
            }
            0x1f7 | 0x3f6 if absent => 0,
            0x1f7 | 0x3f6 => {
                self.pass_time(hw);
                self.status.into()
            }
            0x1f1..=0x1f6 => self.regs[usize::from(port - 0x1f0)].into(),
            0xc002 => {
                self.pass_time(hw);
                self.bus_master[2].into()
            }
            _ => return None,
        })
    }

    fn write(&mut self, _hw: &Fake, port: u16, size: u8, value: u32) {
        match port {
            0x1f1..=0x1f6 if size == 2 => {
                self.set(port, value as u8);
                if self.pairs {
                    self.set(port + 1, (value >> 8) as u8);
                }
            }
            0x1f1..=0x1f7 => self.set(port, value as u8),
            0x1f0 => self.take_data(&value.to_le_bytes()[..usize::from(size)]),
            0x3f6 => {
                self.interrupts_off = value & 2 != 0;
                if value & 4 != 0 {
                    self.reset();
                }
            }
            0xc000 => {
                if value & 1 != 0 {
                    self.bus_master[2] |= 1;
                    self.running = 0;
                } else {
                    self.bus_master[2] &= !1;
                }
            }
            0xc002 => self.bus_master[2] &= !(value as u8 & 6),
            0xc004 => self.prd = value,
            _ => {}
        }
    }
}

/// A controller with these base address registers.
pub fn controller(prog_if: u32, ports: [Option<u64>; 5]) -> PciDevice {
    let mut bars = [Bar::NONE; 7];
    for (bar, address) in bars.iter_mut().zip(ports) {
        (bar.kind, bar.address) = (BarKind::Io, address);
    }
    PciDevice {
        class: u32::from(PCI_CLASS) << 8 | prog_if,
        bars,
        pin: 1,
        irq: Some(11),
        ..PciDevice::new(PORTS.pci, 0x8086, 0x7010)
    }
}

/// The drives that the driver finds on a controller, which has a bus master or not.
pub fn probed(hw: &Fake, bus_master: bool) -> Vec<Found> {
    let registers = PORTS.bus_master.filter(|_| bus_master).map(u64::from);
    let controller = controller(0x80, [None, None, None, None, registers]);
    drivers::probed(hw, controller, None, probe)
}

/// A disk, ready for use, and the channel behind it.
pub fn disk(hw: &Fake, drive: FakeDrive) -> (Disk, Rc<RefCell<FakeChannel>>) {
    let channel = FakeChannel::attach(hw, Some(drive), None);
    let Some(Found::Device(device)) = probed(hw, true).pop() else {
        panic!("no disk");
    };
    channel.borrow_mut().first().commands.clear();
    (Disk::new(device, Bounce::new(hw)), channel)
}

/// A CD drive, ready for use, and the channel behind it.
pub fn cd(hw: &Fake) -> (Disk, Rc<RefCell<FakeChannel>>) {
    let channel = FakeChannel::attach(hw, Some(FakeDrive::cd()), None);
    let Some(Found::Device(device)) = probed(hw, true).pop() else {
        panic!("no CD drive");
    };
    channel.borrow_mut().first().commands.clear();
    (Disk::new(device, Bounce::new(hw)), channel)
}
