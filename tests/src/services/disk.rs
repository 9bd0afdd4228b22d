//! INT 13h on present and absent drives.

use crate::disk::PATTERN_LBA;
use crate::script::{BUFFER, BUFFER_SEGMENT, Call, Layout, Pointer, Script, View};

/// A device address packet is built here.
pub const PACKET: u32 = BUFFER + 0x1_f000;
/// The packet's segment and offset.
pub const PACKET_AT: (u16, u16) = (0x5f00, 0);
/// First sector the probe writes.
const WRITE_LBA: u32 = 4096;

/// The result of AH=48h (EDD-3.0, "drive parameters").
const PARAMETERS: Layout = &[
    ("size", 2),
    ("flags", 2),
    ("cylinders", 4),
    ("heads", 4),
    ("sectors", 4),
    ("total", 8),
    ("sector-bytes", 2),
    ("dpte*", 4),
    ("path-key", 2),
    ("path-length", 1),
    ("_21", 3),
    ("host-bus", 4),
    ("interface", 8),
    ("interface-path*", 8),
    ("device-path", 8),
    ("_40", 1),
    ("_checksum", 1),
];

fn disk(ax: u16, drive: u8) -> Call {
    Call::new(0x13, ax).dx(drive.into()).carry()
}

/// A call that takes the packet.
pub fn packed(ah: u8, drive: u8) -> Call {
    disk(u16::from(ah) << 8, drive)
        .ds(PACKET_AT.0)
        .si(PACKET_AT.1)
}

/// Writes a device address packet.
pub fn packet(script: &mut Script, size: u8, count: u16, buffer: u32, lba: u64) {
    let mut bytes = vec![size, 0];
    bytes.extend(count.to_le_bytes());
    bytes.extend(buffer.to_le_bytes());
    bytes.extend(lba.to_le_bytes());
    script.poke(PACKET, &bytes);
}

/// The buffer at an offset as a far pointer.
pub fn far(offset: u16) -> u32 {
    u32::from(BUFFER_SEGMENT) << 16 | u32::from(offset)
}

/// All functions on a drive that is there.
pub fn present(script: &mut Script, drive: u8) {
    let name = |rest: &str| format!("int13.{drive:02x}.{rest}");
    script.call(&name("00"), disk(0x0000, drive));
    script.call(&name("01"), disk(0x0100, drive));
    script.call(&name("08"), disk(0x0800, drive).hide(&["di"]));
    script.call(&name("15"), disk(0x1500, drive));
    for ah in [
        0x09, 0x0d, 0x10, 0x11, 0x14, 0x16, 0x17, 0x18, 0x19, 0x22, 0x3f, 0x4a, 0xff,
    ] {
        script.call(&name(&format!("{ah:02x}")), disk(ah << 8, drive).cx(1));
    }
    script.call(&name("0c"), disk(0x0c00, drive).cx(0x0001));
    script.call(&name("0c.far"), disk(0x0c00, drive).cx(0xffff));
    script.call(
        &name("05"),
        disk(0x0500, drive).cx(0xffff).dx(0xff00 | u16::from(drive)),
    );
    script.call(&name("41"), disk(0x4100, drive).bx(0x55aa));
    script.call(&name("41.bad"), disk(0x4100, drive).bx(0x1234));
    for (label, size) in [
        ("full", 0x42),
        ("medium", 0x1e),
        ("short", 0x1a),
        ("too-short", 0x19),
        ("zero", 0),
    ] {
        script.fill(BUFFER, 0x50, 0xee);
        script.poke(BUFFER, &[size, 0]);
        script.call(&name(&format!("48.{label}")), disk(0x4800, drive).si(0));
        script.dump(
            &name(&format!("48.{label}")),
            BUFFER,
            0x42,
            View::Fields(PARAMETERS),
        );
    }
    for ah in [0x45u16, 0x46, 0x49] {
        script.call(&name(&format!("{ah:02x}")), disk(ah << 8, drive));
    }
    script.call(&name("4e"), disk(0x4e06, drive));
    script.call(&name("01.after"), disk(0x0100, drive));
    script.call(&name("08.pointer"), disk(0x0800, drive).hide(&["di"]));
    for vector in [0x41u32, 0x46] {
        script.call(&name("12"), Call::new(0x12, 0).hide(&["*"]));
        script.dump(
            &name(&format!("vector-{vector:02x}")),
            vector * 4,
            4,
            View::Vectors,
        );
    }
    extended(script, drive);
    script.call(&name("02.last"), disk(0x0201, drive).cx(0x0001).bx(0));
    script.dump_pointer(&name("02.first-bytes"), Pointer::EsBx, 4, View::Bytes);
}

