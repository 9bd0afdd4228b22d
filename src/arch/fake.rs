//! Hardware for host tests: memory that holds what is written, ports with a script, a clock that moves when asked.

use super::hw::{Clock, DmaMemory, Handle, PhysMem, Ports, RealMode, RealRegs};
use send_wrapper::SendWrapper;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;
use std::rc::Rc;

/// A device behind I/O ports.
pub trait FakeDevice {
    /// Answers a read of `size` bytes, if `port` is one of its own.
    fn read(&mut self, hw: &Fake, port: u16, size: u8) -> Option<u32>;
    /// Takes a write of `size` bytes, if `port` is one of its own.
    fn write(&mut self, hw: &Fake, port: u16, size: u8, value: u32);
    /// Answers a 32-bit read of memory, if `addr` is a register of its own.
    fn read_register(&mut self, _hw: &Fake, _addr: u64) -> Option<u32> {
        None
    }
    /// Takes a 32-bit write to memory, and says whether `addr` is a register of its own.
    fn write_register(&mut self, _hw: &Fake, _addr: u64, _value: u32) -> bool {
        false
    }
}

type OnInterrupts = Box<dyn Fn(&Fake)>;
type OnRom = Box<dyn Fn(&Fake)>;
type OnInt = Box<dyn Fn(&Fake, u8, &mut RealRegs)>;

/// A machine with sparse memory, which reads as zero where nothing was written. Clones are the same machine.
#[derive(Clone)]
pub struct Fake(SendWrapper<Rc<Parts>>);

impl Default for Fake {
    fn default() -> Self {
        Self(SendWrapper::new(Rc::default()))
    }
}

impl Deref for Fake {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Where tests find the memory that drivers took for their devices; it goes up from here.
pub const DMA_START: u64 = 0x700_0000;

/// What a [`Fake`] is made of.
#[derive(Default)]
pub struct Parts {
    memory: RefCell<BTreeMap<u64, u8>>,
    port_reads: RefCell<BTreeMap<u16, VecDeque<u32>>>,
    /// Every port write: port, value.
    pub port_writes: RefCell<Vec<(u16, u32)>>,
    /// Every call into real mode: vector (`None` for a far call), registers at the call.
    pub real_calls: RefCell<Vec<(Option<u8>, RealRegs)>>,
    time_us: Cell<u64>,
    devices: RefCell<Vec<Rc<RefCell<dyn FakeDevice>>>>,
    on_int: RefCell<Option<OnInt>>,
    on_rom: RefCell<Option<OnRom>>,
    /// Reads and writes of ports.
    pub port_accesses: Cell<u64>,
    dma_taken: Cell<u64>,
    on_interrupts: RefCell<Option<OnInterrupts>>,
    interrupts_allowed: Cell<bool>,
    /// The hypervisor, where there is one.
    #[cfg(feature = "xen")]
    pub xen: RefCell<Option<super::fake_xen::FakeXen>>,
}

impl Fake {
    /// Lets `port` answer `values`, one a read, the last one for ever. Ports without a script read as all ones.
    pub fn script_port(&self, port: u16, values: &[u32]) {
        self.port_reads
            .borrow_mut()
            .insert(port, values.iter().copied().collect());
    }

    /// Lets `handler` serve the interrupts that are raised in real mode.
    pub fn on_int(&self, handler: impl Fn(&Fake, u8, &mut RealRegs) + 'static) {
        *self.on_int.borrow_mut() = Some(Box::new(handler));
    }

    /// Lets `handler` be the option ROM that is called.
    pub fn on_rom(&self, handler: impl Fn(&Fake) + 'static) {
        *self.on_rom.borrow_mut() = Some(Box::new(handler));
    }

    /// Lets `handler` run where pending interrupts are served.
    pub fn on_interrupts(&self, handler: impl Fn(&Fake) + 'static) {
        *self.on_interrupts.borrow_mut() = Some(Box::new(handler));
    }

    /// Lets `device` answer its ports, before any script does.
    pub fn attach(&self, device: Rc<RefCell<dyn FakeDevice>>) {
        self.devices.borrow_mut().push(device);
    }

    fn port_out(&self, port: u16, size: u8, value: u32) {
        self.port_accesses.set(self.port_accesses.get() + 1);
        self.port_writes.borrow_mut().push((port, value));
        for device in self.devices.borrow().iter() {
            device.borrow_mut().write(self, port, size, value);
        }
    }

