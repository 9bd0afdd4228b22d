//! INT 15h AH=83h and AH=86h: waiting for a time, counted by the real-time clock's periodic interrupt (INT 70h).
//!
//! Source: IBM PS/2 and PC BIOS Interface Technical Reference, interrupt 15h, AH=83h and 86h.

use crate::arch::{Frame, Hardware, Outcome};
use crate::bios::Bios;
use crate::bios::bda::{self, Bda};
use crate::devices::{pic, rtc};
use spin::Mutex;

/// AH: a wait already runs.
const BUSY: u8 = 0x83;
/// The wait flag runs: 40:A0 bit 0.
const ACTIVE: u8 = 1 << 0;
/// The wait is over: bit 7 of 40:A0 and of the byte the caller named.
const ELAPSED: u8 = 1 << 7;

/// Who waits in AH=86h: the stack pointer of the call, which is the same each time the call is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    ss: u16,
    esp: u32,
}

impl Waiter {
    /// The waiter behind `frame`.
    pub fn of(frame: &Frame) -> Self {
        Self {
            ss: frame.ss,
            esp: frame.esp,
        }
    }
}

/// A service that gives up after some timer ticks: who waits, and since which tick.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    waiter: Waiter,
    since: u32,
}

/// How long a call polls before it lets interrupts in.
const POLL_US: u64 = 2_000;

impl Deadline {
    /// Polls for what the call behind `frame` waits for. Where it does not come soon, says what to do: `Err(Some)` is how to
    /// go on waiting, `Err(None)` that the caller has waited for more than `ticks`.
    ///
    /// # Errors
    /// It has not come.
    pub fn poll<H: Hardware, T>(
        bios: &Mutex<Bios>,
        hw: &H,
        frame: &Frame,
        ticks: u8,
        ready: impl FnMut() -> Option<T>,
    ) -> Result<T, Option<Outcome>> {
        let ready = hw.wait_for(POLL_US, ready);
        let deadline = &mut bios.lock().services.deadline;
        match ready {
            Some(ready) => {
                *deadline = None;
                Ok(ready)
            }
            None if Self::passed(deadline, hw, frame, ticks.into()) => Err(None),
            None => Err(Some(Outcome::WaitForInterrupt)),
        }
    }

    /// Whether the caller behind `frame` has waited for more than `ticks`; its wait starts with the first time this is asked,
    /// and ends with the answer true. `slot` is where the deadline is kept.
    fn passed(slot: &mut Option<Self>, hw: &impl Hardware, frame: &Frame, ticks: u32) -> bool {
        let (waiter, now) = (Waiter::of(frame), Bda::ticks().get(hw));
        match slot {
            Some(deadline) if deadline.waiter == waiter => {
                // At midnight the ticks start again at zero; the wait then does as well.
                let passed = now.checked_sub(deadline.since);
                deadline.since = passed.map_or(now, |_| deadline.since);
                let over = passed.is_some_and(|passed| passed > ticks);
                if over {
                    *slot = None;
                }
                over
            }
            _ => {
                *slot = Some(Self { waiter, since: now });
                false
            }
        }
    }
}

/// Starts a wait of `us` microseconds that ends by setting bit 7 of the byte at `flag`; false where one runs already.
fn start(hw: &impl Hardware, us: u32, flag: [u16; 2]) -> bool {
    if Bda::wait_active().get(hw) & ACTIVE != 0 {
        return false;
    }
    Bda::wait_active().set(hw, ACTIVE);
    Bda::wait_left().set(hw, us);
    Bda::wait_flag().set(hw, flag);
    rtc::set_periodic(hw, true);
    pic::unmask(hw, pic::irq::RTC);
    true
}

fn stop(hw: &impl Hardware) {
    Bda::wait_active().set(hw, 0);
    rtc::set_periodic(hw, false);
}

