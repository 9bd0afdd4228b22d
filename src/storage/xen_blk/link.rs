//! The connection with a back end: made, used and closed again.

use super::ahead::Ahead;
use super::ring::{DIRECT_SEGMENTS, Indirect, Request, Ring, Segment};
use crate::arch::hypercalls::Hypercalls;
use crate::arch::{Handle, room_for};
use crate::devices::poll;
use crate::devices::xen::bus::{Frontend, State};
use crate::devices::xen::grants::{ENTRIES, Grants};
use crate::storage::{self, Op};
use crate::units::PAGE;
use alloc::format;
use alloc::string::String;
use core::ops::Range;

/// Pages for data: 64 KiB, as much as most callers of INT 13h ask for at once. The first disk, from which a kernel comes as a rule, has
/// more of them, for what is read ahead.
const DATA_PAGES: u32 = 16;
const FIRST_DATA_PAGES: u32 = 128;
/// Pages that the back end may use beside those: the ring, the segments of indirect requests.
const CONTROL_PAGES: u32 = 2;
/// Memory that there has to be for what comes after a device.
const ROOM: usize = 160 << 10;
/// Most bytes of a transfer.
pub const MOST_BYTES: u32 = DATA_PAGES * PAGE as u32;
/// Entries at the beginning of the grant table that are left alone: what the guest's own driver gives away first, and the toolstack's.
const OTHERS: u32 = 32;
/// Where the first device's numbers begin, which are the last ones of the grant table's first page.
const FIRST_REFERENCE: u32 = ENTRIES - CONTROL_PAGES - FIRST_DATA_PAGES;
/// Most devices: each has numbers of its own, before those of the one before it.
pub const MOST_DEVICES: u32 = 1 + (FIRST_REFERENCE - OTHERS) / (CONTROL_PAGES + DATA_PAGES);

/// The unit of sectors, whatever the size of the device's own is.
const UNIT: u32 = 512;
const UNITS_PER_PAGE: u32 = PAGE as u32 / UNIT;

/// Operations.
const READ: u8 = 0;
const WRITE: u8 = 1;
const BARRIER: u8 = 2;
const FLUSH: u8 = 3;
/// Status: the operation is not known.
const NOT_SUPPORTED: i16 = -2;
/// Bit of `info`: the device cannot be written.
const INFO_READ_ONLY: u32 = 1 << 2;

/// How long xenstore may take for an answer, and the back end for a step towards us and away from us.
const STORE_US: u64 = 2_000_000;
const CONNECT_US: u64 = 3_000_000;
/// A guest's driver that finds a device half closed has to be patient, too.
pub const CLOSE_US: u64 = 5_000_000;
/// The same for one that was silent before.
pub const CLOSE_SILENT_US: u64 = 1_000_000;

/// A virtual block device that we may connect to.
pub struct Vbd<H: Handle> {
    hw: H,
    xen: H::Xen,
    path: String,
    number: u32,
    shared: Shared,
}

/// The pages that the back end may use: the ring, the segments of indirect requests, data.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    /// The first one's physical address, and its number in the grant table.
    start: u64,
    first_reference: u32,
    /// How many are for data.
    data_pages: u32,
}

impl Shared {
    /// Those of the `index`th device. `None` where there is no memory for them.
    pub fn new(hw: &impl Handle, index: u32) -> Option<Self> {
        // The first device has the last numbers.
        let (end, sizes): (u32, &[u32]) = match index.checked_sub(1) {
            None => (ENTRIES, &[FIRST_DATA_PAGES, DATA_PAGES]),
            Some(others) => (
                FIRST_REFERENCE - others * (CONTROL_PAGES + DATA_PAGES),
                &[DATA_PAGES],
            ),
        };
        sizes.iter().find_map(|&data_pages| {
            let pages = CONTROL_PAGES + data_pages;
            let len = pages as usize * PAGE as usize;
            let start = room_for(len + ROOM).then(|| hw.dma_memory(len, PAGE as usize))??;
            Some(Self {
                start,
                first_reference: end - pages,
                data_pages,
            })
        })
    }

