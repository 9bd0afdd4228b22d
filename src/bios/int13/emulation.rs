//! INT 13h AH=4Bh: what a CD emulates, asked for and ended.
//!
//! Source: "El Torito" Bootable CD-ROM Format Specification 1.0, section 5 (functions) and figure 7 (specification packet).

use super::drives::{Drives, FIRST_DISK};
use super::{Answer, BAD_COMMAND, Reply};
use crate::arch::{Frame, PhysMem, linear};
use crate::storage::{Chs, Kind};
use zerocopy::{Immutable, IntoBytes};

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
#[derive(IntoBytes, Immutable)]
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

/// AL=00h ends the emulation, 01h does not; both fill the packet at DS:SI. DL is the drive, or 7Fh for any.
pub fn call(hw: &impl PhysMem, drives: &mut Drives, frame: &Frame) -> Answer {
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
    }
    Ok(Reply::Done)
}