/// AH=42h to 47h with good and bad packets.
fn extended(script: &mut Script, drive: u8) {
    let name = |rest: &str| format!("int13.{drive:02x}.{rest}");
    let cases = [
        ("good", 16, 1, far(0), PATTERN_LBA),
        ("many", 16, 100, far(0), PATTERN_LBA),
        ("most", 16, 127, far(0), PATTERN_LBA),
        ("over-127", 16, 128, far(0), PATTERN_LBA),
        ("zero", 16, 0, far(0), PATTERN_LBA),
        ("short-packet", 15, 1, far(0), PATTERN_LBA),
        ("beyond", 16, 1, far(0), 0x7fff_ffff_ffff),
        ("beyond-32", 16, 1, far(0), 0x1_0000_0000_0000),
        ("odd-buffer", 16, 1, far(0x101), PATTERN_LBA + 1),
        ("last-paragraph", 16, 1, 0x4fff_0010, PATTERN_LBA + 2),
    ];
    for (label, size, count, buffer, lba) in cases {
        packet(script, size, count, buffer, lba);
        script.fill(BUFFER, 1024, 0xee);
        script.call(&name(&format!("42.{label}")), packed(0x42, drive));
        script.dump(
            &name(&format!("42.{label}.packet")),
            PACKET,
            16,
            View::Bytes,
        );
        if label != "over-127" {
            script.sum(&name(&format!("42.{label}.buffer")), BUFFER, 1024);
        }
        script.call(&name(&format!("44.{label}")), packed(0x44, drive));
        script.call(&name(&format!("47.{label}")), packed(0x47, drive));
    }
}

/// Drives that are not there, and a removable-media unit number.
pub fn absent(script: &mut Script, disks: u8) {
    script.call("int13.4b", disk(0x4b00, 0x80));
    let first_absent = 0x80 + disks;
    for (name, drive) in [
        ("floppy", 0x00),
        ("second-floppy", 0x01),
        ("next", first_absent),
        ("8f", 0x8f),
        ("e0", 0xe0),
        ("ff", 0xff),
    ] {
        packet(script, 16, 1, far(0), 0);
        for ah in [
            0x00u8, 0x01, 0x02, 0x03, 0x04, 0x05, 0x08, 0x09, 0x0c, 0x10, 0x11, 0x15, 0x41, 0x42,
            0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0xff,
        ] {
            let ax = u16::from(ah) << 8 | u16::from(ah < 5);
            let call = Call::new(0x13, ax)
                .carry()
                .dx(drive.into())
                .cx(1)
                .ds(PACKET_AT.0)
                .si(0);
            let call = if ah == 0x41 { call.bx(0x55aa) } else { call };
            let call = if ah == 0x08 { call.hide(&["di"]) } else { call };
            script.call(&format!("int13.absent-{name}.{ah:02x}"), call);
        }
    }
}

/// CHS reads with good and bad addresses, compared by the hash of what they read.
pub fn contents(script: &mut Script) {
    for (label, al, cx, dh) in [
        ("mbr", 1, 0x0001, 0),
        ("track", 17, 0x0001, 0),
        ("next-head", 1, 0x0001, 1),
        ("pattern", 4, 0x0101, 1),
        ("over-head", 20, 0x0030, 0),
        ("zero-count", 0, 0x0001, 0),
        ("over-127", 0x81, 0x0001, 0),
        ("sector-0", 1, 0x0000, 0),
        ("sector-63", 1, 0x003f, 0),
        ("bad-head", 1, 0x0001, 0xff),
        ("bad-cylinder", 1, 0xffc1, 0),
    ] {
        for ah in [2u16, 4] {
            script.fill(BUFFER, 0x2800, 0xee);
            let call = Call::new(0x13, ah << 8 | al)
                .carry()
                .cx(cx)
                .dx(dh << 8 | 0x80)
                .bx(0);
            script.call(&format!("int13.{ah:02}.{label}"), call);
            script.sum(&format!("int13.{ah:02}.{label}"), BUFFER, 0x2800);
        }
    }
    script.call(
        "int13.02.dl-bits",
        Call::new(0x13, 0x0201).carry().cx(1).dx(0xf080).bx(0),
    );
}

/// Writes by both interfaces, read back by the other.
pub fn writes(script: &mut Script) {
    let data: Vec<u8> = (0..1024u32).map(|at| (at * 7 + 3) as u8).collect();
    script.poke(BUFFER, &data);
    packet(script, 16, 2, far(0), WRITE_LBA.into());
    script.call("int13.43", packed(0x43, 0x80));
    script.call("int13.43.verify", disk(0x4301, 0x80).ds(PACKET_AT.0).si(0));
    script.call("int13.43.bad-al", disk(0x4307, 0x80).ds(PACKET_AT.0).si(0));
    packet(script, 16, 2, far(0x1000), WRITE_LBA.into());
    script.fill(BUFFER + 0x1000, 1024, 0);
    script.call("int13.43.back", packed(0x42, 0x80));
    script.sum("int13.43.back", BUFFER + 0x1000, 1024);
    packet(script, 16, 1, far(0), 0x7fff_ffff_ffff);
    script.call("int13.43.beyond", packed(0x43, 0x80));
    packet(script, 16, 0, far(0), WRITE_LBA.into());
    script.call("int13.43.zero", packed(0x43, 0x80));
    let chs = |ax| Call::new(0x13, ax).carry().cx(0x0501).dx(0x0180).bx(0x0200);
    script.call("int13.03", chs(0x0301));
    script.call("int13.03.back", chs(0x0201).bx(0x2000));
    script.sum("int13.03.back", BUFFER + 0x2000, 512);
    script.call("int13.03.zero", chs(0x0300));
    script.call("int13.03.sector-0", chs(0x0301).cx(0x0500));
}
