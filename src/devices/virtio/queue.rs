//! A split queue with one request at a time (VIRTIO 1.2, section 2.7).

use super::{Fault, Notify};
use crate::arch::Handle;
use crate::devices::poll;

/// Alignment of a queue's memory: descriptors take 16, the used ring of a legacy device a page.
pub const MODERN_ALIGN: usize = 16;
pub const LEGACY_ALIGN: usize = 4096;

/// Descriptor flags: another one follows; the device writes.
const NEXT: u16 = 1 << 0;
const WRITE: u16 = 1 << 1;
/// Flag of the available ring: no interrupts, please.
const NO_INTERRUPT: u16 = 1 << 0;

/// A stretch of memory that belongs to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Physical address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// The device writes it; else it reads it.
    pub written: bool,
}

/// A queue of a device.
#[derive(Debug)]
pub struct Queue<H> {
    hw: H,
    pub(super) index: u16,
    pub(super) size: u16,
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
    pub(super) notify: Notify,
    /// Requests made so far.
    made: u16,
}

fn used_offset(size: u16, align: usize) -> usize {
    let size = usize::from(size);
    (16 * size + 6 + 2 * size).next_multiple_of(align)
}

/// Bytes of a queue with `size` entries.
pub fn len(size: u16, align: usize) -> usize {
    used_offset(size, align) + 6 + 8 * usize::from(size)
}

impl<H: Handle> Queue<H> {
    /// A queue in `len(size, align)` zeroed bytes at `memory`.
    pub(super) fn new(hw: H, index: u16, size: u16, memory: u64, align: usize) -> Self {
        let queue = Self {
            hw,
            index,
            size,
            descriptors: memory,
            available: memory + 16 * u64::from(size),
            used: memory + used_offset(size, align) as u64,
            notify: Notify::Port(0),
            made: 0,
        };
        queue.hw.write16(queue.available, NO_INTERRUPT);
        queue
    }

    /// As new, for a device that was reset.
    pub(super) fn clear(&mut self) {
        self.made = 0;
        self.hw.write32(self.available, NO_INTERRUPT.into());
        self.hw.write32(self.used, 0);
    }

    /// Makes a request of `parts`, those that the device reads first, and waits for its end.
    ///
    /// # Errors
    /// [`Fault::Silent`] when the time is over, [`Fault::Nonsense`] when the device ends what was not asked. It has to be reset
    /// then.
    pub fn run(&mut self, parts: &[Part], timeout_us: u64) -> Result<(), Fault> {
        if parts.is_empty() || parts.len() > usize::from(self.size) {
            return Err(Fault::Refused);
        }
        for (part, number) in parts.iter().zip(0u16..) {
            let last = usize::from(number) + 1 == parts.len();
            let flags = if last { 0 } else { NEXT } | if part.written { WRITE } else { 0 };
            let at = self.descriptors + 16 * u64::from(number);
            self.hw.write64(at, part.addr);
            let rest = u64::from(part.len) | u64::from(flags) << 32 | u64::from(number + 1) << 48;
            self.hw.write64(at + 8, rest);
        }
        let slot = u64::from(self.made % self.size);
        self.hw.write16(self.available + 4 + 2 * slot, 0);
        let before = self.made;
        self.made = self.made.wrapping_add(1);
        self.hw.write16(self.available + 2, self.made);
        match self.notify {
            Notify::Memory(addr) => self.hw.write16(addr, self.index),
            Notify::Port(port) => self.hw.out16(port, self.index),
        }
        let ended = poll::sparsely(&self.hw, timeout_us, || {
            Some(self.hw.read16(self.used + 2)).filter(|&ended| ended != before)
        })
        .ok_or(Fault::Silent)?;
        let head = self.hw.read32(self.used + 4 + 8 * slot);
        if ended != self.made || head != 0 {
            return Err(Fault::Nonsense);
        }
        Ok(())
    }
}
