//! Xen for host tests: parameters, a memory map, and a xenstore daemon at the other end of the ring.

use super::PhysMem;
use super::fake::Fake;
use super::hypercalls::{Errno, Hypercalls, MapEntry, Param, Shutdown, Vnuma};
use send_wrapper::SendWrapper;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::rc::Rc;

/// Where the fake's ring page is.
pub const RING: u64 = 0xfeff_c000;
/// Its event channel.
pub const PORT: u32 = 5;

/// What another domain does when the guest has written a key, told an event channel, or waits.
type OnEvent = Box<dyn Fn(&FakeXen, Event)>;

/// What another domain sees of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It has written this key.
    Written(String),
    /// It has told this event channel.
    Told(u32),
    /// It waits.
    Waits,
}

/// Xen, with the machine it can write to. Clones are the same Xen.
#[derive(Clone)]
pub struct FakeXen(SendWrapper<Rc<Parts>>);

impl Deref for FakeXen {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// What a [`FakeXen`] is made of.
pub struct Parts {
    pub hw: Fake,
    pub params: RefCell<BTreeMap<Param, u64>>,
    pub map: RefCell<Vec<MapEntry>>,
    pub populated: RefCell<BTreeSet<u64>>,
    pub populate_limit: Cell<usize>,
    pub moved: RefCell<Vec<(u64, u64)>>,
    pub store: RefCell<BTreeMap<String, Vec<u8>>>,
    /// What the daemon does instead of answering.
    pub mute: Cell<bool>,
    /// The domain's number.
    pub domain: Cell<u32>,
    /// Where the grant table's first page shows.
    pub grant_table: Cell<Option<u64>>,
    /// Event channels that are open, each with the domain at its other end.
    pub ports: RefCell<BTreeMap<u32, u16>>,
    on_event: RefCell<Option<OnEvent>>,
    pending: RefCell<Vec<u8>>,
    replies: RefCell<Vec<u8>>,
}

impl FakeXen {
    pub fn new(hw: &Fake) -> Self {
        Self(SendWrapper::new(Rc::new(Parts {
            hw: hw.clone(),
            params: RefCell::new(BTreeMap::from([
                (Param::StorePfn, RING >> 12),
                (Param::StoreEvtchn, PORT.into()),
            ])),
            map: RefCell::default(),
            populated: RefCell::default(),
            populate_limit: Cell::new(usize::MAX),
            moved: RefCell::default(),
            store: RefCell::default(),
            mute: Cell::new(false),
            domain: Cell::default(),
            grant_table: Cell::new(None),
            ports: RefCell::default(),
            on_event: RefCell::default(),
            pending: RefCell::default(),
            replies: RefCell::default(),
        })))
    }

    /// Lets `handler` be the other domain.
    pub fn on_event(&self, handler: impl Fn(&FakeXen, Event) + 'static) {
        *self.on_event.borrow_mut() = Some(Box::new(handler));
    }

    fn tell(&self, event: Event) {
        if let Some(handler) = &*self.on_event.borrow() {
            handler(self, event);
        }
    }

    /// The text of a key; empty where there is none.
    pub fn get(&self, key: &str) -> String {
        let store = self.store.borrow();
        String::from_utf8_lossy(store.get(key).map_or(&[], |value| value)).into_owned()
    }

    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) {
        self.store
            .borrow_mut()
            .insert(key.into(), value.as_ref().to_vec());
    }

    /// Sends bytes as the daemon would.
    pub fn reply(&self, bytes: &[u8]) {
        self.replies.borrow_mut().extend_from_slice(bytes);
    }

    fn word(&self, offset: u64) -> u32 {
        self.hw.read32(RING + offset)
    }

    fn serve(&self) {
        let (mut cons, prod) = (self.word(2048), self.word(2052));
        while cons != prod {
            let byte = self.hw.read8(RING + u64::from(cons % 1024));
            self.pending.borrow_mut().push(byte);
            cons = cons.wrapping_add(1);
        }
        self.hw.write32(RING + 2048, cons);
        self.answer();
        let (cons, mut prod) = (self.word(2056), self.word(2060));
        let mut replies = self.replies.borrow_mut();
        // Small pieces, so that messages arrive in parts.
        while !replies.is_empty() && prod.wrapping_sub(cons) < 700 {
            let byte = replies.remove(0);
            self.hw.write8(RING + 1024 + u64::from(prod % 1024), byte);
            prod = prod.wrapping_add(1);
        }
        self.hw.write32(RING + 2060, prod);
    }

