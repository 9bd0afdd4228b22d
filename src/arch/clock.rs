//! The time that waits go by: the ACPI power management timer where there is one, else the time-stamp counter.
//!
//! Sources: ACPI specification 6.5, 4.8.3.3 (the timer); Intel 8254 data sheet and IBM AT technical reference, port 61h (the
//! rate of the counter).

use super::hw::Ports;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

/// The interval timer's ticks a second.
pub const PIT_HZ: u32 = 1_193_182;
/// The timer's ticks a second.
const PM_TIMER_HZ: u64 = 3_579_545;
/// It has 24 bits at least.
const PM_TIMER_MASK: u32 = 0xff_ffff;
/// A port that nothing answers.
const NOTHING: u32 = u32::MAX;
/// How long the counter is believed after a look at the timer, which is an exit to a hypervisor: a guest that is moved to another
/// host finds another counter.
const BELIEVED_US: u64 = 1000;
/// What is too short to learn the counter's rate from, and what is so long, in ticks of any counter, that the timer may have gone
/// round meanwhile.
const LEARN_US: u64 = 20;
const LEARN_TICKS: u64 = 1 << 31;
/// The counter's ticks a microsecond, until it has been measured: no processor that runs us counts slower by much.
const ASSUMED_MHZ: u32 = 1000;

/// A clock that never goes backwards while somebody waits.
pub struct Timekeeper {
    /// The timer's port, 0 for none.
    pm_timer: AtomicU16,
    pm_last: AtomicU32,
    pm_total: AtomicU64,
    /// The counter at the last look at the timer, and its ticks a microsecond between looks, 0 where that is not known.
    pm_tsc: AtomicU64,
    pm_mhz: AtomicU64,
    /// The latest time that anybody was told.
    told_us: AtomicU64,
    /// The counter's ticks a microsecond, 0 where they have to be measured first.
    tsc_mhz: AtomicU32,
    /// The counter when it took over, and the time then.
    tsc_start: AtomicU64,
    start_us: AtomicU64,
}

impl Timekeeper {
    /// A clock before anything is known of the machine.
    #[expect(clippy::new_without_default, reason = "there is one, which is static")]
    pub const fn new() -> Self {
        Self {
            pm_timer: AtomicU16::new(0),
            pm_last: AtomicU32::new(0),
            pm_total: AtomicU64::new(0),
            pm_tsc: AtomicU64::new(0),
            pm_mhz: AtomicU64::new(0),
            told_us: AtomicU64::new(0),
            tsc_mhz: AtomicU32::new(ASSUMED_MHZ),
            tsc_start: AtomicU64::new(0),
            start_us: AtomicU64::new(0),
        }
    }

    /// Goes by the power management timer at port `pm_timer` from now on, or with 0 by the counter, at a rate that the first wait
    /// measures.
    pub fn set(&self, pm_timer: u16) {
        self.pm_timer.store(pm_timer, Relaxed);
        if pm_timer == 0 {
            self.tsc_mhz.store(0, Relaxed);
        }
    }

    /// Microseconds since some moment. `tsc` reads the time-stamp counter.
    pub fn now_us(&self, hw: &impl Ports, tsc: impl Fn() -> u64) -> u64 {
        let port = self.pm_timer.load(Relaxed);
        if port != 0 {
            if let Some(now) = self.since_pm_timer(tsc()) {
                return self.tell(now);
            }
            let now = hw.in32(port);
            if now != NOTHING {
                let now = self.by_pm_timer(now & PM_TIMER_MASK, tsc());
                return self.tell(now);
            }
            // The guest may have moved or disabled it.
            self.start_us.store(self.told_us.load(Relaxed), Relaxed);
            self.tsc_start.store(tsc(), Relaxed);
            self.set(0);
        }
        let mhz = match self.tsc_mhz.load(Relaxed) {
            0 => {
                let mhz = measure(hw, &tsc);
                self.tsc_mhz.store(mhz, Relaxed);
                mhz
            }
            mhz => mhz,
        };
        let passed = tsc().wrapping_sub(self.tsc_start.load(Relaxed));
        self.start_us.load(Relaxed) + passed / u64::from(mhz)
    }

    /// The time by the counter, soon after a look at the timer.
    fn since_pm_timer(&self, tsc: u64) -> Option<u64> {
        let mhz = self.pm_mhz.load(Relaxed);
        let passed = tsc.wrapping_sub(self.pm_tsc.load(Relaxed));
        (passed < mhz * BELIEVED_US).then(|| pm_us(self.pm_total.load(Relaxed)) + passed / mhz)
    }

    fn by_pm_timer(&self, now: u32, tsc: u64) -> u64 {
        let passed = now.wrapping_sub(self.pm_last.swap(now, Relaxed)) & PM_TIMER_MASK;
        let passed = u64::from(passed);
        let ticks = tsc.wrapping_sub(self.pm_tsc.swap(tsc, Relaxed));
        if pm_us(passed) >= LEARN_US && ticks < LEARN_TICKS {
            self.pm_mhz.store(ticks / pm_us(passed), Relaxed);
        }
        pm_us(self.pm_total.fetch_add(passed, Relaxed) + passed)
    }

