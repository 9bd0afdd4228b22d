//! What can be read and written in sectors: the one trait behind which floppies, disks and CDs of all buses look the same.
//!
//! A driver is one file and carries out one command at a time, within the limits that it states; [`Disk`] does for all of them
//! what every disk needs; [`drivers`] has the table of which driver serves what. docs/adding-a-driver.md walks through one.

pub mod ahci;
pub mod ata;
mod disk;
pub mod drivers;
pub mod eltorito;
pub mod floppy;
pub mod nvme;
pub mod scsi;
pub mod virtio_blk;
pub mod virtio_scsi;
#[cfg(feature = "xen")]
pub mod xen_blk;

pub use disk::{Bounce, Disk};

use crate::devices::name::Name;
use crate::devices::pci::Bdf;
use crate::devices::place::Place;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;

/// Why a command failed.
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
    /// The controller reported a fault, or said something that makes no sense.
    Controller,
    /// Writing is not allowed.
    WriteProtected,
    /// No medium in the drive.
    NoMedium,
    /// There may be another medium than before. The command was not carried out; the next one will be.
    MediumChanged,
    /// The drive is not ready, and does not get ready by waiting.
    NotReady,
}

impl DiskError {
    /// Whether the same command may work after [`BlockDevice::recover`].
    fn may_pass(self) -> bool {
        matches!(
            self,
            Self::SectorNotFound | Self::Media | Self::Timeout | Self::Controller
        )
    }
}

/// What a device is, for drive numbers and the boot order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
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

/// What memory a device reaches by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dma {
    /// Buffers start at a multiple of this power of two.
    pub align: u64,
    /// The first address out of reach.
    pub end: u64,
    /// A transfer crosses no multiple of this power of two; 0 where it may.
    pub boundary: u64,
}

impl Dma {
    /// 32-bit addresses.
    pub const BELOW_4G: Self = Self {
        align: 2,
        end: 1 << 32,
        boundary: 0,
    };
    /// 64-bit addresses.
    pub const ALL: Self = Self {
        align: 2,
        end: u64::MAX,
        boundary: 0,
    };
}

/// What one command can do. [`Disk`] makes commands of this kind out of any request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most sectors, at least 1.
    pub sectors: u32,
    /// The memory that the device reaches; `None` where the processor moves the data, which reaches all.
    pub dma: Option<Dma>,
}

/// The bus of a controller, as INT 13h AH=48h has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EddBus {
    /// A PCI function.
    Pci(Bdf),
    /// Ports of the ISA bus from this one on.
    Isa(u16),
}

/// How INT 13h AH=48h describes the way to a device (Enhanced Disk Drive Specification 3.0, sections 8.20 to 8.22).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EddPath {
    /// Where the controller is.
    pub bus: EddBus,
    /// The interface: `ATA`, `ATAPI`, `SCSI`, `USB`, …, padded with spaces.
    pub interface: [u8; 8],
    /// Where the device is on the interface; what each byte means depends on the interface.
    pub device: [u8; 16],
    /// The registers of its ATA channel, if it is behind one.
    pub ata: Option<AtaPorts>,
}

/// A drive on a parallel ATA channel, whose task file registers are in I/O space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtaPorts {
    /// Command block registers.
    pub command: u16,
    /// Control block register.
    pub control: u16,
    /// Interrupt line.
    pub irq: u8,
    /// Drive 1 of the channel (the slave).
    pub second: bool,
    /// The drive's number among all ATA drives, present or not: QEMU counts its words on their geometry so.
    pub number: u16,
}

/// A device's properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskInfo {
    /// Its kind.
    pub kind: Kind,
    /// What a person knows it by.
    pub name: Name,
    /// Bytes a sector: 512, 1024, 2048 or 4096.
    pub sector_size: u32,
    /// Number of sectors; 0 without a medium.
    pub sectors: u64,
    /// The geometry that the device itself reports.
    pub geometry: Chs,
    /// What one command can do.
    pub limits: Limits,
    /// Its OpenFirmware path.
    pub place: Arc<Place>,
    /// Its path in the enhanced disk drive tables; `None` where they have no room for it.
    pub edd: Option<EddPath>,
}

/// Which way the data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// From the device to memory.
    Read,
    /// From memory to the device.
    Write,
}

/// One command: `count` sectors from `lba`, which exist, within the [`Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which way.
    pub op: Op,
    /// First sector.
    pub lba: u64,
    /// Number of sectors, at least 1.
    pub count: u32,
    /// Physical address of the data.
    pub buffer: u64,
    /// The command failed before and is given up if it fails again: the time for a slower way that may work.
    pub last_try: bool,
    /// How long the device may be silent.
    pub deadline_us: u64,
}

impl Request {
    /// Whether it writes.
    pub fn writes(&self) -> bool {
        self.op == Op::Write
    }
}

/// What is in a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// The same as when it was last asked or used.
    Same,
    /// Another one, or the same one again. [`BlockDevice::info`] is about it already.
    Changed,
    /// None.
    Absent,
}

/// A device that reads and writes whole sectors. It keeps its hardware, and is asked by [`Disk`] only.
pub trait BlockDevice: Send {
    /// Its properties. They change by [`medium`](Self::medium), and [`Limits`] also by a failure.
    fn info(&self) -> &DiskInfo;

    /// Carries out one command and waits for its end.
    ///
    /// # Errors
    /// What the device reports, or that it does not answer in time. Not retried here.
    fn transfer(&mut self, request: &Request) -> Result<(), DiskError>;

    /// Makes what was written lasting.
    ///
    /// # Errors
    /// As for [`transfer`](Self::transfer).
    fn flush(&mut self) -> Result<(), DiskError>;

    /// Puts the device back into a state from which commands work. Called only after a failure.
    ///
    /// # Errors
    /// The device does not come back.
    fn recover(&mut self) -> Result<(), DiskError>;

    /// Looks at what is in the drive. Fixed disks need not say more than this.
    ///
    /// # Errors
    /// The drive does not say.
    fn medium(&mut self) -> Result<Medium, DiskError> {
        Ok(Medium::Same)
    }

    /// Opens the tray, or lets go of the medium in another way.
    ///
    /// # Errors
    /// [`DiskError::BadRequest`]: the medium cannot be taken out. Others: the drive did not do it.
    fn eject(&mut self) -> Result<(), DiskError> {
        Err(DiskError::BadRequest)
    }

    /// Leaves the device to the guest's own driver, where that needs more than a controller at rest: shared rings are closed. It
    /// may be used again afterwards.
    fn quiesce(&mut self) {}
}

/// What a driver found.
pub enum Found {
    /// A device that is ready for use.
    Device(Box<dyn BlockDevice>),
    /// A device that cannot be used.
    Unusable {
        /// Its kind.
        kind: Kind,
        /// What a person knows it by.
        name: Name,
        /// Its OpenFirmware path.
        place: Place,
        /// Why, for the boot report.
        why: String,
    },
}

/// How long a device may take to say what it is.
const ANSWER_US: u64 = 4_000_000;
/// How long making data lasting may take.
const FLUSH_US: u64 = 32_000_000;
