use super::fake::{FakeChannel, FakeDrive, PORTS, cd, controller, disk, probed};
use super::*;
use crate::arch::fake::{DMA_START, Fake};
use crate::devices::place::Path;
use crate::storage::{Bounce, Disk};

const BUFFER: u64 = 0x2_0000;

fn first_word(hw: &Fake, addr: u64) -> u64 {
    hw.read64(addr)
}

#[test]
fn finds_drives_and_skips_empty_places_cheaply() {
    let hw = Fake::default();
    FakeChannel::attach(&hw, None, None);
    assert!(probed(&hw, true).is_empty());
    assert!(hw.port_accesses.get() <= 24);

    let hw = Fake::default();
    assert!(probed(&hw, true).is_empty(), "a floating bus");

    let hw = Fake::default();
    FakeChannel::attach(&hw, Some(FakeDrive::disk(100)), Some(FakeDrive::cd()));
    let found = probed(&hw, true);
    let Found::Device(disk) = &found[0] else {
        panic!("no disk");
    };
    assert_eq!(disk.info().sectors, 100);
    assert!(
        disk.info()
            .place
            .is(&Path::new("/pci@i0cf8/ide@1,1/drive@0/disk@0"))
    );
    let Found::Device(cd) = &found[1] else {
        panic!("no CD drive");
    };
    let DiskInfo { kind, place, .. } = cd.info();
    assert_eq!(*kind, Kind::CdRom);
    assert!(place.is(&Path::new("/pci@i0cf8/ide@1,1/drive@0/disk@1")));
    assert!(hw.port_accesses.get() <= 300);
}

#[test]
fn reads_into_the_callers_buffer_with_few_accesses() {
    let hw = Fake::default();
    let (mut disk, channel) = disk(&hw, FakeDrive::disk(1 << 20));
    hw.port_accesses.set(0);
    disk.read(&hw, 1000, 127, BUFFER + 0x8002).unwrap();
    assert!(hw.port_accesses.get() <= 15, "{}", hw.port_accesses.get());
    for index in 0..127 {
        let addr = BUFFER + 0x8002 + 512 * index;
        assert_eq!(first_word(&hw, addr), 1000 + index);
        assert_eq!(first_word(&hw, addr + 504), 1000 + index);
    }
    assert_eq!(channel.borrow_mut().first().commands, [(0xc8, 1000, 127)]);
}

#[test]
fn later_commands_write_registers_in_pairs_where_the_controller_takes_them() {
    for (pairs, accesses) in [(true, 8 + 4), (false, 11 + 4)] {
        let hw = Fake::default();
        let (mut disk, channel) = disk(&hw, FakeDrive::disk(1 << 40));
        channel.borrow_mut().pairs = pairs;
        let (near, far) = (0x123_4567, 0xff_1234_5678);
        for lba in [3, 2, near, far] {
            hw.port_accesses.set(0);
            disk.read(&hw, lba, 1, BUFFER).unwrap();
            assert_eq!(first_word(&hw, BUFFER), lba);
        }
        disk.read(&hw, near, 256, 0x10_0000).unwrap();
        hw.port_accesses.set(0);
        disk.read(&hw, near, 127, BUFFER).unwrap();
        let taken = hw.port_accesses.get();
        assert!(taken <= accesses, "{pairs}: {taken}");
        let expected = [3, 2, near, far, near, near];
        let commands = channel.borrow_mut().first().commands.clone();
        let lbas: Vec<u64> = commands.iter().map(|command| command.1).collect();
        assert_eq!(lbas, expected);
        assert_eq!(commands[4].2, 256);
    }
}

#[test]
fn long_and_far_requests_use_48_bit_addresses() {
    let hw = Fake::default();
    let (mut disk, channel) = disk(&hw, FakeDrive::disk(1 << 40));
    disk.read(&hw, 5, 257, 0x10_0000).unwrap();
    disk.read(&hw, (1 << 28) - 1, 2, 0x10_0000).unwrap();
    assert_eq!(first_word(&hw, 0x10_0200), 1 << 28);
    disk.read(&hw, (1 << 40) - 1, 1, 0x10_0000).unwrap();
    assert_eq!(first_word(&hw, 0x10_0000), (1 << 40) - 1);
    assert_eq!(
        channel.borrow_mut().first().commands,
        [
            (0x25, 5, 257),
            (0x25, (1 << 28) - 1, 2),
            (0x25, (1 << 40) - 1, 1)
        ]
    );
}