    /// Where the data is.
    fn data(&self) -> u64 {
        self.start + u64::from(CONTROL_PAGES) * PAGE
    }

    /// The numbers in the grant table.
    pub fn references(&self) -> Range<u32> {
        self.first_reference..self.first_reference + CONTROL_PAGES + self.data_pages
    }
}

impl<H: Handle> Vbd<H> {
    /// The device `number`, the `index`th of those that are connected to, below [`MOST_DEVICES`]. `None` where there is no memory
    /// for it, of which there has to be some after that.
    pub fn new(hw: H, xen: H::Xen, number: u32, index: u32) -> Option<Self> {
        let shared = Shared::new(&hw, index)?;
        Some(Self {
            hw,
            xen,
            path: format!("device/vbd/{number}"),
            number,
            shared,
        })
    }

    /// What it is: `disk` or `cdrom`. Empty where xenstore does not say.
    pub fn kind(&self) -> String {
        let Ok(mut front) = self.find() else {
            return String::new();
        };
        let kind = front.text("device-type").unwrap_or_default();
        front.release();
        kind
    }

    fn find(&self) -> Result<Frontend<'_, H, H::Xen>, String> {
        Frontend::find(&self.hw, &self.xen, &self.path, STORE_US)
            .map_err(|error| format!("xenstore does not tell of its back end ({error:?})"))
    }

    /// Connects to the back end.
    ///
    /// # Errors
    /// Why there is no connection, for the log. The device is then as it was, as far as the back end lets it.
    pub fn connect(&self) -> Result<Link<H>, String> {
        match self.try_to_connect() {
            // What the old life had begun to say, nobody answers.
            Err(Refusal::Restored) => self.try_to_connect().map_err(|refusal| match refusal {
                Refusal::Restored => "the domain was saved and restored twice".into(),
                Refusal::Because(why) => why,
            }),
            Err(Refusal::Because(why)) => Err(why),
            Ok(link) => Ok(link),
        }
    }

    fn try_to_connect(&self) -> Result<Link<H>, Refusal> {
        let life = self.xen.domain();
        let result = self.find().and_then(|mut front| {
            let result = self.shake_hands(&mut front);
            front.release();
            result
        });
        result.map_err(|why| {
            if self.xen.domain() == life {
                return Refusal::Because(why);
            }
            // The next try says why that does not work.
            let _ = begin_again(&self.hw, &self.xen, &self.path, CLOSE_SILENT_US);
            Refusal::Restored
        })
    }

    fn shake_hands(&self, front: &mut Frontend<H, H::Xen>) -> Result<Link<H>, String> {
        match front.state() {
            Ok(State::Initialising) => {}
            other => return Err(format!("it is in use ({other:?})")),
        }
        front
            .wait_for(CONNECT_US, |state| state == State::InitWait)
            .map_err(|state| format!("its back end does not wait for us ({state:?})"))?;
        let grants = Grants::open(self.hw.clone(), &self.xen)
            .map_err(|errno| format!("no grant table (error {})", errno.0))?;
        if !self
            .shared
            .references()
            .all(|reference| grants.is_free(reference))
        {
            return Err("another domain keeps pages of it".into());
        }
        let port = self.xen.open_port(front.domain);
        let port = port.map_err(|errno| format!("no event channel (error {})", errno.0))?;
        let mut link = Link {
            hw: self.hw.clone(),
            xen: self.xen.clone(),
            path: self.path.clone(),
            handle: self.number as u16,
            ring: Ring::new(self.hw.clone(), self.shared.start),
            grants,
            domain: front.domain,
            port,
            shared: self.shared,
            told: Told::default(),
            ahead: Ahead::default(),
        };
        link.allow();
        match link.introduce(front) {
            Ok(()) => Ok(link),
            Err(why) => {
                // What can be said about this was said.
                let _ = link.part(front, CLOSE_SILENT_US);
                Err(why)
            }
        }
    }
}

