//! INT 16h with keys put in the buffer and keys from the keyboard controller, INT 14h, INT 17h.

use crate::script::{Call, Hook, Script, View};

fn keyboard(ax: u16) -> Call {
    Call::new(0x16, ax).carry()
}

/// Keys stored by AH=05h and read back.
pub fn buffer(script: &mut Script) {
    script.call("int16.01.empty", keyboard(0x0100));
    script.call("int16.11.empty", keyboard(0x1100));
    script.call("int16.02", keyboard(0x0200));
    script.call("int16.12", keyboard(0x1200));
    script.call("int16.05", keyboard(0x0500).cx(0x1e61));
    script.call("int16.01", keyboard(0x0100));
    script.call("int16.11", keyboard(0x1100));
    script.call("int16.00", keyboard(0x0000));
    script.call("int16.01.taken", keyboard(0x0100));
    for (name, key) in [
        ("f11", 0x8500),
        ("up", 0x48e0),
        ("enter", 0xe00d),
        ("grey", 0xe02f),
    ] {
        script.call(&format!("int16.05.{name}"), keyboard(0x0500).cx(key));
        script.call(&format!("int16.11.{name}"), keyboard(0x1100));
        script.call(&format!("int16.10.{name}"), keyboard(0x1000));
        script.call(&format!("int16.05.{name}-again"), keyboard(0x0500).cx(key));
        script.call(&format!("int16.01.{name}"), keyboard(0x0100));
        script.call(
            &format!("int16.05.{name}-plain"),
            keyboard(0x0500).cx(0x1e61),
        );
        script.call(&format!("int16.00.{name}"), keyboard(0x0000));
        script.poke(0x41a, &[0x1e, 0, 0x1e, 0]);
    }
    for count in 1..=16 {
        script.call(
            &format!("int16.05.fill-{count:02}"),
            keyboard(0x0500).cx(0x3062),
        );
    }
    script.dump("int16.full", 0x41a, 4, View::Bytes);
    script.poke(0x41a, &[0x1e, 0, 0x1e, 0]);
    script.call("int16.09", keyboard(0x0900));
    script.call("int16.0a", keyboard(0x0a00));
    script.call("int16.0305", keyboard(0x0305).bx(0));
    script.call("int16.92", keyboard(0x9200));
    script.call("int16.a2", keyboard(0xa200));
    script.call("int16.6f", keyboard(0x6f08));
    script.call("int16.unknown", keyboard(0xee00));
}

/// Scan codes as the keyboard sends them: the controller hands out what command D2h writes to its buffer.
pub fn keys(script: &mut Script) {
    script.hook(0x15, 1, Hook::Chain);
    for (name, codes) in [
        ("a", &[0x1e, 0x9e][..]),
        ("shift-a", &[0x2a, 0x1e, 0x9e, 0xaa]),
        ("ctrl-a", &[0x1d, 0x1e, 0x9e, 0x9d]),
        ("alt-a", &[0x38, 0x1e, 0x9e, 0xb8]),
        ("f1", &[0x3b, 0xbb]),
        ("shift-f1", &[0x2a, 0x3b, 0xbb, 0xaa]),
        ("f12", &[0x58, 0xd8]),
        ("ctrl-f11", &[0x1d, 0x57, 0xd7, 0x9d]),
        ("enter", &[0x1c, 0x9c]),
        ("escape", &[0x01, 0x81]),
        ("backspace", &[0x0e, 0x8e]),
        ("ctrl-backspace", &[0x1d, 0x0e, 0x8e, 0x9d]),
        ("tab", &[0x0f, 0x8f]),
        ("shift-tab", &[0x2a, 0x0f, 0x8f, 0xaa]),
        ("space", &[0x39, 0xb9]),
        ("right-shift-1", &[0x36, 0x02, 0x82, 0xb6]),
        ("grey-up", &[0xe0, 0x48, 0xe0, 0xc8]),
        ("grey-enter", &[0xe0, 0x1c, 0xe0, 0x9c]),
        ("grey-slash", &[0xe0, 0x35, 0xe0, 0xb5]),
        ("grey-delete", &[0xe0, 0x53, 0xe0, 0xd3]),
        ("ctrl-left", &[0x1d, 0xe0, 0x4b, 0xe0, 0xcb, 0x9d]),
        ("alt-grey-up", &[0x38, 0xe0, 0x48, 0xe0, 0xc8, 0xb8]),
        ("keypad-7", &[0x47, 0xc7]),
        ("keypad-5", &[0x4c, 0xcc]),
        ("alt-65", &[0x38, 0x4d, 0xcd, 0x4c, 0xcc, 0xb8]),
        ("102nd", &[0x56, 0xd6]),
        ("release-only", &[0x9e]),
        ("unknown", &[0x7e, 0xfe]),
        ("right-ctrl-c", &[0xe0, 0x1d, 0x2e, 0xae, 0xe0, 0x9d]),
        ("altgr-q", &[0xe0, 0x38, 0x10, 0x90, 0xe0, 0xb8]),
    ] {
        press(script, codes);
        script.call(&format!("key.{name}"), keyboard(0x1100));
        script.dump(&format!("key.{name}.buffer"), 0x41a, 4, View::Bytes);
        script.poke(0x41a, &[0x1e, 0, 0x1e, 0]);
    }
    shift_states(script);
    press(script, &[0x3a, 0xba, 0x1e, 0x9e, 0x3a, 0xba]);
    script.call("key.caps-a", keyboard(0x1000));
    press(script, &[0x45, 0xc5, 0x47, 0xc7, 0x45, 0xc5]);
    script.call("key.num-7", keyboard(0x1000));
    break_and_print_screen(script);
    script.unhook_any("key.int15-calls", 0x15, 1);
    script.poke(0x41a, &[0x1e, 0, 0x1e, 0]);
}