    fn answer(&self) {
        let mut pending = self.pending.borrow_mut();
        let word = |at: usize| u32::from_le_bytes(pending[at..at + 4].try_into().unwrap());
        if pending.len() < 16 || pending.len() < 16 + word(12) as usize {
            return;
        }
        let (kind, id, len) = (word(0), word(4), word(12) as usize);
        let payload: Vec<u8> = pending.drain(..16 + len).skip(16).collect();
        let split = payload.iter().position(|byte| *byte == 0).unwrap();
        let path = String::from_utf8(payload[..split].to_vec()).unwrap();
        let answer = match kind {
            1 => self.list(&path),
            2 => self.store.borrow().get(&path).cloned(),
            11 => {
                self.set(&path, &payload[split + 1..]);
                self.tell(Event::Written(path));
                Some(b"OK\0".to_vec())
            }
            _ => panic!("message {kind}"),
        };
        if self.mute.get() {
            return;
        }
        let (kind, body) = answer.map_or((16, b"ENOENT\0".to_vec()), |body| (kind, body));
        for field in [kind, id, 0, body.len() as u32] {
            self.reply(&field.to_le_bytes());
        }
        self.reply(&body);
    }

    fn list(&self, path: &str) -> Option<Vec<u8>> {
        let prefix = format!("{path}/");
        let store = self.store.borrow();
        let names: BTreeSet<_> = store
            .keys()
            .filter_map(|key| key.strip_prefix(&prefix)?.split('/').next())
            .collect();
        (!names.is_empty()).then(|| {
            names
                .iter()
                .flat_map(|n| [n.as_bytes(), &[0]].concat())
                .collect()
        })
    }
}

impl Hypercalls for FakeXen {
    fn param(&self, param: Param) -> Result<u64, Errno> {
        Ok(self.params.borrow().get(&param).copied().unwrap_or(0))
    }
    fn set_param(&self, param: Param, value: u64) -> Result<(), Errno> {
        self.params.borrow_mut().insert(param, value);
        Ok(())
    }
    fn memory_map(&self) -> Result<Vec<MapEntry>, Errno> {
        Ok(self.map.borrow().clone())
    }
    fn vnuma(&self) -> Result<Vnuma, Errno> {
        Err(Errno(95))
    }
    fn populate(&self, pages: &[u64]) -> Result<usize, Errno> {
        let done = pages.len().min(self.populate_limit.get());
        self.populated.borrow_mut().extend(&pages[..done]);
        Ok(done)
    }
    fn move_page(&self, from: u64, to: u64) -> Result<(), Errno> {
        self.moved.borrow_mut().push((from, to));
        Ok(())
    }
    fn map_grant_table(&self, at: u64) -> Result<(), Errno> {
        if self.grant_table.replace(Some(at)) != Some(at) {
            self.hw.fill(at << 12, 4096, 0);
        }
        Ok(())
    }
    fn notify(&self, port: u32) -> Result<(), Errno> {
        if port != PORT {
            // Invalid argument.
            self.ports.borrow().get(&port).ok_or(Errno(22))?;
            self.tell(Event::Told(port));
        }
        Ok(())
    }
    fn open_port(&self, remote: u16) -> Result<u32, Errno> {
        let port = self
            .ports
            .borrow()
            .keys()
            .last()
            .map_or(PORT + 1, |last| last + 1);
        self.ports.borrow_mut().insert(port, remote);
        Ok(port)
    }
    fn close_port(&self, port: u32) -> Result<(), Errno> {
        self.ports
            .borrow_mut()
            .remove(&port)
            .map(drop)
            .ok_or(Errno(22))
    }
    fn domain(&self) -> Option<u32> {
        Some(self.domain.get())
    }
    fn domain_uuid(&self) -> Result<[u8; 16], Errno> {
        Ok([0x11; 16])
    }
    fn extra_version(&self) -> Result<[u8; 16], Errno> {
        Ok(*b".5-fake\0\0\0\0\0\0\0\0\0")
    }
    fn yield_cpu(&self) {
        self.serve();
        self.tell(Event::Waits);
    }
    fn shutdown(&self, _: Shutdown) {}
}
