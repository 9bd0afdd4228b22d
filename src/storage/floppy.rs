//! Diskette drives.
//!
//! CMOS tells of the drives, so where there is none nothing is touched. What a diskette is like is seen when it is first used, by
//! what of the drive's formats can be read. The DMA controller reaches 16 MiB and 64 KiB at a time, and a command ends with its
//! cylinder, so this driver cuts requests itself; what is out of reach goes by way of a sector in low memory that it borrows.

pub mod controller;
#[cfg(test)]
pub mod fake;
pub mod format;
#[cfg(test)]
mod tests;

use super::drivers::Around;
use super::{BlockDevice, Chs, DiskError, DiskInfo, Found, Kind, Limits, Medium, Request};
use crate::arch::Handle;
use crate::devices::name::Name;
use crate::devices::pci::PciDevice;
use crate::devices::place::Place;
use crate::devices::rtc;
use crate::low_memory::FLOPPY_SECTOR;
use alloc::boxed::Box;
use alloc::vec::Vec;
use controller::{Controller, Sectors};
use core::fmt;
use format::{Format, Model, SECTOR};

/// CMOS register with the types of the drives A (7:4) and B (3:0).
const CMOS_TYPES: u8 = 0x10;
/// PCI class and subclass of ISA bridges, behind which the controller is.
const ISA_BRIDGE: u16 = 0x0601;
/// How long looking at a sector may take, to see the diskette's format: some turns.
const LOOK_US: u64 = 2_000_000;
/// Most sectors that INT 13h asks for at a time.
const MOST_SECTORS: u32 = 0x100;

/// The drives that CMOS tells of.
pub fn probe<H: Handle>(around: &Around<H>) -> Vec<Found> {
    let types = rtc::read(&around.hw, CMOS_TYPES);
    let drives = [types >> 4, types & 15].into_iter().zip(0u8..);
    drives
        .filter(|&(kind, _)| kind != 0)
        .map(|(kind, unit)| found(around, kind, unit))
        .collect()
}

fn found<H: Handle>(around: &Around<H>, kind: u8, unit: u8) -> Found {
    let name = Name::from(if unit == 0 {
        "Diskette drive A"
    } else {
        "Diskette drive B"
    });
    let place = place(around.pci, unit);
    match Model::of(kind) {
        Some(model) => Found::Device(Box::new(Floppy::new(
            around.hw.clone(),
            unit,
            model,
            Name::new(fmt::from_fn(move |f| write!(f, "{name} ({})", model.name))),
            place,
        ))),
        None => Found::Unusable {
            kind: Kind::Floppy,
            name,
            place,
            why: alloc::format!("CMOS says that it is of type {kind}, which does not exist"),
        },
    }
}

fn place(pci: &[PciDevice], unit: u8) -> Place {
    let unit = alloc::format!("fdc@03f0/floppy@{unit}");
    let mut bridges = (0..pci.len()).filter(|&index| pci[index].subclass() == ISA_BRIDGE);
    match bridges.next() {
        Some(index) => Place::of_pci(pci, index, unit),
        None => Place {
            unit: alloc::format!("isa/{unit}"),
            ..Place::default()
        },
    }
}

/// A diskette drive.
pub struct Floppy<H> {
    controller: Controller<H>,
    model: Model,
    /// That of the diskette, once it has been seen.
    format: Option<Format>,
    info: DiskInfo,
}

impl<H: Handle> Floppy<H> {
    /// Drive `unit`, of which nothing is known but its kind.
    pub fn new(hw: H, unit: u8, model: Model, name: Name, place: Place) -> Self {
        Self {
            controller: Controller::new(hw, unit),
            model,
            format: None,
            info: DiskInfo {
                kind: Kind::Floppy,
                name,
                sector_size: SECTOR as u32,
                sectors: 0,
                geometry: model.formats[0].chs,
                limits: Limits {
                    sectors: MOST_SECTORS,
                    dma: None,
                },
                place: place.into(),
                edd: None,
            },
        }
    }

    /// Takes what is in the drive for a diskette of this format, or for none.
    fn set_format(&mut self, format: Option<Format>) {
        self.format = format;
        self.info.sectors = format.map_or(0, |format| format::sectors(format.chs));
        self.info.geometry = format.unwrap_or(self.model.formats[0]).chs;
    }

