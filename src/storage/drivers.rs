//! The table of drivers: what each one serves, and how it looks for its drives.

use super::{Found, Kind, ahci, ata, floppy, nvme, virtio_blk, virtio_scsi};
#[cfg(test)]
use crate::arch::fake::Fake;
use crate::arch::{Handle, room_for};
use crate::devices::pci::{ConfigAccess, PciDevice};
use crate::devices::place::{Path, Place, leads_to};
use crate::devices::virtio;
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

/// A driver.
pub enum Driver<H> {
    /// Of PCI functions.
    Pci {
        /// Which.
        serves: Serves,
        /// Sets a controller going and comes back at once, where it takes its time (a reset, disks that spin up): it does
        /// so while others are set going and looked at.
        start: Option<fn(&Function<H>)>,
        /// Finds the drives of one function. What is not there must cost a few accesses and no waiting.
        probe: fn(&Function<H>) -> Vec<Found>,
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
                start: None,
                probe: ata::probe,
            },
            Driver::Pci {
                serves: Serves::Class(ahci::PCI_CLASS),
                start: None,
                probe: ahci::probe,
            },
            Driver::Pci {
                serves: Serves::Ids(virtio::VENDOR, virtio_blk::DEVICES),
                start: None,
                probe: virtio_blk::probe,
            },
            Driver::Pci {
                serves: Serves::Ids(virtio::VENDOR, virtio_scsi::DEVICES),
                start: None,
                probe: virtio_scsi::probe,
            },
            Driver::Pci {
                serves: Serves::Interface(nvme::PCI_CLASS),
                start: None,
                probe: nvme::probe,
            },
        ]
    }
}

/// Memory that there has to be for a controller but the first: its rings, its drives, and what comes after.
const ROOM: usize = 160 << 10;

/// A controller that is not looked at, since there is no memory for it.
fn left_out<H: Handle>(function: &Function<H>) -> Found {
    Found::Unusable {
        kind: Kind::HardDisk,
        name: format!("Controller at PCI {}", function.device().bdf),
        place: function.place(String::new()),
        why: "no memory is left for it".into(),
    }
}

/// What `probe` finds on the only PCI function of a machine.
#[cfg(test)]
pub fn probed(
    hw: &Fake,
    function: PciDevice,
    wanted: Option<&[Path]>,
    probe: fn(&Function<Fake>) -> Vec<Found>,
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

/// Lets each driver look for its drives, on those functions that are wanted.
pub fn probe<H: Handle>(around: &Around<H>) -> Vec<Found> {
    let served = |serves: Serves| {
        let functions = (0..around.pci.len()).map(|index| Function { around, index });
        functions
            .filter(move |function| serves.is(function.device()) && function.wants(String::new))
    };
    for driver in drivers::<H>() {
        if let Driver::Pci {
            serves,
            start: Some(start),
            ..
        } = driver
        {
            served(*serves).for_each(|function| start(&function));
        }
    }
    let mut found = Vec::new();
    let mut is_first = true;
    for driver in drivers::<H>() {
        match driver {
            Driver::Machine { probe } => found.extend(probe(around)),
            Driver::Pci { serves, probe, .. } => {
                for function in served(*serves) {
                    if core::mem::take(&mut is_first) || room_for(ROOM) {
                        found.extend(probe(&function));
                    } else {
                        found.push(left_out(&function));
                    }
                }
            }
        }
    }
    found
}
