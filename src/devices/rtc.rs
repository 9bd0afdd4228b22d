//! The real-time clock and its CMOS memory (Motorola MC146818A data sheet; ACPI names of the century register).

use crate::arch::{Clock, Ports};

/// Port that says which byte.
pub const INDEX: u16 = 0x70;
/// Beside the byte: holds non-maskable interrupts back.
pub const NMI_OFF: u8 = 1 << 7;
/// Port of the byte.
pub const DATA: u16 = 0x71;

const SECONDS: u8 = 0x00;
const SECONDS_ALARM: u8 = 0x01;
const MINUTES: u8 = 0x02;
const MINUTES_ALARM: u8 = 0x03;
const HOURS: u8 = 0x04;
const HOURS_ALARM: u8 = 0x05;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
/// Why the clock interrupts; reading it lets it do so again.
pub const STATUS_C: u8 = 0x0c;
const CENTURY: u8 = 0x32;
/// What a reset is for (IBM AT technical reference); firmware sets a byte of its own for S3.
pub const SHUTDOWN: u8 = 0x0f;
/// RAM above 1 MiB in KiB, two bytes.
pub const ABOVE_1_MIB: u8 = 0x30;
/// RAM above 16 MiB and below 4 GiB in units of 64 KiB, two bytes.
pub const ABOVE_16_MIB: u8 = 0x34;
/// RAM above 4 GiB in units of 64 KiB, three bytes.
pub const ABOVE_4_GIB: u8 = 0x5b;

/// Status A: 32.768 kHz time base, periodic interrupt at 1024 Hz.
const STATUS_A_DEFAULT: u8 = 0x26;
const UPDATE_IN_PROGRESS: u8 = 1 << 7;
/// Status B: hold updates while the time is set.
const SET: u8 = 1 << 7;
/// Status B: periodic interrupt enable.
pub const PERIODIC: u8 = 1 << 6;
/// Status B: alarm interrupt enable.
pub const ALARM: u8 = 1 << 5;
/// Status B: the time is binary, not BCD.
const BINARY: u8 = 1 << 2;
/// Status B: 24 hours, not twice 12.
const HOURS_24: u8 = 1 << 1;
/// Status B: daylight saving.
const DAYLIGHT_SAVING: u8 = 1 << 0;
/// In 12-hour mode: afternoon.
const AFTERNOON: u8 = 1 << 7;

/// An update takes 1984 µs at most; with a generous margin.
const UPDATE_TIMEOUT_US: u64 = 15_000;

/// Microseconds between two periodic interrupts.
pub const PERIOD_US: u32 = 976;

/// The clock did not finish an update within 15 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// A time of day, in BCD as INT 1Ah has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// Hours, 00h to 23h.
    pub hours: u8,
    /// Minutes, 00h to 59h.
    pub minutes: u8,
    /// Seconds, 00h to 59h.
    pub seconds: u8,
    /// Daylight saving is on.
    pub daylight_saving: bool,
}

/// A date, in BCD as INT 1Ah has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Century, 19h or 20h.
    pub century: u8,
    /// Year in the century.
    pub year: u8,
    /// Month, 01h to 12h.
    pub month: u8,
    /// Day, 01h to 31h.
    pub day: u8,
}

/// Reads CMOS byte `index` (0 to 7Fh).
pub fn read(hw: &impl Ports, index: u8) -> u8 {
    hw.out8(INDEX, index & !NMI_OFF);
    hw.in8(DATA)
}

/// Writes CMOS byte `index` (0 to 7Fh).
pub fn write(hw: &impl Ports, index: u8, value: u8) {
    hw.out8(INDEX, index & !NMI_OFF);
    hw.out8(DATA, value);
}

fn change(hw: &impl Ports, index: u8, clear: u8, set: u8) -> u8 {
    let old = read(hw, index);
    let new = old & !clear | set;
    if new != old {
        write(hw, index, new);
    }
    old
}