/// Why there is no connection.
enum Refusal {
    /// The domain was saved and restored meanwhile.
    Restored,
    /// For the log.
    Because(String),
}

/// What the back end says of the device and of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    /// Number of sectors of 512 bytes.
    pub sectors: u64,
    /// Bytes of a sector, of which a request has whole ones.
    pub sector_size: u32,
    /// Nothing is to be written.
    pub read_only: bool,
    /// Most segments of a request.
    segments: u32,
    /// The operation that makes writes lasting, where one is needed.
    flush: Option<u8>,
}

/// Why a transfer failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection is no more: the domain was saved and restored.
    Lost,
    /// No answer in time.
    Silent,
    /// The back end could not do it.
    Failed,
    /// The back end does not know how to do it.
    NotSupported,
    /// The back end said what makes no sense.
    Nonsense,
}

/// A connection.
pub struct Link<H: Handle> {
    hw: H,
    xen: H::Xen,
    path: String,
    handle: u16,
    ring: Ring<H>,
    grants: Grants<H>,
    domain: u16,
    port: u32,
    shared: Shared,
    told: Told,
    ahead: Ahead,
}

impl<H: Handle> Link<H> {
    /// What the back end told.
    pub fn told(&self) -> Told {
        self.told
    }

    /// Lets the back end use the pages. They stay in its hands for as long as the connection lasts, so it need not map them anew for
    /// each request, and it never has a page of the guest's.
    fn allow(&self) {
        for (index, reference) in (0..).zip(self.shared.references()) {
            let page = self.shared.start + index * PAGE;
            self.grants.allow(reference, self.domain, page);
        }
    }

    /// Whether it still exists.
    fn exists(&self) -> bool {
        self.grants
            .allows(self.shared.first_reference, self.domain, self.shared.start)
    }

    fn introduce(&mut self, front: &mut Frontend<H, H::Xen>) -> Result<(), String> {
        let mut say = || {
            front.tell("ring-ref", self.shared.first_reference)?;
            front.tell("event-channel", self.port)?;
            front.tell_text("protocol", "x86_64-abi")?;
            front.tell("feature-persistent", 1)?;
            front.set_state(State::Initialised)
        };
        say().map_err(store_error)?;
        let answered = |state| {
            matches!(state, State::Connected | State::Closing | State::Closed)
                || !self.grants.are_shown()
        };
        match front.wait_for(CONNECT_US, answered) {
            Ok(State::Connected) => {}
            Ok(state) | Err(state) => {
                return Err(format!("its back end does not connect ({state:?})"));
            }
        }
        let flag = |front: &mut Frontend<H, H::Xen>, key| front.told(key) == Some(1);
        let indirect: u32 = front.told("feature-max-indirect-segments").unwrap_or(0);
        self.told = Told {
            sectors: front.told("sectors").unwrap_or(0),
            sector_size: front.told("sector-size").unwrap_or(UNIT),
            read_only: front.told::<u32>("info").unwrap_or(0) & INFO_READ_ONLY != 0,
            segments: if indirect >= self.shared.data_pages {
                self.shared.data_pages
            } else {
                DIRECT_SEGMENTS
            },
            flush: if flag(front, "feature-flush-cache") {
                Some(FLUSH)
            } else {
                flag(front, "feature-barrier").then_some(BARRIER)
            },
        };
        if self.told.sectors == 0 || !matches!(self.told.sector_size, 512 | 1024 | 2048 | 4096) {
            let Told {
                sectors,
                sector_size,
                ..
            } = self.told;
            return Err(format!("it has {sectors} sectors of {sector_size} bytes"));
        }
        front.set_state(State::Connected).map_err(store_error)
    }

