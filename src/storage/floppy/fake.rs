//! A diskette controller with two drives and its DMA channel, for tests: as far as the driver uses them, and as QEMU's answers.

use super::super::Chs;
use super::controller::{
    CHANGED, DATA, INPUT, OUTPUT, READY, RUNNING, STATUS, TO_PROCESSOR, USES_DMA,
};
use super::format::{Format, address, sectors};
use crate::arch::PhysMem;
use crate::arch::fake::{Fake, FakeDevice};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// A diskette: how it is written, and its bytes.
pub struct Diskette {
    /// Its format.
    pub format: Format,
    /// Its sectors, each with its number in every byte.
    pub bytes: Vec<u8>,
    /// It cannot be written.
    pub protected: bool,
    /// Sectors that cannot be read.
    pub bad: Vec<u64>,
}

impl Diskette {
    /// One whose sectors have their numbers in them.
    pub fn new(format: Format) -> Self {
        let numbers = 0..sectors(format.chs);
        Self {
            format,
            bytes: numbers.flat_map(|lba| [lba as u8; 512]).collect(),
            protected: false,
            bad: Vec::new(),
        }
    }
}

/// A drive.
#[derive(Default)]
pub struct FakeDrive {
    /// What is in it.
    pub diskette: Option<Diskette>,
    changed: bool,
    cylinder: u8,
}

/// The controller.
#[derive(Default)]
pub struct FakeController {
    /// Its drives.
    pub drives: [FakeDrive; 2],
    /// It answers nothing.
    pub silent: bool,
    /// Codes of the commands that came.
    pub commands: Vec<u8>,
    output: u8,
    rate: u8,
    fifo: Vec<u8>,
    answers: VecDeque<u8>,
    interrupts: VecDeque<u8>,
    /// Address and count of the DMA channel, the flip-flop, and whether it may move data.
    dma_address: u32,
    dma_count: u16,
    flip_flop: bool,
    unmasked: bool,
}

impl FakeController {
    /// Puts it into the machine.
    pub fn attach(hw: &Fake) -> Rc<RefCell<Self>> {
        let controller = Rc::new(RefCell::new(Self {
            output: RUNNING | USES_DMA,
            ..Self::default()
        }));
        hw.attach(controller.clone());
        controller
    }

    /// Puts a diskette into a drive, or takes it out.
    pub fn change(&mut self, unit: usize, diskette: Option<Diskette>) {
        let drive = &mut self.drives[unit];
        drive.diskette = diskette;
        drive.changed = true;
    }

    /// Whether a motor runs.
    pub fn motors(&self) -> u8 {
        self.output >> 4
    }

    fn len(&self) -> usize {
        match self.fifo[0] & 0x1f {
            0x03 | 0x0f => 3,
            0x07 => 2,
            0x13 => 4,
            0x05 | 0x06 | 0x16 => 9,
            _ => 1,
        }
    }

    fn step(&mut self, unit: u8, cylinder: u8) {
        let drive = &mut self.drives[usize::from(unit)];
        if drive.cylinder != cylinder && drive.diskette.is_some() {
            drive.changed = false;
        }
        drive.cylinder = cylinder;
        self.interrupts.push_back(0x20 | unit);
    }

    fn run(&mut self, hw: &Fake) {
        self.commands.push(self.fifo[0]);
        let unit = self.fifo.get(1).map_or(0, |byte| byte & 1);
        match self.fifo[0] & 0x1f {
            0x07 => self.step(unit, 0),
            0x0f => self.step(unit, self.fifo[2]),
            0x08 => match self.interrupts.pop_front() {
                Some(status) => self.answers.extend([status, 0]),
                None => self.answers.push_back(0x80),
            },
            0x05 | 0x06 | 0x16 => {
                let (status0, status1) = self.sectors(hw, unit);
                self.answers
                    .extend([status0 | unit, status1, 0, 0, 0, 0, 2]);
            }
            _ => {}
        }
        self.fifo.clear();
    }

    /// Moves or checks sectors, and gives status 0 and 1.
    fn sectors(&mut self, hw: &Fake, unit: u8) -> (u8, u8) {
        let [code, _, cylinder, head, sector, _, last, ..] = self.fifo[..] else {
            unreachable!()
        };
        let Some(diskette) = &mut self.drives[usize::from(unit)].diskette else {
            return (0x40, 0);
        };
        let Format { rate, chs } = diskette.format;
        if rate as u8 != self.rate {
            return (0x40, 0x01);
        }
        let inside = |chs: Chs| u32::from(head) < chs.heads && u32::from(cylinder) < chs.cylinders;
        if !inside(chs) || u32::from(last) > chs.sectors {
            return (0x40, 0x80);
        }
        let track = u64::from(cylinder) * u64::from(chs.heads) + u64::from(head);
        let mut lba = track * u64::from(chs.sectors) + u64::from(sector) - 1;
        let verifies = code & 0x1f == 0x16;
        let mut left = if verifies {
            usize::from(last - sector + 1)
        } else {
            assert!(self.unmasked && code & 0x80 != 0);
            (usize::from(self.dma_count) + 1) / 512
        };
        let mut at = u64::from(self.dma_address);
        while left > 0 {
            assert_eq!(address(chs, lba)[0], cylinder, "beyond the cylinder");
            let range = lba as usize * 512..(lba as usize + 1) * 512;
            if diskette.bad.contains(&lba) {
                return (0x40, 0x20);
            }
            match code & 0x1f {
                0x05 if diskette.protected => return (0x40, 0x02),
                0x05 => hw.read(at, &mut diskette.bytes[range]),
                0x06 => hw.write(at, &diskette.bytes[range]),
                _ => {}
            }
            (lba, at, left) = (lba + 1, at + 512, left - 1);
        }
        (0, 0)
    }

    fn dma(&mut self, port: u16, value: u32) {
        let shift = if self.flip_flop { 8 } else { 0 };
        match port {
            0x04 => {
                self.dma_address = self.dma_address & !(0xff << shift) | value << shift;
                self.flip_flop = !self.flip_flop;
            }
            0x05 => {
                self.dma_count = self.dma_count & !(0xff << shift) | (value as u16) << shift;
                self.flip_flop = !self.flip_flop;
            }
            0x81 => self.dma_address = self.dma_address & 0xffff | value << 16,
            0x0a if value & 3 == 2 => self.unmasked = value & 4 == 0,
            0x0c => self.flip_flop = false,
            _ => {}
        }
    }
}

impl FakeDevice for FakeController {
    fn read(&mut self, _: &Fake, port: u16, _: u8) -> Option<u32> {
        let unit = usize::from(self.output & 1);
        let value = match port {
            OUTPUT => self.output,
            STATUS if self.silent => 0,
            STATUS if !self.answers.is_empty() => READY | TO_PROCESSOR,
            STATUS => READY,
            DATA => self.answers.pop_front().unwrap_or(0),
            INPUT if self.drives[unit].changed => CHANGED,
            INPUT => 0,
            _ => return None,
        };
        Some(value.into())
    }

    fn write(&mut self, hw: &Fake, port: u16, _: u8, value: u32) {
        match port {
            OUTPUT => {
                if self.output & RUNNING == 0 && value as u8 & RUNNING != 0 {
                    self.fifo.clear();
                    self.answers.clear();
                    self.interrupts = (0..4).map(|unit| 0xc0 | unit).collect();
                }
                self.output = value as u8;
            }
            DATA => {
                self.fifo.push(value as u8);
                if self.fifo.len() == self.len() {
                    self.run(hw);
                }
            }
            INPUT => self.rate = value as u8 & 3,
            _ => self.dma(port, value),
        }
    }
}