/// Sets the time base and 24-hour mode, and leaves the time as it is. What a reset leaves so costs no write, and pending interrupts are
/// gone by it (data sheet, "RESET"). Returns the seconds since midnight, for which it asks no register twice.
///
/// # Errors
/// [`Busy`] where an update does not end.
pub fn init(hw: &(impl Ports + Clock)) -> Result<u32, Busy> {
    let status_a = change(hw, STATUS_A, !UPDATE_IN_PROGRESS, STATUS_A_DEFAULT);
    let status_b = change(hw, STATUS_B, SET | PERIODIC | ALARM, HOURS_24);
    if status_a & UPDATE_IN_PROGRESS != 0 {
        settle(hw)?;
    }
    Ok(time_by(hw, status_b & !SET | HOURS_24).seconds_of_day())
}

/// Waits for the end of an update, since the time is undefined while one runs.
fn settle(hw: &(impl Ports + Clock)) -> Result<(), Busy> {
    hw.wait_for(UPDATE_TIMEOUT_US, || {
        (read(hw, STATUS_A) & UPDATE_IN_PROGRESS == 0).then_some(())
    })
    .ok_or(Busy)
}

/// What the registers hold, as BCD.
fn to_bcd(value: u8, status_b: u8) -> u8 {
    if status_b & BINARY == 0 {
        value
    } else {
        ((value / 10 % 10) << 4) | (value % 10)
    }
}

/// A BCD value in the form the registers hold.
fn from_bcd(value: u8, status_b: u8) -> u8 {
    if status_b & BINARY == 0 {
        value
    } else {
        bcd_to_binary(value)
    }
}

/// The number that a BCD byte stands for.
pub fn bcd_to_binary(value: u8) -> u8 {
    (value >> 4).wrapping_mul(10).wrapping_add(value & 0xf)
}

fn hours_to_bcd(value: u8, status_b: u8) -> u8 {
    if status_b & HOURS_24 != 0 {
        return to_bcd(value, status_b);
    }
    let hours = bcd_to_binary(to_bcd(value & !AFTERNOON, status_b)) % 12;
    let hours = hours + if value & AFTERNOON == 0 { 0 } else { 12 };
    to_bcd(hours, BINARY)
}

/// The time of day.
///
/// # Errors
/// [`Busy`] where an update does not end.
pub fn time(hw: &(impl Ports + Clock)) -> Result<Time, Busy> {
    settle(hw)?;
    Ok(time_by(hw, read(hw, STATUS_B)))
}

/// The time of day, while no update runs.
fn time_by(hw: &impl Ports, status_b: u8) -> Time {
    Time {
        seconds: to_bcd(read(hw, SECONDS), status_b),
        minutes: to_bcd(read(hw, MINUTES), status_b),
        hours: hours_to_bcd(read(hw, HOURS), status_b),
        daylight_saving: status_b & DAYLIGHT_SAVING != 0,
    }
}

impl Time {
    /// The seconds since midnight.
    pub fn seconds_of_day(self) -> u32 {
        let part = |bcd| u32::from(bcd_to_binary(bcd));
        (part(self.hours) * 60 + part(self.minutes)) * 60 + part(self.seconds)
    }
}

/// Sets the time of day, and 24-hour mode.
pub fn set_time(hw: &(impl Ports + Clock), time: Time) {
    // Without an end of the update there is nothing better to do than to write all the same.
    let _ = settle(hw);
    let status_b = change(hw, STATUS_B, 0, SET);
    write(hw, SECONDS, from_bcd(time.seconds, status_b));
    write(hw, MINUTES, from_bcd(time.minutes, status_b));
    write(hw, HOURS, from_bcd(time.hours, status_b));
    let daylight_saving = if time.daylight_saving {
        DAYLIGHT_SAVING
    } else {
        0
    };
    change(
        hw,
        STATUS_B,
        SET | DAYLIGHT_SAVING,
        HOURS_24 | daylight_saving,
    );
}