    /// The two ways do not agree to the microsecond, and time does not go backwards.
    fn tell(&self, now: u64) -> u64 {
        self.told_us.fetch_max(now, Relaxed).max(now)
    }
}

fn pm_us(ticks: u64) -> u64 {
    ticks / PM_TIMER_HZ * 1_000_000 + ticks % PM_TIMER_HZ * 1_000_000 / PM_TIMER_HZ
}

/// The counter's ticks a microsecond, by channel 2 of the interval timer. What a guest has set that to, and the loudspeaker, is as it
/// was or silent afterwards.
fn measure(hw: &impl Ports, tsc: &impl Fn() -> u64) -> u32 {
    const SYSTEM_CONTROL_B: u16 = 0x61;
    const GATE: u8 = 1 << 0;
    const SPEAKER: u8 = 1 << 1;
    const OUTPUT: u8 = 1 << 5;
    const CONTROL: u16 = 0x43;
    const CHANNEL_2: u16 = 0x42;
    /// Channel 2, low byte then high byte, interrupt on terminal count, binary.
    const ONE_SHOT: u8 = 0xb0;
    const TICKS: u16 = 11_932;
    /// Far more reads than ten milliseconds hold.
    const MOST_READS: u32 = 1 << 20;
    let before = hw.in8(SYSTEM_CONTROL_B);
    hw.out8(SYSTEM_CONTROL_B, before & !(SPEAKER | GATE));
    hw.out8(CONTROL, ONE_SHOT);
    let [low, high] = TICKS.to_le_bytes();
    hw.out8(CHANNEL_2, low);
    hw.out8(CHANNEL_2, high);
    let is_over = || hw.in8(SYSTEM_CONTROL_B) & OUTPUT != 0;
    // Without a timer the output reads as what it will.
    let counts = !is_over();
    let start = tsc();
    hw.out8(SYSTEM_CONTROL_B, before & !SPEAKER | GATE);
    let over = counts && (0..MOST_READS).any(|_| is_over());
    let passed = tsc().wrapping_sub(start);
    hw.out8(SYSTEM_CONTROL_B, before & !SPEAKER);
    let us = u64::from(TICKS) * 1_000_000 / u64::from(PIT_HZ);
    match u32::try_from(passed / us) {
        Ok(mhz) if over && mhz > 0 => mhz,
        _ => ASSUMED_MHZ,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use core::cell::Cell;

    const PORT: u16 = 0x608;

    #[test]
    fn the_counter_takes_over_from_a_timer_that_goes_away() {
        let hw = Fake::default();
        let tsc = Cell::new(5_000_000);
        let clock = Timekeeper::new();
        clock.set(PORT);
        hw.script_port(PORT, &[0, 0xff_ffff, 3_579_544, u32::MAX]);
        // The counter says nothing of waits as long as these.
        let now = || {
            tsc.set(tsc.get() + LEARN_TICKS);
            clock.now_us(&hw, || tsc.get())
        };
        assert_eq!(now(), 0);
        now();
        // A wrap in between.
        assert_eq!(now(), 5_686_968);
        assert_eq!(now(), 5_686_968);
        let now = || clock.now_us(&hw, || tsc.get());
        tsc.set(tsc.get() + 7_000 * u64::from(ASSUMED_MHZ));
        assert_eq!(now(), 5_693_968);
    }

    #[test]
    fn the_counter_stands_in_for_the_timer_for_a_while() {
        let hw = Fake::default();
        let tsc = Cell::new(0);
        let clock = Timekeeper::new();
        clock.set(PORT);
        // 100 us, in which the counter goes on by 200,000; then the timer turns out to be slower than that.
        hw.script_port(PORT, &[0, 358, 3_000]);
        let now = |at: u64| {
            tsc.set(at);
            clock.now_us(&hw, || tsc.get())
        };
        assert_eq!(now(0), 0);
        assert_eq!(now(200_000), 100);
        let looks = hw.port_accesses.get();
        assert_eq!(now(202_020), 101);
        assert_eq!(now(2_000_000), 1000);
        assert_eq!(hw.port_accesses.get(), looks);
        assert_eq!(now(2_300_000), 1000);
        assert_eq!(hw.port_accesses.get(), looks + 1);
    }

    #[test]
    fn the_counters_rate_is_measured_once() {
        let hw = Fake::default();
        let tsc = Cell::new(0);
        let clock = Timekeeper::new();
        clock.set(0);
        // 30 million ticks in ten milliseconds.
        hw.script_port(0x61, &[0, 0, 0, 0x20, 0x20]);
        let read = || tsc.replace(tsc.get() + 30_000_000);
        let first = clock.now_us(&hw, read);
        let accesses = hw.port_accesses.get();
        assert_eq!(clock.now_us(&hw, read) - first, 10_000);
        assert_eq!(hw.port_accesses.get(), accesses);
    }

    #[test]
    fn time_goes_on_without_any_timer() {
        let hw = Fake::default();
        let tsc = Cell::new(0);
        let clock = Timekeeper::new();
        clock.set(0);
        let now = || clock.now_us(&hw, || tsc.replace(tsc.get() + 1000));
        let first = now();
        assert!(now() > first);
    }
}
