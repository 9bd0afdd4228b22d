//! A client of xenstore over the ring page it shares with us (public header io/xs_wire.h, docs/misc/xenstore-ring.txt).
//!
//! One request at a time. The guest's own driver takes the ring over after us, so [`Store::release`] leaves both queues
//! empty and their indices at zero, as a domain finds them that starts without us.

use crate::arch::Hardware;
use crate::arch::hypercalls::{Hypercalls, Param};
use crate::units::{FOUR_GIB, PAGE};
use alloc::string::String;
use alloc::vec::Vec;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

const RING_SIZE: u32 = 1024;
const REQUESTS: u64 = 0;
const REPLIES: u64 = 1024;
const REQ_CONS: u64 = 2048;
const REQ_PROD: u64 = 2052;
const RSP_CONS: u64 = 2056;
const RSP_PROD: u64 = 2060;

/// Longest payload of a message.
const PAYLOAD_MAX: usize = 4096;
/// How long the other side may take for one step at the start. Generous: the daemon shares a busy dom0, and stuck daemons are rare.
const TIMEOUT_US: u64 = 30_000_000;
/// Messages that may come before the reply (watch events of an earlier user of the ring).
const MAX_STRAY: u32 = 64;

const XS_DIRECTORY: u32 = 1;
const XS_READ: u32 = 2;
const XS_WRITE: u32 = 11;
const XS_ERROR: u32 = 16;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    kind: u32,
    req_id: u32,
    tx_id: u32,
    len: u32,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The key does not exist.
    Missing,
    /// Xenstore refused, in its own word ("EACCES").
    Refused(String),
    /// No reply in time.
    Timeout,
    /// The indices or a reply make no sense.
    Protocol,
    /// The request is longer than a message may be.
    TooLong,
}

/// The client. After a timeout or damage the ring's state is unknown, and every further request fails at once.
pub struct Store<'a, H, X> {
    hw: &'a H,
    xen: &'a X,
    ring: u64,
    port: u32,
    timeout_us: u64,
    req_id: u32,
    broken: Option<StoreError>,
}

impl<'a, H: Hardware, X: Hypercalls> Store<'a, H, X> {
    /// A client of the ring page at physical address `ring`, whose event channel is `port`.
    pub fn new(hw: &'a H, xen: &'a X, ring: u64, port: u32) -> Self {
        Self {
            hw,
            xen,
            ring,
            port,
            timeout_us: TIMEOUT_US,
            req_id: 0,
            broken: None,
        }
    }

    /// A client of the ring that Xen tells of; `None` where it tells of none.
    pub fn open(hw: &'a H, xen: &'a X) -> Option<Self> {
        let ring = xen.param(Param::StorePfn).unwrap_or(0);
        let port = xen.param(Param::StoreEvtchn).unwrap_or(0);
        let usable = ring != 0 && ring < FOUR_GIB / PAGE && port != 0;
        usable.then(|| Self::new(hw, xen, ring * PAGE, port as u32))
    }

    /// The same with another limit for one step of the other side, in microseconds.
    pub fn with_timeout(self, timeout_us: u64) -> Self {
        Self { timeout_us, ..self }
    }

