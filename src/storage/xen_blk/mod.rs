//! Xen's paravirtual disks: requests go to another domain by a ring in memory, with no emulated device on the way.
//!
//! The toolstack gives a guest each of its disks twice, emulated and as a virtual block device (vbd). Which of them is which, the vbd's
//! number tells. A disk of both kinds is the emulated one to all the world, but moves its sectors by the vbd once it has something to
//! do, and comes back to the emulated device where that fails. A vbd without an emulated twin is a disk of its own.
//!
//! The guest's own driver has to find the vbd as if nobody had used it: [`quiesce`](BlockDevice::quiesce) closes the connection, and the
//! next transfer makes another one. docs/xen-disks.md says when.
//!
//! Sources: Xen's public headers io/blkif.h, io/xenbus.h and io/ring.h; docs/man/xen-vbd-interface.7; libxl for which of a guest's disks
//! have an emulated twin.

mod ahead;
#[cfg(test)]
mod fake;
mod link;
mod number;
mod ring;
#[cfg(test)]
mod tests;

use super::{BlockDevice, Chs, DiskError, DiskInfo, Found, Kind, Limits, Medium, Request};
use crate::arch::Handle;
use crate::devices::name::Name;
use crate::devices::place::Place;
use crate::devices::xen::store::Store;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use link::{CLOSE_SILENT_US, CLOSE_US, Failure, Link, MOST_BYTES, MOST_DEVICES, Vbd};
use number::Unit;

/// Sectors that an emulated disk moves before a connection is made. That takes some exchanges by xenstore, which a disk is not worth
/// of which only a partition table or a label is wanted.
const WORTH_IT: u32 = 128;
/// How long xenstore may take to list the devices.
const LIST_US: u64 = 2_000_000;

/// Gives each emulated disk among `found` its vbd, and adds the disks that have only a vbd.
pub fn join<H: Handle>(hw: &H, mut found: Vec<Found>) -> Vec<Found> {
    let Some(xen) = hw.xen() else {
        return found;
    };
    let mut devices: Vec<(u32, Unit)> = list(hw, &xen)
        .iter()
        .filter_map(|name| {
            let number = name.parse().ok()?;
            Some((number, Unit::of(number)?))
        })
        .collect();
    devices.sort_unstable();
    for (index, (number, unit)) in (0..MOST_DEVICES).zip(devices) {
        let Some(vbd) = Vbd::new(hw.clone(), xen.clone(), number, index) else {
            log::warn!("Xen disk {unit}: no memory is left for it");
            break;
        };
        let twin = found.iter().position(
            |found| matches!(found, Found::Device(device) if unit.is_twin(device.info())),
        );
        match twin {
            Some(index) => {
                if let Found::Device(device) = &found[index]
                    && device.info().kind == Kind::HardDisk
                    && let Found::Device(device) = found.remove(index)
                {
                    found.insert(index, Found::Device(Box::new(Paired::new(device, vbd))));
                }
            }
            None if vbd.kind() == "disk" => found.push(Alone::open(vbd, unit)),
            None => {}
        }
    }
    found
}

/// The names of all vbds: their numbers.
fn list<H: Handle>(hw: &H, xen: &H::Xen) -> Vec<String> {
    let Some(mut store) = Store::open(hw, xen).map(|store| store.with_timeout(LIST_US)) else {
        return Vec::new();
    };
    let names = store.directory("device/vbd").unwrap_or_default();
    store.release();
    names
}

/// Moves the sectors of a request, by another connection where the domain was saved and restored since the last one was made.
fn transfer<H: Handle>(
    vbd: &Vbd<H>,
    link: &mut Link<H>,
    request: &Request,
    sector_size: u32,
    deadline_us: u64,
) -> Result<(), Failure> {
    match link.transfer(request, sector_size, deadline_us) {
        Err(Failure::Lost) => {}
        result => return result,
    }
    *link = vbd.connect().map_err(|_| Failure::Lost)?;
    link.transfer(request, sector_size, deadline_us)
}

