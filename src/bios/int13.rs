//! INT 13h: disks.
//!
//! Drives 80h and up are [`Bios::hard_disks`]; no other drive exists. Every function leaves its status in AH, CF and the BIOS
//! data area. A request that names sectors or memory it may not is refused before anything is moved.
//!
//! Sources: IBM PS/2 and PC BIOS Interface Technical Reference, INT 13h; Ralf Brown's interrupt list; Enhanced Disk Drive
//! Specification 3.0 (T13/1226D).

mod edd;
mod geometry;
#[cfg(test)]
mod tests;

use super::bda::Bda;
use super::ebda::{self, Ebda};
use super::{Bios, ivt};
use crate::arch::{Frame, Hardware, Outcome, PhysMem, Ports, linear};
use crate::devices::rtc;
use crate::storage::{Chs, Disk, DiskError, DiskInfo};
use core::ops::Range;
use edd::Packet;
pub use geometry::Translation;
use spin::Mutex;

/// Drive number of the first hard disk.
pub const FIRST_DISK: u8 = 0x80;

/// Status: no such function or drive, or an argument out of range.
const BAD_COMMAND: u8 = 0x01;
/// Status: the buffer lies where it may not.
const BOUNDARY: u8 = 0x09;
/// Status: the medium cannot be taken out.
const NOT_REMOVABLE: u8 = 0xb2;

/// Most sectors of a transfer by cylinder, head and sector.
const MOST_SECTORS: u8 = 128;
/// First address that no segment and offset reach.
const REAL_MODE_END: u64 = 0x10_fff0;
/// Offset in the EBDA of the table that AH=48h points at.
const EXTENSION_OFFSET: u16 = 0x60;
/// CMOS register with the translation of QEMU's first four ATA drives; the next four follow.
const CMOS_TRANSLATION: u8 = 0x39;

/// A hard disk with the geometry that callers see.
pub struct HardDisk {
    disk: Disk,
    translation: Translation,
    logical: Chs,
}

impl HardDisk {
    /// A disk whose geometry is translated as QEMU wants, or in the way that suits its size.
    pub fn new(hw: &impl Ports, disk: Disk) -> Self {
        let info = disk.info();
        let ata = info.edd.and_then(|edd| edd.ata);
        let translation = ata
            .and_then(|ports| cmos_translation(hw, ports.number))
            .unwrap_or_else(|| Translation::automatic(info.geometry, info.sectors));
        Self::translated(disk, translation)
    }

    /// A disk with this translation.
    fn translated(disk: Disk, translation: Translation) -> Self {
        let logical = translation.logical(disk.info().geometry, disk.info().sectors);
        Self {
            disk,
            translation,
            logical,
        }
    }

    /// The device's properties.
    pub fn info(&self) -> &DiskInfo {
        self.disk.info()
    }

    /// The kind of translation as the enhanced disk drive tables have it: 0 none, 1 LBA-assisted, 2 large, 3 revised.
    fn translation_code(&self) -> u8 {
        match self.translation {
            Translation::None => 0,
            Translation::Lba => 1,
            Translation::Large => 2,
            Translation::RevisedLarge => 3,
        }
    }
}

/// What QEMU wants for its ATA drive number `index`, counted over all channels; `None` beyond those it has a word for.
fn cmos_translation(hw: &impl Ports, index: u16) -> Option<Translation> {
    let index = u8::try_from(index).ok().filter(|&index| index < 8)?;
    let byte = rtc::read(hw, CMOS_TRANSLATION + index / 4);
    Some(Translation::from_cmos(byte >> (index % 4 * 2)))
}

