//! INT 13h on CD drives and diskette drives.

use super::disk::{PACKET_AT, far, packed, packet};
use crate::disk::PATTERN_LBA;
use crate::script::{BUFFER, Call, Pointer, Script, View};

/// Drive numbers.
const CD: u8 = 0xe0;
const FLOPPY: u8 = 0x00;
/// A CD's sectors hold four of the disk's.
const CD_PATTERN: u64 = PATTERN_LBA / 4;
/// The track that is formatted: cylinder, head, and its sectors.
const TRACK: (u8, u8, u8) = (70, 1, 18);

fn disk(ax: u16, drive: u8) -> Call {
    Call::new(0x13, ax).dx(drive.into()).carry()
}

/// All functions on a CD drive with a medium. Ejects that in the end.
pub fn cd(script: &mut Script) {
    let name = |rest: &str| format!("int13.cd.{rest}");
    for ah in [
        0x00u16, 0x01, 0x05, 0x08, 0x09, 0x0c, 0x0d, 0x10, 0x11, 0x14, 0x15, 0x16, 0x17, 0x18,
        0x19, 0x22, 0x3f, 0xff,
    ] {
        let call = disk(ah << 8, CD).cx(1).hide(&["di"]);
        script.call(&name(&format!("{ah:02x}")), call);
    }
    for ah in [0x02u16, 0x03, 0x04] {
        let call = disk(ah << 8 | 1, CD).cx(1).bx(0);
        script.call(&name(&format!("{ah:02x}")), call);
    }
    script.call(&name("01.after"), disk(0x0100, CD));
    script.call(&name("41"), disk(0x4100, CD).bx(0x55aa));
    script.call(&name("41.bad"), disk(0x4100, CD).bx(0x1234));
    for (label, size) in [
        ("full", 0x42),
        ("medium", 0x1e),
        ("short", 0x1a),
        ("bad", 0x19),
    ] {
        script.fill(BUFFER, 0x50, 0xee);
        script.poke(BUFFER, &[size, 0]);
        script.call(&name(&format!("48.{label}")), disk(0x4800, CD).si(0));
        script.dump(&name(&format!("48.{label}")), BUFFER, 0x1a, View::Bytes);
    }
    reads(script);
    for (label, al) in [("lock", 0), ("state", 2), ("bad", 3)] {
        script.call(&name(&format!("45.{label}")), disk(0x4500 | al, CD));
    }
    script.call(&name("46.locked"), disk(0x4600, CD));
    for (label, al) in [("unlock", 1), ("again", 1), ("unlocked", 2)] {
        script.call(&name(&format!("45.{label}")), disk(0x4500 | al, CD));
    }
    script.call(&name("49"), disk(0x4900, CD));
    // Nothing is emulated.
    for ax in [0x4a00u16, 0x4b00, 0x4b01, 0x4d00] {
        script.fill(BUFFER, 0x20, 0);
        script.poke(BUFFER, &[0x13]);
        script.call(&name(&format!("{ax:04x}")), disk(ax, CD).si(0));
    }
    // A medium that there is not. What AH=4Ch can emulate it starts.
    script.poke(BUFFER, &[0x13, 0x05]);
    script.call(&name("4c00.bad"), disk(0x4c00, CD).si(0));
    for al in 0..=6u16 {
        script.call(&name(&format!("4e.{al}")), disk(0x4e00 | al, CD));
    }
    for ah in [0x50u16, 0x51, 0x52] {
        script.call(&name(&format!("{ah:02x}")), disk(ah << 8, CD));
    }
    script.call(&name("46"), disk(0x4600, CD));
    packet(script, 16, 1, far(0), CD_PATTERN);
    script.call(&name("42.ejected"), packed(0x42, CD));
}

fn reads(script: &mut Script) {
    let name = |rest: &str| format!("int13.cd.{rest}");
    for (label, size, count, lba) in [
        ("good", 16, 1, CD_PATTERN),
        ("many", 16, 30, CD_PATTERN),
        ("zero", 16, 0, CD_PATTERN),
        ("short-packet", 15, 1, CD_PATTERN),
        ("beyond", 16, 1, 0x7fff_ffff),
        ("beyond-32", 16, 1, 0x1_0000_0000_0000),
    ] {
        for ah in [0x42u8, 0x43, 0x44, 0x47] {
            packet(script, size, count, far(0), lba);
            script.fill(BUFFER, 2048, 0xee);
            script.call(&name(&format!("{ah:02x}.{label}")), packed(ah, CD));
            if ah == 0x42 {
                script.dump(
                    &name(&format!("42.{label}.packet")),
                    super::disk::PACKET,
                    16,
                    View::Bytes,
                );
                script.sum(&name(&format!("42.{label}.buffer")), BUFFER, 2048);
            }
        }
    }
}

