//! Waiting for a device when looking is expensive.

use crate::arch::Hardware;

/// Polls before the clock is asked: a device that answers at once costs no clock access.
const FREE_POLLS: u32 = 24;
/// Pauses between the first two polls, and most between later ones, so that a poll comes every 2 to 8 us at first, which is about
/// what one costs that a hypervisor's user process answers, and every 15 to 50 us at last.
const FIRST_PAUSES: u32 = 16;
const MOST_PAUSES: u32 = 128;

/// How often interrupts are served during a long wait: a tick of the timer is 55 ms, a byte of a serial port at 115,200 baud
/// 87 us, of which a FIFO holds 16.
const SERVE_US: u64 = 2000;

/// Asks `ready` until it answers something or `timeout_us` have passed, ever more sparsely.
///
/// Each register read is a VM exit, and while the hypervisor serves it the device's own thread may have to wait. So the polls
/// begin close together, for a device that is already done, and then leave it alone. A long wait serves interrupts, where that is
/// allowed.
pub fn sparsely<T>(
    hw: &impl Hardware,
    timeout_us: u64,
    mut ready: impl FnMut() -> Option<T>,
) -> Option<T> {
    let mut pauses = FIRST_PAUSES;
    let mut times = None;
    let mut polls = 0;
    loop {
        if let Some(value) = ready() {
            return Some(value);
        }
        polls += 1;
        if polls > FREE_POLLS {
            let now = hw.now_us();
            let (start, served) = times.get_or_insert((now, now));
            if now.wrapping_sub(*start) >= timeout_us {
                return ready();
            }
            if now.wrapping_sub(*served) >= SERVE_US {
                hw.serve_interrupts();
                *served = hw.now_us();
            }
        }
        for _ in 0..pauses {
            hw.relax();
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
