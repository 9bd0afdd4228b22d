//! virtio over PCI, for drivers that wait for the end of what they ask: the registers of a device, and queues.
//!
//! The modern registers are used where a device has them, since a queue is then as small as the driver wants. The legacy ones
//! serve devices without. Interrupts stay off: the end of a request is seen in memory, so that a request costs one access.
//!
//! Source: Virtual I/O Device (VIRTIO) 1.2, sections 2.7 (split queues), 3.1 (initialisation) and 4.1 (PCI).

mod capability;
#[cfg(test)]
pub mod fake;
mod queue;

pub use queue::{MOST_AT_ONCE, Part, Queue};

use super::pci::{ConfigAccess, PciDevice};
use super::poll;
use crate::arch::Handle;
use capability::Places;

/// PCI vendor of all virtio devices.
pub const VENDOR: u16 = 0x1af4;

/// Device status.
const ACKNOWLEDGE: u8 = 1 << 0;
const DRIVER: u8 = 1 << 1;
const DRIVER_OK: u8 = 1 << 2;
const FEATURES_OK: u8 = 1 << 3;

/// Features beyond the device's own, in the upper half: the modern interface; addresses behind an IOMMU, which until the guest
/// turns it on are physical addresses.
const VERSION_1: u32 = 1 << 0;
const ACCESS_PLATFORM: u32 = 1 << 1;

/// How long a reset may take.
const RESET_US: u64 = 1_000_000;
/// Alignment of a driver's own memory beside a queue.
const OWN_ALIGN: usize = 64;

/// Registers of the common configuration (4.1.4.3).
mod common {
    pub const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub const DEVICE_FEATURE: u64 = 0x04;
    pub const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub const DRIVER_FEATURE: u64 = 0x0c;
    pub const STATUS: u64 = 0x14;
    pub const QUEUE_SELECT: u64 = 0x16;
    pub const QUEUE_SIZE: u64 = 0x18;
    pub const QUEUE_ENABLE: u64 = 0x1c;
    pub const QUEUE_NOTIFY: u64 = 0x1e;
    pub const QUEUE_DESCRIPTORS: u64 = 0x20;
    pub const QUEUE_AVAILABLE: u64 = 0x28;
    pub const QUEUE_USED: u64 = 0x30;
}

/// Ports of the legacy interface (4.1.4.10), without MSI-X.
mod legacy {
    pub const DEVICE_FEATURES: u16 = 0x00;
    pub const DRIVER_FEATURES: u16 = 0x04;
    pub const QUEUE_PAGE: u16 = 0x08;
    pub const QUEUE_SIZE: u16 = 0x0c;
    pub const QUEUE_SELECT: u16 = 0x0e;
    pub const QUEUE_NOTIFY: u16 = 0x10;
    pub const STATUS: u16 = 0x12;
    pub const CONFIG: u16 = 0x14;
}

/// What went wrong with a device, or is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It did not answer in time.
    Silent,
    /// It said something that makes no sense.
    Nonsense,
    /// It insists on what we do not do.
    Refused,
    /// There is no memory for a queue.
    NoMemory,
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Silent => "it does not answer",
            Self::Nonsense => "its answers make no sense",
            Self::Refused => "it needs features that this firmware lacks",
            Self::NoMemory => "no memory is left for it",
        })
    }
}

/// Where the registers are.
#[derive(Clone, Copy, Debug)]
enum Registers {
    Modern(Places),
    Legacy { port: u16 },
}

/// The registers of a device.
#[derive(Clone, Debug)]
pub struct Device<H> {
    hw: H,
    registers: Registers,
}

impl<H: Handle> Device<H> {
    /// The registers of a PCI function; `None` where it has none that can be reached.
    pub fn find(hw: H, device: &PciDevice, config: ConfigAccess) -> Option<Self> {
        let start = capability::list(&hw, config, device.bdf);
        let read = |at| config.read32(&hw, device.bdf, at);
        let modern = capability::places(start, read, |bar| {
            Some((device.memory(bar)?, device.bars[bar].size))
        });
        let registers = match modern {
            Some(places) => Registers::Modern(places),
            None => Registers::Legacy {
                port: device.io(0)?,
            },
        };
        Some(Self { hw, registers })
    }

    fn status(&self) -> u8 {
        match self.registers {
            Registers::Modern(places) => self.hw.read8(places.common + common::STATUS),
            Registers::Legacy { port } => self.hw.in8(port + legacy::STATUS),
        }
    }

    fn set_status(&self, status: u8) {
        match self.registers {
            Registers::Modern(places) => self.hw.write8(places.common + common::STATUS, status),
            Registers::Legacy { port } => self.hw.out8(port + legacy::STATUS, status),
        }
    }

    /// Resets the device and agrees with it on those of the features `wanted` (bits 0 to 31, the device's own) that it has, which
    /// are returned. Queues come next, then [`start`](Self::start).
    ///
    /// # Errors
    /// The device does not come back from the reset, or does not agree.
    pub fn begin(&self, wanted: u32) -> Result<u32, Fault> {
        self.reset()?;
        self.set_status(ACKNOWLEDGE | DRIVER);
        match self.registers {
            Registers::Modern(places) => {
                let get = |half: u32| {
                    self.hw
                        .write32(places.common + common::DEVICE_FEATURE_SELECT, half);
                    self.hw.read32(places.common + common::DEVICE_FEATURE)
                };
                let set = |half: u32, features: u32| {
                    self.hw
                        .write32(places.common + common::DRIVER_FEATURE_SELECT, half);
                    self.hw
                        .write32(places.common + common::DRIVER_FEATURE, features);
                };
                let (own, general) = (get(0) & wanted, get(1));
                if general & VERSION_1 == 0 {
                    return Err(Fault::Refused);
                }
                set(0, own);
                set(1, general & (VERSION_1 | ACCESS_PLATFORM));
                self.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
                if self.status() & FEATURES_OK == 0 {
                    return Err(Fault::Refused);
                }
                Ok(own)
            }
            Registers::Legacy { port } => {
                let own = self.hw.in32(port + legacy::DEVICE_FEATURES) & wanted;
                self.hw.out32(port + legacy::DRIVER_FEATURES, own);
                Ok(own)
            }
        }
    }

