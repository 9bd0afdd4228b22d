//! Diskette drives: drives 00h to 7Fh.
//!
//! A diskette's image has the format that it was made with, so formatting a track (AH=05h) fills its sectors, and preparing for
//! another format (AH=17h, 18h) is refused.
//!
//! Sources: IBM PS/2 and PC BIOS Interface Technical Reference, INT 13h (diskette) and section 3 (data areas); Ralf Brown's interrupt
//! list.

use super::transfer::{self, Action};
use super::{Answer, BAD_COMMAND, BOUNDARY, Reply, TIMEOUT, status};
use crate::arch::{Frame, Hardware, PhysMem};
use crate::bios::bda::{self, Bda, far_pointer};
use crate::bios::buffer::Buffers;
use crate::bios::ivt;
use crate::storage::{Chs, Disk, DiskError, Medium};

/// Status: the medium may have been changed.
const CHANGED: u8 = 0x06;
/// Status: the drive does not know the medium that is asked for.
const UNKNOWN_MEDIUM: u8 = 0x0c;
/// Vector that points at the diskette parameters, and what of them callers change: ticks until the motor stops, and the byte that
/// formatted sectors are full of.
const PARAMETERS: u8 = 0x1e;
const MOTOR_TICKS: u64 = 2;
const FILL_BYTE: u64 = 8;
/// Motor ticks that do not run out while a command is under way.
const NO_END: u8 = 0xff;
/// Media state: known; two steps a cylinder.
const ESTABLISHED: u8 = 1 << 4;
const DOUBLE_STEP: u8 = 1 << 5;

/// A diskette drive.
pub struct Floppy {
    disk: Disk,
    /// The drive's number in the BIOS data area, where it is a drive of its own and not what a CD emulates.
    number: Option<u8>,
    /// The geometry of the drive's own format.
    own: Chs,
}

impl Floppy {
    /// A drive that has not been used yet.
    pub fn new(disk: Disk, number: Option<u8>) -> Self {
        let own = disk.info().geometry;
        Self { disk, number, own }
    }

    /// Serves a call for this drive, one of `count`.
    pub fn call<H: Hardware>(
        &mut self,
        hw: &H,
        buffers: &Buffers,
        frame: &mut Frame,
        count: usize,
    ) -> Answer {
        match frame.ah() {
            0x00 => self.reset(hw),
            0x01 => Ok(Reply::LastStatus),
            0x02 => self.by_cylinder(hw, buffers, frame, Action::Read),
            0x03 => self.by_cylinder(hw, buffers, frame, Action::Write),
            0x04 => self.by_cylinder(hw, buffers, frame, Action::Test),
            0x05 => self.format(hw, buffers, frame),
            0x08 => {
                self.parameters(hw, frame, count);
                Ok(Reply::Done)
            }
            // A drive that can tell of changes.
            0x15 => Ok(Reply::Ah(2)),
            0x16 => match self.working(hw, Disk::medium) {
                Ok(Medium::Same) => Ok(Reply::Done),
                Ok(Medium::Changed | Medium::Absent) => Err(CHANGED),
                Err(error) => Err(floppy_status(error)),
            },
            0x17 => self.set_type(hw, frame),
            0x18 => self.set_medium(hw, frame),
            _ => Err(BAD_COMMAND),
        }
    }

    /// Whether no medium is known to be in it.
    pub fn is_empty(&self) -> bool {
        self.disk.info().sectors == 0
    }

    /// Does `work`, in which the motor runs; it goes on for as long as the parameters say. What is in the drive is in the BIOS data
    /// area then.
    fn working<T>(
        &mut self,
        hw: &impl PhysMem,
        work: impl FnOnce(&mut Disk) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        let Some(number) = self.number.filter(|&number| number < 4) else {
            return work(&mut self.disk);
        };
        Bda::floppy_motor_ticks().set(hw, NO_END);
        Bda::floppy_motors().update(hw, |motors| motors | 1 << number);
        let result = work(&mut self.disk);
        let ticks = hw.read8(far_pointer(ivt::get(hw, PARAMETERS)) + MOTOR_TICKS);
        Bda::floppy_motor_ticks().set(hw, ticks.max(1));
        let medium = (!self.is_empty()).then(|| self.disk.info().geometry);
        let state = medium.map_or(0, |medium| media_state(self.own, medium));
        if let Some(place) = Bda::floppy_media().element(number.into()) {
            place.set(hw, state);
        }
        if medium.is_some() {
            Bda::floppy_recalibrate().update(hw, |drives| drives | 1 << number);
            Bda::floppy_data_rate().update(hw, |rates| state & RATE | rates >> 4 & 0x0c);
        }
        result
    }

    /// AH=00h.
    fn reset(&mut self, hw: &impl PhysMem) -> Answer {
        if self.number.is_some() {
            Bda::floppy_recalibrate().set(hw, 0);
            Bda::floppy_tracks().set(hw, [0; 2]);
        }
        self.disk
            .reset()
            .map(|()| Reply::Done)
            .map_err(floppy_status)
    }

    /// What is in the drive, which decides what sectors there are.
    fn medium(&mut self, hw: &impl PhysMem) -> Result<Chs, u8> {
        self.working(hw, Disk::see_medium).map_err(floppy_status)?;
        Ok(self.disk.info().geometry)
    }

    fn by_cylinder<H: Hardware>(
        &mut self,
        hw: &H,
        buffers: &Buffers,
        frame: &mut Frame,
        action: Action,
    ) -> Answer {
        let geometry = self.medium(hw).inspect_err(|_| frame.set_al(0))?;
        let cylinder = frame.ch();
        let mut answer = Err(TIMEOUT);
        // The answer has the status already.
        let _ = self.working(hw, |disk| {
            answer = transfer::by_cylinder(hw, disk, geometry, buffers, frame, action);
            Ok(())
        });
        let track = self.number.filter(|_| answer.is_ok()).map(usize::from);
        if let Some(place) = track.and_then(|number| Bda::floppy_tracks().element(number)) {
            place.set(hw, cylinder);
        }
        answer
    }

