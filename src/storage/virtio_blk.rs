//! virtio block devices.
//!
//! Sources: Virtual I/O Device (VIRTIO) 1.2, section 5.2; for the OpenFirmware path QEMU's `virtio_pci` and `scsi@4/disk@0,0`.

#[cfg(test)]
mod tests;

use super::drivers::Function;
use super::{
    BlockDevice, Chs, DiskError, DiskInfo, Dma, EddBus, EddPath, Found, Kind, Limits, Request,
};
use crate::arch::Handle;
use crate::devices::name::Name;
use crate::devices::place::Place;
use crate::devices::virtio::{Device, Fault, Part, Queue};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// PCI device numbers: transitional and modern.
pub const DEVICES: &[u16] = &[0x1001, 0x1042];

/// Features: most bytes of a part, a geometry, read-only, block size, a cache to flush.
const SIZE_MAX: u32 = 1 << 1;
const GEOMETRY: u32 = 1 << 4;
const READ_ONLY: u32 = 1 << 5;
const BLOCK_SIZE: u32 = 1 << 6;
const FLUSH: u32 = 1 << 9;

/// Offsets in the device's configuration.
const CONFIG_CAPACITY: u16 = 0;
const CONFIG_SIZE_MAX: u16 = 8;
const CONFIG_GEOMETRY: u16 = 16;
const CONFIG_BLOCK_SIZE: u16 = 20;

/// Kinds of request.
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH_CACHE: u32 = 4;
/// Statuses.
const OK: u8 = 0;
const UNSUPPORTED: u8 = 2;
/// What the status byte is before the device writes it.
const NO_STATUS: u8 = 0xff;

/// The unit in which capacity and addresses are.
const UNIT: u64 = 512;
/// Request header, then the status.
const HEADER_LEN: u64 = 16;
const AREA_LEN: usize = 32;
/// Parts of a request: header, data, status.
const PARTS: u16 = 3;
/// Most bytes of a request: what a descriptor holds, and more than any caller asks for.
const MOST_BYTES: u32 = 16 << 20;

/// Finds the disk of a virtio block function.
pub fn probe<H: Handle>(function: &Function<H>) -> Vec<Found> {
    function.enable_bus_master();
    let found = match open(function) {
        Ok(disk) => Found::Device(Box::new(disk)),
        Err(why) => Found::Unusable {
            kind: Kind::HardDisk,
            name: name(function),
            place: place(function),
            why,
        },
    };
    [found].into()
}

fn name<H: Handle>(function: &Function<H>) -> Name {
    let bdf = function.device().bdf;
    Name::new(fmt::from_fn(move |f| write!(f, "Virtio disk at PCI {bdf}")))
}

fn place<H: Handle>(function: &Function<H>) -> Place {
    function.place("disk@0,0".into())
}

fn open<H: Handle>(function: &Function<H>) -> Result<Disk<H>, String> {
    let device = Device::find(function.hw(), function.device(), function.around.config)
        .ok_or("its registers cannot be reached")?;
    let said = |fault: Fault| format!("{fault}");
    let features = device
        .begin(SIZE_MAX | GEOMETRY | READ_ONLY | BLOCK_SIZE | FLUSH)
        .map_err(said)?;
    let has = |feature| features & feature != 0;
    let (queue, area) = device.queue(0, PARTS, AREA_LEN).map_err(said)?;
    device.start();
    let config = Config {
        capacity: u64::from(device.config32(CONFIG_CAPACITY))
            | u64::from(device.config32(CONFIG_CAPACITY + 4)) << 32,
        size_max: has(SIZE_MAX).then(|| device.config32(CONFIG_SIZE_MAX)),
        geometry: has(GEOMETRY).then(|| device.config32(CONFIG_GEOMETRY)),
        block_size: has(BLOCK_SIZE).then(|| device.config32(CONFIG_BLOCK_SIZE)),
    };
    let (sector_size, sectors, limits) = config.read()?;
    Ok(Disk {
        info: DiskInfo {
            kind: Kind::HardDisk,
            name: name(function),
            sector_size,
            sectors,
            geometry: config.geometry.map_or(Chs::default(), geometry),
            limits,
            place: place(function).into(),
            edd: Some(EddPath {
                bus: EddBus::Pci(function.device().bdf),
                interface: *b"SCSI    ",
                device: [0; 16],
                ata: None,
            }),
        },
        hw: function.hw(),
        device,
        queue,
        area,
        features,
    })
}

