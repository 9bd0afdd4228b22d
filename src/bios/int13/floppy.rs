//! Diskette drives: drives 00h to 7Fh.
//!
//! Sources: IBM PS/2 and PC BIOS Interface Technical Reference, INT 13h (diskette); Ralf Brown's interrupt list.

use super::transfer::{self, Action};
use super::{Answer, BAD_COMMAND, Memory, Reply, status};
use crate::arch::{Frame, Hardware};
use crate::bios::ivt;
use crate::storage::{Chs, Disk, Medium};

/// Status: the medium may have been changed.
const CHANGED: u8 = 0x06;
/// Status: the drive does not know the medium that is asked for.
const UNKNOWN_MEDIUM: u8 = 0x0c;
/// Vector that points at the diskette parameters.
const PARAMETERS: u8 = 0x1e;

/// A diskette drive.
pub struct Floppy {
    disk: Disk,
}

impl Floppy {
    /// A drive.
    pub fn new(disk: Disk) -> Self {
        Self { disk }
    }

    /// Serves a call for this drive, one of `count`.
    pub fn call<H: Hardware>(
        &mut self,
        hw: &H,
        memory: &Memory,
        frame: &mut Frame,
        count: usize,
    ) -> Answer {
        match frame.ah() {
            0x00 => self.disk.reset().map(|()| Reply::Done).map_err(status),
            0x01 => Ok(Reply::LastStatus),
            0x02 => self.by_cylinder(hw, memory, frame, Action::Read),
            0x03 => self.by_cylinder(hw, memory, frame, Action::Write),
            0x04 => self.by_cylinder(hw, memory, frame, Action::Verify),
            0x08 => {
                self.parameters(hw, frame, count);
                Ok(Reply::Done)
            }
            // A drive that can tell of changes.
            0x15 => Ok(Reply::Ah(2)),
            0x16 => match self.disk.medium() {
                Ok(Medium::Same) => Ok(Reply::Done),
                Ok(Medium::Changed | Medium::Absent) => Err(CHANGED),
                Err(error) => Err(status(error)),
            },
            0x18 => self.set_medium(hw, frame),
            _ => Err(BAD_COMMAND),
        }
    }

    fn geometry(&self) -> Chs {
        self.disk.info().geometry
    }

    fn by_cylinder<H: Hardware>(
        &mut self,
        hw: &H,
        memory: &Memory,
        frame: &mut Frame,
        action: Action,
    ) -> Answer {
        // What is in the drive decides what sectors there are.
        self.disk.see_medium().map_err(status)?;
        let geometry = self.geometry();
        transfer::by_cylinder(hw, &mut self.disk, geometry, memory, frame, action)
    }

    /// AH=08h.
    fn parameters(&self, hw: &impl Hardware, frame: &mut Frame, count: usize) {
        let chs = self.geometry();
        let last = chs.cylinders.saturating_sub(1);
        let kind = match (chs.cylinders, chs.sectors) {
            (40, _) => 1,
            (_, 15) => 2,
            (_, 9) => 3,
            (_, 18) => 4,
            (_, 36) => 5,
            _ => 0,
        };
        frame.set_ax(0);
        frame.set_bx(kind);
        frame.set_ch(last as u8);
        frame.set_cl((last >> 2) as u8 & 0xc0 | chs.sectors as u8 & 0x3f);
        frame.set_dh((chs.heads as u8).wrapping_sub(1));
        frame.set_dl(count.min(0x7f) as u8);
        let [offset, segment] = ivt::get(hw, PARAMETERS);
        frame.set_di(offset);
        frame.es = segment;
    }

    /// AH=18h: the medium to be formatted has CH and CL as its last cylinder and sector.
    fn set_medium(&mut self, hw: &impl Hardware, frame: &mut Frame) -> Answer {
        let chs = self.geometry();
        let last = u32::from(frame.ch()) | u32::from(frame.cl() & 0xc0) << 2;
        if last + 1 != chs.cylinders || u32::from(frame.cl() & 0x3f) != chs.sectors {
            return Err(UNKNOWN_MEDIUM);
        }
        let [offset, segment] = ivt::get(hw, PARAMETERS);
        frame.set_di(offset);
        frame.es = segment;
        Ok(Reply::Done)
    }
}