/// What the BIOS data area and AH=12h say while a key is down and when it is up again.
fn shift_states(script: &mut Script) {
    for (name, down, up) in [
        ("left-shift", &[0x2a][..], &[0xaa][..]),
        ("right-shift", &[0x36], &[0xb6]),
        ("ctrl", &[0x1d], &[0x9d]),
        ("right-ctrl", &[0xe0, 0x1d], &[0xe0, 0x9d]),
        ("alt", &[0x38], &[0xb8]),
        ("altgr", &[0xe0, 0x38], &[0xe0, 0xb8]),
        ("insert", &[0xe0, 0x52], &[0xe0, 0xd2]),
        ("caps-lock", &[0x3a], &[0xba]),
        ("num-lock", &[0x45], &[0xc5]),
        ("scroll-lock", &[0x46], &[0xc6]),
    ] {
        press(script, down);
        script.call(&format!("shift.{name}.down"), keyboard(0x1200));
        press(script, up);
        script.call(&format!("shift.{name}.up"), keyboard(0x1200));
        script.dump(&format!("shift.{name}.bda"), 0x417, 2, View::Bytes);
        script.dump(&format!("shift.{name}.bda-3"), 0x496, 1, View::Bytes);
        press(script, down);
        press(script, up);
        script.poke(0x41a, &[0x1e, 0, 0x1e, 0]);
    }
}

/// The keys with an interrupt of their own.
fn break_and_print_screen(script: &mut Script) {
    script.hook(0x1b, 2, Hook::Return);
    press(script, &[0x1d, 0xe0, 0x46, 0xe0, 0xc6, 0x9d]);
    script.unhook("key.ctrl-break.int1b", 0x1b, 2);
    script.dump("key.ctrl-break.flag", 0x471, 1, View::Bytes);
    script.poke(0x471, &[0]);
    script.poke(0x41a, &[0x1e, 0, 0x1e, 0]);
    script.hook(0x05, 2, Hook::Return);
    press(script, &[0xe0, 0x2a, 0xe0, 0x37, 0xe0, 0xb7, 0xe0, 0xaa]);
    script.unhook("key.print-screen.int05", 0x05, 2);
}

/// Each scan code becomes an IRQ 1.
fn press(script: &mut Script, codes: &[u8]) {
    for &code in codes {
        script.write_port(0x64, 1, 0xd2);
        script.write_port(0x60, 1, code.into());
    }
}

/// INT 14h on COM1, which exists, and on ports which do not.
pub fn serial(script: &mut Script) {
    let port = |ax, dx| Call::new(0x14, ax).dx(dx);
    script.call("int14.03", port(0x0300, 0));
    script.call("int14.00", port(0x00e3, 0));
    script.call("int14.00.1200", port(0x0083, 0));
    script.call("int14.00.115200", port(0x00e3, 0));
    script.call("int14.01", port(0x0141, 0));
    script.poke(0x47c, &[1]);
    script.call("int14.02.nothing", port(0x0200, 0));
    script.call("int14.03.after", port(0x0300, 0));
    script.call("int14.04", port(0x0400, 0).bx(0).cx(0x0307));
    script.call("int14.05", port(0x0500, 0).bx(0));
    script.call("int14.unknown", port(0xee00, 0));
    for (name, dx) in [
        ("com2", 1),
        ("com4", 3),
        ("port-4", 4),
        ("port-ffff", 0xffff),
    ] {
        for ah in 0..4 {
            script.call(&format!("int14.{ah:02}.{name}"), port(ah << 8 | 0xe3, dx));
        }
    }
}

/// INT 17h without any printer.
pub fn printer(script: &mut Script) {
    for (name, dx) in [
        ("lpt1", 0),
        ("lpt3", 2),
        ("port-3", 3),
        ("port-ffff", 0xffff),
    ] {
        for ah in 0..4 {
            script.call(
                &format!("int17.{ah:02}.{name}"),
                Call::new(0x17, ah << 8 | 0x41).dx(dx),
            );
        }
    }
}