/// How an emulated disk moves its sectors.
enum Way<H: Handle> {
    /// As an emulated disk, which has moved so many.
    Emulated(u32),
    /// By the vbd.
    Link(Link<H>),
    /// As an emulated disk, for good.
    OnlyEmulated,
}

/// A disk that is emulated and a vbd.
struct Paired<H: Handle> {
    emulated: Box<dyn BlockDevice>,
    info: DiskInfo,
    vbd: Vbd<H>,
    way: Way<H>,
}

impl<H: Handle> Paired<H> {
    fn new(emulated: Box<dyn BlockDevice>, vbd: Vbd<H>) -> Self {
        let mut paired = Self {
            info: emulated.info().clone(),
            emulated,
            vbd,
            way: Way::Emulated(0),
        };
        paired.limit();
        paired
    }

    /// What both ways can do: a request that fails by one of them goes by the other.
    fn limit(&mut self) {
        let limits = self.emulated.info().limits;
        self.info.limits = Limits {
            sectors: limits.sectors.min(MOST_BYTES / self.info.sector_size),
            ..limits
        };
    }

    fn by_emulation(&mut self, request: &Request) -> Result<(), DiskError> {
        let result = self.emulated.transfer(request);
        self.limit();
        result
    }

    /// Connects to the back end, if it has the same disk.
    fn connect(&mut self) -> Result<Link<H>, String> {
        let link = self.vbd.connect()?;
        let told = link.told();
        let size = u64::from(self.info.sector_size);
        if told.sector_size <= self.info.sector_size
            && told.sectors.checked_mul(512) == self.info.sectors.checked_mul(size)
        {
            return Ok(link);
        }
        link.close(CLOSE_US)?;
        Err(format!(
            "it has {} sectors, in units of {} bytes",
            told.sectors, told.sector_size
        ))
    }

    /// Counts what the emulated disk moves, and connects where it is worth it.
    fn consider(&mut self, count: u32) {
        let Way::Emulated(moved) = &mut self.way else {
            return;
        };
        *moved = moved.saturating_add(count);
        if *moved < WORTH_IT {
            return;
        }
        self.way = match self.connect() {
            Ok(link) => {
                log::debug!("{}: connected to its back end", self.info.name);
                Way::Link(link)
            }
            Err(why) => {
                log::warn!("{}: only emulated: {why}", self.info.name);
                Way::OnlyEmulated
            }
        };
    }

    /// Goes back to the emulated disk, for good.
    ///
    /// # Errors
    /// The back end may still do what it was asked to.
    fn give_up(&mut self, failure: Failure) -> Result<(), DiskError> {
        let Way::Link(link) = core::mem::replace(&mut self.way, Way::OnlyEmulated) else {
            return Ok(());
        };
        let closed = match failure {
            Failure::Lost => Ok(()),
            _ => link.close(CLOSE_SILENT_US),
        };
        log::warn!(
            "{}: only emulated from now on: its back end: {failure:?}{}",
            self.info.name,
            closed.as_ref().err().map_or("", |why| why.as_str())
        );
        closed.map_err(|_| DiskError::Timeout)
    }
}

impl<H: Handle> BlockDevice for Paired<H> {
    fn info(&self) -> &DiskInfo {
        &self.info
    }

    fn transfer(&mut self, request: &Request) -> Result<(), DiskError> {
        self.consider(request.count);
        let size = self.info.sector_size;
        let Way::Link(link) = &mut self.way else {
            return self.by_emulation(request);
        };
        // Half of the time is for the emulated disk.
        let deadline_us = request.deadline_us / 2;
        match transfer(&self.vbd, link, request, size, deadline_us) {
            Ok(()) => Ok(()),
            Err(Failure::Failed | Failure::NotSupported) => {
                // A bad sector, which the emulated disk cannot read either and has a word for; else it is the back end.
                self.by_emulation(request)?;
                self.give_up(Failure::Failed)
            }
            Err(failure) => {
                let closed = self.give_up(failure);
                // What the back end may yet write would come over what is written later.
                if request.writes() {
                    closed?;
                }
                self.by_emulation(request)
            }
        }
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        if let Way::Link(link) = &mut self.way {
            match link.flush(super::FLUSH_US / 2) {
                Ok(()) => return Ok(()),
                // The emulated disk is the same medium.
                Err(failure) => self.give_up(failure)?,
            }
        }
        self.emulated.flush()
    }

