use super::disk::HardDisk;
use super::geometry::Translation;
use super::*;
use crate::arch::fake::Fake;
use crate::arch::{PhysMem, RealMode, linear};
use crate::bios::tests::bios;
use crate::bios::{ebda, ivt};
use crate::storage::ata::fake::{FakeChannel, FakeDrive, disk};
use core::cell::RefCell;
use std::rc::Rc;

const MIB: u64 = 2048;
const PACKET: u64 = 0x600;

struct Guest {
    hw: Fake,
    bios: Rc<Mutex<Bios>>,
    channel: Rc<RefCell<FakeChannel>>,
}

impl Guest {
    fn new(sectors: u64, translation: Option<Translation>) -> Self {
        let hw = Fake::default();
        let (device, channel) = disk(&hw, FakeDrive::disk(sectors));
        let bios = bios();
        {
            let mut bios = bios.lock();
            bios.machine.low_ram_end = 0x800_0000;
            bios.machine.resident = 0x780_0000..0x800_0000;
            let translation = translation.unwrap_or_else(|| {
                Translation::automatic(device.info().geometry, device.info().sectors)
            });
            let disk = HardDisk::translated(device, translation);
            crate::bios::bda::init(&hw, ebda::SEGMENT, 639);
            let mut drives = bios.drives.lock();
            drives.push(disk);
            drives.announce(&hw);
        }
        Self {
            hw,
            bios: Rc::new(bios),
            channel,
        }
    }

    /// With disks of 10, 11 and 12 MiB.
    fn with_three_disks() -> Self {
        let guest = Self::new(10 * MIB, Some(Translation::None));
        for sectors in [11 * MIB, 12 * MIB] {
            let (disk, _) = disk(&Fake::default(), FakeDrive::disk(sectors));
            let disk = HardDisk::translated(disk, Translation::None);
            guest.bios.lock().drives.lock().push(disk);
        }
        guest
    }

    fn call(&self, ax: u16, cx: u16, dx: u16) -> Frame {
        let mut frame = Frame {
            vector: 0x13,
            eax: ax.into(),
            ebx: 0xb0b0,
            ecx: cx.into(),
            edx: dx.into(),
            esi: PACKET as u32,
            es: 0x2000,
            ..Frame::default()
        };
        assert_eq!(serve(&self.bios, &self.hw, &mut frame), Outcome::Return);
        frame
    }

    fn packet(&self, size: u8, count: u16, buffer: (u16, u16), lba: u64, flat: u64) {
        let (segment, offset) = buffer;
        self.hw.write16(PACKET, size.into());
        self.hw.write16(PACKET + 2, count);
        self.hw.write16(PACKET + 4, offset);
        self.hw.write16(PACKET + 6, segment);
        self.hw.write64(PACKET + 8, lba);
        self.hw.write64(PACKET + 16, flat);
    }

    fn status(&self) -> u8 {
        Bda::disk_status().get(&self.hw)
    }

    fn hex(&self, addr: u64, len: usize) -> String {
        let mut bytes = vec![0; len];
        self.hw.read(addr, &mut bytes);
        bytes.iter().map(|byte| format!("{byte:02X}")).collect()
    }
}

fn carry(frame: &Frame) -> bool {
    frame.flags & crate::arch::frame::CARRY != 0
}

#[test]
fn reads_by_cylinder() {
    let guest = Guest::new(10 * MIB, Some(Translation::None));
    let frame = guest.call(0x0203, 0x0102, 0x0380);
    assert!(!carry(&frame));
    assert_eq!(frame.ax(), 0x0003);
    let lba = (16 + 3) * 63 + 1;
    assert_eq!(guest.hw.read64(0x2_b0b0), lba);
    assert_eq!(guest.hw.read64(0x2_b0b0 + 1024), lba + 2);
}

#[test]
fn writes_by_cylinder() {
    let guest = Guest::new(10 * MIB, Some(Translation::None));
    guest.hw.write(0x2_b0b0, &[7; 512]);
    assert_eq!(guest.call(0x0301, 0x0001, 0x0080).ax(), 0x0001);
    assert_eq!(guest.channel.borrow_mut().first().sector(0), [7; 512]);
}