    fn port_in(&self, port: u16, size: u8) -> u32 {
        self.port_accesses.set(self.port_accesses.get() + 1);
        for device in self.devices.borrow().iter() {
            if let Some(value) = device.borrow_mut().read(self, port, size) {
                return value;
            }
        }
        match self.port_reads.borrow_mut().get_mut(&port) {
            Some(queue) if queue.len() > 1 => queue.pop_front().unwrap_or(u32::MAX),
            Some(queue) => queue.front().copied().unwrap_or(u32::MAX),
            None => u32::MAX,
        }
    }

    fn array<const N: usize>(&self, addr: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.read(addr, &mut bytes);
        bytes
    }
}

impl Ports for Fake {
    fn in8(&self, port: u16) -> u8 {
        self.port_in(port, 1) as u8
    }
    fn in16(&self, port: u16) -> u16 {
        self.port_in(port, 2) as u16
    }
    fn in32(&self, port: u16) -> u32 {
        self.port_in(port, 4)
    }
    fn out8(&self, port: u16, value: u8) {
        self.port_out(port, 1, value.into());
    }
    fn out16(&self, port: u16, value: u16) {
        self.port_out(port, 2, value.into());
    }
    fn out32(&self, port: u16, value: u32) {
        self.port_out(port, 4, value);
    }
}

impl PhysMem for Fake {
    fn read(&self, addr: u64, buf: &mut [u8]) {
        let memory = self.memory.borrow();
        for (i, byte) in buf.iter_mut().enumerate() {
            *byte = memory.get(&(addr + i as u64)).copied().unwrap_or(0);
        }
    }
    fn write(&self, addr: u64, data: &[u8]) {
        self.memory
            .borrow_mut()
            .extend((addr..).zip(data.iter().copied()));
    }
    fn fill(&self, addr: u64, len: u64, byte: u8) {
        self.memory
            .borrow_mut()
            .extend((addr..addr + len).map(|a| (a, byte)));
    }
    fn read32(&self, addr: u64) -> u32 {
        for device in self.devices.borrow().iter() {
            // A device that moves data is busy itself, and its own memory accesses are not for it.
            let answer = device.try_borrow_mut().ok();
            if let Some(value) = answer.and_then(|mut device| device.read_register(self, addr)) {
                return value;
            }
        }
        u32::from_le_bytes(self.array(addr))
    }
    fn write32(&self, addr: u64, value: u32) {
        for device in self.devices.borrow().iter() {
            let taken = device.try_borrow_mut().ok();
            if taken.is_some_and(|mut device| device.write_register(self, addr, value)) {
                return;
            }
        }
        self.write(addr, &value.to_le_bytes());
    }
}

impl Clock for Fake {
    fn now_us(&self) -> u64 {
        self.time_us.set(self.time_us.get() + 100);
        self.time_us.get()
    }
    fn relax(&self) {
        self.time_us.set(self.time_us.get() + 1);
    }
}

impl RealMode for Fake {
    fn call_rom(&self, regs: &mut RealRegs) {
        self.real_calls.borrow_mut().push((None, *regs));
        if let Some(handler) = &*self.on_rom.borrow() {
            handler(self);
        }
    }
    fn call_far_with(&self, regs: &mut RealRegs, _words: &[u16; 4]) {
        self.call_rom(regs);
    }
    fn call_int(&self, vector: u8, regs: &mut RealRegs) {
        self.real_calls.borrow_mut().push((Some(vector), *regs));
        if let Some(handler) = &*self.on_int.borrow() {
            handler(self, vector, regs);
        }
    }
    fn serve_interrupts(&self) {
        if self.allow_interrupts(false) {
            let handler = self.on_interrupts.borrow_mut().take();
            if let Some(handler) = handler {
                handler(self);
                *self.on_interrupts.borrow_mut() = Some(handler);
            }
            self.allow_interrupts(true);
        }
    }
    fn allow_interrupts(&self, allowed: bool) -> bool {
        self.interrupts_allowed.replace(allowed)
    }
}

impl Handle for Fake {
    #[cfg(feature = "xen")]
    type Xen = super::fake_xen::FakeXen;

    #[cfg(feature = "xen")]
    fn xen(&self) -> Option<Self::Xen> {
        self.xen.borrow().clone()
    }
}

impl DmaMemory for Fake {
    fn dma_buffer(&self, len: usize, align: usize) -> Option<u64> {
        let start = (DMA_START + self.dma_taken.get()).next_multiple_of(align as u64);
        self.dma_taken.set(start + len as u64 - DMA_START);
        Some(start)
    }
}
