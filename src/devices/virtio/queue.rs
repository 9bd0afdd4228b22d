//! A split queue whose requests all end before the next are made (VIRTIO 1.2, section 2.7).

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

/// Most requests that are under way at once.
pub const MOST_AT_ONCE: usize = 16;

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
    /// As for [`run_all`](Self::run_all).
    pub fn run(&mut self, parts: &[Part], timeout_us: u64) -> Result<(), Fault> {
        self.run_all(&[parts], timeout_us)
    }

    /// Makes several requests at once, with one notification, and waits for the end of all. At most [`MOST_AT_ONCE`].
    ///
    /// # Errors
    /// [`Fault::Silent`] when the time is over, [`Fault::Nonsense`] when the device ends what was not asked. It has to be reset
    /// then. [`Fault::Refused`] where the queue is too small.
    pub fn run_all(&mut self, requests: &[&[Part]], timeout_us: u64) -> Result<(), Fault> {
        let descriptors: usize = requests.iter().map(|parts| parts.len()).sum();
        let empty = requests.iter().any(|parts| parts.is_empty());
        if empty || descriptors > usize::from(self.size) || requests.len() > MOST_AT_ONCE {
            return Err(Fault::Refused);
        }
        let mut head = 0;
        for (number, parts) in (0..).zip(requests) {
            self.describe(head, parts);
            let slot = self.slot(self.made.wrapping_add(number));
            self.hw.write16(self.available + 4 + 2 * slot, head);
            head += parts.len() as u16;
        }
        let before = self.made;
        self.made = self.made.wrapping_add(requests.len() as u16);
        self.hw.write16(self.available + 2, self.made);
        match self.notify {
            Notify::Memory(addr) => self.hw.write16(addr, self.index),
            Notify::Port(port) => self.hw.out16(port, self.index),
        }
        let made = requests.len() as u16;
        let ended = poll::sparsely(&self.hw, timeout_us, || {
            let ended = self.hw.read16(self.used + 2).wrapping_sub(before);
            (ended >= made).then_some(ended)
        })
        .ok_or(Fault::Silent)?;
        if ended != made || !self.all_ended(before, requests) {
            return Err(Fault::Nonsense);
        }
        Ok(())
    }

    /// Where in a ring the request with this number is.
    fn slot(&self, number: u16) -> u64 {
        u64::from(number % self.size)
    }

    /// Describes a request by the descriptors from `head` on.
    fn describe(&self, head: u16, parts: &[Part]) {
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
    fn all_ended(&self, before: u16, requests: &[&[Part]]) -> bool {
        let mut ended = 0u64;
        for number in 0..requests.len() as u16 {
            let at = self.used + 4 + 8 * self.slot(before.wrapping_add(number));
            let id = self.hw.read32(at);
            let mut head = 0;
            let index = requests.iter().position(|parts| {
                let this = head;
                head += parts.len() as u32;
                this == id
            });
            match index {
                Some(index) if ended & 1 << index == 0 => ended |= 1 << index,
                _ => return false,
            }
        }
        true
    }
}