    /// Stops whatever the device does.
    ///
    /// # Errors
    /// It goes on.
    pub fn reset(&self) -> Result<(), Fault> {
        self.set_status(0);
        poll::sparsely(&self.hw, RESET_US, || (self.status() == 0).then_some(()))
            .ok_or(Fault::Silent)
    }

    /// Lets the device serve its queues.
    pub fn start(&self) {
        let features = match self.registers {
            Registers::Modern(_) => FEATURES_OK,
            Registers::Legacy { .. } => 0,
        };
        self.set_status(ACKNOWLEDGE | DRIVER | features | DRIVER_OK);
    }

    /// 32 bits of the device's own configuration, at `offset`, a multiple of four; zero beyond its end.
    pub fn config32(&self, offset: u16) -> u32 {
        match self.registers {
            Registers::Modern(places) if u64::from(offset) + 4 <= places.device_len => {
                self.hw.read32(places.device + u64::from(offset))
            }
            Registers::Modern(_) => 0,
            Registers::Legacy { port } => self.hw.in32(port + legacy::CONFIG + offset),
        }
    }

    /// Writes 32 bits of the device's own configuration, at `offset`, a multiple of four.
    pub fn set_config32(&self, offset: u16, value: u32) {
        match self.registers {
            Registers::Modern(places) if u64::from(offset) + 4 <= places.device_len => {
                self.hw.write32(places.device + u64::from(offset), value);
            }
            Registers::Modern(_) => {}
            Registers::Legacy { port } => self.hw.out32(port + legacy::CONFIG + offset, value),
        }
    }

    /// Sets up queue `index` of a device that has begun, with room for requests of `parts` parts. The address that comes with it is
    /// that of `own` bytes for the driver's own use, at a multiple of 64, which hold anything.
    ///
    /// # Errors
    /// There is no such queue, it is too small, or there is no memory for it.
    pub fn queue(&self, index: u16, parts: u16, own: usize) -> Result<(Queue<H>, u64), Fault> {
        let largest = self.select(index);
        let size = match self.registers {
            // Not smaller than a power of two that the requests fit in.
            Registers::Modern(_) => parts.next_power_of_two(),
            Registers::Legacy { .. } => largest,
        };
        if largest < parts || size > largest || !size.is_power_of_two() {
            return Err(Fault::Refused);
        }
        let align = match self.registers {
            Registers::Modern(_) => queue::MODERN_ALIGN,
            Registers::Legacy { .. } => queue::LEGACY_ALIGN,
        };
        let len = queue::len(size, align).next_multiple_of(OWN_ALIGN);
        let memory = self
            .hw
            .dma_buffer(len + own, align.max(OWN_ALIGN))
            .ok_or(Fault::NoMemory)?;
        self.hw.fill(memory, len as u64, 0);
        let mut queue = Queue::new(self.hw.clone(), index, size, memory, align);
        queue.notify = self.connect(&queue);
        Ok((queue, memory + len as u64))
    }

    /// Gives the device a queue again that it had before a reset.
    pub fn reconnect(&self, queue: &mut Queue<H>) {
        self.select(queue.index);
        queue.clear();
        queue.notify = self.connect(queue);
    }

    /// Makes the queue registers speak of queue `index`, and tells the largest size that it can have; 0 where there is none.
    fn select(&self, index: u16) -> u16 {
        match self.registers {
            Registers::Modern(places) => {
                self.hw.write16(places.common + common::QUEUE_SELECT, index);
                self.hw.read16(places.common + common::QUEUE_SIZE)
            }
            Registers::Legacy { port } => {
                self.hw.out16(port + legacy::QUEUE_SELECT, index);
                self.hw.in16(port + legacy::QUEUE_SIZE)
            }
        }
    }

    /// Tells the device where the selected queue is, and returns where it is notified.
    fn connect(&self, queue: &Queue<H>) -> Notify {
        match self.registers {
            Registers::Modern(places) => {
                let set64 = |register, value: u64| {
                    self.hw.write32(places.common + register, value as u32);
                    self.hw
                        .write32(places.common + register + 4, (value >> 32) as u32);
                };
                self.hw
                    .write16(places.common + common::QUEUE_SIZE, queue.size);
                set64(common::QUEUE_DESCRIPTORS, queue.descriptors);
                set64(common::QUEUE_AVAILABLE, queue.available);
                set64(common::QUEUE_USED, queue.used);
                let offset = self.hw.read16(places.common + common::QUEUE_NOTIFY);
                self.hw.write16(places.common + common::QUEUE_ENABLE, 1);
                Notify::Memory(places.notify_of(offset))
            }
            Registers::Legacy { port } => {
                self.hw
                    .out32(port + legacy::QUEUE_PAGE, (queue.descriptors >> 12) as u32);
                Notify::Port(port + legacy::QUEUE_NOTIFY)
            }
        }
    }
}

/// Where a device is told of a new request.
#[derive(Clone, Copy, Debug)]
enum Notify {
    Memory(u64),
    Port(u16),
}
