use super::fake::{Diskette, FakeController};
use super::*;
use crate::arch::PhysMem;
use crate::arch::fake::Fake;
use crate::devices::pci::ConfigAccess;
use crate::storage::{Bounce, Disk, Op};
use std::cell::RefCell;
use std::rc::Rc;

const BUFFER: u64 = 0x2_0000;

struct Machine {
    hw: Fake,
    controller: Rc<RefCell<FakeController>>,
    disk: Disk,
}

/// Drive A of a type, with a diskette.
fn machine(cmos: u8, diskette: Option<Diskette>) -> Machine {
    let hw = Fake::default();
    let controller = FakeController::attach(&hw);
    controller.borrow_mut().change(0, diskette);
    let model = Model::of(cmos).unwrap();
    let device = Floppy::new(hw.clone(), 0, model, "A".into(), Place::default());
    Machine {
        disk: Disk::new(Box::new(device), Bounce::NONE),
        hw,
        controller,
    }
}

fn formats() -> impl Iterator<Item = (u8, Format)> {
    (1..6).flat_map(|cmos| {
        let formats = Model::of(cmos).unwrap().formats;
        formats.iter().map(move |format| (cmos, *format))
    })
}

#[test]
fn each_format_is_known_by_what_can_be_read() {
    for (cmos, format) in formats() {
        let mut one_sided = format;
        one_sided.chs.heads = 1;
        let sides = [
            Some(format),
            Some(one_sided).filter(|f| f.may_be_single_sided()),
        ];
        for format in sides.into_iter().flatten() {
            let mut machine = machine(cmos, Some(Diskette::new(format)));
            let last = format::sectors(format.chs) - 1;
            machine.disk.read(&machine.hw, last, 1, BUFFER).unwrap();
            assert_eq!(machine.hw.read8(BUFFER), last as u8);
            assert_eq!(machine.disk.info().geometry, format.chs);
            let beyond = machine.disk.read(&machine.hw, last, 2, BUFFER);
            assert_eq!(beyond, Err(DiskError::BadRequest));
        }
    }
}

#[test]
fn a_cylinder_takes_one_command() {
    let format = Model::of(4).unwrap().formats[0];
    let mut machine = machine(4, Some(Diskette::new(format)));
    machine.disk.read(&machine.hw, 0, 1, BUFFER).unwrap();
    let commands = machine.controller.borrow().commands.len();
    machine.disk.read(&machine.hw, 36, 72, BUFFER).unwrap();
    assert_eq!(machine.controller.borrow().commands[commands..], [0xe6; 2]);
    assert_eq!(machine.hw.read8(BUFFER + 71 * 512), 107);
    assert_eq!(machine.controller.borrow().motors(), 1);
}

#[test]
fn what_is_out_of_reach_borrows_a_sector() {
    let format = Model::of(4).unwrap().formats[0];
    for buffer in [0x1_ff00, 0xc_8000, 0x100_0000, 1 << 32] {
        let mut machine = machine(4, Some(Diskette::new(format)));
        machine.hw.fill(FLOPPY_SECTOR.start, SECTOR, 0xee);
        machine.disk.read(&machine.hw, 7, 2, buffer).unwrap();
        assert_eq!(machine.hw.read8(buffer), 7);
        assert_eq!(machine.hw.read8(buffer + 1023), 8);
        machine.hw.fill(buffer, 512, 0xaa);
        machine.disk.write(&machine.hw, 9, 1, buffer).unwrap();
        machine.disk.read(&machine.hw, 9, 1, BUFFER).unwrap();
        assert_eq!(machine.hw.read8(BUFFER), 0xaa);
        assert_eq!(machine.hw.read8(FLOPPY_SECTOR.start + 511), 0xee);
    }
}

#[test]
fn media_come_and_go() {
    let [large, small] = [0, 1].map(|index| Model::of(4).unwrap().formats[index]);
    let mut machine = machine(4, None);
    let read = |machine: &mut Machine, lba| machine.disk.read(&machine.hw, lba, 1, BUFFER);
    assert_eq!(read(&mut machine, 0), Err(DiskError::NoMedium));
    assert_eq!(machine.disk.info().geometry, large.chs);
    let change = |machine: &Machine, diskette| machine.controller.borrow_mut().change(0, diskette);
    change(&machine, Some(Diskette::new(small)));
    assert_eq!(read(&mut machine, 1439), Ok(()));
    change(&machine, Some(Diskette::new(large)));
    assert_eq!(read(&mut machine, 0), Err(DiskError::MediumChanged));
    assert_eq!(read(&mut machine, 2879), Ok(()));
    change(&machine, None);
    assert_eq!(read(&mut machine, 0), Err(DiskError::MediumChanged));
    assert_eq!(read(&mut machine, 0), Err(DiskError::NoMedium));
}

