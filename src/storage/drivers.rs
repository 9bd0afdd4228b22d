//! The table of drivers: what each one serves, and how it looks for its drives.

use super::{Found, Kind, ahci, ata, floppy, nvme, virtio_blk, virtio_scsi};
#[cfg(test)]
use crate::arch::fake::Fake;
use crate::arch::{Handle, room_for};
use crate::devices::name::Name;
use crate::devices::pci::{ConfigAccess, PciDevice};
use crate::devices::place::{Path, Place, leads_to};
use crate::devices::virtio;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What drivers see of the machine.
pub struct Around<'a, H> {
    /// The hardware, of which a driver keeps a copy.
    pub hw: H,
    /// All PCI functions, with their addresses and interrupts.
    pub pci: &'a [PciDevice],
    /// How their configuration space is reached.
    pub config: ConfigAccess,
    /// What is wanted, and no more; `None` where all is.
    pub wanted: Option<&'a [Path]>,
}

/// A PCI function that a driver serves.
pub struct Function<'a, H> {
    /// The machine.
    pub around: &'a Around<'a, H>,
    /// Its place in the list of all functions.
    pub index: usize,
}

impl<H> Clone for Function<'_, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H> Copy for Function<'_, H> {}

impl<H: Handle> Function<'_, H> {
    /// The hardware, for the driver to keep.
    pub fn hw(&self) -> H {
        self.around.hw.clone()
    }

    /// The function with its addresses and interrupt.
    pub fn device(&self) -> &PciDevice {
        &self.around.pci[self.index]
    }

    /// Lets it use DMA.
    pub fn enable_bus_master(&self) {
        self.device()
            .enable_bus_master(&self.around.hw, self.around.config);
    }

    /// The OpenFirmware path of a drive on it: `unit` is what follows the controller's own node.
    pub fn place(&self, unit: String) -> Place {
        Place::of_pci(self.around.pci, self.index, unit)
    }

    /// What is wanted in it: the nodes behind its own, for each path that leads here. `None` where all is wanted.
    pub fn wanted(&self) -> Option<impl Iterator<Item = &str>> {
        let paths = self.around.wanted?.iter();
        Some(paths.filter_map(|path| path.behind_function(self.around.pci, self.index)))
    }

    /// Whether this unit is wanted, named as for [`place`](Self::place). Ask before you look at each of many.
    pub fn wants(&self, unit: impl Fn() -> String) -> bool {
        self.wanted()
            .is_none_or(|mut wanted| wanted.any(|nodes| leads_to(nodes, &unit())))
    }
}

/// PCI functions that a driver serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Those of this class and subclass.
    Class(u16),
    /// Those of this class, subclass and programming interface.
    Interface(u32),
    /// Those with this vendor and one of these device numbers.
    Ids(u16, &'static [u16]),
}

impl Serves {
    fn is(&self, device: &PciDevice) -> bool {
        match *self {
            Self::Class(class) => device.subclass() == class,
            Self::Interface(class) => device.class == class,
            Self::Ids(vendor, devices) => {
                device.vendor == vendor && devices.contains(&device.device)
            }
        }
    }
}

/// How a driver looks for the drives of a function. What is not there must cost a few accesses and no waiting.
pub enum Probe<H> {
    /// In one go.
    AtOnce(fn(&Function<H>) -> Vec<Found>),
    /// In parts, since the controller takes its time: a reset, disks that spin up, commands.
    InParts(for<'a> fn(Function<'a, H>) -> Box<dyn Search + 'a>),
}

/// A look for the drives of a function that goes on while others do. It begins with what sets the controller going.
pub trait Search {
    /// Waits until the controller has done what it was asked last, and asks for more; or tells at last what was found.
    fn go_on(&mut self) -> Option<Vec<Found>>;
}

/// A driver.
pub enum Driver<H> {
    /// Of PCI functions.
    Pci {
        /// Which.
        serves: Serves,
        /// Finds the drives of one function.
        probe: Probe<H>,
    },
    /// Of what a machine has or has not, without a PCI function that says so.
    Machine {
        /// Finds the drives.
        probe: fn(&Around<H>) -> Vec<Found>,
    },
}

/// All drivers. Disks are numbered in this order where nothing else tells.
fn drivers<H: Handle>() -> &'static [Driver<H>] {
    const {
        &[
            Driver::Machine {
                probe: floppy::probe,
            },
            Driver::Pci {
                serves: Serves::Class(ata::PCI_CLASS),
                probe: Probe::AtOnce(ata::probe),
            },
            Driver::Pci {
                serves: Serves::Class(ahci::PCI_CLASS),
                probe: Probe::InParts(ahci::search),
            },
            Driver::Pci {
                serves: Serves::Ids(virtio::VENDOR, virtio_blk::DEVICES),
                probe: Probe::AtOnce(virtio_blk::probe),
            },
            Driver::Pci {
                serves: Serves::Ids(virtio::VENDOR, virtio_scsi::DEVICES),
                probe: Probe::AtOnce(virtio_scsi::probe),
            },
            Driver::Pci {
                serves: Serves::Interface(nvme::PCI_CLASS),
                probe: Probe::InParts(nvme::search),
            },
        ]
    }
}