#[test]
fn bad_addresses_are_refused() {
    let guest = Guest::new(10 * MIB, Some(Translation::None));
    let calls = [
        (0x0200, 0x0001, 0x0080),
        (0x0281, 0x0001, 0x0080),
        (0x0201, 0x0000, 0x0080),
        (0x0201, 0x0001, 0x1080),
        (0x0201, 0x1401, 0x0080),
        (0x0201, 0xffff, 0x0080),
        (0x0501, 0x0000, 0x0080),
    ];
    for (ax, cx, dx) in calls {
        let frame = guest.call(ax, cx, dx);
        assert!(carry(&frame));
        assert_eq!(frame.ax(), 0x0100 | ax & 0xff);
        assert_eq!(guest.status(), 1);
    }
    assert!(guest.channel.borrow_mut().first().commands.is_empty());
}

#[test]
fn status_of_the_last_operation_stays() {
    let guest = Guest::new(10 * MIB, None);
    guest.call(0xff00, 0, 0x80);
    for _ in 0..2 {
        let frame = guest.call(0x0155, 0, 0x80);
        assert_eq!((frame.ax(), carry(&frame)), (0x0155, true));
    }
    guest.call(0x0000, 0, 0x80);
    let frame = guest.call(0x0155, 0, 0x80);
    assert_eq!((frame.ax(), carry(&frame)), (0x0055, false));
}

#[test]
fn absent_drives() {
    let guest = Guest::new(10 * MIB, None);
    for drive in [0x00, 0x01, 0x81, 0xe0, 0xff] {
        let frame = guest.call(0x0800, 0xc0c0, drive);
        assert!(carry(&frame));
        assert_eq!((frame.ax(), frame.cx()), (0x0100, 0xc0c0));
    }
    assert_eq!(Bda::floppy_status().get(&guest.hw), 1);
}

/// The numbers are what SeaBIOS 1.16 answers for the same disks.
#[test]
fn geometry_calls() {
    let guest = Guest::new(10 * MIB, Some(Translation::None));
    let frame = guest.call(0x0800, 0xc0c0, 0x80);
    assert_eq!((frame.ax(), frame.cx(), frame.dx()), (0, 0x123f, 0x0f01));
    let frame = guest.call(0x15ff, 0xc0c0, 0x80);
    assert_eq!((frame.ax(), frame.cx(), frame.dx()), (0x03ff, 0, 0x4ad0));
    let guest = Guest::new(3072 * MIB, Some(Translation::Lba));
    let frame = guest.call(0x0800, 0xc0c0, 0x80);
    assert_eq!((frame.cx(), frame.dx()), (0x0aff, 0x7f01));
}

#[test]
fn fixed_disk_tables() {
    let guest = Guest::new(10 * MIB, Some(Translation::None));
    assert_eq!(ivt::get(&guest.hw, 0x41), [0x3d, 0x9fc0]);
    assert_eq!(guest.hex(0x9fc3d, 16), "1400100000FFFF00C800000014003F00");
    let guest = Guest::new(3072 * MIB, Some(Translation::Lba));
    assert_eq!(guest.hex(0x9fc3d, 16), "0C0380A03FFFFF00C861181061183F8B");
}

#[test]
fn extensions_are_there() {
    let guest = Guest::new(10 * MIB, None);
    let frame = guest.call(0x4155, 0, 0x80);
    assert!(!carry(&frame));
    assert_eq!((frame.ax(), frame.bx(), frame.cx()), (0x3055, 0xaa55, 7));
}

#[test]
fn reads_by_block() {
    let guest = Guest::new(3 << 31, None);
    guest.packet(0x10, 200, (0x2000, 0x10), (3 << 31) - 200, 0);
    let frame = guest.call(0x4255, 0, 0x80);
    assert_eq!((frame.ax(), carry(&frame)), (0x0055, false));
    assert_eq!(guest.hw.read64(0x2_0010), (3 << 31) - 200);
    assert_eq!(guest.hw.read16(PACKET + 2), 200);
}

#[test]
fn flat_buffers_are_taken_from_long_packets_only() {
    let guest = Guest::new(10 * MIB, None);
    guest.packet(0x18, 1, (0xffff, 0xffff), 5, 0x123_4000);
    assert!(!carry(&guest.call(0x4200, 0, 0x80)));
    assert_eq!(guest.hw.read64(0x123_4000), 5);
    guest.packet(0x10, 1, (0xffff, 0xffff), 5, 0x123_4000);
    assert_eq!(guest.call(0x4200, 0, 0x80).ah(), BOUNDARY);
}

