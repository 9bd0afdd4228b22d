//! Memory that the page tables of the start do not map: where it is shown.

use crate::units::{FOUR_GIB, GIB};

/// Bytes that one level-4 entry maps, all that the page tables have.
const MAPPED: u64 = 512 * GIB;

/// How an address from 4 GiB up can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Where it says.
    Mapped {
        /// Bytes that can be reached from there.
        bytes: u64,
    },
    /// In the window, which is one gigabyte that shows another.
    Window {
        /// Where the window is.
        at: u64,
        /// What it has to show: a multiple of 1 GiB.
        shows: u64,
        /// Bytes that can be reached from there.
        bytes: u64,
    },
}

/// How `addr`, 4 GiB at least, can be reached. With `large_pages`, of 1 GiB, everything is mapped but for the last gigabyte of the
/// first 512, where the window is; without them what is below 4 GiB, behind which the window is.
pub fn reach(addr: u64, large_pages: bool) -> Reach {
    let at = if large_pages { MAPPED - GIB } else { FOUR_GIB };
    if addr < at {
        return Reach::Mapped { bytes: at - addr };
    }
    let shows = addr & !(GIB - 1);
    Reach::Window {
        at,
        shows,
        bytes: shows + (GIB - 1) - addr + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_window_hides_nothing_that_is_mapped(addr in FOUR_GIB..1 << 52, large_pages: bool) {
            match reach(addr, large_pages) {
                Reach::Mapped { bytes } => {
                    let Reach::Window { at, .. } = reach(addr + bytes, large_pages) else {
                        return Err(TestCaseError::fail("mapped for ever"));
                    };
                    prop_assert_eq!(addr + bytes, at);
                }
                Reach::Window { at, shows, bytes } => {
                    prop_assert!(addr >= at && at + GIB <= MAPPED);
                    prop_assert!(shows.is_multiple_of(GIB) && (shows..shows + GIB).contains(&addr));
                    prop_assert_eq!(addr + bytes, shows + GIB);
                }
            }
        }
    }

    #[test]
    fn the_last_byte_there_is() {
        let Reach::Window { bytes, .. } = reach(u64::MAX, true) else {
            panic!("not in the window");
        };
        assert_eq!(bytes, 1);
    }
}
