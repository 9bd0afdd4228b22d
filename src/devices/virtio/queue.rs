//! A split queue whose requests all end before the next are made (VIRTIO 1.2, section 2.7).

use super::{Fault, Notify};
use crate::arch::Handle;
use crate::devices::poll;
use alloc::vec::Vec;

/// Alignment of a queue's memory: descriptors take 16, the used ring of a legacy device a page.
pub const MODERN_ALIGN: usize = 16;
pub const LEGACY_ALIGN: usize = 4096;

/// Descriptor flags: another one follows; the device writes.
const NEXT: u16 = 1 << 0;
const WRITE: u16 = 1 << 1;
/// Flag of the available ring: no interrupts, please.
const NO_INTERRUPT: u16 = 1 << 0;

/// Most requests that are under way at once: of three parts each they fit in a queue of 128 descriptors, which older machines of
/// QEMU have.
pub const MOST_AT_ONCE: usize = 42;

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
    /// As for [`run_described`](Self::run_described), or [`Fault::Refused`] where the queue is too small.
    pub fn run(&mut self, parts: &[Part], timeout_us: u64) -> Result<(), Fault> {
        if parts.is_empty() || parts.len() > usize::from(self.size) {
            return Err(Fault::Refused);
        }
        self.describe_at(0, parts);
        self.run_described(&[0], timeout_us)
    }

    /// Describes requests, at most [`MOST_AT_ONCE`], and tells the first descriptor of each.
    ///
    /// # Errors
    /// [`Fault::Refused`] where the queue is too small.
    pub fn describe(&mut self, requests: &[&[Part]]) -> Result<Vec<u16>, Fault> {
        let descriptors: usize = requests.iter().map(|parts| parts.len()).sum();
        let empty = requests.iter().any(|parts| parts.is_empty());
        if empty || descriptors > usize::from(self.size) || requests.len() > MOST_AT_ONCE {
            return Err(Fault::Refused);
        }
        let mut next = 0;
        let mut heads = Vec::with_capacity(requests.len());
        for parts in requests {
            self.describe_at(next, parts);
            heads.push(next);
            next += parts.len() as u16;
        }
        Ok(heads)
    }

    /// Makes the requests whose descriptors start at `heads`, with one notification, and waits for the end of all. They may be made
    /// again and again.
    ///
    /// # Errors
    /// [`Fault::Silent`] when the time is over, [`Fault::Nonsense`] when the device ends what was not asked. It has to be reset
    /// then.
    pub fn run_described(&mut self, heads: &[u16], timeout_us: u64) -> Result<(), Fault> {
        let before = self.made;
        for &head in heads {
            let slot = self.slot(self.made);
            self.hw.write16(self.available + 4 + 2 * slot, head);
            self.made = self.made.wrapping_add(1);
        }
        self.hw.write16(self.available + 2, self.made);
        match self.notify {
            Notify::Memory(addr) => self.hw.write16(addr, self.index),
            Notify::Port(port) => self.hw.out16(port, self.index),
        }
        let made = heads.len() as u16;
        let ended = poll::sparsely(&self.hw, timeout_us, || {
            let ended = self.hw.read16(self.used + 2).wrapping_sub(before);
            (ended >= made).then_some(ended)
        })
        .ok_or(Fault::Silent)?;
        if ended != made || !self.all_ended(before, heads) {
            return Err(Fault::Nonsense);
        }
        Ok(())
    }

    /// Where in a ring the request with this number is.
    fn slot(&self, number: u16) -> u64 {
        u64::from(number % self.size)
    }

    /// Describes a request by the descriptors from `head` on.
    fn describe_at(&self, head: u16, parts: &[Part]) {
        for (part, number) in parts.iter().zip(head..) {
            let last = usize::from(number - head) + 1 == parts.len();
            let flags = if last { 0 } else { NEXT } | if part.written { WRITE } else { 0 };
            let at = self.descriptors + 16 * u64::from(number);
            self.hw.write64(at, part.addr);
            let rest = u64::from(part.len) | u64::from(flags) << 32 | u64::from(number + 1) << 48;
            self.hw.write64(at + 8, rest);
        }
    }

    /// Whether the used ring has each of the requests once, in whatever order, since there were `before`.
    fn all_ended(&self, before: u16, heads: &[u16]) -> bool {
        let ended_at = |number: usize| {
            let slot = self.slot(before.wrapping_add(number as u16));
            self.hw.read32(self.used + 4 + 8 * slot)
        };
        // Most devices end them in order.
        let in_order = (heads.iter().enumerate())
            .take_while(|&(number, &head)| ended_at(number) == u32::from(head))
            .count();
        let mut ended = (1u64 << in_order) - 1;
        for number in in_order..heads.len() {
            let id = ended_at(number);
            match heads.iter().position(|&head| u32::from(head) == id) {
                Some(index) if ended & 1 << index == 0 => ended |= 1 << index,
                _ => return false,
            }
        }
        true
    }
}