/// AH=83h: sets a flag in the caller's memory when the time has passed, or gives that up.
pub fn event(hw: &impl Hardware, frame: &mut Frame) {
    match frame.al() {
        0 => {
            if !start(hw, microseconds(frame), [frame.bx(), frame.es]) {
                return frame.fail(BUSY);
            }
        }
        1 => stop(hw),
        _ => return frame.fail(super::UNSUPPORTED),
    }
    frame.succeed();
}

/// AH=86h: returns when the time has passed.
pub fn wait<H: Hardware>(bios: &Mutex<Bios>, hw: &H, frame: &mut Frame) -> Outcome {
    let me = Some(Waiter::of(frame));
    let mut bios = bios.lock();
    let active = Bda::wait_active().get(hw);
    if bios.services.waiter == me && active & (ACTIVE | ELAPSED) != 0 {
        if active & ELAPSED == 0 {
            return Outcome::WaitForInterrupt;
        }
        Bda::wait_active().set(hw, 0);
        bios.services.waiter = None;
        frame.succeed();
        return Outcome::Return;
    }
    let own_flag = [0xa0, 0x40];
    if !start(hw, microseconds(frame), own_flag) {
        frame.fail(BUSY);
        return Outcome::Return;
    }
    bios.services.waiter = me;
    Outcome::WaitForInterrupt
}

fn microseconds(frame: &Frame) -> u32 {
    u32::from(frame.cx()) << 16 | u32::from(frame.dx())
}

/// One periodic interrupt has come: counts down, and posts the end.
pub fn tick(hw: &impl Hardware) {
    if Bda::wait_active().get(hw) & ACTIVE == 0 {
        return;
    }
    let left = Bda::wait_left().get(hw);
    if left > rtc::PERIOD_US {
        Bda::wait_left().set(hw, left - rtc::PERIOD_US);
        return;
    }
    stop(hw);
    Bda::wait_left().set(hw, 0);
    let flag = bda::far_pointer(Bda::wait_flag().get(hw));
    hw.write8(flag, hw.read8(flag) | ELAPSED);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::PhysMem;
    use crate::arch::fake::Fake;
    use crate::bios::tests::bios;

    fn frame(ax: u32, us: u32) -> Frame {
        Frame {
            eax: ax,
            ecx: us >> 16,
            edx: us & 0xffff,
            es: 0x2000,
            ebx: 4,
            ..Frame::default()
        }
    }

    #[test]
    fn waits_as_many_periods_as_it_takes() {
        let (hw, bios) = (Fake::default(), bios());
        let mut call = frame(0x8600, 3000);
        for _ in 0..4 {
            assert_eq!(wait(&bios, &hw, &mut call), Outcome::WaitForInterrupt);
            tick(&hw);
        }
        assert_eq!(wait(&bios, &hw, &mut call), Outcome::Return);
        assert_eq!(call.ah(), 0);
        assert_eq!(wait(&bios, &hw, &mut call), Outcome::WaitForInterrupt);
    }

    #[test]
    fn only_one_wait_at_a_time() {
        let (hw, bios) = (Fake::default(), bios());
        let mut call = frame(0x8300, 1000);
        event(&hw, &mut call);
        assert_eq!(call.ah(), 0);
        let mut other = frame(0x8600, 1000);
        assert_eq!(wait(&bios, &hw, &mut other), Outcome::Return);
        assert_eq!(other.ah(), BUSY);
        tick(&hw);
        assert_eq!(hw.read8(0x20004), 0);
        tick(&hw);
        assert_eq!(hw.read8(0x20004), ELAPSED);
        assert_eq!(wait(&bios, &hw, &mut other), Outcome::WaitForInterrupt);
    }

    #[test]
    fn an_event_can_be_given_up() {
        let hw = Fake::default();
        event(&hw, &mut frame(0x8300, 1000));
        event(&hw, &mut frame(0x8301, 0));
        assert_eq!(Bda::wait_active().get(&hw), 0);
    }
}