#[test]
fn memory_that_is_not_the_callers_is_refused() {
    let guest = Guest::new(100 * MIB, None);
    let flat = [
        0x77f_ff00,
        0x7f0_0000,
        0x7ff_ff00,
        0x800_0000,
        0xfee0_0000,
        0xb_8000,
        1 << 32,
        u64::MAX,
    ];
    for addr in flat {
        guest.packet(0x18, 1, (0xffff, 0xffff), 5, addr);
        assert_eq!(guest.call(0x4200, 0, 0x80).ah(), BOUNDARY, "{addr:#x}");
        assert_eq!(guest.hw.read16(PACKET + 2), 0);
    }
    for (segment, offset) in [(0xefff, 0), (0xf000, 0xffff), (0xffff, 0xfe01)] {
        guest.packet(0x10, 1, (segment, offset), 5, 0);
        assert_eq!(guest.call(0x4200, 0, 0x80).ah(), BOUNDARY);
    }
    guest.packet(0x10, 0xffff, (0x1000, 0), 5, 0);
    assert_eq!(guest.call(0x4200, 0, 0x80).ah(), BOUNDARY);
    assert!(guest.channel.borrow_mut().first().commands.is_empty());
}

#[test]
fn block_addresses_beyond_the_disk() {
    let guest = Guest::new(10 * MIB, None);
    for (count, lba, left) in [(1, 10 * MIB, 1), (0, u64::MAX, 0), (2, 10 * MIB - 1, 0)] {
        for ax in [0x4200, 0x4300, 0x4400] {
            guest.packet(0x10, count, (0x2000, 0), lba, 0);
            assert_eq!(guest.call(ax, 0, 0x80).ah(), BAD_COMMAND);
            assert_eq!(guest.hw.read16(PACKET + 2), left);
        }
    }
    guest.packet(0x10, 0, (0x2000, 0), 0, 0);
    assert!(!carry(&guest.call(0x4200, 0, 0x80)));
}

#[test]
fn read_errors_reach_the_caller() {
    let guest = Guest::new(10 * MIB, None);
    guest.channel.borrow_mut().first().bad = vec![5];
    guest.packet(0x10, 2, (0x2000, 0), 4, 0);
    let frame = guest.call(0x4255, 0, 0x80);
    assert_eq!((frame.ax(), carry(&frame)), (0x1055, true));
    assert_eq!((guest.status(), guest.hw.read16(PACKET + 2)), (0x10, 0));
}

/// The bytes are what SeaBIOS 1.16 writes for the same disk at the same place, but for the reserved byte before the last
/// checksum, which it leaves as it was.
#[test]
fn enhanced_parameters() {
    let guest = Guest::new(10 * MIB, Some(Translation::None));
    let ask = |size: u16| {
        guest.hw.fill(PACKET, 100, 0xee);
        guest.hw.write16(PACKET, size);
        guest.call(0x4855, 0, 0x80)
    };
    assert_eq!(ask(25).ah(), BAD_COMMAND);
    assert!(!carry(&ask(29)));
    assert_eq!(
        guest.hex(PACKET, 27),
        "1A00020014000000100000003F00000000500000000000000002EE"
    );
    ask(30);
    assert_eq!(guest.hex(PACKET + 26, 5), "6000C09FEE");
    assert_eq!(guest.hex(0x9fc60, 16), "F001F603E0CB0E01000010000000113B");
    ask(66);
    assert_eq!(guest.hw.read16(PACKET), 30);
    assert_eq!(
        guest.hex(PACKET + 30, 37),
        "DDBE240000005043492041544120202020200001010000000000000000000000000000CDEE"
    );
    ask(74);
    assert_eq!(guest.hex(PACKET + 30, 3), "DDBE2C");
    assert_eq!(guest.hex(PACKET + 72, 3), "00C5EE");
}

/// A slow device lets interrupts through; a call from a handler finds the other services free and INT 13h busy.
#[test]
fn handlers_are_served_while_a_device_works() {
    let guest = Guest::new(10 * MIB, None);
    guest.channel.borrow_mut().latency = 200;
    let bios = guest.bios.clone();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let answers = seen.clone();
    guest.hw.on_interrupts(move |hw| {
        assert!(bios.try_lock().is_some());
        assert!(!hw.allow_interrupts(false));
        for drive in [0x80, 0x00] {
            let mut frame = Frame {
                vector: 0x13,
                eax: 0x0201,
                edx: drive,
                ..Frame::default()
            };
            crate::bios::dispatch(&bios, hw, &mut frame);
            answers.borrow_mut().push((frame.ah(), carry(&frame)));
        }
    });
    let read = |flags| {
        let mut frame = Frame {
            vector: 0x13,
            eax: 0x0201,
            ecx: 1,
            edx: 0x80,
            es: 0x2000,
            flags,
            ..Frame::default()
        };
        serve(&guest.bios, &guest.hw, &mut frame);
        assert_eq!((frame.ah(), carry(&frame), guest.status()), (0, false, 0));
    };
    read(0);
    assert!(seen.borrow().is_empty(), "interrupts were off");
    read(frame::INTERRUPT);
    assert_eq!(seen.borrow()[..2], [(0xaa, true), (0x80, true)]);
    assert!(!guest.hw.allow_interrupts(false));
}

