//! The ring by which requests go to the back end and answers come back, in one page (public header io/ring.h, and the layout of
//! io/blkif.h for 64-bit x86).

use crate::arch::PhysMem;
use crate::units::PAGE;

/// Indices: of requests and answers that were made, and from which of them on the other side wants to be told.
const REQUESTS: u64 = 0;
const REQUEST_EVENT: u64 = 4;
const ANSWERS: u64 = 8;
const ANSWER_EVENT: u64 = 12;
/// Where the slots begin, and how long one is.
const SLOTS: u64 = 64;
const SLOT_LEN: u64 = 112;
/// Number of slots: the largest power of two that the page has room for.
pub const LEN: u32 = 32;

/// Most segments in a request itself.
pub const DIRECT_SEGMENTS: u32 = 11;
/// Bytes of a segment, in a request or in the page of an indirect one.
const SEGMENT_LEN: u64 = 8;
/// The request whose segments are in a page of their own.
const INDIRECT: u8 = 6;

/// Sectors of 512 bytes in a page that another domain may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The page's number in the grant table.
    pub reference: u32,
    /// How many sectors, from the page's first one on; 1 to 8.
    pub sectors: u8,
}

impl Segment {
    fn write(self, hw: &impl PhysMem, at: u64) {
        hw.write32(at, self.reference);
        hw.write32(at + 4, u32::from(self.sectors - 1) << 8);
    }
}

/// A page for the segments of a request that has more of them than fit into itself.
#[derive(Clone, Copy, Debug)]
pub struct Indirect {
    /// Its physical address.
    pub page: u64,
    /// Its number in the grant table.
    pub reference: u32,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// What to do.
    pub operation: u8,
    /// Which virtual device, as the back end counts.
    pub handle: u16,
    /// First sector, in units of 512 bytes.
    pub sector: u64,
}

/// What the back end answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The request's number.
    pub id: u64,
    /// Zero where it was carried out.
    pub status: i16,
}

/// The other side's index makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonsense;

/// The ring, as the one who makes requests has it.
#[derive(Debug)]
pub struct Ring<H> {
    hw: H,
    page: u64,
    made: u32,
    seen: u32,
}

impl<H: PhysMem> Ring<H> {
    /// An empty ring in the page at physical address `page`.
    pub fn new(hw: H, page: u64) -> Self {
        hw.fill(page, PAGE, 0);
        hw.write32(page + REQUEST_EVENT, 1);
        // Nobody wants to be told of answers: they are looked for.
        hw.write32(page + ANSWER_EVENT, 0);
        Self {
            hw,
            page,
            made: 0,
            seen: 0,
        }
    }

    fn slot(&self, index: u32) -> u64 {
        self.page + SLOTS + u64::from(index % LEN) * SLOT_LEN
    }

    /// Puts a request into the next slot, with at most [`DIRECT_SEGMENTS`] segments, or with those that go into `indirect`. Returns
    /// its number. The other side does not see it before [`publish`](Self::publish), and no more than [`LEN`] may be unanswered.
    pub fn push(
        &mut self,
        request: Request,
        indirect: Option<Indirect>,
        segments: impl ExactSizeIterator<Item = Segment>,
    ) -> u64 {
        let (hw, slot) = (&self.hw, self.slot(self.made));
        let id = u64::from(self.made % LEN);
        let count = segments.len() as u16;
        let list = match indirect {
            None => {
                hw.write8(slot, request.operation);
                hw.write8(slot + 1, count as u8);
                hw.write16(slot + 2, request.handle);
                slot + 24
            }
            Some(indirect) => {
                hw.write8(slot, INDIRECT);
                hw.write8(slot + 1, request.operation);
                hw.write16(slot + 2, count);
                hw.write16(slot + 24, request.handle);
                hw.write32(slot + 28, indirect.reference);
                indirect.page
            }
        };
        hw.write64(slot + 8, id);
        hw.write64(slot + 16, request.sector);
        for (index, segment) in (0..).zip(segments) {
            segment.write(hw, list + index * SEGMENT_LEN);
        }
        self.made = self.made.wrapping_add(1);
        id
    }

    /// Lets the other side see the requests.
    pub fn publish(&self) {
        self.hw.write32(self.page + REQUESTS, self.made);
    }

    /// The next answer, if it has come.
    ///
    /// # Errors
    /// There would be more answers than requests.
    pub fn answer(&mut self) -> Result<Option<Answer>, Nonsense> {
        let ready = self.hw.read32(self.page + ANSWERS).wrapping_sub(self.seen);
        if ready > self.made.wrapping_sub(self.seen) {
            return Err(Nonsense);
        }
        if ready == 0 {
            return Ok(None);
        }
        let slot = self.slot(self.seen);
        self.seen = self.seen.wrapping_add(1);
        Ok(Some(Answer {
            id: self.hw.read64(slot),
            status: self.hw.read16(slot + 10) as i16,
        }))
    }
}