/// Enters the hard disks into the BIOS data area, and the first two into the tables at INT 41h and 46h.
pub fn init(hw: &impl PhysMem, disks: &[HardDisk]) {
    Bda::disk_count().set(hw, disks.len().min(0x80) as u8);
    Bda::disk_control().set(hw, 0xc0);
    let segment = ebda::segment(hw);
    for (index, vector) in [0x41, 0x46].into_iter().enumerate() {
        let Some((disk, table)) = disks.get(index).zip(Ebda::disk_parameters().element(index))
        else {
            return;
        };
        ebda::field(hw, table).set(hw, fixed_disk_table(disk.logical, disk.info().geometry));
        let offset = 0x3d + 0x10 * index as u16;
        ivt::set(hw, vector, segment, offset);
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

/// Serves INT 13h and INT 40h.
pub fn serve<H: Hardware>(bios: &Mutex<Bios>, hw: &H, frame: &mut Frame) -> Outcome {
    let bios = &mut *bios.lock();
    let memory = Memory {
        resident: bios.machine.resident.clone(),
        low_end: bios.machine.low_ram_end,
        high_end: (1 << 32) + bios.machine.high_ram,
    };
    // Drive numbers below 80h are diskettes, which have a status byte of their own.
    let (index, last) = match frame.dl().checked_sub(FIRST_DISK) {
        Some(index) => (usize::from(index), Bda::disk_status()),
        None => (usize::MAX, Bda::floppy_status()),
    };
    let answer = match bios.hard_disks.get_mut(index) {
        Some(disk) => call(hw, disk, &memory, frame),
        None => Err(BAD_COMMAND),
    };
    let status = match answer {
        Ok(Reply::LastStatus) => last.get(hw),
        Ok(_) => 0,
        Err(status) => status,
    };
    last.set(hw, status);
    frame.set_carry(status != 0);
    frame.set_ah(match answer {
        Ok(Reply::Ah(value)) => value,
        _ => status,
    });
    Outcome::Return
}

/// The status for what a device reports (Ralf Brown's list, table 00234).
fn status(error: DiskError) -> u8 {
    match error {
        DiskError::BadRequest => BAD_COMMAND,
        DiskError::WriteProtected => 0x03,
        DiskError::SectorNotFound => 0x04,
        DiskError::MediumChanged => 0x06,
        DiskError::Media => 0x10,
        DiskError::Controller => 0x20,
        DiskError::NoMedium => 0x31,
        DiskError::Timeout => 0x80,
        DiskError::NotReady => 0xaa,
    }
}

/// What a function that worked leaves in AH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    /// Zero.
    Done,
    /// A value of its own.
    Ah(u8),
    /// The status of the last operation, with CF to match.
    LastStatus,
}

type Answer = Result<Reply, u8>;

/// Where transfers may go.
struct Memory {
    resident: Range<u64>,
    low_end: u64,
    high_end: u64,
}

impl Memory {
    /// The address of `len` bytes at a caller's `segment:offset`, unless part of them is ours or out of reach.
    fn real_mode(&self, segment: u16, offset: u16, len: u64) -> Result<u64, u8> {
        const F_SEGMENT: Range<u64> = 0xf_0000..0x10_0000;
        let addr = linear(segment, offset);
        let end = addr + len;
        if end > REAL_MODE_END || addr < F_SEGMENT.end && end > F_SEGMENT.start {
            return Err(BOUNDARY);
        }
        self.outside_resident(addr, end)
    }

    /// The same for a flat address, which has to be RAM.
    fn flat(&self, addr: u64, len: u64) -> Result<u64, u8> {
        let end = addr.checked_add(len).ok_or(BOUNDARY)?;
        let low = end <= 0xa_0000 || addr >= 0x10_0000 && end <= self.low_end;
        let high = addr >= 1 << 32 && end <= self.high_end;
        if !low && !high {
            return Err(BOUNDARY);
        }
        self.outside_resident(addr, end)
    }

    fn outside_resident(&self, addr: u64, end: u64) -> Result<u64, u8> {
        if addr < self.resident.end && end > self.resident.start {
            return Err(BOUNDARY);
        }
        Ok(addr)
    }
}

/// What to do with the sectors of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Read,
    Write,
    /// Only see whether they exist.
    Verify,
}