    /// AH=05h: the track of cylinder CH and head DH, whose AL sectors have the addresses at ES:BX.
    fn format<H: Hardware>(&mut self, hw: &H, buffers: &Buffers, frame: &Frame) -> Answer {
        const FIELD: u64 = 4;
        const SIZE_CODE: u8 = 2;
        let chs = self.medium(hw)?;
        let (cylinder, head, count) = (frame.ch(), frame.dh(), u32::from(frame.al()));
        if u32::from(cylinder) >= chs.cylinders || u32::from(head) >= chs.heads || count == 0 {
            return Err(BAD_COMMAND);
        }
        let len = u64::from(count) * FIELD;
        let fields = buffers
            .real_mode(frame.es, frame.bx(), len)
            .ok_or(BOUNDARY)?;
        let fits = (0..u64::from(count)).all(|index| {
            let [c, h, sector, size]: [u8; 4] = hw.read_as(fields + index * FIELD);
            let inside = (1..=chs.sectors).contains(&sector.into());
            (c, h, size) == (cylinder, head, SIZE_CODE) && inside
        });
        if count != chs.sectors || !fits {
            return Err(UNKNOWN_MEDIUM);
        }
        let byte = hw.read8(far_pointer(ivt::get(hw, PARAMETERS)) + FILL_BYTE);
        let track = u32::from(cylinder) * chs.heads + u32::from(head);
        let first = u64::from(track * chs.sectors);
        self.working(hw, |disk| disk.fill(hw, first, chs.sectors, byte))
            .map(|()| Reply::Done)
            .map_err(floppy_status)
    }

    /// AH=08h: the drive's own format, whatever is in it.
    fn parameters(&self, hw: &impl Hardware, frame: &mut Frame, count: usize) {
        let chs = self.own;
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
        self.point_at_parameters(hw, frame);
    }

    fn point_at_parameters(&self, hw: &impl PhysMem, frame: &mut Frame) {
        let [offset, segment] = ivt::get(hw, PARAMETERS);
        frame.set_di(offset);
        frame.es = segment;
    }

    /// AH=17h: the medium to be formatted is of kind AL.
    fn set_type(&mut self, hw: &impl Hardware, frame: &Frame) -> Answer {
        let wanted = match frame.al() {
            1 | 2 => (40, 9),
            3 => (80, 15),
            4 => (80, 9),
            _ => return Err(BAD_COMMAND),
        };
        self.is_of(hw, wanted)
    }

    /// AH=18h: the medium to be formatted has CH and CL as its last cylinder and sector.
    fn set_medium(&mut self, hw: &impl Hardware, frame: &mut Frame) -> Answer {
        let last = u32::from(frame.ch()) | u32::from(frame.cl() & 0xc0) << 2;
        let reply = self.is_of(hw, (last + 1, u32::from(frame.cl() & 0x3f)))?;
        self.point_at_parameters(hw, frame);
        Ok(reply)
    }

    /// Whether the medium has so many cylinders, and sectors a track.
    fn is_of(&mut self, hw: &impl Hardware, (cylinders, sectors): (u32, u32)) -> Answer {
        let chs = self.medium(hw)?;
        if (chs.cylinders, chs.sectors) != (cylinders, sectors) {
            return Err(UNKNOWN_MEDIUM);
        }
        Ok(Reply::Done)
    }
}

/// The status of a diskette operation. Without a medium no drive ever got ready.
fn floppy_status(error: DiskError) -> u8 {
    match error {
        DiskError::NoMedium => TIMEOUT,
        other => status(other),
    }
}

/// Media state: the data rate.
const RATE: u8 = 0xc0;

/// The media state byte (40:90) of a medium in a drive whose own format has another geometry or the same.
fn media_state(own: Chs, medium: Chs) -> u8 {
    const IN_1200: u8 = 15;
    let (large, low) = (own.sectors == IN_1200.into(), medium.cylinders == 40);
    let rate = match medium.sectors {
        36 => 3,
        15 | 18 => 0,
        9 if large && low => 1,
        _ => 2,
    };
    let kind = match (low, medium.sectors) {
        (true, _) => 4,
        (false, 15) => 5,
        _ => 7,
    };
    let double = if medium.cylinders < own.cylinders {
        DOUBLE_STEP
    } else {
        0
    };
    rate << 6 | double | ESTABLISHED | kind
}

/// Gives the drives of their own the numbers of their places. What was seen in them is seen anew where that changes one.
pub fn renumber(hw: &impl PhysMem, drives: &mut [Floppy]) {
    let own = drives.iter_mut().filter_map(|drive| drive.number.as_mut());
    for (place, number) in own.enumerate() {
        if core::mem::replace(number, place as u8) == place as u8 {
            continue;
        }
        Bda::floppy_recalibrate().set(hw, 0);
        if let Some(state) = Bda::floppy_media().element(place) {
            state.set(hw, 0);
        }
    }
}

/// Enters the number of drives into the equipment list.
pub fn announce(hw: &impl PhysMem, count: usize) {
    let drives = match count {
        0 => 0,
        _ => bda::EQUIPMENT_FLOPPY | (count.min(4) as u16 - 1) << bda::EQUIPMENT_FLOPPIES_SHIFT,
    };
    Bda::equipment().update(hw, |equipment| {
        equipment & !(bda::EQUIPMENT_FLOPPY | bda::EQUIPMENT_FLOPPIES) | drives
    });
}
