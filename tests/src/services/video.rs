//! A handful of INT 10h: the VGA ROM answers, but the firmware has to reach it with every register in place.

use crate::script::{BUFFER, Call, Script, View};

/// The card as a boot sector finds it that has not called INT 10h: every standard register, the screen and the font.
/// Leaves the card as it was.
pub fn card(script: &mut Script, name: &str) {
    // It changes as the beam moves.
    const HIDDEN: &str = "";
    const STATUS: u16 = 0x3da;
    const ATTRIBUTE: u16 = 0x3c0;
    const SEQUENCER: u16 = 0x3c4;
    const GRAPHICS: u16 = 0x3ce;
    const CRTC: u16 = 0x3d4;
    const DAC_READ: u16 = 0x3c7;
    const DAC_DATA: u16 = 0x3c9;
    for (port, count) in [(SEQUENCER, 5), (GRAPHICS, 9), (CRTC, 25)] {
        for index in 0..count {
            script.write_port(port, 1, index);
            script.read_port(&format!("{name}.{port:x}.{index:02x}"), port + 1, 1);
        }
    }
    for index in 0..21 {
        script.read_port(HIDDEN, STATUS, 1);
        script.write_port(ATTRIBUTE, 1, index | 0x20);
        script.read_port(&format!("{name}.3c0.{index:02x}"), ATTRIBUTE + 1, 1);
    }
    script.read_port(HIDDEN, STATUS, 1);
    script.read_port(&format!("{name}.misc"), 0x3cc, 1);
    script.read_port(&format!("{name}.dac-mask"), 0x3c6, 1);
    script.write_port(DAC_READ, 1, 0);
    for color in 0..256 {
        for part in ["red", "green", "blue"] {
            script.read_port(&format!("{name}.dac.{color:02x}.{part}"), DAC_DATA, 1);
        }
    }
    script.sum(&format!("{name}.screen"), 0xb_8000, 0x8000);
    // Plane 2, flat, at A0000: the font.
    let set = |script: &mut Script, port: u16, index: u32, value: u32| {
        script.write_port(port, 2, value << 8 | index);
    };
    set(script, SEQUENCER, 4, 6);
    set(script, GRAPHICS, 4, 2);
    set(script, GRAPHICS, 5, 0);
    set(script, GRAPHICS, 6, 4);
    script.sum(&format!("{name}.font"), 0xa_0000, 0x2000);
    set(script, SEQUENCER, 4, 2);
    set(script, GRAPHICS, 4, 0);
    set(script, GRAPHICS, 5, 0x10);
    set(script, GRAPHICS, 6, 0xe);
}

/// What a loader asks before it draws: VBE's information, the monitor's EDID, and the modes.
pub fn vbe(script: &mut Script) {
    const EDID_BYTES: u16 = 128;
    let call = |ax| Call::new(0x10, ax);
    script.call("int10.0f", call(0x0f00));
    script.call("int10.0e", call(0x0e41).bx(7));
    script.fill(BUFFER, 512, 0);
    script.poke(BUFFER, b"VBE2");
    script.call("int10.4f00", call(0x4f00).di(0));
    script.dump("int10.4f00.info", BUFFER, 6, View::Bytes);
    script.dump("int10.4f00.memory", BUFFER + 18, 2, View::Bytes);
    script.call("int10.4f15.0", call(0x4f15).bx(0).cx(0).dx(0));
    script.fill(BUFFER, EDID_BYTES.into(), 0xaa);
    script.call("int10.4f15.1", call(0x4f15).bx(1).cx(0).dx(0).di(0));
    script.dump("int10.4f15.1.edid", BUFFER, EDID_BYTES, View::Bytes);
    script.fill(BUFFER, 256, 0);
    script.call("int10.4f01", call(0x4f01).cx(0x118).di(0));
    // At 40 is the frame buffer's address, which is the firmware's to choose.
    script.dump("int10.4f01.mode", BUFFER, 40, View::Bytes);
    script.call("int10.set-mode", call(0x0003));
    script.call("int10.0f.after", call(0x0f00));
}

/// Mode, cursor, output and VBE questions.
pub fn services(script: &mut Script) {
    card(script, "vga");
    let call = |ax| Call::new(0x10, ax);
    script.call("int10.0f", call(0x0f00));
    script.call("int10.set-mode", call(0x0003));
    card(script, "vga-after");
    script.call("int10.0f.after", call(0x0f00));
    script.call("int10.02", call(0x0200).bx(0).dx(0x0507));
    script.call("int10.03", call(0x0300).bx(0));
    script.call("int10.0e", call(0x0e41).bx(7));
    script.call("int10.03.after", call(0x0300).bx(0));
    script.dump("int10.cell", 0xb_8000 + (5 * 80 + 7) * 2, 2, View::Bytes);
    script.call("int10.08", call(0x0800).bx(0));
    script.poke(BUFFER, b"text");
    script.call("int10.13", call(0x1301).bx(7).cx(4).dx(0x0600).bp(0));
    script.dump("int10.13.cells", 0xb_8000 + 6 * 160, 8, View::Bytes);
    script.call("int10.1a", call(0x1a00));
    script.call("int10.12", call(0x1200).bx(0x10));
    script.fill(BUFFER, 512, 0);
    script.poke(BUFFER, b"VBE2");
    script.call("int10.4f00", call(0x4f00).di(0));
    script.dump("int10.4f00.info", BUFFER, 6, View::Bytes);
    script.call("int10.4f03", call(0x4f03));
    script.call("int10.unknown", call(0xee00));
}