/// All functions on a CD drive without a medium.
pub fn empty_cd(script: &mut Script) {
    let name = |rest: &str| format!("int13.cd.{rest}");
    for ah in [
        0x00u16, 0x01, 0x02, 0x03, 0x04, 0x05, 0x08, 0x09, 0x0c, 0x0d, 0x10, 0x11, 0x14, 0x15,
    ] {
        let call = disk(ah << 8 | u16::from((2..5).contains(&ah)), CD);
        script.call(&name(&format!("{ah:02x}")), call.cx(1).bx(0).hide(&["di"]));
    }
    script.call(&name("01.after"), disk(0x0100, CD));
    script.call(&name("41"), disk(0x4100, CD).bx(0x55aa));
    script.fill(BUFFER, 0x50, 0xee);
    script.poke(BUFFER, &[0x42, 0]);
    script.call(&name("48"), disk(0x4800, CD).si(0));
    script.dump(&name("48"), BUFFER, 0x1a, View::Bytes);
    for ah in [0x42u8, 0x43, 0x44, 0x47] {
        packet(script, 16, 1, far(0), CD_PATTERN);
        script.call(&name(&format!("{ah:02x}")), packed(ah, CD));
    }
    for (label, ax) in [
        ("45.lock", 0x4500u16),
        ("45.unlock", 0x4501),
        ("45.state", 0x4502),
        ("46", 0x4600),
        ("49", 0x4900),
        ("4a00", 0x4a00),
        ("4b01", 0x4b01),
        ("4c00", 0x4c00),
        ("4d00", 0x4d00),
    ] {
        script.fill(BUFFER, 0x20, 0);
        script.poke(BUFFER, &[0x13]);
        script.call(&name(label), disk(ax, CD).si(0));
    }
}

/// All functions on a diskette drive without a medium.
pub fn empty_floppy(script: &mut Script) {
    let name = |rest: &str| format!("int13.floppy.{rest}");
    for ah in [0x00u16, 0x01, 0x08, 0x15, 0x16] {
        let call = disk(ah << 8, FLOPPY).hide(&["di"]);
        script.call(&name(&format!("{ah:02x}")), call);
    }
    for ah in [0x02u16, 0x03, 0x04] {
        let call = disk(ah << 8 | 1, FLOPPY).cx(1).bx(0);
        script.call(&name(&format!("{ah:02x}")), call);
    }
    script.call(&name("05"), disk(0x0512, FLOPPY).cx(0).bx(0));
    script.call(&name("01.after"), disk(0x0100, FLOPPY));
    script.call(&name("16.after"), disk(0x1600, FLOPPY));
    state(script, "empty");
    for ah in [0x42u16, 0x48] {
        let call = disk(ah << 8, FLOPPY).ds(PACKET_AT.0).si(0);
        script.call(&name(&format!("{ah:02x}")), call);
    }
}

/// What the BIOS data area has about diskettes: the drives and their state, and media.
fn state(script: &mut Script, name: &str) {
    script.dump(&format!("int13.floppy.{name}.3e"), 0x43e, 1, View::Bytes);
    script.dump(&format!("int13.floppy.{name}.41"), 0x441, 1, View::Bytes);
    script.dump(&format!("int13.floppy.{name}.8b"), 0x48b, 1, View::Bytes);
    script.dump(&format!("int13.floppy.{name}.90"), 0x490, 2, View::Bytes);
    script.dump(&format!("int13.floppy.{name}.94"), 0x494, 2, View::Bytes);
}