    /// Sees which of the drive's formats can be read.
    fn look(&self) -> Result<Format, DiskError> {
        for &format in self.model.formats {
            self.controller.set_rate(format.rate);
            match self.look_at(0, format.chs.sectors as u8) {
                Ok(()) => return self.sides(format),
                Err(DiskError::Timeout) => return Err(DiskError::Timeout),
                Err(_) => {}
            }
        }
        Err(DiskError::Media)
    }

    /// The format with the sides that there are.
    fn sides(&self, format: Format) -> Result<Format, DiskError> {
        if !format.may_be_single_sided() {
            return Ok(format);
        }
        match self.look_at(1, 1) {
            Ok(()) => Ok(format),
            Err(DiskError::Timeout) => Err(DiskError::Timeout),
            Err(_) => Ok(Format {
                chs: Chs {
                    heads: 1,
                    ..format.chs
                },
                ..format
            }),
        }
    }

    fn look_at(&self, head: u8, sector: u8) -> Result<(), DiskError> {
        self.controller.verify(&Sectors {
            from: [0, head, sector],
            last: sector,
            deadline_us: LOOK_US,
        })
    }

    /// Moves sectors of one cylinder by DMA at `addr`.
    fn command(
        &self,
        request: &Request,
        chs: Chs,
        (lba, count): (u64, u32),
        addr: u64,
    ) -> Result<(), DiskError> {
        let sectors = Sectors {
            from: format::address(chs, lba),
            last: chs.sectors as u8,
            deadline_us: request.deadline_us,
        };
        let len = count * self.info.sector_size;
        self.controller
            .transfer(&sectors, addr, len, request.writes())
    }

    /// Moves one sector by way of the borrowed one. Interrupts stay off: a handler might use the memory that is borrowed.
    fn borrowing(
        &self,
        request: &Request,
        chs: Chs,
        lba: u64,
        buffer: u64,
    ) -> Result<(), DiskError> {
        let hw = &self.controller.hw;
        let addr = FLOPPY_SECTOR.start;
        let allowed = hw.allow_interrupts(false);
        let mut lent = [0; SECTOR as usize];
        hw.read(addr, &mut lent);
        if request.writes() {
            hw.copy(addr, buffer, SECTOR);
        }
        // However it ends, the DMA controller moves nothing any more.
        let result = self.command(request, chs, (lba, 1), addr);
        let mut data = [0; SECTOR as usize];
        hw.read(addr, &mut data);
        hw.write(addr, &lent);
        if result.is_ok() && !request.writes() {
            hw.write(buffer, &data);
        }
        hw.allow_interrupts(allowed);
        result
    }
}

impl<H: Handle> BlockDevice for Floppy<H> {
    fn info(&self) -> &DiskInfo {
        &self.info
    }

    fn transfer(&mut self, request: &Request) -> Result<(), DiskError> {
        self.controller.select()?;
        let Some(format) = self.format.filter(|_| !self.controller.changed()) else {
            return Err(DiskError::MediumChanged);
        };
        self.controller.set_rate(format.rate);
        let chs = format.chs;
        let (mut lba, mut left, mut buffer) = (request.lba, request.count, request.buffer);
        while left > 0 {
            let part = format::next_part(chs, lba, left, buffer);
            if part.borrows {
                self.borrowing(request, chs, lba, buffer)?;
            } else {
                self.command(request, chs, (lba, part.count), buffer)?;
            }
            lba += u64::from(part.count);
            left -= part.count;
            buffer += u64::from(part.count) * SECTOR;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        Ok(())
    }

    fn recover(&mut self) -> Result<(), DiskError> {
        self.controller.reset()
    }

    fn medium(&mut self) -> Result<Medium, DiskError> {
        self.controller.select()?;
        let changed = self.controller.changed();
        if !changed && self.format.is_some() {
            return Ok(Medium::Same);
        }
        self.set_format(None);
        if changed {
            self.controller.step()?;
            if self.controller.changed() {
                return Ok(Medium::Absent);
            }
        }
        let format = self.look()?;
        self.set_format(Some(format));
        Ok(Medium::Changed)
    }
}
