//! Images with changes in them.

use crate::tree;
use firstlight_disk::{ReadAt, Result};
use std::cell::RefCell;
use std::rc::Rc;

/// Where an image is not zero: changes there matter.
pub fn places(image: &[u8]) -> Vec<usize> {
    image
        .chunks(64)
        .enumerate()
        .filter(|(_, chunk)| chunk.iter().any(|&byte| byte != 0))
        .map(|(index, _)| index * 64)
        .collect()
}

/// Changes to some bytes, with a liking for the values that break sums.
pub fn damage(places: &[usize], random: &mut tree::Random) -> Vec<(usize, u8)> {
    let mut changes = Vec::new();
    for _ in 0..1 + random.below(12) {
        let at = places[random.below(places.len())] + random.below(64);
        let width = [1, 2, 4, 8][random.below(4)];
        let value = match random.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << random.below(64),
            3 => random.below(300) as u64,
            _ => random.next(),
        };
        let value = if random.below(2) == 0 {
            value.to_le_bytes()
        } else {
            value.rotate_right(width as u32 * 8).to_be_bytes()
        };
        changes.extend((at..).zip(value).take(width));
    }
    changes
}

/// An image with changes: always the same ones, or others with some of the reads.
pub struct Damaged {
    pub good: Rc<Vec<u8>>,
    pub places: Rc<Vec<usize>>,
    pub changes: RefCell<Vec<(usize, u8)>>,
    /// Where the others come from.
    pub random: Option<RefCell<tree::Random>>,
}

impl ReadAt for Damaged {
    fn size(&self) -> u64 {
        self.good.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.good.read_at(offset, buffer)?;
        if let Some(random) = &self.random {
            let mut random = random.borrow_mut();
            if random.below(4) == 0 {
                *self.changes.borrow_mut() = damage(&self.places, &mut random);
            }
        }
        for &(at, value) in self.changes.borrow().iter() {
            let within = at.checked_sub(offset as usize);
            if let Some(byte) = within.and_then(|within| buffer.get_mut(within)) {
                *byte = value;
            }
        }
        Ok(())
    }
}