#[test]
fn drive_numbers_by_kind() {
    let guest = Guest::new(10 * MIB, None);
    let hw = Fake::default();
    let cd = crate::storage::ata::fake::cd(&hw).0;
    let drives = guest.bios.lock().drives.clone();
    assert_eq!(drives.lock().add(&hw, cd, None), Some(0xe0));
    let cd = crate::storage::ata::fake::cd(&hw).0;
    assert_eq!(drives.lock().put_first(&hw, cd), Some(0xe0));
    assert!(matches!(drives.lock().get(0xe1), Some(Drive::Cd(_))));
    drives.lock().take_first(crate::storage::Kind::CdRom);
    assert!(drives.lock().get(0xe1).is_none());
    let (disk, _) = disk(&Fake::default(), FakeDrive::disk(100));
    assert_eq!(drives.lock().put_first(&guest.hw, disk), Some(0x80));
    assert!(
        matches!(drives.lock().get(0x81), Some(Drive::Disk(disk)) if disk.info().sectors == 10 * MIB)
    );
}

#[test]
fn cds_know_the_enhanced_functions_only() {
    let hw = Fake::default();
    let (cd, channel) = crate::storage::ata::fake::cd(&hw);
    let bios = Rc::new(bios());
    bios.lock().drives.lock().add(&hw, cd, None);
    let guest = Guest { hw, bios, channel };
    let call = |ax| {
        let frame = guest.call(ax, 0x0001, 0x00e0);
        (frame.ah(), frame.al(), carry(&frame))
    };
    assert_eq!(call(0x4100), (0x30, 0, false));
    guest.packet(0x10, 2, (0x2000, 0), 3, 0);
    assert_eq!(call(0x4200), (0, 0, false));
    assert_eq!(guest.hw.read64(0x2_0000), 3);
    assert_eq!(guest.hw.read64(0x2_0ff8), 4);
    for (ax, answer) in [
        (0x0201, (1, 1, true)),
        (0x0800, (1, 0, true)),
        (0x1500, (1, 0, true)),
        (0x4300, (3, 0, true)),
        (0x4501, (0xb0, 0, true)),
        (0x4500, (0, 1, false)),
        (0x4600, (0xb1, 0, true)),
        (0x4501, (0, 0, false)),
        (0x4900, (0, 0, false)),
        (0x4600, (0, 0, false)),
    ] {
        assert_eq!(call(ax), answer, "{ax:04x}");
    }
    guest.hw.write16(PACKET, 0x1a);
    assert_eq!(call(0x4800), (0, 0, false));
    assert_eq!(guest.hw.read16(PACKET + 2), 0x74);
    assert_eq!(guest.hw.read16(PACKET + 24), 2048);
}

#[test]
fn an_emulation_is_begun_and_ended_by_calls() {
    let hw = Fake::default();
    let (cd, channel) = crate::storage::ata::fake::cd(&hw);
    let bios = Rc::new(bios());
    bios.lock().drives.lock().add(&hw, cd, None);
    let guest = Guest { hw, bios, channel };
    let packet = |media, lba: u32| {
        guest.hw.write(PACKET, &[0x13, media]);
        guest.hw.write32(PACKET + 4, lba);
        guest.hw.write16(PACKET + 12, 0x2000);
        guest.hw.write16(PACKET + 14, 4);
    };
    packet(9, 3);
    assert_eq!(guest.call(0x4a00, 0, 0).ah(), BAD_COMMAND);
    packet(2, 3);
    assert!(!carry(&guest.call(0x4a00, 0, 0)));
    assert_eq!(guest.hw.read16(0x410) & 0xc1, 1);
    assert!(!carry(&guest.call(0x0201, 0x0005, 0)));
    assert_eq!(guest.hw.read64(0x2_b0b0), 4);
    assert_eq!(guest.call(0x0301, 0x0005, 0).ah(), 3);
    assert!(!carry(&guest.call(0x4b01, 0, 0)));
    assert_eq!(guest.hw.read32(PACKET + 4), 3);
    assert!(!carry(&guest.call(0x4b00, 0, 0)));
    assert_eq!(guest.hw.read16(0x410) & 0xc1, 0);
    assert!(carry(&guest.call(0x0201, 0x0005, 0)));
    packet(0, 5);
    let frame = guest.call(0x4c00, 0, 0);
    assert_eq!((frame.cs, frame.ip, frame.dx()), (0x2000, 0, 0xe0));
    assert_eq!(guest.hw.read64(0x2_0000), 5);
    assert_eq!(guest.call(0x4d00, 0, 0).ah(), BAD_COMMAND);
}