    /// Closes the connection, so that the guest's own driver finds the device as if nobody had used it: nothing is to be done where the
    /// domain was saved and restored. `timeout_us` is how long the back end may take for a step.
    ///
    /// # Errors
    /// The back end does not let it go, and may still do what it was asked to.
    pub fn close(self, timeout_us: u64) -> Result<(), String> {
        if !self.exists() {
            return Ok(());
        }
        let front = Frontend::find(&self.hw, &self.xen, &self.path, STORE_US);
        let result = front.map_err(store_error).and_then(|mut front| {
            let result = self.part(&mut front, timeout_us);
            front.release();
            result
        });
        match result {
            Err(_) if !self.grants.are_shown() => {
                begin_again(&self.hw, &self.xen, &self.path, timeout_us)
            }
            result => result,
        }
    }

    fn part(&self, front: &mut Frontend<H, H::Xen>, timeout_us: u64) -> Result<(), String> {
        let restored = || !self.grants.are_shown();
        front.set_state(State::Closing).map_err(store_error)?;
        // Some go on to the end at once.
        let _ = front.wait_for(timeout_us, |state| state >= State::Closing || restored());
        front.set_state(State::Closed).map_err(store_error)?;
        let closed = front.wait_for(timeout_us, |state| state == State::Closed || restored());
        if restored() {
            return Err("the domain was saved and restored".into());
        }
        let _ = self.xen.close_port(self.port);
        let kept = self
            .shared
            .references()
            .filter(|reference| !self.grants.take_back(*reference))
            .count();
        closed.map_err(|state| format!("its back end does not close ({state:?})"))?;
        if kept != 0 {
            return Err(format!("its back end keeps {kept} pages"));
        }
        begin(front, timeout_us)
    }

    /// Moves the sectors of a request, of at most [`MOST_BYTES`], whose addresses are in sectors of `sector_size` bytes. What is read in
    /// one go is read ahead.
    ///
    /// # Errors
    /// See [`Failure`]. What was to be read is then not in the caller's memory, and never will be.
    pub fn transfer(
        &mut self,
        request: &storage::Request,
        sector_size: u32,
        deadline_us: u64,
    ) -> Result<(), Failure> {
        let units = u64::from(sector_size / UNIT);
        let start = request.lba * units;
        let wanted = start..start + u64::from(request.count) * units;
        let len = (wanted.end - wanted.start) * u64::from(UNIT);
        let (hw, data) = (self.hw.clone(), self.shared.data());
        match request.op {
            Op::Read => {
                let at = self.read(&wanted, deadline_us)?;
                hw.copy(request.buffer, data + at * u64::from(UNIT), len);
                Ok(())
            }
            Op::Write => {
                self.ahead.forget();
                hw.copy(data, request.buffer, len);
                self.move_units(WRITE, &wanted, deadline_us)
            }
        }
    }

    /// Has the units `wanted` among the data, and perhaps more behind them. Returns how far into the data they are.
    fn read(&mut self, wanted: &Range<u64>, deadline_us: u64) -> Result<u64, Failure> {
        if let Some(at) = self.ahead.find(wanted, || self.hw.now_us()) {
            return Ok(at);
        }
        let most = u64::from(self.shared.data_pages * UNITS_PER_PAGE);
        let range = self.ahead.extent(wanted, most, self.told.sectors);
        self.ahead.forget();
        match self.move_units(READ, &range, deadline_us) {
            // A bad sector ahead is nothing to those who do not ask for it.
            Err(Failure::Failed | Failure::NotSupported) if range != *wanted => {
                self.move_units(READ, wanted, deadline_us)?;
            }
            result => {
                result?;
                self.ahead.hold(range, self.hw.now_us());
            }
        }
        Ok(0)
    }

    /// Moves the units of a range, for which there has to be room, to or from the beginning of the data.
    fn move_units(
        &mut self,
        operation: u8,
        range: &Range<u64>,
        deadline_us: u64,
    ) -> Result<(), Failure> {
        let mut sector = range.start;
        let mut page = 0;
        let mut pending = 0;
        while sector < range.end {
            let most = u64::from(self.told.segments * UNITS_PER_PAGE);
            let count = (range.end - sector).min(most);
            pending |= 1 << self.push(operation, sector, page, count as u32);
            sector += count;
            page += self.told.segments;
        }
        self.run(pending, deadline_us)
    }

