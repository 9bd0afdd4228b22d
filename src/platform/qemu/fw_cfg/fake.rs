//! A fw_cfg device for host tests. Physical addresses are the test's own pointers, as in the identity-mapped firmware.

use core::ptr::with_exposed_provenance_mut;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::*;

/// The device: items by key, and a log of what it was asked.
#[derive(Default)]
pub struct FakeFwCfg {
    pub items: RefCell<BTreeMap<u16, Vec<u8>>>,
    pub dma: bool,
    /// There is no device at all.
    pub absent: bool,
    /// Commands never finish.
    pub stuck: bool,
    pub accesses: Cell<usize>,
    high: Cell<u32>,
    selected: Cell<u16>,
    offset: Cell<usize>,
    time: Cell<u64>,
    cmos_index: Cell<u8>,
    pub cmos: BTreeMap<u8, u8>,
}

impl FakeFwCfg {
    pub fn new(files: &[(&str, &[u8])]) -> Self {
        let fake = Self {
            dma: true,
            ..Self::default()
        };
        let mut directory = (files.len() as u32).to_be_bytes().to_vec();
        for (index, (name, content)) in files.iter().enumerate() {
            let key = 0x20 + index as u16;
            directory.extend((content.len() as u32).to_be_bytes());
            directory.extend(key.to_be_bytes());
            directory.extend([0; 2]);
            let mut field = [0; NAME_SIZE];
            field[..name.len()].copy_from_slice(name.as_bytes());
            directory.extend(field);
            fake.items.borrow_mut().insert(key, content.to_vec());
        }
        fake.items.borrow_mut().insert(key::FILE_DIR, directory);
        fake.item(key::SIGNATURE, b"QEMU")
    }

    pub fn item(self, key: u16, bytes: &[u8]) -> Self {
        self.items.borrow_mut().insert(key, bytes.to_vec());
        self
    }

    fn run(&self, at: u64) {
        let control = u32::from_be(self.read32(at));
        let len = u32::from_be(self.read32(at + 4)) as usize;
        let addr = u64::from_be(self.read64(at + 8));
        if control & CONTROL_SELECT != 0 {
            self.selected.set((control >> 16) as u16);
            self.offset.set(0);
        }
        let mut items = self.items.borrow_mut();
        let item = items.entry(self.selected.get()).or_default();
        let start = self.offset.get();
        let mut status = 0u32;
        if control & CONTROL_READ != 0 {
            let data: Vec<u8> = (start..start + len)
                .map(|i| item.get(i).copied().unwrap_or(0))
                .collect();
            self.write(addr, &data);
        } else if control & CONTROL_WRITE != 0 {
            match item.get_mut(start..start + len) {
                Some(part) => self.read(addr, part),
                None => status = CONTROL_ERROR,
            }
        }
        self.offset.set(start + len);
        if !self.stuck {
            self.write32(at, status.to_be());
        }
    }

    fn count(&self) {
        self.accesses.set(self.accesses.get() + 1);
    }
}

impl Ports for FakeFwCfg {
    fn in8(&self, port: u16) -> u8 {
        self.count();
        match port {
            PORT_DATA if !self.absent => {
                let at = self.offset.replace(self.offset.get() + 1);
                let items = self.items.borrow();
                let item = items.get(&self.selected.get());
                item.and_then(|item| item.get(at)).copied().unwrap_or(0)
            }
            0x71 => self.cmos.get(&self.cmos_index.get()).copied().unwrap_or(0),
            _ => 0xff,
        }
    }
    fn in16(&self, _: u16) -> u16 {
        self.count();
        0xffff
    }
    fn in32(&self, port: u16) -> u32 {
        self.count();
        match port {
            PORT_DMA_HIGH if self.dma => u32::from_le_bytes(*b"QEMU"),
            PORT_DMA_LOW if self.dma => u32::from_le_bytes(*b" CFG"),
            _ => u32::MAX,
        }
    }
    fn out8(&self, port: u16, value: u8) {
        self.count();
        if port == 0x70 {
            self.cmos_index.set(value & 0x7f);
        }
    }
    fn out16(&self, port: u16, value: u16) {
        self.count();
        if port == PORT_SELECT {
            self.selected.set(value);
            self.offset.set(0);
        }
    }
    fn out32(&self, port: u16, value: u32) {
        self.count();
        match port {
            PORT_DMA_HIGH => self.high.set(value.to_be()),
            PORT_DMA_LOW => {
                let high = self.high.replace(0);
                self.run(u64::from(high) << 32 | u64::from(value.to_be()));
            }
            _ => {}
        }
    }
}

impl PhysMem for FakeFwCfg {
    fn read(&self, addr: u64, buf: &mut [u8]) {
        let from = with_exposed_provenance_mut::<u8>(addr as usize);
        // SAFETY: the tests hand out only addresses of their own live, exposed buffers of at least this length.
        unsafe { core::ptr::copy(from, buf.as_mut_ptr(), buf.len()) }
    }
    fn write(&self, addr: u64, data: &[u8]) {
        let to = with_exposed_provenance_mut::<u8>(addr as usize);
        // SAFETY: as in `read`.
        unsafe { core::ptr::copy(data.as_ptr(), to, data.len()) }
    }
}

impl Clock for FakeFwCfg {
    fn now_us(&self) -> u64 {
        self.time.set(self.time.get() + 100_000);
        self.time.get()
    }
}