/// All functions on a diskette drive with a medium of its own format.
pub fn floppy(script: &mut Script) {
    let name = |rest: &str| format!("int13.floppy.{rest}");
    state(script, "first");
    for ah in [0x00u16, 0x01, 0x08, 0x15, 0x16] {
        script.call(
            &name(&format!("{ah:02x}")),
            disk(ah << 8, FLOPPY).hide(&["di"]),
        );
    }
    script.call(&name("08"), disk(0x0800, FLOPPY).hide(&["di"]));
    script.dump_pointer(&name("parameters"), Pointer::EsDi, 11, View::Bytes);
    sectors(script);
    script.call(&name("01.after"), disk(0x0100, FLOPPY));
    state(script, "read");
    writes(script);
    for ah in [
        0x09u16, 0x0c, 0x0d, 0x10, 0x11, 0x14, 0x19, 0x22, 0x3f, 0x41, 0x42, 0x44, 0x48, 0x4e, 0xff,
    ] {
        let call = disk(ah << 8, FLOPPY).cx(1).ds(PACKET_AT.0).si(0);
        script.call(&name(&format!("{ah:02x}")), call);
    }
    formats(script);
    drives_that_are_not_there(script);
    script.call(
        &name("int40.02"),
        Call::new(0x40, 0x0201).cx(1).dx(0).bx(0).carry(),
    );
    // The motor stops by itself.
    script.wait_ticks(&name("motor.ticks"), 60);
    script.dump(&name("motor.3f"), 0x43f, 2, View::Bytes);
}

/// Reads and verifies, of places that are there and that are not.
fn sectors(script: &mut Script) {
    let name = |rest: &str| format!("int13.floppy.{rest}");
    for (label, al, cx, dh) in [
        ("first", 1, 0x0001, 0),
        ("track", 18, 0x0001, 0),
        ("over-track", 20, 0x0001, 0),
        ("second-head", 2, 0x0101, 1),
        ("zero-count", 0, 0x0001, 0),
        ("sector-0", 1, 0x0000, 0),
        ("sector-19", 1, 0x0013, 0),
        ("bad-head", 1, 0x0001, 2),
        ("bad-cylinder", 1, 0x5001, 0),
    ] {
        for ah in [2u16, 4] {
            script.fill(BUFFER, 0x2800, 0xee);
            let call = disk(ah << 8 | al, FLOPPY).cx(cx).dx(dh << 8).bx(0);
            script.call(&name(&format!("{ah:02}.{label}")), call);
            if ah == 2 {
                script.sum(&name(&format!("02.{label}")), BUFFER, 0x2800);
            }
        }
    }
}

/// The formats that a caller can set.
fn formats(script: &mut Script) {
    let name = |rest: &str| format!("int13.floppy.{rest}");
    for al in [0u16, 1, 2, 3, 4, 5] {
        script.call(&name(&format!("17.{al}")), disk(0x1700 | al, FLOPPY));
    }
    for (label, cx) in [
        ("1440", 0x4f12u16),
        ("1200", 0x4f0f),
        ("720", 0x4f09),
        ("none", 0xff3f),
    ] {
        let call = disk(0x1800, FLOPPY).cx(cx).hide(&["di"]);
        script.call(&name(&format!("18.{label}")), call);
    }
}

fn drives_that_are_not_there(script: &mut Script) {
    let name = |rest: &str| format!("int13.floppy.{rest}");
    for drive in [1u16, 2, 0x7f] {
        for ah in [0x00u16, 0x02, 0x08, 0x15, 0x16] {
            let call = disk(ah << 8 | u16::from(ah == 2), 0).cx(1).bx(0).dx(drive);
            let call = call.hide(&["di"]);
            script.call(&name(&format!("{drive:02x}.{ah:02x}")), call);
        }
    }
}

fn writes(script: &mut Script) {
    let name = |rest: &str| format!("int13.floppy.{rest}");
    let data: Vec<u8> = (0..1024u32).map(|at| (at * 11 + 5) as u8).collect();
    script.poke(BUFFER, &data);
    let chs = |ax| disk(ax, FLOPPY).cx(0x3c02).dx(0x0100).bx(0);
    script.call(&name("03"), chs(0x0302));
    script.fill(BUFFER, 1024, 0);
    script.call(&name("03.back"), chs(0x0202));
    script.sum(&name("03.back"), BUFFER, 1024);
    let (cylinder, head, sectors) = TRACK;
    let fields: Vec<u8> = (1..=sectors)
        .flat_map(|sector| [cylinder, head, sector, 2])
        .collect();
    script.poke(BUFFER, &fields);
    let track = |ax| {
        let cx = u16::from(cylinder) << 8;
        disk(ax, FLOPPY).cx(cx).dx(u16::from(head) << 8).bx(0)
    };
    script.call(&name("05"), track(0x0500 | u16::from(sectors)));
    script.call(
        &name("05.back"),
        track(0x0212).cx(u16::from(cylinder) << 8 | 1),
    );
    script.sum(&name("05.back"), BUFFER, 18 * 512);
    script.call(&name("05.none"), track(0x0500));
    script.call(&name("05.beyond"), track(0x0512).cx(0x5000));
    state(script, "written");
}
