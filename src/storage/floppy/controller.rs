//! The diskette controller: an 82077AA at ports 3F0h to 3F7h, which QEMU has.
//!
//! Its interrupt is not waited for: the main status register tells the same, and a caller may keep interrupts out. Source: Intel
//! 82077AA data sheet, sections 2 (registers), 5 (commands) and 6 (status).

use super::super::DiskError;
use super::format::Rate;
use crate::arch::Handle;
use crate::devices::{isa_dma, poll};

/// Registers: digital output; main status; data; digital input when read, configuration control when written.
pub const OUTPUT: u16 = 0x3f2;
pub const STATUS: u16 = 0x3f4;
pub const DATA: u16 = 0x3f5;
pub const INPUT: u16 = 0x3f7;
pub const RATE: u16 = 0x3f7;

/// Digital output: out of reset; interrupt and DMA; the motor of drive 0, before those of others.
pub const RUNNING: u8 = 1 << 2;
pub const USES_DMA: u8 = 1 << 3;
pub const MOTOR: u8 = 1 << 4;
pub const MOTORS: u8 = 0xf0;
/// Main status: a byte can be moved; it goes to the processor.
pub const READY: u8 = 1 << 7;
pub const TO_PROCESSOR: u8 = 1 << 6;
/// Digital input: the medium may have been changed.
pub const CHANGED: u8 = 1 << 7;

/// Commands, where sectors are moved with double density and from one side to the other.
mod command {
    pub const SPECIFY: u8 = 0x03;
    pub const RECALIBRATE: u8 = 0x07;
    pub const SENSE_INTERRUPT: u8 = 0x08;
    pub const SEEK: u8 = 0x0f;
    pub const CONFIGURE: u8 = 0x13;
    pub const VERIFY: u8 = 0x56;
    pub const WRITE: u8 = 0xc5;
    pub const READ: u8 = 0xe6;
}

/// Status 0: how a command ended, zero where it went well; a seek has ended; no track 0.
const ENDED: u8 = 0xc0;
const SEEK_END: u8 = 1 << 5;
const NO_TRACK_0: u8 = 1 << 4;
/// Status 0 alone: there is no interrupt to tell of.
const NOTHING: u8 = 0x80;
/// Status 1: no address mark, write protected, no such sector, bad data, end of the track.
const NO_MARK: u8 = 1 << 0;
const PROTECTED: u8 = 1 << 1;
const NO_SECTOR: u8 = 1 << 2;
const BAD_DATA: u8 = 1 << 5;
const END_OF_TRACK: u8 = 1 << 7;

/// Step rate and head times as in the parameter table of INT 1Eh, with DMA.
pub const TIMES: [u8; 2] = [0xaf, 0x02];
/// Implied seeks, the FIFO on, its threshold.
const IMPLIED_SEEKS: u8 = 1 << 6 | 7;
/// Sectors of 512 bytes, the gap between them, and what stands for no length.
pub const SIZE_CODE: u8 = 2;
pub const GAP: u8 = 0x1b;
pub const NO_LENGTH: u8 = 0xff;

/// How long the controller takes for a byte.
const BYTE_US: u64 = 500_000;
/// How long a head takes over all tracks.
const SEEK_US: u64 = 3_000_000;

/// A command that moves or checks sectors.
pub struct Sectors {
    /// Cylinder, head and sector of the first.
    pub from: [u8; 3],
    /// The last sector of the track.
    pub last: u8,
    /// How long they may take.
    pub deadline_us: u64,
}

/// The controller, as one drive uses it.
pub struct Controller<H> {
    /// The machine.
    pub hw: H,
    /// The drive's number.
    pub unit: u8,
    /// It has been told its times.
    set_up: bool,
}

impl<H: Handle> Controller<H> {
    /// For drive `unit`. Nothing is touched yet.
    pub fn new(hw: H, unit: u8) -> Self {
        Self {
            hw,
            unit,
            set_up: false,
        }
    }

    /// Selects the drive, lets its motor run, and gets the controller out of a reset that somebody left it in.
    pub fn select(&mut self) -> Result<(), DiskError> {
        let before = self.hw.in8(OUTPUT);
        let motors = before & MOTORS | MOTOR << self.unit;
        self.hw
            .out8(OUTPUT, motors | USES_DMA | RUNNING | self.unit);
        if before & RUNNING == 0 {
            self.forget_interrupts()?;
            self.set_up = false;
        }
        if !self.set_up {
            self.set_up()?;
            self.set_up = true;
        }
        Ok(())
    }

    /// Resets the controller, so that nothing is under way any more, and puts the drive's head over track 0.
    pub fn reset(&mut self) -> Result<(), DiskError> {
        /// Longer than the 3 us that the slowest one needs.
        const RESET_US: u64 = 10;
        isa_dma::stop(&self.hw);
        self.hw.out8(OUTPUT, self.unit);
        self.hw.delay_us(RESET_US);
        self.select()?;
        self.recalibrate()
    }