#[test]
fn memory_out_of_the_bus_masters_reach_goes_through_the_bounce_buffer() {
    let hw = Fake::default();
    let (mut disk, channel) = disk(&hw, FakeDrive::disk(1000));
    for addr in [0x2_0001, 0xa_0000, 0x9_fe00, 1 << 32] {
        disk.read(&hw, 7, 65, addr).unwrap();
        assert_eq!(first_word(&hw, addr), 7);
        assert_eq!(first_word(&hw, addr + 64 * 512 + 504), 71);
        disk.write(&hw, 500, 65, addr).unwrap();
        assert_eq!(channel.borrow_mut().first().sector(564)[0], 71);
    }
}

#[test]
fn writes_are_flushed() {
    let hw = Fake::default();
    let (mut disk, channel) = disk(&hw, FakeDrive::disk(1000));
    hw.write(BUFFER, &[0x5a; 1024]);
    disk.write(&hw, 3, 2, BUFFER).unwrap();
    let mut channel = channel.borrow_mut();
    assert_eq!(channel.first().sector(4), [0x5a; 512]);
    assert_eq!(channel.first().sector(5)[0], 5);
    let opcodes: Vec<u8> = channel.first().commands.iter().map(|c| c.0).collect();
    assert_eq!(opcodes, [0xca, 0xea]);
}

#[test]
fn without_dma_the_data_register_serves() {
    let hw = Fake::default();
    let channel = FakeChannel::attach(&hw, Some(FakeDrive::disk(1000)), None);
    let Some(Found::Device(device)) = probed(&hw, false).pop() else {
        panic!("no disk");
    };
    let mut disk = Disk::new(device, Bounce::new(&hw));
    disk.read(&hw, 20, 3, BUFFER + 1).unwrap();
    assert_eq!(first_word(&hw, BUFFER + 1 + 1024), 22);
    disk.write(&hw, 30, 2, BUFFER + 1).unwrap();
    let mut channel = channel.borrow_mut();
    assert_eq!(channel.first().sector(31)[0], 21);
    let opcodes: Vec<u8> = channel.first().commands[1..].iter().map(|c| c.0).collect();
    assert_eq!(opcodes, [0x20, 0x30, 0xea]);
}

#[test]
fn a_bad_sector_is_tried_again_and_reported() {
    let hw = Fake::default();
    let mut drive = FakeDrive::disk(1000);
    drive.bad = vec![12];
    let (mut disk, channel) = disk(&hw, drive);
    assert_eq!(disk.read(&hw, 10, 4, BUFFER), Err(DiskError::Media));
    let opcodes: Vec<u8> = channel
        .borrow_mut()
        .first()
        .commands
        .iter()
        .map(|c| c.0)
        .collect();
    assert_eq!(opcodes, [0xc8, 0xc8, 0x20]);
    assert_eq!(disk.read(&hw, 13, 1, BUFFER), Ok(()));
}

#[test]
fn a_stuck_command_is_reset_and_repeated() {
    let hw = Fake::default();
    let mut drive = FakeDrive::disk(1000);
    drive.identity = identify::tests::sample(1000);
    let (mut disk, channel) = disk(&hw, drive);
    channel.borrow_mut().first().hang = 1;
    assert_eq!(disk.read(&hw, 10, 4, BUFFER), Ok(()));
    assert_eq!(channel.borrow_mut().first().resets, 1);
    channel.borrow_mut().first().hang = 9;
    assert_eq!(disk.read(&hw, 10, 4, BUFFER), Err(DiskError::Timeout));
    assert!(channel.borrow_mut().first().commands.len() < 6);
    channel.borrow_mut().first().hang = 0;
    assert_eq!(disk.read(&hw, 10, 4, BUFFER), Ok(()));
}

#[test]
fn a_bus_master_that_does_not_work_is_given_up() {
    let hw = Fake::default();
    let (mut disk, channel) = disk(&hw, FakeDrive::disk(1000));
    channel.borrow_mut().first().bus_errors = 2;
    assert_eq!(disk.read(&hw, 10, 4, BUFFER), Ok(()));
    assert_eq!(disk.read(&hw, 11, 4, BUFFER), Ok(()));
    let mut channel = channel.borrow_mut();
    let opcodes: Vec<u8> = channel.first().commands.iter().map(|c| c.0).collect();
    assert_eq!(opcodes, [0xc8, 0xc8, 0x20, 0x20]);
}

