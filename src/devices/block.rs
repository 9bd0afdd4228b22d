//! What every disk is: the one trait behind which boot devices of all kinds look the same.

use crate::arch::Hardware;
use alloc::string::String;

/// Why a transfer failed. [`DiskError::status`] gives INT 13h's word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// The request lies outside the medium, or the driver cannot do it.
    BadRequest,
    /// No such sector.
    SectorNotFound,
    /// The device says that the data is bad.
    Media,
    /// The device did not answer within its deadline.
    Timeout,
    /// The controller reported a fault.
    Controller,
    /// Writing is not allowed.
    WriteProtected,
    /// No medium in the drive.
    NotReady,
}

impl DiskError {
    /// The status that INT 13h returns in AH (Ralf Brown's list, table 00234).
    pub fn status(self) -> u8 {
        match self {
            DiskError::BadRequest => 0x01,
            DiskError::WriteProtected => 0x03,
            DiskError::SectorNotFound => 0x04,
            DiskError::Media => 0x10,
            DiskError::Controller => 0x20,
            DiskError::Timeout => 0x80,
            DiskError::NotReady => 0xaa,
        }
    }
}

/// What a device is, for the boot order and for the services that describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// A hard disk (drive numbers from 80h).
    HardDisk,
    /// A CD or DVD drive.
    CdRom,
    /// A floppy drive (drive numbers from 00h).
    Floppy,
}

/// A disk geometry as cylinders, heads and sectors a track; all zero where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chs {
    /// Number of cylinders.
    pub cylinders: u32,
    /// Number of heads.
    pub heads: u32,
    /// Sectors a track.
    pub sectors: u32,
}

/// How the device is reached, as far as a guest may ask (INT 13h AH=48h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// A parallel ATA channel with task file registers in I/O space.
    Ata {
        /// Command block registers.
        command: u16,
        /// Control block register.
        control: u16,
        /// Interrupt line.
        irq: u8,
        /// Drive 1 of the channel (the slave).
        second: bool,
    },
    /// Serial ATA behind an AHCI controller.
    Sata {
        /// Port of the controller.
        port: u8,
    },
    /// Something that the enhanced disk drive tables have no room for.
    Other,
}

/// A block device's fixed properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// Its kind.
    pub kind: BlockKind,
    /// What a person knows it by: model, bus, unit.
    pub name: String,
    /// Bytes a sector: 512, 2048 or 4096.
    pub sector_size: u32,
    /// Number of sectors.
    pub sectors: u64,
    /// PCI address of the controller (bus << 8 | device << 3 | function), if it has one.
    pub pci: Option<u16>,
    /// Unit on that controller: for ATA, channel × 2 + drive.
    pub unit: u8,
    /// The geometry that the device itself reports.
    pub geometry: Chs,
    /// How it is reached.
    pub interface: Interface,
}

/// A device that reads and writes whole sectors straight from and to guest memory.
pub trait BlockDevice<H: Hardware>: Send {
    /// Its properties.
    fn info(&self) -> &BlockInfo;

    /// Reads `count` sectors from `lba` to physical address `buffer`.
    ///
    /// # Errors
    /// What the device reports, after the driver's own retries.
    fn read(&mut self, hw: &H, lba: u64, count: u32, buffer: u64) -> Result<(), DiskError>;

    /// Writes `count` sectors at `lba` from physical address `buffer`.
    ///
    /// # Errors
    /// What the device reports, after the driver's own retries.
    fn write(&mut self, hw: &H, lba: u64, count: u32, buffer: u64) -> Result<(), DiskError>;

    /// Puts the device back into a state from which commands work (INT 13h AH=00h).
    ///
    /// # Errors
    /// The device does not come back.
    fn reset(&mut self, hw: &H) -> Result<(), DiskError>;
}
