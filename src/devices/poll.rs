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

/// What a long wait does beside looking.
#[derive(Default)]
struct Watch {
    /// When it began, and when interrupts were served last.
    times: Option<(u64, u64)>,
}

impl Watch {
    /// Whether `timeout_us` have passed since this was first asked. Serves interrupts now and then, where that is allowed.
    fn is_over(&mut self, hw: &impl Hardware, timeout_us: u64) -> bool {
        let now = hw.now_us();
        let (start, served) = self.times.get_or_insert((now, now));
        if now.wrapping_sub(*start) >= timeout_us {
            return true;
        }
        if now.wrapping_sub(*served) >= SERVE_US {
            hw.serve_interrupts();
            *served = hw.now_us();
        }
        false
    }
}

fn relax(hw: &impl Hardware, pauses: u32) {
    for _ in 0..pauses {
        hw.relax();
    }
}

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
    let mut watch = Watch::default();
    let mut polls = 0;
    loop {
        if let Some(value) = ready() {
            return Some(value);
        }
        polls += 1;
        if polls > FREE_POLLS && watch.is_over(hw, timeout_us) {
            return ready();
        }
        relax(hw, pauses);
        pauses = (pauses * 2).min(MOST_PAUSES);
    }
}

/// How long a device usually takes, learnt from how long it took: for so long it is left alone before the first look, so that most
/// waits cost one. It is what four of five waits took: on a host with other work some take many times as long, and a look at what is
/// not done yet costs less than to wait so long always.
#[derive(Clone, Copy, Debug)]
pub struct Habit {
    /// Pauses, in units of [`Habit::UNIT`].
    expected: u32,
}

impl Habit {
    const UNIT: u32 = 256;
    /// Before anything is known: 24 to 100 us, in which few disks answer of a hypervisor that has to ask its host.
    const FIRST: u32 = 192;
    /// That of a device that has not been used yet.
    pub const UNKNOWN: Self = Self {
        expected: Self::FIRST * Self::UNIT,
    };
    /// Most pauses before the first look, and most between later ones.
    const MOST_AT_FIRST: u32 = 1024;
    const MOST_BETWEEN: u32 = 2048;
    /// Looks before the clock is asked.
    const FREE_LOOKS: u32 = 6;

    /// As [`sparsely`], for a device that is never done at once. The second look comes after half the time of the first, and later
    /// ones ever more sparsely.
    pub fn wait<T>(
        &mut self,
        hw: &impl Hardware,
        timeout_us: u64,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let first = self.expected / Self::UNIT;
        relax(hw, first);
        let mut pauses = first / 2 + 1;
        let mut watch = Watch::default();
        let mut looks = 0;
        let result = loop {
            looks += 1;
            if let Some(value) = ready() {
                break Some(value);
            }
            if looks > Self::FREE_LOOKS && watch.is_over(hw, timeout_us) {
                break ready();
            }
            relax(hw, pauses);
            pauses = (pauses * 2).min(Self::MOST_BETWEEN);
        };
        self.learn(looks);
        result
    }

    /// A wait took so many looks. Where one of five takes more than one, that is as much as the others take away, however long it was.
    fn learn(&mut self, looks: u32) {
        self.expected = match looks {
            1 => self.expected - self.expected / 64,
            _ => self.expected + self.expected / 16,
        }
        .clamp(Self::UNIT, Self::MOST_AT_FIRST * Self::UNIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Clock;
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

    /// What a device that always takes `pauses` costs: looks in all of `waits`.
    fn looks(habit: &mut Habit, waits: u32, pauses: u64) -> u32 {
        looks_at(habit, waits, |_| pauses)
    }

    /// The same, where `pauses` says it of each wait.
    fn looks_at(habit: &mut Habit, waits: u32, pauses: impl Fn(u32) -> u64) -> u32 {
        let hw = Fake::default();
        let mut looks = 0;
        for wait in 0..waits {
            let start = hw.now_us();
            let ended = habit.wait(&hw, 1_000_000, || {
                looks += 1;
                (hw.now_us() - start >= pauses(wait)).then_some(())
            });
            assert!(ended.is_some());
        }
        looks
    }

    #[test]
    fn a_device_is_mostly_looked_at_once_when_its_habit_is_known() {
        let mut habit = Habit::UNKNOWN;
        for pauses in [500, 100, 900, 20] {
            looks(&mut habit, 500, pauses);
            let looks = looks(&mut habit, 500, pauses);
            assert!((500..625).contains(&looks), "{pauses}: {looks}");
            let expected = u64::from(habit.expected / Habit::UNIT);
            assert!(expected * 8 < pauses * 10, "{pauses}: {expected}");
        }
    }

    #[test]
    fn waits_that_are_sometimes_long_do_not_make_the_others_long() {
        let mut habit = Habit::UNKNOWN;
        looks_at(
            &mut habit,
            1000,
            |wait| if wait % 8 == 0 { 5000 } else { 300 },
        );
        // Each look takes 100 pauses of the fake's.
        let expected = habit.expected / Habit::UNIT;
        assert!((180..260).contains(&expected), "{expected}");
    }

    #[test]
    fn a_slow_device_is_looked_at_seldom_and_no_longer_than_the_deadline() {
        let mut habit = Habit::UNKNOWN;
        assert!(looks(&mut habit, 1, 1000) < 8);
        assert!(looks(&mut habit, 1, 100_000) < 60);
        let hw = Fake::default();
        assert_eq!(habit.wait(&hw, 1000, || None::<()>), None);
        assert!(hw.now_us() < 20_000);
    }
}
