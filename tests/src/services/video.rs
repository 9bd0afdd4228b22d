//! A handful of INT 10h: the VGA ROM answers, but the firmware has to reach it with every register in place.

use crate::script::{BUFFER, Call, Script, View};

/// Mode, cursor, output and VBE questions.
pub fn services(script: &mut Script) {
    let call = |ax| Call::new(0x10, ax);
    script.call("int10.0f", call(0x0f00));
    script.call("int10.set-mode", call(0x0003));
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