proptest::proptest! {
    #[test]
    fn any_call_is_answered(ax: u16, cx: u16, dx: u16, packet: [u8; 24]) {
        let guest = Guest::new(10 * MIB, None);
        guest.hw.write(PACKET, &packet);
        guest.call(ax, cx, dx | 0x80);
    }
}

/// Ours have the numbers that option ROMs have left, and those of drives 80h and 81h that are ours are in the tables.
#[test]
fn disks_of_option_roms_between_ours() {
    let guest = Guest::with_three_disks();
    let drives = guest.bios.lock().drives.clone();
    let mut drives = drives.lock();
    let sizes = |drives: &mut Drives| -> Vec<u64> {
        let sizes = (0x80..0x86).map(|number| match drives.get(number) {
            Some(Drive::Disk(disk)) => disk.info().sectors / MIB,
            _ => 0,
        });
        sizes.collect()
    };
    assert_ne!(ivt::get(&guest.hw, 0x41), ivt::get(&guest.hw, 0x46));
    drives.leave_number(0x82);
    drives.leave_number(0x80);
    drives.announce(&guest.hw);
    assert_eq!(sizes(&mut drives), [0, 10, 0, 11, 12, 0]);
    assert_eq!(Bda::disk_count().get(&guest.hw), 5);
    let lone_iret = [ivt::entry::IRET, ivt::SEGMENT];
    assert_eq!(ivt::get(&guest.hw, 0x41), lone_iret);
    assert_eq!(ivt::get(&guest.hw, 0x46)[1], ebda::SEGMENT);
    // What a ROM has put there stays.
    ivt::set(&guest.hw, 0x41, 0xc800, 0x40);
    assert_eq!(drives.prefer(&guest.hw, 0x84), 0x81);
    assert_eq!(sizes(&mut drives), [0, 12, 0, 10, 11, 0]);
    drives.as_found(&guest.hw);
    assert_eq!(sizes(&mut drives), [0, 10, 0, 11, 12, 0]);
    let held = drives.hold_back(&guest.hw, 1);
    assert_eq!((held.len(), Bda::disk_count().get(&guest.hw)), (2, 3));
    assert_eq!(sizes(&mut drives), [0, 10, 0, 0, 0, 0]);
    drives.bring_back(&guest.hw, held);
    assert_eq!(sizes(&mut drives), [0, 10, 0, 11, 12, 0]);
    assert_eq!(Bda::disk_count().get(&guest.hw), 5);
    assert_eq!(ivt::get(&guest.hw, 0x41), [0x40, 0xc800]);
}

/// The disks have so many sectors that their numbers can be told.
#[test]
fn the_preferred_drive_is_the_first_of_its_kind() {
    let guest = Guest::with_three_disks();
    let drives = guest.bios.lock().drives.clone();
    let mut drives = drives.lock();
    drives.leave_number(0x83);
    let order = |drives: &mut Drives| -> Vec<u64> {
        let sizes = (0x80..0x84).map_while(|number| match drives.get(number) {
            Some(Drive::Disk(disk)) => Some(disk.info().sectors / MIB),
            _ => None,
        });
        sizes.collect()
    };
    let first_in_table = || {
        let [offset, segment] = ivt::get(&guest.hw, 0x41);
        guest.hw.read16(linear(segment, offset))
    };
    drives.announce(&guest.hw);
    let before = first_in_table();
    for (number, becomes, expected) in [
        (0x80, 0x80, [10, 11, 12]),
        (0x81, 0x80, [11, 10, 12]),
        (0x82, 0x80, [12, 10, 11]),
        // An option ROM's, and none.
        (0x83, 0x83, [10, 11, 12]),
        (0x84, 0x84, [10, 11, 12]),
        (0x00, 0x00, [10, 11, 12]),
        (0xe1, 0xe1, [10, 11, 12]),
    ] {
        assert_eq!(drives.prefer(&guest.hw, number), becomes);
        assert_eq!(order(&mut drives), expected, "{number:02x}");
        assert_eq!(first_in_table() == before, expected[0] == 10);
        assert_eq!(Bda::disk_count().get(&guest.hw), 4);
        drives.as_found(&guest.hw);
        assert_eq!(order(&mut drives), [10, 11, 12]);
    }
}
