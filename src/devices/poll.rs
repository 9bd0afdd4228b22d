//! Waiting for a device when looking is expensive.

use crate::arch::Clock;

/// Polls before the clock is asked: a device that answers at once costs no clock access.
const FREE_POLLS: u32 = 24;
/// Most pauses between two polls. A pause takes some 40 to 150 cycles, so that a poll comes every 15 to 50 us at last.
const MOST_PAUSES: u32 = 1024;

/// Asks `ready` until it answers something or `timeout_us` have passed, ever more sparsely.
///
/// Each register read is a VM exit, and while the hypervisor serves it the device's own thread may have to wait. So the polls
/// begin close together, for a device that is already done, and then leave it alone.
pub fn sparsely<T>(
    clock: &impl Clock,
    timeout_us: u64,
    mut ready: impl FnMut() -> Option<T>,
) -> Option<T> {
    let mut pauses = 8;
    let mut start = None;
    let mut polls = 0;
    loop {
        if let Some(value) = ready() {
            return Some(value);
        }
        polls += 1;
        if polls > FREE_POLLS {
            let now = clock.now_us();
            if now.wrapping_sub(*start.get_or_insert(now)) >= timeout_us {
                return ready();
            }
        }
        for _ in 0..pauses {
            clock.relax();
        }
        pauses = (pauses * 2).min(MOST_PAUSES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;

    #[test]
    fn answers_or_gives_up() {
        let hw = Fake::default();
        let mut polls = 0;
        let third = sparsely(&hw, 1000, || {
            polls += 1;
            (polls == 3).then_some(polls)
        });
        assert_eq!(third, Some(3));
        assert_eq!(sparsely(&hw, 1000, || None::<()>), None);
    }
}
