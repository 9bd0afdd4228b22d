//! INT 13h AH=4Ah to 4Dh: what a CD emulates, begun, asked for and ended.
//!
//! Source: "El Torito" Bootable CD-ROM Format Specification 1.0, section 5 (functions) and figure 7 (specification packet).

use super::drives::{Drives, FIRST_CD, FIRST_DISK};
use super::{Answer, BAD_COMMAND, BOUNDARY, Reply, status};
use crate::arch::{Frame, Handle, PhysMem, linear};
use crate::bios::buffer::Buffers;
use crate::storage::eltorito::{self, Emulated, Entry, SECTOR};
use crate::storage::{Bounce, Chs, Disk, Kind};
use alloc::boxed::Box;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What a CD was booted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emulation {
    /// The media type of the catalogue's entry.
    pub media: u8,
    /// The number that the boot program was given: 00h, 80h, or the CD's own.
    pub drive: u8,
    /// The CD drive.
    pub cd: u8,
    /// First sector of the image on the CD.
    pub lba: u32,
    /// Where the boot program was loaded.
    pub segment: u16,
    /// Sectors of 512 bytes that were loaded.
    pub count: u16,
    /// The geometry of what is emulated, if a drive is.
    pub geometry: Option<Chs>,
}

impl Emulation {
    /// The kind of the drive that it put before others.
    pub fn kind(&self) -> Option<Kind> {
        self.geometry?;
        Some(match self.drive {
            FIRST_DISK.. => Kind::HardDisk,
            _ => Kind::Floppy,
        })
    }
}

/// The specification packet.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C, packed)]
struct Packet {
    size: u8,
    media: u8,
    drive: u8,
    controller: u8,
    lba: u32,
    device: u16,
    buffer_segment: u16,
    load_segment: u16,
    count: u16,
    /// Cylinder bits 7:0; sector and cylinder bits 9:8; head: the last of each.
    geometry: [u8; 3],
}

const PACKET_LEN: u8 = 0x13;

impl Packet {
    fn of(emulation: &Emulation) -> Self {
        let last = |count: u32| count.saturating_sub(1);
        let geometry = emulation.geometry.map_or([0; 3], |chs| {
            let cylinder = last(chs.cylinders);
            let sector = chs.sectors as u8 & 0x3f | (cylinder >> 2) as u8 & 0xc0;
            [cylinder as u8, sector, last(chs.heads) as u8]
        });
        Self {
            size: PACKET_LEN,
            media: emulation.media,
            drive: emulation.drive,
            controller: 0,
            lba: emulation.lba,
            device: 0,
            buffer_segment: 0,
            load_segment: emulation.segment,
            count: emulation.count,
            geometry,
        }
    }
}

/// Why an emulation cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no such CD drive.
    NoDrive,
    /// The image lies outside of the medium.
    Outside,
    /// No memory is left for it.
    NoMemory,
    /// No drive number is left for it.
    NoNumber,
}

/// Begins what `entry` on the CD in drive `cd` stands for, in place of what was emulated before: a drive of this kind and geometry, or
/// none. Returns the number that its boot program is given.
///
/// # Errors
/// Why it cannot begin. Nothing is emulated then.
pub fn begin<H: Handle>(
    hw: &H,
    drives: &mut Drives,
    cd: u8,
    entry: &Entry,
    emulated: Option<(Kind, Chs)>,
) -> Result<u8, Refused> {
    drives.end_emulation();
    let drive = match emulated {
        None => cd,
        Some(emulated) => {
            let disk = drives.cd(cd).ok_or(Refused::NoDrive)?;
            let page = drives.cd_sector(hw).ok_or(Refused::NoMemory)?;
            let device = Emulated::new(hw.clone(), disk, entry.lba, emulated, page)
                .ok_or(Refused::Outside)?;
            drives
                .put_first(hw, Disk::new(Box::new(device), Bounce::NONE))
                .ok_or(Refused::NoNumber)?
        }
    };
    drives.announce(hw);
    drives.emulation = Some(Emulation {
        media: entry.media,
        drive,
        cd,
        lba: entry.lba,
        segment: entry.segment,
        count: entry.count,
        geometry: emulated.map(|(_, chs)| chs),
    });
    Ok(drive)
}

