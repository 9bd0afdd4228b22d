//! What the firmware left in memory: vectors, BIOS data area, EBDA, and the services that tell memory's size.

use crate::script::{BUFFER, Call, Layout, Script, View};

/// The BIOS data area from 0040:0000.
const BIOS_DATA: Layout = &[
    ("com1", 2),
    ("com2", 2),
    ("com3", 2),
    ("com4", 2),
    ("lpt1", 2),
    ("lpt2", 2),
    ("lpt3", 2),
    ("ebda-segment*", 2),
    ("equipment", 2),
    ("post-flag", 1),
    ("memory-kib", 2),
    ("_15", 2),
    ("keyboard-flags", 1),
    ("keyboard-flags-2", 1),
    ("alt-number", 1),
    ("buffer-head", 2),
    ("buffer-tail", 2),
    ("buffer*", 32),
    ("floppy-recalibrate", 1),
    ("floppy-motors", 1),
    ("floppy-timeout*", 1),
    ("floppy-status", 1),
    ("floppy-result", 7),
    ("video-mode", 1),
    ("video-columns", 2),
    ("video-page-size", 2),
    ("video-page-start", 2),
    ("cursors*", 16),
    ("cursor-shape", 2),
    ("video-page", 1),
    ("crtc", 2),
    ("video-mode-control", 1),
    ("video-palette", 1),
    ("reset-vector*", 4),
    ("stray-interrupt", 1),
    ("ticks*", 4),
    ("midnight", 1),
    ("break", 1),
    ("reset-flag", 2),
    ("disk-status", 1),
    ("disk-count", 1),
    ("disk-control", 1),
    ("disk-port", 1),
    ("lpt1-timeout", 1),
    ("lpt2-timeout", 1),
    ("lpt3-timeout", 1),
    ("_7b", 1),
    ("com1-timeout", 1),
    ("com2-timeout", 1),
    ("com3-timeout", 1),
    ("com4-timeout", 1),
    ("buffer-start", 2),
    ("buffer-end", 2),
    ("video-rows", 1),
    ("character-height", 2),
    ("video-options", 1),
    ("video-switches", 1),
    ("video-flags", 1),
    ("video-display", 1),
    ("floppy-rate", 1),
    ("disk-controller-status", 1),
    ("disk-controller-error", 1),
    ("disk-interrupt*", 1),
    ("floppy-information", 1),
    ("floppy-states", 4),
    ("floppy-tracks", 2),
    ("keyboard-flags-3", 1),
    ("keyboard-leds", 1),
    ("wait-flag-pointer*", 4),
    ("wait-count*", 4),
    ("wait-active", 1),
];

/// Length of [`BIOS_DATA`] in bytes.
const BIOS_DATA_LENGTH: u16 = 0xa1;

/// What a boot sector finds before it calls anything.
pub fn initial_state(script: &mut Script) {
    script.dump("ivt", 0, 0x400, View::Vectors);
    script.dump("bda", 0x400, BIOS_DATA_LENGTH, View::Fields(BIOS_DATA));
    script.dump(
        "rom-end",
        0xf_fff0,
        16,
        View::Fields(&[
            ("reset-opcode", 1),
            ("_reset-target", 4),
            ("date*", 8),
            ("_fd", 1),
            ("model", 1),
            ("_ff", 1),
        ]),
    );
    script.read_port("pic1-mask", 0x21, 1);
    script.read_port("pic2-mask", 0xa1, 1);
    script.read_port("a20-gate", 0x92, 1);
    script.read_port("keyboard-status", 0x64, 1);
    script.write_port(0x70, 1, 0x0a);
    script.read_port("rtc-a", 0x71, 1);
    script.write_port(0x70, 1, 0x0b);
    script.read_port("rtc-b", 0x71, 1);
    script.write_port(0x70, 1, 0x0f);
    script.read_port("rtc-shutdown", 0x71, 1);
    script.write_port(0x70, 1, 0x0d);
    script.read_port("rtc-d", 0x71, 1);
}

/// INT 11h, INT 12h and the memory sizes of INT 15h.
pub fn sizes(script: &mut Script) {
    script.call("int11", Call::new(0x11, 0xffff));
    script.call("int12", Call::new(0x12, 0xffff));
    script.call("int15.88", Call::new(0x15, 0x8800).carry());
    script.call("int15.e801", Call::new(0x15, 0xe801).carry());
    script.call("int15.e881", Call::new(0x15, 0xe881).carry());
    script.call("int15.8a", Call::new(0x15, 0x8a00).carry());
    for (name, signature, length, next) in [
        ("first", 0x534d_4150, 20, 0),
        ("first-24", 0x534d_4150, 24, 0),
        ("second", 0x534d_4150, 20, 1),
        ("short-buffer", 0x534d_4150, 19, 0),
        ("bad-signature", 0x1234_5678, 20, 0),
        ("bad-next", 0x534d_4150, 20, 0x7fff),
    ] {
        use crate::script::Register::{Eax, Ebx, Ecx, Edx};
        script.fill(BUFFER, 32, 0xee);
        let call = Call::new(0x15, 0)
            .set(Eax, 0xe820)
            .set(Ebx, next)
            .set(Ecx, length)
            .set(Edx, signature)
            .di(0)
            .carry();
        script.call(&format!("int15.e820.{name}"), call);
        script.dump(
            &format!("int15.e820.{name}.buffer"),
            BUFFER,
            24,
            View::Bytes,
        );
    }
    script.memory_map();
}

/// The data area again after all calls.
pub fn final_state(script: &mut Script) {
    script.dump("ivt-after", 0, 0x400, View::Vectors);
    script.dump(
        "bda-after",
        0x400,
        BIOS_DATA_LENGTH,
        View::Fields(BIOS_DATA),
    );
}
