//! Xen for host tests: parameters, a memory map, and a xenstore daemon at the other end of the ring.

use crate::arch::PhysMem;
use crate::arch::fake::Fake;
use crate::arch::hypercalls::{Errno, Hypercalls, MapEntry, Param, Shutdown, Vnuma};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

/// Where the fake's ring page is.
pub const RING: u64 = 0xfeff_c000;
/// Its event channel.
pub const PORT: u32 = 5;

/// Xen, with the machine it can write to.
pub struct FakeXen<'a> {
    pub hw: &'a Fake,
    pub params: RefCell<BTreeMap<Param, u64>>,
    pub map: Vec<MapEntry>,
    pub vnuma: Option<Vnuma>,
    pub populated: RefCell<BTreeSet<u64>>,
    pub populate_limit: usize,
    pub moved: RefCell<Vec<(u64, u64)>>,
    pub store: RefCell<BTreeMap<String, Vec<u8>>>,
    /// What the daemon does instead of answering.
    pub mute: Cell<bool>,
    pending: RefCell<Vec<u8>>,
    replies: RefCell<Vec<u8>>,
}

impl<'a> FakeXen<'a> {
    pub fn new(hw: &'a Fake) -> Self {
        Self {
            hw,
            params: RefCell::new(BTreeMap::from([
                (Param::StorePfn, RING >> 12),
                (Param::StoreEvtchn, PORT.into()),
            ])),
            map: Vec::new(),
            vnuma: None,
            populated: RefCell::default(),
            populate_limit: usize::MAX,
            moved: RefCell::default(),
            store: RefCell::default(),
            mute: Cell::new(false),
            pending: RefCell::default(),
            replies: RefCell::default(),
        }
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

impl Hypercalls for FakeXen<'_> {
    fn param(&self, param: Param) -> Result<u64, Errno> {
        Ok(self.params.borrow().get(&param).copied().unwrap_or(0))
    }
    fn set_param(&self, param: Param, value: u64) -> Result<(), Errno> {
        self.params.borrow_mut().insert(param, value);
        Ok(())
    }
    fn memory_map(&self) -> Result<Vec<MapEntry>, Errno> {
        Ok(self.map.clone())
    }
    fn vnuma(&self) -> Result<Vnuma, Errno> {
        self.vnuma.clone().ok_or(Errno(95))
    }

    fn populate(&self, pages: &[u64]) -> Result<usize, Errno> {
        let done = pages.len().min(self.populate_limit);
        self.populated.borrow_mut().extend(&pages[..done]);
        Ok(done)
    }
    fn move_page(&self, from: u64, to: u64) -> Result<(), Errno> {
        self.moved.borrow_mut().push((from, to));
        Ok(())
    }
    fn notify(&self, port: u32) -> Result<(), Errno> {
        assert_eq!(port, PORT);
        Ok(())
    }
    fn domain_uuid(&self) -> Result<[u8; 16], Errno> {
        Ok([0x11; 16])
    }
    fn extra_version(&self) -> Result<[u8; 16], Errno> {
        Ok(*b".5-fake\0\0\0\0\0\0\0\0\0")
    }
    fn yield_cpu(&self) {
        self.serve();
    }
    fn shutdown(&self, _: Shutdown) {}
}
