//! INT 1Ah: time of day; and INT 70h, the real-time clock's interrupt.
//!
//! Source: IBM PS/2 and PC BIOS Interface Technical Reference, interrupts 1Ah and 70h.

use super::Bios;
use super::bda::Bda;
use super::int15::wait;
use super::pcibios;
use crate::arch::{Frame, Hardware, Outcome, RealRegs};
use crate::devices::rtc::{Date, Time};
use crate::devices::{pic, pit, rtc};
use spin::Mutex;

/// The alarm's interrupt, the guest's own.
const INT_ALARM: u8 = 0x4a;

/// Serves one call.
pub fn serve<H: Hardware>(bios: &Mutex<Bios>, hw: &H, frame: &mut Frame) -> Outcome {
    let worked = match frame.ah() {
        0x00 => {
            let ticks = Bda::ticks().get(hw);
            frame.set_cx((ticks >> 16) as u16);
            frame.set_dx(ticks as u16);
            frame.set_al(Bda::midnight().get(hw));
            Bda::midnight().set(hw, 0);
            frame.set_carry(false);
            return Outcome::Return;
        }
        0x01 => {
            Bda::ticks().set(hw, u32::from(frame.cx()) << 16 | u32::from(frame.dx()));
            Bda::midnight().set(hw, 0);
            true
        }
        0x02 => read_time(hw, frame),
        0x03 => set_time(hw, frame),
        0x04 => read_date(hw, frame),
        0x05 => set_date(hw, frame),
        0x06 => {
            let set = rtc::set_alarm(hw, frame.ch(), frame.cl(), frame.dh()).is_ok();
            if set {
                pic::unmask(hw, pic::irq::RTC);
            }
            set
        }
        0x07 => {
            rtc::clear_alarm(hw);
            true
        }
        0xb1 => {
            pcibios::serve(bios, hw, frame);
            return Outcome::Return;
        }
        _ => false,
    };
    if worked {
        frame.succeed();
    } else {
        frame.set_carry(true);
    }
    Outcome::Return
}

fn read_time(hw: &impl Hardware, frame: &mut Frame) -> bool {
    let Ok(time) = rtc::time(hw) else {
        return false;
    };
    frame.set_ch(time.hours);
    frame.set_cl(time.minutes);
    frame.set_dh(time.seconds);
    frame.set_dl(time.daylight_saving.into());
    frame.set_al(time.hours);
    true
}

fn set_time(hw: &impl Hardware, frame: &Frame) -> bool {
    rtc::set_time(
        hw,
        Time {
            hours: frame.ch(),
            minutes: frame.cl(),
            seconds: frame.dh(),
            daylight_saving: frame.dl() & 1 != 0,
        },
    );
    true
}

fn read_date(hw: &impl Hardware, frame: &mut Frame) -> bool {
    let Ok(date) = rtc::date(hw) else {
        return false;
    };
    frame.set_ch(date.century);
    frame.set_cl(date.year);
    frame.set_dh(date.month);
    frame.set_dl(date.day);
    frame.set_al(date.century);
    true
}

fn set_date(hw: &impl Hardware, frame: &Frame) -> bool {
    rtc::set_date(
        hw,
        Date {
            century: frame.ch(),
            year: frame.cl(),
            month: frame.dh(),
            day: frame.dl(),
        },
    );
    true
}

/// Sets the clock up, and 40:6C by it.
pub fn init(hw: &impl Hardware) {
    match rtc::init(hw) {
        Ok(seconds) => Bda::ticks().set(hw, pit::ticks(seconds).min(pit::TICKS_PER_DAY - 1)),
        Err(rtc::Busy) => log::warn!(
            "the real-time clock does not end its update; the time of day starts at midnight"
        ),
    }
}

/// INT 70h: counts a timed wait down, and tells the guest about the alarm.
pub fn interrupt(hw: &impl Hardware) {
    let pending = rtc::pending(hw);
    if pending & rtc::PERIODIC != 0 {
        wait::tick(hw);
    }
    if pending & rtc::ALARM != 0 {
        hw.call_int(INT_ALARM, &mut RealRegs::default());
    }
    pic::end_of_interrupt(hw, pic::irq::RTC);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::arch::frame::CARRY;
    use crate::bios::tests::bios;

    fn call(hw: &Fake, ax: u32) -> Frame {
        let mut frame = Frame {
            eax: ax,
            ecx: 0x12,
            edx: 0x3456,
            ..Frame::default()
        };
        serve(&bios(), hw, &mut frame);
        frame
    }

    #[test]
    fn ticks_and_midnight() {
        let hw = Fake::default();
        call(&hw, 0x0100);
        assert_eq!(Bda::ticks().get(&hw), 0x12_3456);
        Bda::midnight().set(&hw, 1);
        let frame = call(&hw, 0x0000);
        assert_eq!((frame.al(), frame.cx(), frame.dx()), (1, 0x12, 0x3456));
        assert_eq!(call(&hw, 0x0000).al(), 0);
    }

    #[test]
    fn a_stuck_clock_and_unknown_functions_set_carry() {
        let hw = Fake::default();
        assert_eq!(call(&hw, 0x0200).flags & CARRY, CARRY);
        let frame = call(&hw, 0x7755);
        assert_eq!((frame.ax(), frame.flags & CARRY), (0x7755, CARRY));
    }

    #[test]
    fn the_alarm_reaches_the_guest() {
        let hw = Fake::default();
        hw.script_port(0x71, &[0x22, 0x20]);
        interrupt(&hw);
        assert_eq!(hw.real_calls.borrow()[0].0, Some(INT_ALARM));
        assert_eq!(hw.port_writes.borrow().last(), Some(&(0x20, 0x20)));
    }
}