    /// The value of the key `path`, which is relative to the domain's own home.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn read(&mut self, path: &str) -> Result<Vec<u8>, StoreError> {
        self.request(XS_READ, &[path.as_bytes(), &[0]])
    }

    /// The names below `path`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn directory(&mut self, path: &str) -> Result<Vec<String>, StoreError> {
        let names = self.request(XS_DIRECTORY, &[path.as_bytes(), &[0]])?;
        Ok(names
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect())
    }

    /// Sets the key `path`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn write(&mut self, path: &str, value: &[u8]) -> Result<(), StoreError> {
        self.request(XS_WRITE, &[path.as_bytes(), &[0], value])
            .map(drop)
    }

    /// Leaves the ring to the guest. Where a request is still under way, the ring stays as it is.
    pub fn release(self) {
        let at = |offset| self.hw.read32(self.ring + offset);
        if self.broken.is_some() || at(REQ_CONS) != at(REQ_PROD) {
            return;
        }
        // Each pair of indices goes to zero in one access, so that the daemon never sees one without the other.
        self.hw.write64(self.ring + REQ_CONS, 0);
        self.hw.write64(self.ring + RSP_CONS, 0);
    }

    fn request(&mut self, kind: u32, parts: &[&[u8]]) -> Result<Vec<u8>, StoreError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > PAYLOAD_MAX {
            return Err(StoreError::TooLong);
        }
        self.req_id = self.req_id.wrapping_add(1);
        let result = self.exchange(kind, len as u32, parts);
        if let Err(error) = &result {
            self.broken = Some(error.clone());
        }
        let (answer, payload) = result?;
        if answer == kind {
            return Ok(payload);
        }
        let word = payload.split(|byte| *byte == 0).next().unwrap_or(&[]);
        Err(match word {
            b"ENOENT" => StoreError::Missing,
            word => StoreError::Refused(String::from_utf8_lossy(word).into_owned()),
        })
    }

    /// Sends one message and receives its reply: its kind, which is `kind` or an error, and its payload.
    fn exchange(&self, kind: u32, len: u32, parts: &[&[u8]]) -> Result<(u32, Vec<u8>), StoreError> {
        let header = Header {
            kind,
            req_id: self.req_id,
            tx_id: 0,
            len,
        };
        self.send(header.as_bytes())?;
        for part in parts {
            self.send(part)?;
        }
        for _ in 0..MAX_STRAY {
            let mut reply = Header::new_zeroed();
            self.receive(reply.as_mut_bytes())?;
            if reply.len as usize > PAYLOAD_MAX {
                return Err(StoreError::Protocol);
            }
            let mut payload = alloc::vec![0; reply.len as usize];
            self.receive(&mut payload)?;
            if reply.req_id == self.req_id && [kind, XS_ERROR].contains(&reply.kind) {
                return Ok((reply.kind, payload));
            }
        }
        Err(StoreError::Protocol)
    }

    fn send(&self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let (prod, room) = self.wait(|store| {
                let prod = store.index(REQ_PROD);
                let used = prod.wrapping_sub(store.index(REQ_CONS));
                match used {
                    RING_SIZE => None,
                    0..RING_SIZE => Some(Ok((prod, RING_SIZE - used))),
                    _ => Some(Err(StoreError::Protocol)),
                }
            })?;
            let at = prod % RING_SIZE;
            let run = (room.min(RING_SIZE - at) as usize).min(bytes.len());
            let (now, rest) = bytes.split_at(run);
            self.hw.write(self.ring + REQUESTS + u64::from(at), now);
            self.hw
                .write32(self.ring + REQ_PROD, prod.wrapping_add(run as u32));
            self.notify()?;
            bytes = rest;
        }
        Ok(())
    }

    fn receive(&self, mut bytes: &mut [u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let (cons, ready) = self.wait(|store| {
                let cons = store.index(RSP_CONS);
                let ready = store.index(RSP_PROD).wrapping_sub(cons);
                match ready {
                    0 => None,
                    1..=RING_SIZE => Some(Ok((cons, ready))),
                    _ => Some(Err(StoreError::Protocol)),
                }
            })?;
            let at = cons % RING_SIZE;
            let run = (ready.min(RING_SIZE - at) as usize).min(bytes.len());
            let (now, rest) = bytes.split_at_mut(run);
            self.hw.read(self.ring + REPLIES + u64::from(at), now);
            self.hw
                .write32(self.ring + RSP_CONS, cons.wrapping_add(run as u32));
            // The daemon only waits for room where there was none.
            if ready == RING_SIZE {
                self.notify()?;
            }
            bytes = rest;
        }
        Ok(())
    }

    fn index(&self, offset: u64) -> u32 {
        self.hw.read32(self.ring + offset)
    }

    fn notify(&self) -> Result<(), StoreError> {
        self.xen
            .notify(self.port)
            .map_err(|errno| StoreError::Refused(alloc::format!("event channel: {}", errno.0)))
    }

    fn wait<T>(
        &self,
        ready: impl Fn(&Self) -> Option<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let poll = || {
            let answer = ready(self);
            if answer.is_none() {
                self.xen.yield_cpu();
            }
            answer
        };
        self.hw
            .wait_for(self.timeout_us, poll)
            .unwrap_or(Err(StoreError::Timeout))
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