fn call<H: Hardware>(hw: &H, disk: &mut HardDisk, memory: &Memory, frame: &mut Frame) -> Answer {
    match frame.ah() {
        0x00 => disk.disk.reset().map(|()| Reply::Done).map_err(status),
        0x01 => Ok(Reply::LastStatus),
        0x02 => by_cylinder(hw, disk, memory, frame, Action::Read),
        0x03 => by_cylinder(hw, disk, memory, frame, Action::Write),
        // Formatting a track of a drive that is formatted for good comes down to checking its address.
        0x04 | 0x05 => by_cylinder(hw, disk, memory, frame, Action::Verify),
        0x08 => {
            drive_parameters(disk.logical, frame);
            frame.set_dl(Bda::disk_count().get(hw));
            Ok(Reply::Done)
        }
        0x09 | 0x0c | 0x0d | 0x10 | 0x11 | 0x14 => Ok(Reply::Done),
        0x15 => {
            disk_type(disk.logical, frame);
            Ok(Reply::Ah(3))
        }
        0x41 => {
            frame.set_bx(0xaa55);
            // Fixed disk access, locking and ejecting, enhanced disk drive support.
            frame.set_cx(0x0007);
            // Version 3.0.
            Ok(Reply::Ah(0x30))
        }
        0x42 => by_block(hw, disk, memory, frame, Action::Read),
        0x43 => by_block(hw, disk, memory, frame, Action::Write),
        0x44 | 0x47 => by_block(hw, disk, memory, frame, Action::Verify),
        // Locking and media changes mean nothing to a fixed disk.
        0x45 | 0x49 => Ok(Reply::Done),
        0x46 => Err(NOT_REMOVABLE),
        0x48 => {
            let addr = linear(frame.ds, frame.si());
            let segment = ebda::segment(hw);
            edd::write_parameters(hw, disk, addr, segment, EXTENSION_OFFSET)
                .map(|()| Reply::Done)
                .ok_or(BAD_COMMAND)
        }
        // Prefetching, PIO and DMA at their defaults, for what is on the default settings anyway.
        0x4e if matches!(frame.al(), 1 | 3 | 4 | 6) => Ok(Reply::Done),
        _ => Err(BAD_COMMAND),
    }
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

fn act<H: Hardware>(
    hw: &H,
    disk: &mut HardDisk,
    action: Action,
    lba: u64,
    count: u32,
    buffer: u64,
) -> Result<(), u8> {
    match action {
        Action::Read => disk.disk.read(hw, lba, count, buffer),
        Action::Write => disk.disk.write(hw, lba, count, buffer),
        Action::Verify => disk.disk.verify(lba, count),
    }
    .map_err(status)
}

/// Functions 02h to 05h: AL sectors from cylinder CH and CL 7:6, head DH, sector CL 5:0, buffer at ES:BX.
fn by_cylinder<H: Hardware>(
    hw: &H,
    disk: &mut HardDisk,
    memory: &Memory,
    frame: &mut Frame,
    action: Action,
) -> Answer {
    let Chs {
        cylinders,
        heads,
        sectors,
    } = disk.logical;
    let count = frame.al();
    let cylinder = u32::from(frame.ch()) | u32::from(frame.cl() & 0xc0) << 2;
    let head = u32::from(frame.dh());
    let sector = u32::from(frame.cl() & 0x3f);
    if count == 0 || count > MOST_SECTORS || cylinder >= cylinders || head >= heads {
        return Err(BAD_COMMAND);
    }
    if sector == 0 || sector > sectors {
        return Err(BAD_COMMAND);
    }
    let lba = (cylinder * heads + head) * sectors + sector - 1;
    let len = u64::from(count) * u64::from(disk.info().sector_size);
    let result = if action == Action::Verify {
        Ok(0)
    } else {
        memory.real_mode(frame.es, frame.bx(), len)
    }
    .and_then(|buffer| act(hw, disk, action, lba.into(), count.into(), buffer));
    if result.is_err() {
        frame.set_al(0);
    }
    result.map(|()| Reply::Done)
}

/// Functions 42h, 43h, 44h and 47h: the packet at DS:SI says everything.
fn by_block<H: Hardware>(
    hw: &H,
    disk: &mut HardDisk,
    memory: &Memory,
    frame: &mut Frame,
    action: Action,
) -> Answer {
    let addr = linear(frame.ds, frame.si());
    let packet = Packet::read(hw, addr);
    if packet.lba >= disk.info().sectors {
        return Err(BAD_COMMAND);
    }
    if packet.count == 0 {
        return Ok(Reply::Done);
    }
    let len = u64::from(packet.count) * u64::from(disk.info().sector_size);
    let buffer = match (action, packet.flat_buffer()) {
        (Action::Verify, _) => Ok(0),
        (_, Some(flat)) => memory.flat(flat, len),
        (_, None) => memory.real_mode(packet.segment, packet.offset, len),
    };
    let result =
        buffer.and_then(|buffer| act(hw, disk, action, packet.lba, packet.count.into(), buffer));
    if result.is_err() {
        hw.write16(addr + edd::COUNT_OFFSET, 0);
    }
    result.map(|()| Reply::Done)
}
