//! A virtio device for host tests: legacy ports, and what a test makes of each request.

use super::{VENDOR, legacy};
use crate::arch::PhysMem;
use crate::arch::fake::{Fake, FakeDevice};
use crate::devices::pci::{Bar, BarKind, Bdf, PciDevice};
use std::cell::RefCell;
use std::rc::Rc;

/// The port from which its registers are.
pub const PORT: u16 = 0xc000;
const SIZE: u16 = 128;

/// What a device does with a request: the parts as (address, length, written), and what happens to the used ring.
pub type Serve = Box<dyn FnMut(&Fake, &[(u64, u32, bool)]) -> Ending>;

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As it should.
    Well,
    /// Never.
    Never,
    /// With the used index this far on.
    Jumped(u16),
    /// With another request's number.
    Another(u32),
}

/// The device.
pub struct FakeVirtio {
    /// Features that it offers, and those that the driver took.
    pub features: (u32, u32),
    /// Its own configuration.
    pub config: Vec<u32>,
    /// Requests served, and resets.
    pub counts: (u32, u32),
    /// Queues by number: page and available index.
    queues: [(u64, u16); 4],
    selected: usize,
    status: u8,
    serve: Serve,
}

impl FakeVirtio {
    /// Attaches a device to `hw` at [`PORT`].
    pub fn attach(hw: &Fake, features: u32, config: &[u32], serve: Serve) -> Rc<RefCell<Self>> {
        let device = Rc::new(RefCell::new(Self {
            features: (features, 0),
            config: config.into(),
            counts: (0, 0),
            queues: [(0, 0); 4],
            selected: 0,
            status: 0,
            serve,
        }));
        hw.attach(device.clone());
        device
    }

    fn notified(&mut self, hw: &Fake, queue: usize) {
        let descriptors = self.queues[queue].0 << 12;
        let available = descriptors + 16 * u64::from(SIZE);
        assert_eq!(self.status, 7, "a request before DRIVER_OK");
        let requests = hw.read16(available + 2).wrapping_sub(self.queues[queue].1);
        assert!((1..=SIZE).contains(&requests));
        for _ in 0..requests {
            self.serve_next(hw, queue);
        }
    }

    fn serve_next(&mut self, hw: &Fake, queue: usize) {
        let (page, seen) = self.queues[queue];
        let descriptors = page << 12;
        let available = descriptors + 16 * u64::from(SIZE);
        let used =
            descriptors + (16 * u64::from(SIZE) + 6 + 2 * u64::from(SIZE)).next_multiple_of(4096);
        let mut at = hw.read16(available + 4 + 2 * u64::from(seen % SIZE));
        let head = at;
        let mut parts = Vec::new();
        loop {
            let entry = descriptors + 16 * u64::from(at);
            let flags = hw.read16(entry + 12);
            parts.push((hw.read64(entry), hw.read32(entry + 8), flags & 2 != 0));
            if flags & 1 == 0 {
                break;
            }
            at = hw.read16(entry + 14);
        }
        self.counts.0 += 1;
        self.queues[queue].1 = seen.wrapping_add(1);
        let (index, id) = match (self.serve)(hw, &parts) {
            Ending::Well => (seen.wrapping_add(1), head.into()),
            Ending::Never => return,
            Ending::Jumped(by) => (seen.wrapping_add(by), head.into()),
            Ending::Another(id) => (seen.wrapping_add(1), id),
        };
        hw.write(used + 4 + 8 * u64::from(seen % SIZE), &id.to_le_bytes());
        hw.write16(used + 2, index);
    }
}

impl FakeDevice for FakeVirtio {
    fn read(&mut self, _: &Fake, port: u16, _: u8) -> Option<u32> {
        let offset = port.checked_sub(PORT).filter(|&offset| offset < 0x80)?;
        Some(match offset {
            legacy::DEVICE_FEATURES => self.features.0,
            legacy::QUEUE_SIZE => SIZE.into(),
            legacy::STATUS => self.status.into(),
            legacy::CONFIG.. => {
                let index = usize::from(offset - legacy::CONFIG) / 4;
                self.config.get(index).copied().unwrap_or(0)
            }
            _ => 0,
        })
    }

    fn write(&mut self, hw: &Fake, port: u16, _: u8, value: u32) {
        match port.wrapping_sub(PORT) {
            legacy::DRIVER_FEATURES => self.features.1 = value,
            legacy::QUEUE_PAGE => self.queues[self.selected] = (value.into(), 0),
            legacy::QUEUE_SELECT => self.selected = value as usize,
            legacy::QUEUE_NOTIFY => self.notified(hw, value as usize),
            legacy::STATUS => {
                self.status = value as u8;
                if value == 0 {
                    self.counts.1 += 1;
                    self.queues = [(0, 0); 4];
                }
            }
            _ => {}
        }
    }
}

/// The PCI function of a legacy device with this device ID.
pub fn function(device: u16) -> PciDevice {
    let function = PciDevice {
        class: 0x01_0000,
        pin: 1,
        irq: Some(11),
        ..PciDevice::new(Bdf::new(0, 4, 0), VENDOR, device)
    };
    function.with_bar(
        0,
        Bar {
            kind: BarKind::Io,
            prefetchable: false,
            size: 0x80,
            address: Some(PORT.into()),
        },
    )
}