#[test]
fn errors_have_their_names() {
    let format = Model::of(4).unwrap().formats[0];
    let mut diskette = Diskette::new(format);
    diskette.protected = true;
    diskette.bad = vec![5];
    let mut machine = machine(4, Some(diskette));
    let refused = machine.disk.write(&machine.hw, 0, 1, BUFFER);
    assert_eq!(refused, Err(DiskError::WriteProtected));
    let bad = machine.disk.read(&machine.hw, 4, 2, BUFFER);
    assert_eq!(bad, Err(DiskError::Media));
    machine.disk.read(&machine.hw, 6, 1, BUFFER).unwrap();
}

#[test]
fn silence_ends_and_a_reset_gets_it_back() {
    let format = Model::of(4).unwrap().formats[0];
    let mut machine = machine(4, Some(Diskette::new(format)));
    machine.controller.borrow_mut().silent = true;
    let start = crate::arch::Clock::now_us(&machine.hw);
    let silent = machine.disk.read(&machine.hw, 0, 1, BUFFER);
    assert_eq!(silent, Err(DiskError::Timeout));
    assert!(crate::arch::Clock::now_us(&machine.hw) - start < 5_000_000);
    machine.controller.borrow_mut().silent = false;
    machine.disk.read(&machine.hw, 0, 1, BUFFER).unwrap();
}

#[test]
fn nothing_answers_where_cmos_is_wrong() {
    let hw = Fake::default();
    let model = Model::of(4).unwrap();
    let device = Floppy::new(hw.clone(), 1, model, "B".into(), Place::default());
    let mut disk = Disk::new(Box::new(device), Bounce::NONE);
    assert_eq!(disk.read(&hw, 0, 1, BUFFER), Err(DiskError::Controller));
}

#[test]
fn cmos_tells_of_the_drives() {
    let drives = |types| {
        let hw = Fake::default();
        hw.script_port(0x71, &[types]);
        let around = Around {
            hw: hw.clone(),
            pci: &[],
            config: ConfigAccess::Ports,
            wanted: None,
        };
        let found = probe(&around);
        let name = |found: &Found| match found {
            Found::Device(device) => device.info().name.to_string(),
            Found::Unusable { why, .. } => why.clone(),
        };
        let names: Vec<String> = found.iter().map(name).collect();
        assert_eq!(hw.port_accesses.get(), 2);
        names
    };
    assert!(drives(0).is_empty());
    assert_eq!(
        drives(0x45),
        ["Diskette drive A (1.44 MB)", "Diskette drive B (2.88 MB)"]
    );
    assert!(drives(0xf0)[0].contains("type 15"));
}

proptest::proptest! {
    #[test]
    fn any_request_is_carried_out_as_it_is_asked(
        lba in 0u64..2880,
        count in 1u32..128,
        offset in 0u64..0x1_0000,
        writes: bool,
    ) {
        let format = Model::of(4).unwrap().formats[0];
        let machine = machine(4, Some(Diskette::new(format)));
        let Machine { hw, controller, mut disk } = machine;
        let count = count.min((2880 - lba) as u32);
        let buffer = 0x2_0000 + offset;
        let op = if writes { Op::Write } else { Op::Read };
        if op == Op::Write {
            hw.fill(buffer, u64::from(count) * SECTOR, 0xdd);
            disk.write(&hw, lba, count, buffer).unwrap();
            let controller = controller.borrow();
            let bytes = &controller.drives[0].diskette.as_ref().unwrap().bytes;
            let written = bytes.iter().filter(|&&byte| byte == 0xdd).count() as u64;
            let own = bytes.chunks(512).enumerate().filter(|(at, _)| at % 256 == 0xdd).count() as u64;
            assert!(written >= u64::from(count) * SECTOR && written <= (u64::from(count) + own) * SECTOR);
        } else {
            disk.read(&hw, lba, count, buffer).unwrap();
            for index in 0..u64::from(count) {
                let at = buffer + index * SECTOR;
                assert_eq!([hw.read8(at), hw.read8(at + 511)], [(lba + index) as u8; 2]);
            }
        }
    }
}