/// What a device says of itself.
#[derive(Clone, Copy, Debug)]
struct Config {
    capacity: u64,
    size_max: Option<u32>,
    geometry: Option<u32>,
    block_size: Option<u32>,
}

impl Config {
    /// Sector size, number of sectors, and what one command can do.
    fn read(&self) -> Result<(u32, u64, Limits), String> {
        let size = self.block_size.unwrap_or(UNIT as u32);
        if !matches!(size, 512 | 1024 | 2048 | 4096) {
            return Err(format!("its sectors have {size} bytes"));
        }
        let most = self
            .size_max
            .map_or(MOST_BYTES, |most| most.min(MOST_BYTES))
            / size;
        if most == 0 {
            return Err("it takes less than a sector at once".into());
        }
        let limits = Limits {
            sectors: most,
            dma: Some(Dma {
                align: 1,
                ..Dma::ALL
            }),
        };
        // The device's own arithmetic is in bytes, of which there are no more than 64 bits' worth.
        let sectors = self.capacity.min(u64::MAX / UNIT) / (u64::from(size) / UNIT);
        Ok((size, sectors, limits))
    }
}

/// Cylinders (15:0), heads (23:16) and sectors (31:24).
fn geometry(word: u32) -> Chs {
    Chs {
        cylinders: word & 0xffff,
        heads: word >> 16 & 0xff,
        sectors: word >> 24,
    }
}

struct Disk<H> {
    info: DiskInfo,
    hw: H,
    device: Device<H>,
    queue: Queue<H>,
    area: u64,
    features: u32,
}

impl<H: Handle> Disk<H> {
    fn run(
        &mut self,
        kind: u32,
        sector: u64,
        data: Option<Part>,
        timeout_us: u64,
    ) -> Result<(), DiskError> {
        let status_at = self.area + HEADER_LEN;
        self.hw.write64(self.area, kind.into());
        self.hw.write64(self.area + 8, sector);
        self.hw.write8(status_at, NO_STATUS);
        let header = Part {
            addr: self.area,
            len: HEADER_LEN as u32,
            written: false,
        };
        let status = Part {
            addr: status_at,
            len: 1,
            written: true,
        };
        let ended = match data {
            Some(data) => self.queue.run(&[header, data, status], timeout_us),
            None => self.queue.run(&[header, status], timeout_us),
        };
        ended.map_err(|fault| match fault {
            Fault::Silent => DiskError::Timeout,
            _ => DiskError::Controller,
        })?;
        match self.hw.read8(status_at) {
            OK => Ok(()),
            UNSUPPORTED => Err(DiskError::BadRequest),
            NO_STATUS => Err(DiskError::Controller),
            _ => Err(DiskError::Media),
        }
    }
}

impl<H: Handle> BlockDevice for Disk<H> {
    fn info(&self) -> &DiskInfo {
        &self.info
    }

    fn transfer(&mut self, request: &Request) -> Result<(), DiskError> {
        if request.writes() && self.features & READ_ONLY != 0 {
            return Err(DiskError::WriteProtected);
        }
        let data = Part {
            addr: request.buffer,
            len: request.count * self.info.sector_size,
            written: !request.writes(),
        };
        let sector = request.lba * (u64::from(self.info.sector_size) / UNIT);
        let kind = if request.writes() { OUT } else { IN };
        self.run(kind, sector, Some(data), request.deadline_us)
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        if self.features & FLUSH == 0 {
            return Ok(());
        }
        self.run(FLUSH_CACHE, 0, None, super::FLUSH_US)
    }

    fn recover(&mut self) -> Result<(), DiskError> {
        let features = self.device.begin(self.features);
        if features != Ok(self.features) {
            return Err(DiskError::Controller);
        }
        self.device.reconnect(&mut self.queue);
        self.device.start();
        Ok(())
    }
}
