//! Calls into real mode that have not come back yet.
//!
//! What is called may never return: a boot program takes the machine over, a Ctrl-Break handler leaves by a long jump. So a call
//! holds no part of the stack that others use: what the 64-bit stack has of its caller is kept here, and put back when the call
//! returns. Where too many are out, the oldest is given up, which all that was called since would have had to return to.

use alloc::vec::Vec;

/// Calls that can be out at a time.
pub const MOST: usize = 10;
/// Parts of the stack for handlers.
pub const SHARES: usize = 6;

/// A call that is out.
#[derive(Debug)]
struct Outstanding {
    ticket: u16,
    /// Its part of the stack for handlers, if it is on that.
    share: Option<usize>,
    /// Keeps what the 64-bit stack held, which only `bridge.s` reads and writes.
    _stack: Vec<u64>,
}

/// All calls that are out.
#[derive(Debug, Default)]
pub struct Calls {
    slots: [Option<Outstanding>; MOST],
    last_ticket: u16,
}

/// A place for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which one, below [`MOST`].
    pub slot: usize,
    /// What tells it from those that had the place before; never 0.
    pub ticket: u16,
    /// The part of the stack for handlers that is its own, below [`SHARES`]. 0 where it asked for none.
    pub share: usize,
    /// Address of its room for the 64-bit stack.
    pub stack: u64,
}

impl Calls {
    /// No call.
    pub const fn new() -> Self {
        Self {
            slots: [const { None }; MOST],
            last_ticket: 0,
        }
    }

    /// A place with room for `quads` eight-byte words of the stack, on the stack for handlers if `shared`. `None` where there is no
    /// memory.
    pub fn begin(&mut self, quads: usize, shared: bool) -> Option<Place> {
        let mut stack = Vec::new();
        while stack.try_reserve_exact(quads).is_err() {
            let oldest = self.oldest(|_| true)?;
            self.slots[oldest] = None;
        }
        stack.resize(quads, 0);
        let share = if shared { Some(self.share()?) } else { None };
        let free = self.slots.iter().position(Option::is_none);
        let slot = free.or_else(|| self.oldest(|_| true))?;
        self.last_ticket = self.last_ticket.checked_add(1).unwrap_or(1);
        let address = stack.as_mut_ptr().expose_provenance() as u64;
        self.slots[slot] = Some(Outstanding {
            ticket: self.last_ticket,
            share,
            _stack: stack,
        });
        Some(Place {
            slot,
            ticket: self.last_ticket,
            share: share.unwrap_or(0),
            stack: address,
        })
    }

    /// The call came back: gives its place up.
    pub fn end(&mut self, place: &Place) {
        if let Some(slot) = self.slots.get_mut(place.slot) {
            slot.take_if(|call| call.ticket == place.ticket);
        }
    }

    /// A part of the handlers' stack that no call has, if need be the oldest call's.
    fn share(&mut self) -> Option<usize> {
        let taken = |share| {
            let mut calls = self.slots.iter().flatten();
            calls.any(|call| call.share == Some(share))
        };
        if let Some(free) = (0..SHARES).find(|share| !taken(*share)) {
            return Some(free);
        }
        let oldest = self.oldest(|call| call.share.is_some())?;
        self.slots[oldest].take()?.share
    }

    fn oldest(&self, suits: impl Fn(&Outstanding) -> bool) -> Option<usize> {
        let calls = self.slots.iter().enumerate();
        let calls = calls.filter_map(|(slot, call)| Some((slot, call.as_ref()?)));
        let suiting = calls.filter(|(_, call)| suits(call));
        let age = |call: &Outstanding| self.last_ticket.wrapping_sub(call.ticket);
        suiting
            .max_by_key(|(_, call)| age(call))
            .map(|(slot, _)| slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_in_each_other_have_places_of_their_own() {
        let mut calls = Calls::new();
        let places: Vec<Place> = (0..SHARES).map(|_| calls.begin(8, true).unwrap()).collect();
        for (index, place) in places.iter().enumerate() {
            let others = &places[index + 1..];
            let same = |other: &Place| other.share == place.share || other.slot == place.slot;
            assert!(!others.iter().any(same));
        }
        for place in places.iter().rev() {
            calls.end(place);
        }
        assert!(calls.slots.iter().all(Option::is_none));
    }

    #[test]
    fn those_that_never_return_make_room() {
        let mut calls = Calls::new();
        for _ in 0..200_000 {
            let lost = calls.begin(4, true).unwrap();
            let rom = calls.begin(4, false).unwrap();
            let returns = calls.begin(4, true).unwrap();
            assert_ne!(returns.share, lost.share);
            assert_ne!(returns.slot, rom.slot);
            calls.end(&returns);
        }
        let held = |call: &Outstanding| call._stack.capacity();
        assert!(calls.slots.iter().flatten().map(held).sum::<usize>() <= 4 * MOST);
    }

    #[test]
    fn a_place_is_given_up_once() {
        let mut calls = Calls::new();
        let first = calls.begin(1, false).unwrap();
        calls.end(&first);
        let second = calls.begin(1, false).unwrap();
        calls.end(&first);
        assert!(calls.slots[second.slot].is_some());
    }
}
