//! What is read, and how much of it.

use crate::bytes::buffer;
use crate::error::{Error, Result};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// Bytes that can be read at any place: an image, a block device, a file in a file system.
pub trait ReadAt {
    /// The size in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] where that ends beyond the size, [`Error::Io`] where the device fails.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// The size of a logical sector in bytes, where a device says one; an image does not.
    fn sector_size(&self) -> Option<u32> {
        None
    }

    /// Where the `len` bytes from `offset` on lie on the image or device of the host that all is read from, if they are in a row there.
    fn place(&self, _offset: u64, _len: u64) -> Option<u64> {
        None
    }
}

impl ReadAt for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let start = usize::try_from(offset).map_err(|_| Error::OutOfRange)?;
        let end = start.checked_add(buffer.len()).ok_or(Error::OutOfRange)?;
        buffer.copy_from_slice(self.get(start..end).ok_or(Error::OutOfRange)?);
        Ok(())
    }

    fn place(&self, offset: u64, _len: u64) -> Option<u64> {
        Some(offset)
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        self.as_slice().size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.as_slice().read_at(offset, buffer)
    }

    fn place(&self, offset: u64, len: u64) -> Option<u64> {
        self.as_slice().place(offset, len)
    }
}

/// How much reading a disk may cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that are read or, from holes and compressed data, made.
    pub bytes: u64,
    /// Reads, directory entries, nodes of trees and the like: each is one step.
    pub steps: u64,
}

/// What is left of [`Limits`]. All sources that come from one share it.
#[derive(Debug)]
pub struct Budget {
    bytes: Cell<u64>,
    steps: Cell<u64>,
}

impl Budget {
    /// A fresh budget.
    pub fn new(limits: Limits) -> Rc<Self> {
        Rc::new(Self {
            bytes: Cell::new(limits.bytes),
            steps: Cell::new(limits.steps),
        })
    }

    /// Sets it anew, as for the next file.
    pub fn refill(&self, limits: Limits) {
        self.bytes.set(limits.bytes);
        self.steps.set(limits.steps);
    }

    /// What is left.
    pub fn left(&self) -> Limits {
        Limits {
            bytes: self.bytes.get(),
            steps: self.steps.get(),
        }
    }

    /// Charges one step and `bytes`.
    ///
    /// # Errors
    /// [`Error::Budget`] if that is more than is left; the rest then counts as spent.
    pub fn charge(&self, bytes: u64) -> Result<()> {
        let left = (
            self.bytes.get().checked_sub(bytes),
            self.steps.get().checked_sub(1),
        );
        let (Some(bytes), Some(steps)) = left else {
            self.refill(Limits { bytes: 0, steps: 0 });
            return Err(Error::Budget);
        };
        self.bytes.set(bytes);
        self.steps.set(steps);
        Ok(())
    }
}

/// Bytes in one page of the cache.
const PAGE: usize = 4096;
/// Pages in the cache, 1 MiB together.
const PAGES: usize = 256;

/// A page's number and bytes.
type Page = (u64, Box<[u8]>);

/// A disk with the pages last read from it. Small structures are read from a page, so that a tree's nodes cost one read each.
struct Cached {
    data: Rc<dyn ReadAt>,
    size: u64,
    pages: RefCell<Vec<Option<Page>>>,
}

impl Cached {
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        if out.len() > PAGE {
            return self.data.read_at(offset, out);
        }
        let mut done = 0;
        while done < out.len() {
            let at = offset + done as u64;
            let within = (at % PAGE as u64) as usize;
            let count = (PAGE - within).min(out.len() - done);
            self.with_page(at / PAGE as u64, |page| {
                let bytes = page.get(within..within + count).ok_or(Error::OutOfRange)?;
                out[done..done + count].copy_from_slice(bytes);
                Ok(())
            })?;
            done += count;
        }
        Ok(())
    }

    fn with_page(&self, number: u64, take: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        let mut pages = self.pages.borrow_mut();
        if pages.is_empty() {
            pages.try_reserve_exact(PAGES).map_err(|_| Error::Memory)?;
            pages.resize_with(PAGES, || None);
        }
        let slot = &mut pages[(number % PAGES as u64) as usize];
        if let Some((held, page)) = slot
            && *held == number
        {
            return take(page);
        }
        let start = number * PAGE as u64;
        let len = self.size.saturating_sub(start).min(PAGE as u64) as usize;
        let mut page = buffer(len)?;
        self.data.read_at(start, &mut page)?;
        let (_, page) = slot.insert((number, page.into_boxed_slice()));
        take(page)
    }
}

