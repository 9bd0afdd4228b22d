//! The timer tick, the clock services of INT 1Ah, the alarm, and the waits of INT 15h.

use crate::script::{BUFFER, BUFFER_SEGMENT, Call, Hook, Script, View};

/// INT 08h counts and calls INT 1Ch; INT 1Ah AH=00h and 01h read and set the count.
pub fn ticks(script: &mut Script) {
    script.hook(0x1c, 0, Hook::Return);
    script.wait_ticks("int08", 3);
    script.unhook_any("int1c", 0x1c, 0);
    let clock = |ax| Call::new(0x1a, ax).carry();
    script.call("int1a.00", clock(0x0000).hide(&["dx", "cx"]));
    script.call("int1a.01", clock(0x0100).cx(0x18).dx(0x00a8));
    script.wait_ticks("int1a.01.midnight", 12);
    script.call("int1a.00.next-day", clock(0x0000).hide(&["dx"]));
    script.call("int1a.00.same-day", clock(0x0000).hide(&["dx"]));
    script.call("int1a.0a", clock(0x0a00));
    script.call("int1a.80", clock(0x8000));
}

/// RTC time, date and alarm, good and bad values.
pub fn clock(script: &mut Script) {
    let clock = |ax| Call::new(0x1a, ax).carry();
    script.call("int1a.02", clock(0x0200).hide(&["cx", "dx"]));
    script.call("int1a.04", clock(0x0400));
    script.call("int1a.05", clock(0x0500).cx(0x2028).dx(0x0229));
    script.call("int1a.04.set", clock(0x0400));
    script.call("int1a.05.century", clock(0x0500).cx(0x1999).dx(0x1231));
    script.call("int1a.04.century", clock(0x0400));
    script.hook(0x4a, 0, Hook::Return);
    // The alarm before the time, so that it is due in two seconds however slowly these calls are reported.
    script.call("int1a.06", clock(0x0600).cx(0x1000).dx(0x0200));
    script.call("int1a.06.twice", clock(0x0600).cx(0x1000).dx(0x0200));
    script.call("int1a.03", clock(0x0300).cx(0x1000).dx(0x0000));
    script.call("int1a.02.set", clock(0x0200).hide(&["dx"]));
    script.wait_ticks("int1a.06.alarm", 180);
    script.unhook("int4a", 0x4a, 0);
    script.call("int1a.07", clock(0x0700));
    script.call("int1a.08", clock(0x0800));
    script.call("int1a.09", clock(0x0900));
    script.write_port(0x70, 1, 0x0b);
    script.read_port("int1a.rtc-b", 0x71, 1);
    script.write_port(0x70, 1, 0x0d);
}

/// INT 15h AH=83h and 86h.
pub fn waits(script: &mut Script) {
    let system = |ax| Call::new(0x15, ax).carry();
    script.call("int15.86", system(0x8600).cx(0).dx(3000));
    script.call("int15.86.none", system(0x8600).cx(0).dx(0));
    script.fill(BUFFER, 1, 0);
    let event = |ax| system(ax).es(BUFFER_SEGMENT).bx(0);
    // Half a second, which the next two calls have to find unfinished, however slowly they are reported.
    script.call("int15.83", event(0x8300).cx(7).dx(0));
    script.call("int15.83.busy", event(0x8300).cx(7).dx(0));
    script.call("int15.86.busy", system(0x8600).cx(0).dx(1000));
    script.wait_for_buffer_flag("int15.83.wait", 180);
    script.dump("int15.83.flag", BUFFER, 1, View::Bytes);
    script.call("int15.83.long", event(0x8300).cx(0x7f).dx(0));
    script.call("int15.83.cancel", event(0x8301));
    script.call("int15.83.bad", event(0x8302));
    script.dump("int15.83.active", 0x4a0, 1, View::Bytes);
}