    fn set_up(&self) -> Result<(), DiskError> {
        isa_dma::init(&self.hw);
        self.send(&[command::SPECIFY, TIMES[0], TIMES[1]])?;
        self.send(&[command::CONFIGURE, 0, IMPLIED_SEEKS, 0])
    }

    /// A reset makes an interrupt for each of four drives.
    fn forget_interrupts(&self) -> Result<(), DiskError> {
        (0..4).try_for_each(|_| self.sense_interrupt().map(drop))
    }

    /// Whether the medium may have been changed.
    pub fn changed(&self) -> bool {
        self.hw.in8(INPUT) & CHANGED != 0
    }

    /// Sets the data rate.
    pub fn set_rate(&self, rate: Rate) {
        self.hw.out8(RATE, rate as u8);
    }

    /// Moves the head to cylinder 1 and back: only steps, and a medium in the drive, take the word back that it was changed.
    pub fn step(&self) -> Result<(), DiskError> {
        self.send(&[command::SEEK, self.unit, 1])?;
        self.seek_end()?;
        self.recalibrate()
    }

    fn recalibrate(&self) -> Result<(), DiskError> {
        // The command takes 79 steps at most, and there are drives with more tracks.
        for _ in 0..2 {
            self.send(&[command::RECALIBRATE, self.unit])?;
            if self.seek_end()? & NO_TRACK_0 == 0 {
                return Ok(());
            }
        }
        Err(DiskError::Controller)
    }

    /// Waits for the end of a seek, and returns status 0.
    fn seek_end(&self) -> Result<u8, DiskError> {
        poll::sparsely(&self.hw, SEEK_US, || match self.sense_interrupt() {
            Ok(status) if status & SEEK_END != 0 => Some(Ok(status)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
        .unwrap_or(Err(DiskError::Timeout))
    }

    /// Status 0 of the interrupt that is pending; [`NOTHING`] where none is.
    fn sense_interrupt(&self) -> Result<u8, DiskError> {
        self.send(&[command::SENSE_INTERRUPT])?;
        let status = self.get(BYTE_US)?;
        if status != NOTHING {
            self.get(BYTE_US)?;
        }
        Ok(status)
    }

    /// Reads, or writes, `len` bytes of sectors by DMA at `addr`.
    pub fn transfer(
        &self,
        sectors: &Sectors,
        addr: u64,
        len: u32,
        writes: bool,
    ) -> Result<(), DiskError> {
        let code = if writes {
            command::WRITE
        } else {
            command::READ
        };
        isa_dma::start(&self.hw, addr, len, !writes);
        let result = self.run(code, sectors);
        // The memory is the caller's again.
        isa_dma::stop(&self.hw);
        result
    }

    /// Reads sectors up to the last without moving them.
    pub fn verify(&self, sectors: &Sectors) -> Result<(), DiskError> {
        self.run(command::VERIFY, sectors)
    }

    fn run(&self, code: u8, sectors: &Sectors) -> Result<(), DiskError> {
        let [cylinder, head, sector] = sectors.from;
        self.send(&[
            code,
            head << 2 | self.unit,
            cylinder,
            head,
            sector,
            SIZE_CODE,
            sectors.last,
            GAP,
            NO_LENGTH,
        ])?;
        let mut status = [0; 7];
        let mut deadline_us = sectors.deadline_us;
        for byte in &mut status {
            *byte = self.get(deadline_us)?;
            deadline_us = BYTE_US;
        }
        verdict(status)
    }

    fn send(&self, bytes: &[u8]) -> Result<(), DiskError> {
        for &byte in bytes {
            self.wait(0, BYTE_US)?;
            self.hw.out8(DATA, byte);
        }
        Ok(())
    }

    fn get(&self, deadline_us: u64) -> Result<u8, DiskError> {
        self.wait(TO_PROCESSOR, deadline_us)?;
        Ok(self.hw.in8(DATA))
    }

    /// Waits until a byte can be moved in `direction`.
    fn wait(&self, direction: u8, deadline_us: u64) -> Result<(), DiskError> {
        let status = poll::sparsely(&self.hw, deadline_us, || {
            let status = self.hw.in8(STATUS);
            (status & READY != 0).then_some(status)
        });
        match status {
            None => Err(DiskError::Timeout),
            Some(status) if status & TO_PROCESSOR == direction => Ok(()),
            Some(_) => Err(DiskError::Controller),
        }
    }
}

/// What the status bytes of a command say.
fn verdict([status0, status1, ..]: [u8; 7]) -> Result<(), DiskError> {
    if status0 & ENDED == 0 {
        Ok(())
    } else if status1 & PROTECTED != 0 {
        Err(DiskError::WriteProtected)
    } else if status1 & BAD_DATA != 0 {
        Err(DiskError::Media)
    } else if status1 & (NO_MARK | NO_SECTOR | END_OF_TRACK) != 0 {
        Err(DiskError::SectorNotFound)
    } else {
        Err(DiskError::Controller)
    }
}
