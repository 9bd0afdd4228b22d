//! PCI functions for host tests: real header semantics behind ports CF8h/CFCh and, at [`MMCONFIG`], memory.

use std::cell::{Cell, RefCell};

use super::*;
use crate::devices::chipset::MMCONFIG;

/// A function: its registers, and which bits of them can be written.
#[derive(Clone)]
pub struct Function {
    pub parent: Option<usize>,
    pub slot: u8,
    pub function: u8,
    pub registers: [u8; 256],
    pub writable: [u8; 256],
}

impl Function {
    pub fn new(slot: u8, vendor: u16, device: u16, class: u32) -> Self {
        let mut new = Self {
            parent: None,
            slot,
            function: 0,
            registers: [0; 256],
            writable: [0; 256],
        };
        new.set(
            reg::ID,
            &(u32::from(device) << 16 | u32::from(vendor)).to_le_bytes(),
        );
        new.set(reg::CLASS, &(class << 8).to_le_bytes());
        new.allow(reg::COMMAND, &[0xff, 0x05]);
        new.allow(reg::INTERRUPT, &[0xff]);
        new
    }

    pub fn bridge(slot: u8) -> Self {
        let mut new = Self::new(slot, 0x1b36, 1, 0x06_0400);
        new.set(reg::HEADER + 2, &[1]);
        new.allow(reg::BUSES, &[0xff; 3]);
        new.allow(reg::IO_WINDOW, &[0xf0, 0xf0]);
        new.allow(reg::MEM_WINDOW, &[0xf0, 0xff, 0xf0, 0xff]);
        new.set(reg::PREF_WINDOW, &[1, 0, 1, 0]);
        new.allow(reg::PREF_WINDOW, &[0xf0, 0xff, 0xf0, 0xff]);
        new.allow(reg::PREF_BASE_HIGH, &[0xff; 8]);
        new.allow(reg::BRIDGE_CONTROL, &[0xff; 2]);
        new
    }

    /// `flags` are the BAR's low bits.
    pub fn bar(mut self, index: u16, size: u64, flags: u8) -> Self {
        let at = reg::BAR0 + 4 * index;
        self.set(at, &[flags]);
        let mask = !(size - 1);
        let width = if flags & 7 == 4 { 8 } else { 4 };
        self.allow(at, &mask.to_le_bytes()[..width]);
        self.writable[usize::from(at)] &= !(if flags & 1 != 0 { 3 } else { 0xf });
        self
    }

    pub fn rom(mut self, size: u32) -> Self {
        self.allow(reg::ROM, &(!(size - 1) | 1).to_le_bytes());
        self
    }

    pub fn pin(mut self, pin: u8) -> Self {
        self.set(reg::INTERRUPT + 1, &[pin]);
        self
    }

    pub fn behind(mut self, parent: usize) -> Self {
        self.parent = Some(parent);
        self
    }

    pub fn function(mut self, function: u8) -> Self {
        self.function = function;
        self
    }

    pub fn multifunction(mut self) -> Self {
        self.registers[usize::from(reg::HEADER + 2)] |= 0x80;
        self
    }

    pub fn set(&mut self, at: u16, bytes: &[u8]) {
        self.registers[at.into()..][..bytes.len()].copy_from_slice(bytes);
    }

    fn allow(&mut self, at: u16, mask: &[u8]) {
        self.writable[at.into()..][..mask.len()].copy_from_slice(mask);
    }
}

/// The machine.
#[derive(Default)]
pub struct FakePci {
    pub functions: RefCell<Vec<Function>>,
    /// Register accesses, ports and memory alike.
    pub accesses: Cell<usize>,
    /// Writes to ports other than configuration space.
    pub port_writes: RefCell<Vec<(u16, u32)>>,
    address: Cell<u32>,
}

impl FakePci {
    pub fn new(functions: Vec<Function>) -> Self {
        Self {
            functions: RefCell::new(functions),
            ..Self::default()
        }
    }

    /// The register of function `index`.
    pub fn register(&self, index: usize, at: u16) -> u32 {
        let at = usize::from(at);
        let functions = self.functions.borrow();
        u32::from_le_bytes(functions[index].registers[at..at + 4].try_into().unwrap())
    }

