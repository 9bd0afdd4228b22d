//! Which sectors are read before they are asked for: boot loaders read a kernel and its initial RAM disk from one end to the other,
//! in pieces of 32 or 64 KiB, and an exchange with the back end costs more than the data of several pieces.

use core::ops::Range;

/// For how long what was read counts, in microseconds: nobody tells us what others write to the medium.
const FRESH_US: u64 = 500_000;

/// What is held of a disk, and how it is being read. Sectors are counted in any unit, as long as it is the same.
#[derive(Debug, Default)]
pub struct Ahead {
    held: Range<u64>,
    held_us: u64,
    /// The reads up to the last one, each of which began where the one before had ended.
    run: Range<u64>,
}

impl Ahead {
    /// Takes note of a read. Returns how far into what is held it begins, where it is all there; only then is the clock asked.
    pub fn find(&mut self, wanted: &Range<u64>, now_us: impl FnOnce() -> u64) -> Option<u64> {
        self.run = match wanted.start == self.run.end {
            true => self.run.start..wanted.end,
            false => wanted.clone(),
        };
        let held = self.held.start <= wanted.start && wanted.end <= self.held.end;
        let fresh = || now_us().wrapping_sub(self.held_us) < FRESH_US;
        (held && fresh()).then(|| wanted.start - self.held.start)
    }

    /// How much to read for `wanted`, of which [`find`](Self::find) took note: as much again as was read in one go, in whole reads
    /// like this one, and no more than `most`, nor beyond `end`.
    pub fn extent(&self, wanted: &Range<u64>, most: u64, end: u64) -> Range<u64> {
        let len = wanted.end - wanted.start;
        let room = most.min(end.saturating_sub(wanted.start));
        let again = (self.run.end - self.run.start).min(room);
        let times = again.checked_div(len).unwrap_or(0).max(1);
        wanted.start..wanted.start + times * len
    }

    /// So much is held from now on.
    pub fn hold(&mut self, range: Range<u64>, now_us: u64) {
        (self.held, self.held_us) = (range, now_us);
    }

    /// Nothing is held any more.
    pub fn forget(&mut self) {
        self.held = 0..0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 512;
    const END: u64 = 10_000;

    /// The reads that reach the disk when `count` reads of `len` sectors from `start` on are asked for.
    fn reads(ahead: &mut Ahead, start: u64, len: u64, count: u64) -> Vec<Range<u64>> {
        let mut reads = Vec::new();
        for index in 0..count {
            let wanted = start + index * len..start + (index + 1) * len;
            if ahead.find(&wanted, || 0).is_none() {
                let range = ahead.extent(&wanted, MOST, END);
                assert!(range.start == wanted.start && range.end >= wanted.end);
                ahead.hold(range.clone(), 0);
                reads.push(range);
            }
        }
        reads
    }

    #[test]
    fn what_is_read_in_one_go_comes_in_ever_larger_pieces() {
        let mut ahead = Ahead::default();
        let expected = [64..128, 128..256, 256..512, 512..1024, 1024..1536];
        assert_eq!(reads(&mut ahead, 64, 64, 22), expected);
        // Whole reads, so that none is in two pieces.
        let pieces = reads(&mut Ahead::default(), 1000, 127, 12);
        assert!(
            pieces
                .iter()
                .all(|piece| (piece.end - piece.start) % 127 == 0)
        );
        assert_eq!(pieces.len(), 5);
    }

    #[test]
    fn reads_here_and_there_fetch_what_is_asked_for_and_find_it_again() {
        let mut ahead = Ahead::default();
        for start in [500, 90, 3000, 91] {
            let pieces = reads(&mut ahead, start, 8, 1);
            assert_eq!((pieces.len(), &pieces[0]), (1, &(start..start + 8)));
        }
        assert!(reads(&mut ahead, 92, 4, 1).is_empty());
        assert_eq!(ahead.find(&(95..97), || 0), Some(4));
        assert_eq!(ahead.find(&(95..100), || 0), None);
    }

    #[test]
    fn what_is_held_ages_and_is_forgotten() {
        let mut ahead = Ahead::default();
        ahead.hold(8..16, 1000);
        assert_eq!(ahead.find(&(8..16), || 1000 + FRESH_US - 1), Some(0));
        assert_eq!(ahead.find(&(8..16), || 1000 + FRESH_US), None);
        ahead.hold(8..16, 1000);
        ahead.forget();
        assert_eq!(ahead.find(&(8..16), || 1000), None);
    }

    #[test]
    fn the_disk_and_the_memory_end() {
        let mut ahead = Ahead::default();
        let pieces = reads(&mut ahead, END - 640, 64, 10);
        assert_eq!(pieces.last().unwrap().end, END);
        let beyond = END - 1..END + 7;
        assert_eq!(ahead.find(&beyond, || 0), None);
        assert_eq!(ahead.extent(&beyond, MOST, END), beyond);
        let long = 0..2 * MOST;
        assert_eq!(ahead.find(&long, || 0), None);
        assert_eq!(ahead.extent(&long, MOST, END), long);
    }
}