/// A disk or a part of it, with the budget for reading it.
#[derive(Clone)]
pub struct Source {
    disk: Rc<Cached>,
    start: u64,
    size: u64,
    budget: Rc<Budget>,
}

impl Source {
    /// All of `data`.
    pub fn new(data: Rc<dyn ReadAt>, budget: Rc<Budget>) -> Self {
        let size = data.size();
        Self {
            disk: Rc::new(Cached {
                data,
                size,
                pages: RefCell::default(),
            }),
            start: 0,
            size,
            budget,
        }
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The size of a logical sector in bytes, where the device says one.
    pub fn sector_size(&self) -> Option<u32> {
        self.disk.data.sector_size()
    }

    /// The budget that reads are charged to.
    pub fn budget(&self) -> &Rc<Budget> {
        &self.budget
    }

    /// The part from `start` on, of at most `size` bytes: a partition that ends beyond its disk is cut.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if it begins beyond the end.
    pub fn part(&self, start: u64, size: u64) -> Result<Self> {
        let rest = self.size.checked_sub(start).ok_or(Error::OutOfRange)?;
        Ok(Self {
            start: self.start + start,
            size: size.min(rest),
            ..self.clone()
        })
    }

    /// Fills `buffer` from `offset` on, and charges for it.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Io`] and [`Error::Budget`].
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.budget.charge(buffer.len() as u64)?;
        self.read_free(offset, buffer)
    }

    /// `N` bytes from `offset` on.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn array<const N: usize>(&self, offset: u64) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// `len` bytes from `offset` on, a length that the caller has bounded.
    pub(crate) fn bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        if len as u64 > self.size {
            return Err(Error::OutOfRange);
        }
        let mut bytes = buffer(len)?;
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// As [`read`](Self::read), for what was charged already.
    pub(crate) fn read_free(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(Error::OutOfRange);
        }
        self.disk.read(self.start + offset, buffer)
    }

    /// Charges one step.
    pub(crate) fn step(&self) -> Result<()> {
        self.budget.charge(0)
    }
}

impl ReadAt for Source {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.read(offset, buffer)
    }

    fn sector_size(&self) -> Option<u32> {
        Source::sector_size(self)
    }

    fn place(&self, offset: u64, len: u64) -> Option<u64> {
        let end = offset.checked_add(len)?;
        let within = end <= self.size;
        within.then(|| self.disk.data.place(self.start + offset, len))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn source(size: usize, limits: Limits) -> Source {
        let bytes: Vec<u8> = (0..size).map(|at| (at / 7) as u8).collect();
        Source::new(Rc::new(bytes), Budget::new(limits))
    }

    const PLENTY: Limits = Limits {
        bytes: 1 << 20,
        steps: 1000,
    };

    #[test]
    fn reads_across_pages_and_at_the_end_are_exact() {
        let source = source(3 * PAGE + 100, PLENTY);
        for (offset, len) in [
            (0, 10),
            (PAGE - 3, 7),
            (PAGE, PAGE),
            (3 * PAGE, 100),
            (5, 2 * PAGE + 1),
        ] {
            let expected: Vec<u8> = (offset..offset + len).map(|at| (at / 7) as u8).collect();
            assert_eq!(source.bytes(offset as u64, len), Ok(expected));
        }
        let beyond = source.bytes(3 * PAGE as u64, 101);
        assert_eq!(beyond, Err(Error::OutOfRange));
        assert_eq!(source.bytes(u64::MAX, 1), Err(Error::OutOfRange));
    }

    #[test]
    fn a_part_ends_with_its_disk() {
        let part = source(1000, PLENTY)
            .part(900, u64::MAX)
            .expect("within the disk");
        assert_eq!(part.size(), 100);
        assert_eq!(part.bytes(0, 1), Ok(vec![(900 / 7) as u8]));
        assert!(part.part(101, 1).is_err());
    }

    #[test]
    fn a_spent_budget_stays_spent() {
        let source = source(
            1000,
            Limits {
                bytes: 600,
                ..PLENTY
            },
        );
        assert!(source.bytes(0, 500).is_ok());
        assert_eq!(source.bytes(0, 101), Err(Error::Budget));
        assert_eq!(source.bytes(0, 1), Err(Error::Budget));
        source.budget().refill(PLENTY);
        assert!(source.bytes(0, 1).is_ok());
    }
}