/// The date.
///
/// # Errors
/// [`Busy`] where an update does not end.
pub fn date(hw: &(impl Ports + Clock)) -> Result<Date, Busy> {
    settle(hw)?;
    let status_b = read(hw, STATUS_B);
    Ok(Date {
        year: to_bcd(read(hw, YEAR), status_b),
        month: to_bcd(read(hw, MONTH), status_b),
        day: to_bcd(read(hw, DAY), status_b),
        // The century is plain memory to the clock chip, and BCD by convention.
        century: read(hw, CENTURY),
    })
}

/// Sets the date.
pub fn set_date(hw: &(impl Ports + Clock), date: Date) {
    // As for the time: better written than not.
    let _ = settle(hw);
    let status_b = change(hw, STATUS_B, 0, SET);
    write(hw, YEAR, from_bcd(date.year, status_b));
    write(hw, MONTH, from_bcd(date.month, status_b));
    write(hw, DAY, from_bcd(date.day, status_b));
    write(hw, CENTURY, date.century);
    change(hw, STATUS_B, SET, 0);
}

/// An alarm is already set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmInUse;

/// Sets the alarm to a time in BCD and enables its interrupt.
///
/// # Errors
/// [`AlarmInUse`] where one is set.
pub fn set_alarm(
    hw: &(impl Ports + Clock),
    hours: u8,
    minutes: u8,
    seconds: u8,
) -> Result<(), AlarmInUse> {
    let status_b = read(hw, STATUS_B);
    if status_b & ALARM != 0 {
        return Err(AlarmInUse);
    }
    // The alarm registers stand still during an update; only the match could be missed.
    let _ = settle(hw);
    write(hw, SECONDS_ALARM, from_bcd(seconds, status_b));
    write(hw, MINUTES_ALARM, from_bcd(minutes, status_b));
    write(hw, HOURS_ALARM, from_bcd(hours, status_b));
    change(hw, STATUS_B, SET, ALARM);
    Ok(())
}

/// Disables the alarm's interrupt.
pub fn clear_alarm(hw: &impl Ports) {
    change(hw, STATUS_B, ALARM, 0);
}

/// Starts or stops the periodic interrupt.
pub fn set_periodic(hw: &impl Ports, on: bool) {
    change(hw, STATUS_B, PERIODIC, if on { PERIODIC } else { 0 });
}

/// Which enabled sources ([`PERIODIC`], [`ALARM`]) raised an interrupt since the last call.
pub fn pending(hw: &impl Ports) -> u8 {
    read(hw, STATUS_B) & read(hw, STATUS_C)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;

    #[test]
    fn reads_bcd_and_binary_and_twelve_hours() {
        let hw = Fake::default();
        hw.script_port(DATA, &[0x80, 0x00, HOURS_24.into(), 0x59, 0x34, 0x23]);
        let time = time(&hw).unwrap();
        assert_eq!((time.hours, time.minutes, time.seconds), (0x23, 0x34, 0x59));
        assert_eq!(to_bcd(59, BINARY), 0x59);
        assert_eq!(hours_to_bcd(0x92, 0), 0x12);
        assert_eq!(hours_to_bcd(0x12, 0), 0);
        assert_eq!(hours_to_bcd(0x80 | 11, BINARY), 0x23);
    }

    #[test]
    fn an_endless_update_is_an_error() {
        let hw = Fake::default();
        assert_eq!(time(&hw), Err(Busy));
    }

    #[test]
    fn seconds_since_midnight() {
        let hw = Fake::default();
        hw.script_port(
            DATA,
            &[STATUS_A_DEFAULT.into(), HOURS_24.into(), 0x01, 0x02, 0x03],
        );
        assert_eq!(init(&hw), Ok(3 * 3600 + 2 * 60 + 1));
        assert_eq!(hw.port_accesses.get(), 10);
    }

    #[test]
    fn a_set_alarm_is_kept() {
        let hw = Fake::default();
        hw.script_port(DATA, &[ALARM.into()]);
        assert_eq!(set_alarm(&hw, 1, 2, 3), Err(AlarmInUse));
    }
}