    /// Makes what was written lasting.
    ///
    /// # Errors
    /// As [`transfer`](Self::transfer).
    pub fn flush(&mut self, deadline_us: u64) -> Result<(), Failure> {
        let Some(operation) = self.told.flush else {
            return Ok(());
        };
        let pending = 1 << self.push(operation, 0, 0, 0);
        let result = self.run(pending, deadline_us);
        if result == Err(Failure::NotSupported) {
            self.told.flush = None;
            return Ok(());
        }
        result
    }

    /// Makes one request for `count` units at `sector` to or from the data pages from `page` on.
    fn push(&mut self, operation: u8, sector: u64, page: u32, count: u32) -> u64 {
        let first = self.shared.first_reference + CONTROL_PAGES + page;
        let segments = (0..count.div_ceil(UNITS_PER_PAGE)).map(|index| Segment {
            reference: first + index,
            sectors: (count - index * UNITS_PER_PAGE).min(UNITS_PER_PAGE) as u8,
        });
        let indirect = Indirect {
            page: self.shared.start + PAGE,
            reference: self.shared.first_reference + 1,
        };
        let indirect = (segments.len() as u32 > DIRECT_SEGMENTS).then_some(indirect);
        let request = Request {
            operation,
            handle: self.handle,
            sector,
        };
        self.ring.push(request, indirect, segments)
    }

    /// Has the requests carried out whose numbers are the bits of `pending`.
    fn run(&mut self, mut pending: u32, deadline_us: u64) -> Result<(), Failure> {
        if !self.exists() {
            return Err(Failure::Lost);
        }
        self.ring.publish();
        // Port numbers are the domain's: one that is not open any more was of another life.
        self.xen.notify(self.port).map_err(|_| Failure::Lost)?;
        let hw = self.hw.clone();
        let mut result = Ok(());
        let ended = poll::sparsely(&hw, deadline_us, || {
            loop {
                match self.ring.answer() {
                    Ok(None) => break,
                    Ok(Some(answer)) if answer.id < 32 && pending >> answer.id & 1 == 1 => {
                        pending &= !(1 << answer.id);
                        match answer.status {
                            0 => {}
                            NOT_SUPPORTED => result = Err(Failure::NotSupported),
                            _ => result = Err(Failure::Failed),
                        }
                    }
                    _ => return Some(Err(Failure::Nonsense)),
                }
            }
            if pending == 0 {
                return Some(Ok(()));
            }
            if !self.exists() {
                return Some(Err(Failure::Lost));
            }
            self.xen.yield_cpu();
            None
        });
        ended.unwrap_or(Err(Failure::Silent)).and(result)
    }
}

/// Has the device at `path` as it is in a new life, to which some of what the old life said may have come: it has another back end.
fn begin_again<H: Handle>(hw: &H, xen: &H::Xen, path: &str, timeout_us: u64) -> Result<(), String> {
    let mut front = Frontend::find(hw, xen, path, STORE_US).map_err(store_error)?;
    let result = match front.state() {
        Ok(State::Initialising) => Ok(()),
        _ => begin(&mut front, timeout_us),
    };
    front.release();
    result
}

/// Has a device that is closed begin anew.
fn begin<H: Handle>(front: &mut Frontend<H, H::Xen>, timeout_us: u64) -> Result<(), String> {
    // A driver that knows no such pages says nothing of them.
    front.tell("feature-persistent", 0).map_err(store_error)?;
    front.set_state(State::Initialising).map_err(store_error)?;
    front
        .wait_for(timeout_us, |state| state == State::InitWait)
        .map(drop)
        .map_err(|state| format!("its back end does not begin again ({state:?})"))
}

fn store_error(error: impl core::fmt::Debug) -> String {
    format!("xenstore: {error:?}")
}