    fn recover(&mut self) -> Result<(), DiskError> {
        self.emulated.recover()
    }

    fn medium(&mut self) -> Result<Medium, DiskError> {
        self.emulated.medium()
    }

    fn quiesce(&mut self) {
        self.way = match core::mem::replace(&mut self.way, Way::OnlyEmulated) {
            Way::Link(link) => match link.close(CLOSE_US) {
                Ok(()) => {
                    log::debug!("{}: left to the guest's driver", self.info.name);
                    Way::Emulated(0)
                }
                Err(why) => {
                    log::warn!("{}: only emulated from now on: {why}", self.info.name);
                    Way::OnlyEmulated
                }
            },
            way => way,
        };
        self.emulated.quiesce();
    }
}

/// A vbd without an emulated twin.
struct Alone<H: Handle> {
    info: DiskInfo,
    vbd: Vbd<H>,
    link: Option<Link<H>>,
    read_only: bool,
}

impl<H: Handle> Alone<H> {
    fn open(vbd: Vbd<H>, unit: Unit) -> Found {
        let name = Name::new(fmt::from_fn(move |f| write!(f, "Xen disk {unit}")));
        let place = Place {
            unit: format!("xen/vbd@{unit}"),
            ..Place::default()
        };
        let link = match vbd.connect() {
            Ok(link) => link,
            Err(why) => {
                return Found::Unusable {
                    kind: Kind::HardDisk,
                    name,
                    place,
                    why,
                };
            }
        };
        let told = link.told();
        Found::Device(Box::new(Self {
            info: DiskInfo {
                kind: Kind::HardDisk,
                name,
                sector_size: told.sector_size,
                sectors: told.sectors / u64::from(told.sector_size / 512),
                geometry: Chs::default(),
                limits: Limits {
                    sectors: MOST_BYTES / told.sector_size,
                    // The data goes through pages of our own.
                    dma: None,
                },
                place: place.into(),
                edd: None,
            },
            vbd,
            link: Some(link),
            read_only: told.read_only,
        }))
    }

    /// The connection, made anew where it was closed.
    fn link(&mut self) -> Result<(&Vbd<H>, &mut Link<H>), DiskError> {
        let link = match self.link.take() {
            Some(link) => link,
            None => self.vbd.connect().map_err(|why| {
                log::warn!("{}: {why}", self.info.name);
                DiskError::Controller
            })?,
        };
        Ok((&self.vbd, self.link.insert(link)))
    }

    fn close(&mut self) -> Result<(), DiskError> {
        let Some(link) = self.link.take() else {
            return Ok(());
        };
        link.close(CLOSE_US).map_err(|why| {
            log::warn!("{}: {why}", self.info.name);
            DiskError::Controller
        })
    }
}

fn disk_error(failure: Failure) -> DiskError {
    match failure {
        Failure::Silent => DiskError::Timeout,
        Failure::Failed => DiskError::Media,
        Failure::NotSupported => DiskError::BadRequest,
        Failure::Lost | Failure::Nonsense => DiskError::Controller,
    }
}

impl<H: Handle> BlockDevice for Alone<H> {
    fn info(&self) -> &DiskInfo {
        &self.info
    }

    fn transfer(&mut self, request: &Request) -> Result<(), DiskError> {
        if request.writes() && self.read_only {
            return Err(DiskError::WriteProtected);
        }
        let size = self.info.sector_size;
        let (vbd, link) = self.link()?;
        transfer(vbd, link, request, size, request.deadline_us).map_err(disk_error)
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        match &mut self.link {
            Some(link) => link.flush(super::FLUSH_US).map_err(disk_error),
            None => Ok(()),
        }
    }

    fn recover(&mut self) -> Result<(), DiskError> {
        self.close()?;
        self.link().map(drop)
    }

    fn quiesce(&mut self) {
        // The log has why it does not close.
        let _ = self.close();
    }
}