#[test]
fn channels_of_a_controller() {
    let legacy = [None, None, None, None, Some(0xc000)];
    let [first, second] = channels(&controller(0x80, legacy));
    assert_eq!(first, PORTS);
    assert_eq!(
        (second.command, second.control, second.irq),
        (0x170, 0x376, 15)
    );
    assert_eq!(second.bus_master, Some(0xc008));
    let native = [0xd000, 0xd100, 0xd200, 0xd300].map(Some);
    let [a, b, c, d] = native;
    let [first, second] = channels(&controller(0x85, [a, b, c, d, None]));
    assert_eq!(
        (first.command, first.control, first.irq),
        (0xd000, 0xd102, 11)
    );
    assert_eq!((second.command, second.control), (0xd200, 0xd302));
    assert_eq!(second.bus_master, None);
}

#[test]
fn descriptors_end_at_64_kib() {
    let hw = Fake::default();
    write_prd(&hw, DMA_START, 0x1_fe00, 0x2_0400);
    let entries: Vec<u64> = (0..4).map(|i| hw.read64(DMA_START + 8 * i)).collect();
    assert_eq!(
        entries,
        [0x200_0001_fe00, 0x2_0000, 0x3_0000, 0x8000_0200_0004_0000]
    );
}

#[test]
fn cds_are_read_by_dma_and_by_the_data_register() {
    let hw = Fake::default();
    let (mut cd, _channel) = cd(&hw);
    cd.read(&hw, 5, 40, BUFFER).unwrap();
    assert_eq!(cd.info().sectors, 100);
    assert_eq!(first_word(&hw, BUFFER), 5);
    assert_eq!(first_word(&hw, BUFFER + 40 * 2048 - 8), 44);
    assert_eq!(cd.read(&hw, 99, 2, BUFFER), Err(DiskError::BadRequest));

    let hw = Fake::default();
    FakeChannel::attach(&hw, Some(FakeDrive::cd()), None);
    let Some(Found::Device(device)) = probed(&hw, false).pop() else {
        panic!("no CD drive");
    };
    let mut cd = Disk::new(device, Bounce::new(&hw));
    cd.read(&hw, 7, 2, BUFFER + 1).unwrap();
    assert_eq!(first_word(&hw, BUFFER + 1), 7);
    assert_eq!(first_word(&hw, BUFFER + 1 + 4088), 8);
}

#[test]
fn reads_from_a_cd_take_few_accesses() {
    for (pairs, accesses) in [(true, 13 + 3), (false, 16 + 3)] {
        let hw = Fake::default();
        let (mut cd, channel) = cd(&hw);
        channel.borrow_mut().pairs = pairs;
        for lba in [3, 2, 60] {
            cd.read(&hw, lba, 1, BUFFER).unwrap();
            assert_eq!(first_word(&hw, BUFFER), lba);
        }
        hw.port_accesses.set(0);
        cd.read(&hw, 50, 31, BUFFER).unwrap();
        assert_eq!(first_word(&hw, BUFFER + 30 * 2048), 80);
        let taken = hw.port_accesses.get();
        assert!(taken <= accesses, "{pairs}: {taken}");
    }
}

/// QEMU's `piix4-ide` beside the PIIX3's own: the last one answers, and its bus master works.
#[test]
fn functions_on_the_same_legacy_ports_are_told_apart() {
    let hw = Fake::default();
    FakeChannel::attach(&hw, Some(FakeDrive::disk(100)), None);
    let registers = |port| [None, None, None, None, Some(port)];
    let first = controller(0x80, registers(0xd000));
    let second = controller(0x80, registers(0xc000));
    let around = crate::storage::drivers::Around {
        hw: hw.clone(),
        pci: &[first, second],
        config: crate::devices::pci::ConfigAccess::Ports,
        wanted: None,
    };
    let found = |index| {
        probe(&Function {
            around: &around,
            index,
        })
    };
    assert!(found(0).is_empty());
    let Some(Found::Device(device)) = found(1).pop() else {
        panic!("no disk");
    };
    let mut disk = Disk::new(device, Bounce::new(&hw));
    assert_eq!(disk.read(&hw, 3, 1, BUFFER), Ok(()));
}
