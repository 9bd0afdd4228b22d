//! The enhanced disk drive structures: the address packet of a transfer, and what AH=48h tells.
//!
//! Sources: Enhanced Disk Drive Specification 3.0 (T13/1226D), sections 8.4 to 8.22; Phoenix Enhanced Disk Drive
//! Specification 1.1 for the 66-byte form of the result.

use super::geometry::Translation;
use super::{Answer, BAD_COMMAND, EXTENSION_OFFSET, Reply};
use crate::arch::{Frame, PhysMem, linear};
use crate::bios::ebda;
use crate::storage::{AtaPorts, DiskInfo, EddBus, EddPath};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The disk address packet of functions 42h, 43h, 44h and 47h.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Packet {
    /// Its length in bytes: 10h or 18h.
    pub size: u8,
    reserved: u8,
    /// Sectors to move; on return, sectors moved.
    pub count: u16,
    /// Offset of the buffer.
    pub offset: u16,
    /// Segment of the buffer.
    pub segment: u16,
    /// First sector.
    pub lba: u64,
    /// Physical address of the buffer, where `segment:offset` is FFFF:FFFF and `size` at least 18h.
    pub flat: u64,
}

/// Offset of [`Packet::count`].
pub const COUNT_OFFSET: u64 = 2;

impl Packet {
    /// Reads the packet at `addr`.
    pub fn read(hw: &impl PhysMem, addr: u64) -> Self {
        hw.read_as(addr)
    }

    /// The flat address of the buffer, if that is how the caller gives it.
    pub fn flat_buffer(&self) -> Option<u64> {
        (self.size >= 0x18 && self.segment == 0xffff && self.offset == 0xffff).then_some(self.flat)
    }
}

/// The result of AH=48h, EDD 1.1 part.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, PartialEq, Eq)]
#[repr(C, packed)]
pub struct Parameters {
    /// Bytes of the result.
    size: u16,
    /// Bit 1: the geometry is valid.
    flags: u16,
    cylinders: u32,
    heads: u32,
    track_sectors: u32,
    sectors: u64,
    sector_size: u16,
}

/// The parameter table extension of a drive behind an ATA channel, which AH=48h points at.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, PartialEq, Eq)]
#[repr(C, packed)]
pub struct Extension {
    command: u16,
    control: u16,
    /// Device register bits 7:4.
    head_prefix: u8,
    vendor: u8,
    irq: u8,
    multiple: u8,
    dma: u8,
    pio: u8,
    /// Bit 3: the geometry is translated; bit 4: block addresses; bits 10:9: the kind of translation.
    options: u16,
    reserved: u16,
    revision: u8,
    checksum: u8,
}

/// Lengths that the result can have: EDD 1.1, with the extension, with the device path in the Phoenix and the T13 form.
const LEN_1: u16 = 0x1a;
const LEN_2: u16 = 0x1e;
const LEN_PHOENIX: u16 = 0x42;
const LEN_T13: u16 = 0x4a;
/// Options of a packet device: removable, and commanded by packets.
const PACKET_DEVICE: u16 = 1 << 5 | 1 << 6;
/// What stands for the far pointer to the extension of a disk that has none.
const NO_EXTENSION: [u16; 2] = [0xffff; 2];
/// Offset of the device path.
const PATH_OFFSET: u64 = 30;

/// The byte that makes `bytes` add up to zero.
pub fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}

/// Flags of a drive whose media change: removable, says so, can be locked; the numbers stand for any medium.
const REMOVABLE: u16 = 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6;

impl Parameters {
    /// The result for a hard disk.
    pub fn of_disk(info: &DiskInfo) -> Self {
        let geometry = info.geometry;
        let most = u64::from(geometry.heads) * u64::from(geometry.sectors) * 0x3fff;
        let beyond = info.sectors > most;
        Self {
            size: LEN_1,
            flags: if beyond { 0 } else { 1 << 1 },
            cylinders: if beyond { 0x3fff } else { geometry.cylinders },
            heads: geometry.heads,
            track_sectors: geometry.sectors,
            sectors: info.sectors,
            sector_size: info.sector_size as u16,
        }
    }

