//! The enhanced disk drive structures: the address packet of a transfer, and what AH=48h tells.
//!
//! Sources: Enhanced Disk Drive Specification 3.0 (T13/1226D), sections 8.4 to 8.22; Phoenix Enhanced Disk Drive
//! Specification 1.1 for the 66-byte form of the result.

use super::HardDisk;
use crate::arch::{PhysMem, linear};
use crate::storage::{DiskInfo, EddBus, EddPath};
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
/// Offset of the device path.
const PATH_OFFSET: u64 = 30;

/// The byte that makes `bytes` add up to zero.
pub fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}

/// The basic result for a disk.
fn parameters(info: &DiskInfo, size: u16) -> Parameters {
    let geometry = info.geometry;
    let most = u64::from(geometry.heads) * u64::from(geometry.sectors) * 0x3fff;
    let beyond = info.sectors > most;
    Parameters {
        size,
        flags: if beyond { 0 } else { 1 << 1 },
        cylinders: if beyond { 0x3fff } else { geometry.cylinders },
        heads: geometry.heads,
        track_sectors: geometry.sectors,
        sectors: info.sectors,
        sector_size: info.sector_size as u16,
    }
}

/// The extension for a disk behind an ATA channel.
fn extension(disk: &HardDisk) -> Option<Extension> {
    let ports = disk.info().edd?.ata?;
    let kind = u16::from(disk.translation_code());
    let translated = u16::from(kind != 0);
    let mut extension = Extension {
        command: ports.command,
        control: ports.control,
        head_prefix: 0xe0 | u8::from(ports.second) << 4,
        vendor: 0xcb,
        irq: ports.irq,
        multiple: 1,
        dma: 0,
        pio: 0,
        options: 1 << 4 | translated << 3 | kind << 9,
        reserved: 0,
        revision: 0x11,
        checksum: 0,
    };
    extension.checksum = checksum(extension.as_bytes());
    Some(extension)
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

/// AH=48h: writes the result to the caller's buffer at `addr`, as long as the caller has room; the extension goes to
/// `segment:offset`. `None` when there is no room for anything.
pub fn write_parameters(
    hw: &impl PhysMem,
    disk: &HardDisk,
    addr: u64,
    segment: u16,
    offset: u16,
) -> Option<()> {
    let info = disk.info();
    let room = hw.read16(addr);
    if room < LEN_1 {
        return None;
    }
    let described = extension(disk).zip(info.edd).filter(|_| room >= LEN_2);
    // Guests take the path's presence from its key, so the length stays that of EDD 2, as in SeaBIOS.
    let size = if described.is_some() { LEN_2 } else { LEN_1 };
    hw.write_as(addr, &parameters(info, size));
    let Some((extension, path)) = described else {
        return Some(());
    };
    hw.write_as(linear(segment, offset), &extension);
    hw.write_as(addr + u64::from(LEN_1), &[offset, segment]);
    if room >= LEN_PHOENIX {
        let (path, len) = device_path(&path, room == LEN_T13);
        hw.write(addr + PATH_OFFSET, &path[..len]);
    }
    Some(())
}
