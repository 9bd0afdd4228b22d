//! INT 15h system services, the tables in the F segment, INT 05h.

use crate::script::{BUFFER, BUFFER_SEGMENT, Call, Pointer, Script, View};

/// Signatures where old systems look for them.
pub fn tables(script: &mut Script) {
    for (name, signature) in [
        ("bios32", &b"_32_"[..]),
        ("pnp", b"$PnP"),
        ("pir", b"$PIR"),
        ("mp", b"_MP_"),
        ("smbios", b"_SM_"),
        ("rsdp", b"RSD PTR "),
    ] {
        script.scan(&format!("table.{name}"), 0xe_0000..0x10_0000, 16, signature);
    }
    script.scan("pnp-header", 0xf_0000..0x10_0000, 16, b"$PnP");
    script.dump_found(
        "pnp-header",
        4,
        13,
        View::Fields(&[
            ("version", 1),
            ("length", 1),
            ("control", 2),
            ("_checksum", 1),
            ("event-flag", 4),
            ("_entry", 4),
        ]),
    );
    script.scan("bios32-header", 0xe_0000..0x10_0000, 16, b"_32_");
    script.dump_found(
        "bios32-header",
        8,
        2,
        View::Fields(&[("revision", 1), ("paragraphs", 1)]),
    );
}

/// Configuration, device hooks, APM as a boot loader asks, and functions that do not exist.
pub fn services(script: &mut Script) {
    script.call("int15.c0", Call::new(0x15, 0xc000).carry().hide(&["bx"]));
    script.dump_pointer(
        "int15.c0.table",
        Pointer::EsBx,
        10,
        View::Fields(&[
            ("length", 2),
            ("model", 1),
            ("submodel", 1),
            ("revision", 1),
            ("features-1", 1),
            ("features-2", 1),
            ("features-3", 1),
            ("features-4", 1),
            ("features-5", 1),
        ]),
    );
    script.call("int15.c1", Call::new(0x15, 0xc100).carry().hide(&["es"]));
    script.call("int15.4f", Call::new(0x15, 0x4f1e).carry());
    script.call("int15.52", Call::new(0x15, 0x5200).dx(0x80).carry());
    script.call("int15.90", Call::new(0x15, 0x9000).carry());
    script.call("int15.91", Call::new(0x15, 0x9100).carry());
    script.call("int15.5300", Call::new(0x15, 0x5300).bx(0).carry());
    script.call(
        "int15.5300.bad-device",
        Call::new(0x15, 0x5300).bx(0x1234).carry(),
    );
    let apm = |al: u16, bx, cx| Call::new(0x15, 0x5300 | al).bx(bx).cx(cx).carry();
    for al in [0x01, 0x02, 0x03, 0x05, 0x06, 0x0a, 0x0b, 0x0e, 0x10, 0x04] {
        script.call(&format!("int15.53{al:02x}"), apm(al, 1, 0x0102));
    }
    script.call("int15.5307.suspend", apm(7, 1, 2));
    script.call("int15.5307.bad-device", apm(7, 0x1234, 3));
    script.call("int15.53-unknown", Call::new(0x15, 0x537f).bx(0).carry());
    for function in [
        0x00, 0x21, 0x41, 0x80, 0x81, 0x82, 0x85, 0xc3, 0xc4, 0xc9, 0xd8, 0xe9, 0xff,
    ] {
        script.call(
            &format!("int15.{function:02x}"),
            Call::new(0x15, function << 8),
        );
    }
    script.call("int15.e8ff", Call::new(0x15, 0xe8ff));
    script.poke(0x500, &[0]);
    script.call("int05", Call::new(0x05, 0));
    script.dump("int05.status", 0x500, 1, View::Bytes);
}

/// INT 15h AH=87h: the caller's descriptor table in the buffer, moving the pattern up to 2 MiB and back.
pub fn block_move(script: &mut Script) {
    let pattern: Vec<u8> = (0..=255).collect();
    script.poke(BUFFER + 0x1000, &pattern);
    script.fill(BUFFER + 0x2000, 256, 0);
    for (name, from, to, words) in [
        ("up", BUFFER + 0x1000, 0x20_0000, 128),
        ("down", 0x20_0000, BUFFER + 0x2000, 128),
        ("none", 0x20_0000, BUFFER + 0x2000, 0),
        ("too-long", BUFFER, 0x20_0000, 0x8001),
    ] {
        script.poke(BUFFER, &descriptors(from, to));
        let call = Call::new(0x15, 0x8700)
            .es(BUFFER_SEGMENT)
            .si(0)
            .cx(words)
            .carry();
        script.call(&format!("int15.87.{name}"), call);
    }
    script.sum("int15.87.moved", BUFFER + 0x2000, 256);
}

/// The table INT 15h AH=87h takes: two empty descriptors, source, target, two for the BIOS.
fn descriptors(from: u32, to: u32) -> Vec<u8> {
    let mut table = vec![0; 16];
    for base in [from, to] {
        let base = base.to_le_bytes();
        table.extend([0xff, 0xff, base[0], base[1], base[2], 0x93, 0, base[3]]);
    }
    table.extend([0; 16]);
    table
}

/// INT 15h AX=24xxh.
pub fn a20(script: &mut Script) {
    for (name, ax) in [
        ("off", 0x2400),
        ("on", 0x2401),
        ("status", 0x2402),
        ("support", 0x2403),
        ("unknown", 0x2404),
    ] {
        script.call(&format!("int15.24.{name}"), Call::new(0x15, ax).carry());
    }
}

/// INT 15h AX=C2xxh.
pub fn mouse(script: &mut Script) {
    let call = |ax, bx| Call::new(0x15, ax).bx(bx).carry();
    script.call("int15.c2.handler", call(0xc207, 0x7000));
    script.call("int15.c2.init", call(0xc205, 0x0300));
    script.call("int15.c2.init-bad", call(0xc205, 0x0900));
    script.call("int15.c2.reset", call(0xc201, 0));
    script.call("int15.c2.type", call(0xc204, 0));
    for rate in [0, 3, 6, 7, 0xff] {
        script.call(&format!("int15.c2.rate-{rate}"), call(0xc202, rate << 8));
    }
    for resolution in [0, 2, 3, 4, 0xff] {
        script.call(
            &format!("int15.c2.resolution-{resolution}"),
            call(0xc203, resolution << 8),
        );
    }
    script.call("int15.c2.handler-again", call(0xc207, 0x7000));
    script.call("int15.c2.enable", call(0xc200, 0x0100));
    script.call("int15.c2.status", call(0xc206, 0).hide(&["dx"]));
    script.call("int15.c2.scaling-1", call(0xc206, 0x0100));
    script.call("int15.c2.scaling-2", call(0xc206, 0x0200));
    script.call("int15.c2.extended-bad", call(0xc206, 0x0700));
    script.call("int15.c2.disable", call(0xc200, 0));
    script.call("int15.c2.enable-bad", call(0xc200, 0x0200));
    script.call("int15.c2.unknown", call(0xc209, 0));
    script.call(
        "int15.c2.no-handler",
        Call::new(0x15, 0xc207).es(0).bx(0).carry(),
    );
}
