//! Hard disks: drives 80h to DFh.

use super::geometry::Translation;
use super::transfer::{self, Action};
use super::{Answer, BAD_COMMAND, Reply, edd, status};
use crate::arch::{Frame, Hardware, PhysMem, Ports};
use crate::bios::bda::Bda;
use crate::bios::buffer::Buffers;
use crate::bios::ebda::{self, Ebda};
use crate::bios::ivt;
use crate::devices::rtc;
use crate::storage::{Chs, Disk, DiskInfo};

/// Status: the medium cannot be taken out.
const NOT_REMOVABLE: u8 = 0xb2;
/// CMOS register with the translation of QEMU's first four ATA drives; the next four follow.
const CMOS_TRANSLATION: u8 = 0x39;

/// A hard disk with the geometry that callers see.
pub struct HardDisk {
    disk: Disk,
    translation: Translation,
    logical: Chs,
}

impl HardDisk {
    /// A disk with the geometry that the user gives, or one that is translated as QEMU wants, or in the way that suits its size.
    pub fn new(hw: &impl Ports, disk: Disk, given: Option<Chs>) -> Self {
        let info = disk.info();
        let by_cmos = || {
            let ports = info.edd?.ata?;
            cmos_translation(hw, ports.number)
        };
        let translation = given
            .map(Translation::Given)
            .or_else(by_cmos)
            .unwrap_or_else(|| Translation::automatic(info.geometry, info.sectors));
        Self::translated(disk, translation)
    }

    /// A disk with this translation.
    pub fn translated(disk: Disk, translation: Translation) -> Self {
        let logical = translation.logical(disk.info().geometry, disk.info().sectors);
        Self {
            disk,
            translation,
            logical,
        }
    }

    /// Leaves the device to the guest's own driver.
    pub fn quiesce(&mut self) {
        self.disk.quiesce();
    }

    /// The device's properties.
    pub fn info(&self) -> &DiskInfo {
        self.disk.info()
    }

    /// Serves a call for this disk.
    pub fn call<H: Hardware>(&mut self, hw: &H, buffers: &Buffers, frame: &mut Frame) -> Answer {
        let by_cylinder = |disk: &mut Self, frame: &mut Frame, action| {
            transfer::by_cylinder(hw, &mut disk.disk, disk.logical, buffers, frame, action)
        };
        let by_block = |disk: &mut Self, frame: &mut Frame, action| {
            transfer::by_block(hw, &mut disk.disk, buffers, frame, action)
        };
        match frame.ah() {
            0x00 => self.disk.reset().map(|()| Reply::Done).map_err(status),
            0x01 => Ok(Reply::LastStatus),
            0x02 => by_cylinder(self, frame, Action::Read),
            0x03 => by_cylinder(self, frame, Action::Write),
            // Formatting a track of a drive that is formatted for good comes down to checking its address.
            0x04 | 0x05 => by_cylinder(self, frame, Action::Verify),
            0x08 => {
                drive_parameters(self.logical, frame);
                frame.set_dl(Bda::disk_count().get(hw));
                Ok(Reply::Done)
            }
            0x09 | 0x0c | 0x0d | 0x10 | 0x11 | 0x14 => Ok(Reply::Done),
            0x15 => {
                disk_type(self.logical, frame);
                Ok(Reply::Ah(3))
            }
            0x41 => Ok(edd::installation_check(frame)),
            0x42 => by_block(self, frame, Action::Read),
            0x43 => by_block(self, frame, Action::Write),
            0x44 | 0x47 => by_block(self, frame, Action::Verify),
            // Locking and media changes mean nothing to a fixed disk.
            0x45 | 0x49 => Ok(Reply::Done),
            0x46 => Err(NOT_REMOVABLE),
            0x48 => {
                let parameters = edd::Parameters::of_disk(self.info());
                let path = self.info().edd.as_ref();
                edd::write_parameters(hw, frame, parameters, path, self.translation)
            }
            // Prefetching, PIO and DMA at their defaults, for what is on the default settings anyway.
            0x4e if matches!(frame.al(), 1 | 3 | 4 | 6) => Ok(Reply::Done),
            _ => Err(BAD_COMMAND),
        }
    }
}

/// What QEMU wants for its ATA drive number `index`, counted over all channels; `None` beyond those it has a word for.
fn cmos_translation(hw: &impl Ports, index: u16) -> Option<Translation> {
    let index = u8::try_from(index).ok().filter(|&index| index < 8)?;
    let byte = rtc::read(hw, CMOS_TRANSLATION + index / 4);
    Some(Translation::from_cmos(byte >> (index % 4 * 2)))
}

/// Enters the number of hard disks into the BIOS data area, and drives 80h and 81h, where they are ours, into the tables at INT 41h
/// and 46h.
pub fn announce(hw: &impl PhysMem, count: u8, first: [Option<&HardDisk>; 2]) {
    Bda::disk_count().set(hw, count);
    Bda::disk_control().set(hw, 0xc0);
    let segment = ebda::segment(hw);
    for (index, (vector, disk)) in [0x41, 0x46].into_iter().zip(first).enumerate() {
        let Some(table) = Ebda::disk_parameters().element(index) else {
            return;
        };
        let offset = 0x3d + 0x10 * index as u16;
        if let Some(disk) = disk {
            let parameters = fixed_disk_table(disk.logical, disk.info().geometry);
            ebda::field(hw, table).set(hw, parameters);
            ivt::set(hw, vector, segment, offset);
        } else if ivt::get(hw, vector) == [offset, segment] {
            // An option ROM that has this drive now puts a table of its own here.
            ivt::set(hw, vector, ivt::SEGMENT, ivt::entry::IRET);
        }
    }
}

/// The fixed disk parameter table (IBM PS/2 and PC BIOS Interface Technical Reference, INT 41h; translated form: Phoenix
/// Enhanced Disk Drive Specification 1.1, section 3).
fn fixed_disk_table(logical: Chs, physical: Chs) -> [u8; 16] {
    let word = |value: u32| (value.min(0xffff) as u16).to_le_bytes();
    let mut table = [0; 16];
    table[0..2].copy_from_slice(&word(logical.cylinders));
    table[2] = logical.heads as u8;
    table[5..7].fill(0xff);
    table[8] = 0xc0 | u8::from(physical.heads > 8) << 3;
    table[12..14].copy_from_slice(&word(physical.cylinders));
    table[14] = logical.sectors as u8;
    if logical != physical {
        table[3] = 0xa0;
        table[4] = physical.sectors as u8;
        table[9..11].copy_from_slice(&word(physical.cylinders));
        table[11] = physical.heads as u8;
        table[15] = edd::checksum(&table[..15]);
    }
    table
}

/// AH=08h. The last cylinder but one is the last that callers may use: it was once kept for tests.
fn drive_parameters(chs: Chs, frame: &mut Frame) {
    let last = chs.cylinders.saturating_sub(2);
    frame.set_al(0);
    frame.set_ch(last as u8);
    frame.set_cl((last >> 2) as u8 & 0xc0 | chs.sectors as u8 & 0x3f);
    frame.set_dh((chs.heads as u8).wrapping_sub(1));
}

/// AH=15h: the number of sectors, without those of the last cylinder.
fn disk_type(chs: Chs, frame: &mut Frame) {
    let sectors = chs.cylinders.saturating_sub(1) * chs.heads * chs.sectors;
    frame.set_cx((sectors >> 16) as u16);
    frame.set_dx(sectors as u16);
}
