//! A back end for host tests: it follows our half's states, and serves the ring.

use crate::arch::PhysMem;
use crate::arch::fake::Fake;
use crate::arch::fake_xen::{Event, FakeXen};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// The domain that has it.
pub const DOMAIN: u16 = 3;
/// What every sector holds before it is written.
pub const CONTENT: u8 = 0xc3;
const TABLE: u64 = 0xfd00_0000;

/// What it answers to the next requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Status(i16),
    Silence,
    WrongNumber,
    Twice,
    IndexJumps,
    /// The domain is saved and restored before it answers.
    Restore,
}

/// One request as it came: operation, sector, sectors moved, segments in a page of their own.
pub type Seen = (u8, u64, u32, bool);

#[derive(Default)]
pub struct Backend {
    pub seen: RefCell<Vec<Seen>>,
    /// Sectors of 512 bytes that were written, with their first byte.
    pub written: RefCell<Vec<(u64, u8)>>,
    pub replies: RefCell<Vec<Reply>>,
    /// States of our half that it does not react to.
    pub deaf_to: RefCell<Vec<&'static str>>,
    /// The domain is saved and restored as it comes to this state.
    pub restored_at: Cell<Option<&'static str>>,
    /// Connections made.
    pub connections: Cell<u32>,
    pub keeps_pages: Cell<bool>,
    consumed: Cell<u32>,
    answered: Cell<u32>,
}

impl Backend {
    /// The back end of device `number`, with `keys` of its own, in `xen`.
    pub fn attach(hw: &Fake, number: u32, keys: &[(&str, &str)]) -> (FakeXen, Rc<Self>) {
        let xen = FakeXen::new(hw);
        let backend = Rc::new(Self::default());
        let front = format!("device/vbd/{number}");
        let back = format!("/local/domain/3/backend/vbd/7/{number}");
        xen.set(&front, "");
        for (key, value) in [
            ("backend", back.as_str()),
            ("backend-id", "3"),
            ("device-type", "disk"),
            ("state", "1"),
        ] {
            xen.set(&format!("{front}/{key}"), value);
        }
        xen.set(&format!("{back}/state"), "2");
        for (key, value) in keys {
            xen.set(&format!("{back}/{key}"), value);
        }
        let this = backend.clone();
        xen.on_event(move |xen, event| this.react(xen, &front, &back, event));
        *hw.xen.borrow_mut() = Some(xen.clone());
        (xen, backend)
    }

    fn react(&self, xen: &FakeXen, front: &str, back: &str, event: Event) {
        match event {
            Event::Written(key) if key == format!("{front}/state") => {
                let state = xen.get(&key);
                if self.deaf_to.borrow().contains(&state.as_str()) {
                    return;
                }
                if self.restored_at.get() == Some(&state) {
                    self.restored_at.set(None);
                    return restore(xen, front);
                }
                let ours = format!("{back}/state");
                let before = xen.get(&ours);
                match state.as_str() {
                    "1" if before == "6" => xen.set(&ours, "2"),
                    "3" if before == "2" => {
                        assert_eq!(xen.get(&format!("{front}/protocol")), "x86_64-abi");
                        self.connections.set(self.connections.get() + 1);
                        self.consumed.set(0);
                        self.answered.set(0);
                        xen.set(&ours, "4");
                    }
                    "5" => xen.set(&ours, "5"),
                    "6" => xen.set(&ours, "6"),
                    _ => {}
                }
            }
            Event::Told(port) => {
                assert_eq!(xen.get(&format!("{front}/event-channel")), port.to_string());
                assert_eq!(xen.ports.borrow()[&port], DOMAIN);
                self.serve(xen, front);
            }
            _ => {}
        }
    }

    /// The page behind a number in the grant table.
    fn page(&self, hw: &Fake, reference: u32) -> u64 {
        let entry = TABLE + u64::from(reference) * 8;
        assert_eq!(hw.read32(entry) & !0x18, 1 | u32::from(DOMAIN) << 16);
        if self.keeps_pages.get() {
            hw.write16(entry, 1 | 1 << 4);
        }
        u64::from(hw.read32(entry + 4)) << 12
    }

    fn serve(&self, xen: &FakeXen, front: &str) {
        let hw = &xen.hw;
        let reference = xen.get(&format!("{front}/ring-ref")).parse().unwrap();
        let ring = self.page(hw, reference);
        while self.consumed.get() != hw.read32(ring) {
            let slot = ring + 64 + u64::from(self.consumed.get() % 32) * 112;
            self.consumed.set(self.consumed.get() + 1);
            let id = hw.read64(slot + 8);
            let reply = self.replies.borrow_mut().pop();
            match reply.unwrap_or(Reply::Status(0)) {
                Reply::Status(status) => {
                    let done = self.carry_out(hw, slot, status == 0);
                    self.seen.borrow_mut().push(done);
                    self.answer(hw, ring, id, status);
                }
                Reply::Silence => {}
                Reply::WrongNumber => self.answer(hw, ring, id + 1, 0),
                Reply::Twice => {
                    self.answer(hw, ring, id, 0);
                    self.answer(hw, ring, id, 0);
                }
                Reply::IndexJumps => hw.write32(ring + 8, self.answered.get() + 77),
                Reply::Restore => return restore(xen, front),
            }
        }
    }

    fn answer(&self, hw: &Fake, ring: u64, id: u64, status: i16) {
        let slot = ring + 64 + u64::from(self.answered.get() % 32) * 112;
        hw.write64(slot, id);
        hw.write16(slot + 10, status as u16);
        self.answered.set(self.answered.get() + 1);
        hw.write32(ring + 8, self.answered.get());
    }

    fn carry_out(&self, hw: &Fake, slot: u64, moves: bool) -> Seen {
        let indirect = hw.read8(slot) == 6;
        let (operation, count, list) = if indirect {
            let page = self.page(hw, hw.read32(slot + 28));
            (hw.read8(slot + 1), u64::from(hw.read16(slot + 2)), page)
        } else {
            let count = hw.read8(slot + 1);
            assert!(count <= 11);
            (hw.read8(slot), count.into(), slot + 24)
        };
        let sector = hw.read64(slot + 16);
        let mut moved = 0;
        for at in (0..count).map(|index| list + index * 8) {
            let page = self.page(hw, hw.read32(at));
            let (first, last) = (hw.read8(at + 4), hw.read8(at + 5));
            assert!(first <= last && last < 8);
            for unit in first..=last {
                let (address, sector) = (page + u64::from(unit) * 512, sector + u64::from(moved));
                match operation {
                    0 if moves => hw.fill(address, 512, CONTENT ^ sector as u8),
                    1 => self.written.borrow_mut().push((sector, hw.read8(address))),
                    _ => {}
                }
                moved += 1;
            }
        }
        (operation, sector, moved, indirect)
    }
}

/// What a domain finds that was saved and restored: a new grant table that shows nowhere, no event channels, a device that begins.
pub fn restore(xen: &FakeXen, front: &str) {
    xen.hw.fill(TABLE, 4096, 0xff);
    xen.grant_table.set(None);
    xen.domain.set(xen.domain.get() + 1);
    xen.ports.borrow_mut().clear();
    xen.set(&format!("{front}/state"), "1");
    let back = xen.get(&format!("{front}/backend"));
    xen.set(&format!("{back}/state"), "2");
}