/// AH=4Bh. AL=00h ends the emulation, 01h does not; both fill the packet at DS:SI. DL is the drive, or 7Fh for any.
pub fn end_or_ask(hw: &impl PhysMem, drives: &mut Drives, frame: &Frame) -> Answer {
    const ANY: u8 = 0x7f;
    let emulation = drives
        .emulation
        .filter(|emulation| [emulation.drive, emulation.cd, ANY].contains(&frame.dl()))
        .ok_or(BAD_COMMAND)?;
    if !matches!(frame.al(), 0 | 1) {
        return Err(BAD_COMMAND);
    }
    hw.write(
        linear(frame.ds, frame.si()),
        Packet::of(&emulation).as_bytes(),
    );
    if frame.al() == 0 && frame.dl() != emulation.cd {
        drives.end_emulation();
        drives.announce(hw);
    }
    Ok(Reply::Done)
}

/// AH=4Ah and 4Ch: begins the emulation that the packet at DS:SI describes, on the CD that was booted or the first one, and with
/// 4Ch starts its boot program.
pub fn begin_by_packet<H: Handle>(
    hw: &H,
    drives: &mut Drives,
    buffers: &Buffers,
    frame: &mut Frame,
) -> Answer {
    const WITH_BOOT: u8 = 0x4c;
    if frame.al() != 0 {
        return Err(BAD_COMMAND);
    }
    let packet: Packet = hw.read_as(linear(frame.ds, frame.si()));
    let cd = drives.emulation.map_or(FIRST_CD, |emulation| emulation.cd);
    let entry = Entry::new(packet.media, packet.load_segment, packet.count, packet.lba)
        .ok_or(BAD_COMMAND)?;
    let first = read_cd(hw, drives, cd, entry.lba.into())?;
    let emulated = entry.drive(&first).map_err(|_| BAD_COMMAND)?;
    let drive = begin(hw, drives, cd, &entry, emulated).map_err(|_| BAD_COMMAND)?;
    if frame.ah() != WITH_BOOT {
        return Ok(Reply::Done);
    }
    let len = u64::from(entry.cd_sectors()) * SECTOR as u64;
    let to = buffers.real_mode(entry.segment, 0, len).ok_or(BOUNDARY)?;
    let disk = drives.cd(cd).ok_or(BAD_COMMAND)?;
    disk.lock()
        .read(hw, entry.lba.into(), entry.cd_sectors(), to)
        .map_err(status)?;
    frame.start(entry.segment, 0, drive);
    Ok(Reply::Gone)
}

/// AH=4Dh: sectors of the boot catalogue, by a packet at DS:SI: its size, sectors to move, buffer, first sector.
pub fn catalogue<H: Handle>(
    hw: &H,
    drives: &mut Drives,
    buffers: &Buffers,
    frame: &Frame,
) -> Answer {
    if frame.al() != 0 {
        return Err(BAD_COMMAND);
    }
    let at = linear(frame.ds, frame.si());
    let [_, count]: [u8; 2] = hw.read_as(at);
    let [offset, segment, first]: [u16; 3] = hw.read_as(at + 2);
    let cd = drives.emulation.map_or(FIRST_CD, |emulation| emulation.cd);
    let record = read_cd(hw, drives, cd, eltorito::BOOT_RECORD)?;
    let start = eltorito::catalogue(&record).map_err(|_| BAD_COMMAND)?;
    let to = buffers
        .real_mode(segment, offset, u64::from(count) * SECTOR as u64)
        .ok_or(BOUNDARY)?;
    let disk = drives.cd(cd).ok_or(BAD_COMMAND)?;
    let lba = u64::from(start) + u64::from(first);
    disk.lock()
        .read(hw, lba, count.into(), to)
        .map_err(status)?;
    Ok(Reply::Done)
}

/// A sector of the CD in a drive.
pub fn read_cd<H: Handle>(
    hw: &H,
    drives: &mut Drives,
    cd: u8,
    lba: u64,
) -> Result<[u8; SECTOR], u8> {
    let disk = drives.cd(cd).ok_or(BAD_COMMAND)?;
    let page = drives.cd_sector(hw).ok_or(BAD_COMMAND)?;
    disk.lock().read(hw, lba, 1, page).map_err(status)?;
    Ok(hw.read_as(page))
}