    /// The function that answers at `bdf`, given the bus numbers in the bridges.
    fn find(&self, bdf: Bdf) -> Option<usize> {
        let functions = self.functions.borrow();
        functions.iter().position(|f| {
            let bus = f
                .parent
                .map_or(0, |p| functions[p].registers[usize::from(reg::BUSES) + 1]);
            let reachable = f.parent.is_none() || bus != 0;
            reachable && Bdf::new(bus, f.slot, f.function) == bdf
        })
    }

    fn config_read(&self, bdf: Bdf, at: usize, bytes: &mut [u8]) {
        self.accesses.set(self.accesses.get() + 1);
        bytes.fill(0xff);
        if let Some(index) = self.find(bdf) {
            let function = &self.functions.borrow()[index];
            bytes.copy_from_slice(&function.registers[at..at + bytes.len()]);
        }
    }

    fn config_write(&self, bdf: Bdf, at: usize, bytes: &[u8]) {
        self.accesses.set(self.accesses.get() + 1);
        if let Some(index) = self.find(bdf) {
            let function = &mut self.functions.borrow_mut()[index];
            for (at, byte) in (at..).zip(bytes) {
                let mask = function.writable[at];
                function.registers[at] = function.registers[at] & !mask | byte & mask;
            }
        }
    }

    fn port_target(&self, port: u16) -> Option<(Bdf, usize)> {
        let address = self.address.get();
        let data = (PORT_DATA..PORT_DATA + 4).contains(&port) && address & ENABLE != 0;
        let at = (address & 0xfc) as usize + usize::from(port & 3);
        data.then_some((Bdf((address >> 8) as u16), at))
    }

    fn port_in<const N: usize>(&self, port: u16) -> [u8; N] {
        let mut bytes = [0xff; N];
        if let Some((bdf, at)) = self.port_target(port) {
            self.config_read(bdf, at, &mut bytes);
        }
        bytes
    }

    fn port_out(&self, port: u16, bytes: &[u8]) {
        match self.port_target(port) {
            Some((bdf, at)) => self.config_write(bdf, at, bytes),
            None => {
                let value = bytes.iter().rev().fold(0, |v, b| v << 8 | u32::from(*b));
                self.port_writes.borrow_mut().push((port, value));
            }
        }
    }
}

impl Ports for FakePci {
    fn in8(&self, port: u16) -> u8 {
        u8::from_le_bytes(self.port_in(port))
    }
    fn in16(&self, port: u16) -> u16 {
        u16::from_le_bytes(self.port_in(port))
    }
    fn in32(&self, port: u16) -> u32 {
        u32::from_le_bytes(self.port_in(port))
    }
    fn out8(&self, port: u16, value: u8) {
        self.port_out(port, &value.to_le_bytes());
    }
    fn out16(&self, port: u16, value: u16) {
        self.port_out(port, &value.to_le_bytes());
    }
    fn out32(&self, port: u16, value: u32) {
        if port == PORT_ADDRESS {
            self.accesses.set(self.accesses.get() + 1);
            self.address.set(value);
        } else {
            self.port_out(port, &value.to_le_bytes());
        }
    }
}

impl PhysMem for FakePci {
    fn read(&self, addr: u64, buf: &mut [u8]) {
        assert!(MMCONFIG.contains(&addr), "read at {addr:#x}");
        let offset = addr - MMCONFIG.start;
        assert!(offset & 0xfff < 0x100, "extended register");
        self.config_read(Bdf((offset >> 12) as u16), (offset & 0xff) as usize, buf);
    }
    fn write(&self, addr: u64, data: &[u8]) {
        assert!(MMCONFIG.contains(&addr), "write at {addr:#x}");
        let offset = addr - MMCONFIG.start;
        self.config_write(Bdf((offset >> 12) as u16), (offset & 0xff) as usize, data);
    }
    fn fill(&self, _: u64, _: u64, _: u8) {
        panic!("PCI set-up moves no blocks of memory")
    }
    fn copy(&self, _: u64, _: u64, _: u64) {
        panic!("PCI set-up moves no blocks of memory")
    }
}
