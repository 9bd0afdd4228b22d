//! The keyboard buffer in the BIOS data area, and what a scan code means.

pub mod keymap;

use super::bda::{Bda, KEYBOARD_BUFFER, KEYBOARD_BUFFER_END};
use crate::arch::{PhysMem, linear};

/// The buffer's first offset and the one behind it. A guest may move the buffer; nonsense gives the usual place.
fn bounds(hw: &impl PhysMem) -> (u16, u16) {
    let (start, end) = (Bda::keyboard_start().get(hw), Bda::keyboard_end().get(hw));
    if end > start && (end - start) % 2 == 0 {
        (start, end)
    } else {
        (KEYBOARD_BUFFER, KEYBOARD_BUFFER_END)
    }
}

fn next(hw: &impl PhysMem, offset: u16) -> u16 {
    let (start, end) = bounds(hw);
    let next = offset.wrapping_add(2);
    if next >= end { start } else { next }
}

/// Puts a key (scan code in the high byte, character in the low) into the buffer; false where it is full.
pub fn store(hw: &impl PhysMem, key: u16) -> bool {
    let tail = Bda::keyboard_tail().get(hw);
    let after = next(hw, tail);
    if after == Bda::keyboard_head().get(hw) {
        return false;
    }
    hw.write16(linear(0x40, tail), key);
    Bda::keyboard_tail().set(hw, after);
    true
}

/// Keys that [`store`] has room for.
pub fn free(hw: &impl PhysMem) -> u16 {
    let (start, end) = bounds(hw);
    let size = end - start;
    let used = Bda::keyboard_tail()
        .get(hw)
        .wrapping_sub(Bda::keyboard_head().get(hw));
    let used = if used > size {
        used.wrapping_add(size)
    } else {
        used
    };
    (size.saturating_sub(used) / 2).saturating_sub(1)
}

/// The key that [`take`] would give.
pub fn peek(hw: &impl PhysMem) -> Option<u16> {
    let head = Bda::keyboard_head().get(hw);
    (head != Bda::keyboard_tail().get(hw)).then(|| hw.read16(linear(0x40, head)))
}

/// Takes the oldest key out of the buffer.
pub fn take(hw: &impl PhysMem) -> Option<u16> {
    let key = peek(hw)?;
    let head = Bda::keyboard_head().get(hw);
    Bda::keyboard_head().set(hw, next(hw, head));
    Some(key)
}

/// Whether the buffer has a key that `wanted` accepts: it is then taken out, and those before it. Else the keys stay, but for the
/// oldest of a buffer that is full, so that another one can come.
pub fn take_first(hw: &impl PhysMem, wanted: impl Fn(u16) -> bool) -> bool {
    let tail = Bda::keyboard_tail().get(hw);
    let (start, end) = bounds(hw);
    let mut at = Bda::keyboard_head().get(hw);
    for _ in 0..(end - start) / 2 {
        if at == tail {
            break;
        }
        let key = hw.read16(linear(0x40, at));
        at = next(hw, at);
        if wanted(key) {
            Bda::keyboard_head().set(hw, at);
            return true;
        }
    }
    if free(hw) == 0 {
        take(hw);
    }
    false
}

/// Empties the buffer.
pub fn clear(hw: &impl PhysMem) {
    let (start, _) = bounds(hw);
    Bda::keyboard_head().set(hw, start);
    Bda::keyboard_tail().set(hw, start);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::bios::bda;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_pointers_in_the_data_area_are_survived(words: [u16; 4]) {
            let hw = Fake::default();
            Bda::keyboard_head().set(&hw, words[0]);
            Bda::keyboard_tail().set(&hw, words[1]);
            Bda::keyboard_start().set(&hw, words[2]);
            Bda::keyboard_end().set(&hw, words[3]);
            store(&hw, 1);
            take_first(&hw, |key| key == 2);
            take(&hw);
            clear(&hw);
        }
    }

    #[test]
    fn a_key_is_found_among_others() {
        let hw = Fake::default();
        bda::init(&hw, 0x9fc0, 639);
        for key in 0..20 {
            store(&hw, key);
            assert!(!take_first(&hw, |key| key == 99));
        }
        assert!(store(&hw, 99));
        assert!(take_first(&hw, |key| key == 98 || key == 99));
        assert_eq!(take(&hw), None);
    }

    #[test]
    fn keys_come_out_in_order() {
        let hw = Fake::default();
        bda::init(&hw, 0x9fc0, 639);
        for round in 0..40u16 {
            assert!(store(&hw, round) && store(&hw, round + 100));
            assert_eq!(take(&hw), Some(round));
            assert_eq!(take(&hw), Some(round + 100));
            assert_eq!(take(&hw), None);
            assert_eq!(free(&hw), 15);
        }
    }
}