/// Memory that there has to be for a controller: its rings, its drives, and what comes after.
const ROOM: usize = 160 << 10;
/// The same on a machine that has not so much before any is looked at.
const LITTLE_ROOM: usize = 24 << 10;

/// A controller that is not looked at, since there is no memory for it.
fn left_out<H: Handle>(function: &Function<H>) -> Found {
    let bdf = function.device().bdf;
    Found::Unusable {
        kind: Kind::HardDisk,
        name: Name::new(format!("Controller at PCI {bdf}")),
        place: function.place(String::new()),
        why: "no memory is left for it".into(),
    }
}

/// What is to be looked at.
enum Work<'a, H: 'static> {
    Machine(fn(&Around<H>) -> Vec<Found>),
    Function(&'static Probe<H>, Function<'a, H>),
    Search(Box<dyn Search + 'a>, Function<'a, H>),
    Done(Vec<Found>),
}

impl<H: Handle> Work<'_, H> {
    /// Does the next part where there are `room` bytes of memory, and tells whether that was the last one.
    fn go_on(&mut self, around: &Around<H>, room: usize) -> bool {
        let found = match self {
            Self::Machine(probe) => probe(around),
            Self::Function(_, function) | Self::Search(_, function)
                if room > 0 && !room_for(room) =>
            {
                [left_out(function)].into()
            }
            Self::Function(Probe::AtOnce(probe), function) => probe(function),
            Self::Function(Probe::InParts(start), function) => {
                *self = Self::Search(start(*function), *function);
                return false;
            }
            Self::Search(search, _) => match search.go_on() {
                Some(found) => found,
                None => return false,
            },
            Self::Done(_) => return true,
        };
        *self = Self::Done(found);
        true
    }
}

/// All that is to be looked at, in the order of the drivers.
fn work<'a, H: Handle>(around: &'a Around<'a, H>) -> Vec<Work<'a, H>> {
    let mut work = Vec::new();
    for driver in drivers::<H>() {
        match driver {
            Driver::Machine { probe } => work.push(Work::Machine(*probe)),
            Driver::Pci { serves, probe } => {
                let functions = (0..around.pci.len()).map(|index| Function { around, index });
                let served = functions
                    .filter(|function| serves.is(function.device()) && function.wants(String::new));
                work.extend(served.map(|function| Work::Function(probe, function)));
            }
        }
    }
    work
}

/// Does all of it, where there is memory for all.
fn together<H: Handle>(work: &mut [Work<H>], around: &Around<H>) {
    // Those that take their time are set going before anything else is looked at.
    for work in &mut *work {
        if matches!(work, Work::Function(Probe::InParts(_), _)) {
            work.go_on(around, 0);
        }
    }
    let mut waits = true;
    while waits {
        waits = false;
        for work in &mut *work {
            waits |= !work.go_on(around, 0);
        }
    }
}

/// Lets each driver look for its drives, on those functions that are wanted.
pub fn probe<H: Handle>(around: &Around<H>) -> Vec<Found> {
    let mut work = work(around);
    let room = if room_for(ROOM * work.len()) {
        0
    } else if room_for(ROOM) {
        ROOM
    } else {
        LITTLE_ROOM
    };
    if room == 0 {
        together(&mut work, around);
    } else {
        // One after the other: what has begun holds memory that the one before it may still need.
        for work in &mut work {
            while !work.go_on(around, room) {}
        }
    }
    let done = work.into_iter().filter_map(|work| match work {
        Work::Done(found) => Some(found),
        _ => None,
    });
    done.flatten().collect()
}

/// What `probe` finds on the only PCI function of a machine.
#[cfg(test)]
pub fn probed(
    hw: &Fake,
    function: PciDevice,
    wanted: Option<&[Path]>,
    probe: impl Fn(&Function<Fake>) -> Vec<Found>,
) -> Vec<Found> {
    let around = Around {
        hw: hw.clone(),
        pci: &[function],
        config: ConfigAccess::Ports,
        wanted,
    };
    probe(&Function {
        around: &around,
        index: 0,
    })
}

/// The same by a `search`.
#[cfg(test)]
pub fn searched(
    hw: &Fake,
    function: PciDevice,
    wanted: Option<&[Path]>,
    search: for<'a> fn(Function<'a, Fake>) -> Box<dyn Search + 'a>,
) -> Vec<Found> {
    probed(hw, function, wanted, |function| {
        let mut search = search(*function);
        core::iter::repeat_with(|| search.go_on())
            .find_map(|found| found)
            .unwrap_or_default()
    })
}
