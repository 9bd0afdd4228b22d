//! Devices of other domains: the two halves of one find each other in xenstore, where each tells how far it is (public header
//! io/xenbus.h).

use super::store::{Store, StoreError};
use crate::arch::Hardware;
use crate::arch::hypercalls::Hypercalls;
use alloc::format;
use alloc::string::String;
use core::str::FromStr;

/// How far one half is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It has not said, or said something that nobody knows.
    Unknown,
    /// It begins.
    Initialising,
    /// It has said what it can, and waits.
    InitWait,
    /// It has said all that the other half has to know.
    Initialised,
    /// It works.
    Connected,
    /// It ends.
    Closing,
    /// It has ended.
    Closed,
}

impl State {
    fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Initialising,
            2 => Self::InitWait,
            3 => Self::Initialised,
            4 => Self::Connected,
            5 => Self::Closing,
            6 => Self::Closed,
            _ => Self::Unknown,
        }
    }
}

/// Our half of a device, with the way to xenstore.
pub struct Frontend<'a, H, X> {
    store: Store<'a, H, X>,
    hw: &'a H,
    xen: &'a X,
    /// Our directory.
    path: String,
    /// The other half's directory.
    other: String,
    /// The domain that has the other half.
    pub domain: u16,
}

/// How long the pauses between two looks at the other half are, in microseconds.
const FIRST_PAUSE_US: u64 = 100;
const LONGEST_PAUSE_US: u64 = 10_000;

impl<'a, H: Hardware, X: Hypercalls> Frontend<'a, H, X> {
    /// Looks up the device in our directory `path`. `timeout_us` is how long xenstore may take for an answer.
    ///
    /// # Errors
    /// Xenstore does not answer, or does not say who has the other half.
    pub fn find(hw: &'a H, xen: &'a X, path: &str, timeout_us: u64) -> Result<Self, StoreError> {
        let store = Store::open(hw, xen).ok_or(StoreError::Missing)?;
        let mut frontend = Self {
            store: store.with_timeout(timeout_us),
            hw,
            xen,
            path: path.into(),
            other: String::new(),
            domain: 0,
        };
        frontend.other = frontend.text("backend")?;
        frontend.domain = frontend
            .text("backend-id")?
            .parse()
            .map_err(|_| StoreError::Protocol)?;
        Ok(frontend)
    }

    /// Leaves xenstore's ring to the guest.
    pub fn release(self) {
        self.store.release();
    }

    /// The text of a key in our directory.
    ///
    /// # Errors
    /// There is none, or xenstore does not answer.
    pub fn text(&mut self, key: &str) -> Result<String, StoreError> {
        let value = self.store.read(&format!("{}/{key}", self.path))?;
        String::from_utf8(value).map_err(|_| StoreError::Protocol)
    }

    /// The number of a key in the other half's directory; `None` where there is none.
    pub fn told<T: FromStr>(&mut self, key: &str) -> Option<T> {
        let value = self.store.read(&format!("{}/{key}", self.other)).ok()?;
        core::str::from_utf8(&value).ok()?.trim().parse().ok()
    }

    /// Sets a key in our directory to a number.
    ///
    /// # Errors
    /// Xenstore refuses or does not answer.
    pub fn tell(&mut self, key: &str, number: u32) -> Result<(), StoreError> {
        let value = format!("{number}");
        self.tell_text(key, &value)
    }

    /// The same with a text.
    ///
    /// # Errors
    /// As [`tell`](Self::tell).
    pub fn tell_text(&mut self, key: &str, value: &str) -> Result<(), StoreError> {
        self.store
            .write(&format!("{}/{key}", self.path), value.as_bytes())
    }

    /// How far we are, as xenstore has it.
    ///
    /// # Errors
    /// Xenstore does not answer.
    pub fn state(&mut self) -> Result<State, StoreError> {
        let text = self.text("state")?;
        Ok(State::from_number(text.trim().parse().unwrap_or(0)))
    }

    /// Says how far we are.
    ///
    /// # Errors
    /// As [`tell`](Self::tell).
    pub fn set_state(&mut self, state: State) -> Result<(), StoreError> {
        self.tell("state", state as u32)
    }

    /// How far the other half is.
    pub fn other_state(&mut self) -> State {
        State::from_number(self.told("state").unwrap_or(0))
    }

    /// Waits until the other half is in a state that is `wanted`, `timeout_us` at most.
    ///
    /// # Errors
    /// The state in which it is instead.
    pub fn wait_for(
        &mut self,
        timeout_us: u64,
        wanted: impl Fn(State) -> bool,
    ) -> Result<State, State> {
        let start = self.hw.now_us();
        let mut pause_us = FIRST_PAUSE_US;
        loop {
            let state = self.other_state();
            if wanted(state) {
                return Ok(state);
            }
            if self.hw.now_us().wrapping_sub(start) >= timeout_us {
                return Err(state);
            }
            self.hw.serve_interrupts();
            self.pause(pause_us);
            pause_us = (pause_us * 2).min(LONGEST_PAUSE_US);
        }
    }

    /// Lets the others work.
    fn pause(&self, us: u64) {
        let start = self.hw.now_us();
        while self.hw.now_us().wrapping_sub(start) < us {
            self.xen.yield_cpu();
        }
    }
}