    /// The result for a CD drive, whatever is in it.
    pub fn of_cd(info: &DiskInfo) -> Self {
        Self {
            size: LEN_1,
            flags: REMOVABLE,
            cylinders: u32::MAX,
            heads: u32::MAX,
            track_sectors: u32::MAX,
            sectors: u64::MAX,
            sector_size: info.sector_size as u16,
        }
    }
}

/// AH=41h: version 3.0, with fixed disk access, locking and ejecting, and enhanced disk drive support.
pub fn installation_check(frame: &mut Frame) -> Reply {
    frame.set_bx(0xaa55);
    frame.set_cx(0x0007);
    Reply::Ah(0x30)
}

/// Options: the geometry is translated, and how. Kind 2 is reserved.
fn translation_options(translation: Translation) -> u16 {
    const TRANSLATED: u16 = 1 << 3;
    let kind = |kind: u16| TRANSLATED | kind << 9;
    match translation {
        Translation::None => 0,
        Translation::Large => kind(0),
        Translation::Lba => kind(1),
        Translation::RevisedLarge | Translation::Given(_) => kind(3),
    }
}

/// The extension for a drive behind an ATA channel.
fn extension(ports: &AtaPorts, packet: bool, translation: Translation) -> Extension {
    let removable = if packet { PACKET_DEVICE } else { 0 };
    let mut extension = Extension {
        command: ports.command,
        control: ports.control,
        head_prefix: 0xe0 | u8::from(ports.second) << 4,
        vendor: 0xcb,
        irq: ports.irq,
        multiple: 1,
        dma: 0,
        pio: 0,
        options: removable | 1 << 4 | translation_options(translation),
        reserved: 0,
        revision: 0x11,
        checksum: 0,
    };
    extension.checksum = checksum(extension.as_bytes());
    extension
}

/// The device path: `key` to `checksum`, 36 bytes in the Phoenix form and 44 in T13's.
fn device_path(edd: &EddPath, t13: bool) -> ([u8; 44], usize) {
    let len = if t13 { 44 } else { 36 };
    let mut path = [0; 44];
    path[..2].copy_from_slice(&0xbedd_u16.to_le_bytes());
    path[2] = len as u8;
    match edd.bus {
        EddBus::Pci(bdf) => {
            path[6..10].copy_from_slice(b"PCI ");
            path[18..21].copy_from_slice(&[bdf.bus(), bdf.device(), bdf.function()]);
        }
        EddBus::Isa(port) => {
            path[6..10].copy_from_slice(b"ISA ");
            path[18..20].copy_from_slice(&port.to_le_bytes());
        }
    }
    path[10..18].copy_from_slice(&edd.interface);
    // The Phoenix form has room for half of it.
    let device = &edd.device[..len - 28];
    path[26..26 + device.len()].copy_from_slice(device);
    path[len - 1] = checksum(&path[..len - 1]);
    (path, len)
}

/// AH=48h: writes the result to the caller's buffer at DS:SI, as long as the caller has room; what it says of the way to the
/// drive goes to the EBDA.
pub fn write_parameters(
    hw: &impl PhysMem,
    frame: &Frame,
    mut parameters: Parameters,
    path: Option<&EddPath>,
    translation: Translation,
) -> Answer {
    let addr = linear(frame.ds, frame.si());
    let room = hw.read16(addr);
    if room < LEN_1 {
        return Err(BAD_COMMAND);
    }
    let Some(path) = path.filter(|_| room >= LEN_2) else {
        hw.write_as(addr, &parameters);
        return Ok(Reply::Done);
    };
    // Guests take the path's presence from its key, so the length stays that of EDD 2, as in SeaBIOS.
    parameters.size = LEN_2;
    hw.write_as(addr, &parameters);
    let pointer = match &path.ata {
        Some(ports) => {
            let segment = ebda::segment(hw);
            let packet = &path.interface == b"ATAPI   ";
            let extension = extension(ports, packet, translation);
            hw.write_as(linear(segment, EXTENSION_OFFSET), &extension);
            [EXTENSION_OFFSET, segment]
        }
        None => NO_EXTENSION,
    };
    hw.write_as(addr + u64::from(LEN_1), &pointer);
    if room >= LEN_PHOENIX {
        let (path, len) = device_path(path, room == LEN_T13);
        hw.write(addr + PATH_OFFSET, &path[..len]);
    }
    Ok(Reply::Done)
}
