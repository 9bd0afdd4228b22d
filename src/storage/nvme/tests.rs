use super::*;
use crate::arch::fake::{Fake, FakeDevice};
use crate::arch::{Clock, PhysMem};
use crate::devices::pci::{Bar, BarKind, Bdf, PciDevice};
use crate::devices::place::Path;
use crate::storage::drivers::searched;
use crate::storage::{self, Bounce};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

const BASE: u64 = 0xfebf_0000;
const BUFFER: u64 = 0x2_0000;

/// What the controller does with an I/O command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Status(u32),
    Never,
    AnotherId,
}

#[derive(Default)]
struct FakeController {
    regs: BTreeMap<u64, u32>,
    /// Submission and completion queue, and how far they are.
    queues: [(u64, u64, u16, u16, bool); 2],
    namespaces: Vec<identify::Data>,
    list: Option<Vec<u32>>,
    /// I/O commands: opcode, namespace, first sector, count, pages.
    commands: Vec<(u8, u32, u64, u32, Vec<u64>)>,
    endings: VecDeque<Ending>,
    starts: u32,
    accesses: u32,
}

impl FakeController {
    fn reg(&self, at: u64) -> u32 {
        self.regs.get(&at).copied().unwrap_or(0)
    }

    /// Carries out what is in a submission queue up to this place.
    fn commands(&mut self, hw: &Fake, queue: usize, tail: u32) {
        while u32::from(self.queues[queue].2) != tail {
            self.queues[queue].2 = (self.queues[queue].2 + 1) % ENTRIES;
            self.command(hw, queue);
        }
    }

    fn command(&mut self, hw: &Fake, queue: usize) {
        let (submission, completion, tail, head, phase) = self.queues[queue];
        let tail = (tail + ENTRIES - 1) % ENTRIES;
        let at = submission + 64 * u64::from(tail);
        let first = hw.read32(at);
        let (opcode, id) = (first as u8, (first >> 16) as u16);
        let words: Vec<u32> = (0..16).map(|word| hw.read32(at + 4 * word)).collect();
        let long = |word: usize| u64::from(words[word]) | u64::from(words[word + 1]) << 32;
        let mut ending = Ending::Status(0);
        if queue == 0 {
            ending = self.admin(hw, opcode, &words, long(6));
        } else {
            let count = words[12] + 1;
            let mut pages = vec![long(6)];
            match (u64::from(count) * 512 + (long(6) & 0xfff)).div_ceil(4096) {
                1 => {}
                2 => pages.push(long(8)),
                more => pages.extend((1..more).map(|n| hw.read64(long(8) + 8 * (n - 1)))),
            }
            self.commands
                .push((opcode, words[1], long(10), count, pages));
            ending = self.endings.pop_front().unwrap_or(ending);
        }
        let (status, id) = match ending {
            Ending::Status(status) => (status, id),
            Ending::Never => return,
            Ending::AnotherId => (0, id.wrapping_add(1)),
        };
        let end = completion + 16 * u64::from(head) + 12;
        hw.write(
            end,
            &(u32::from(id) | u32::from(phase) << 16 | status << 17).to_le_bytes(),
        );
        let next = (head + 1) % ENTRIES;
        self.queues[queue].3 = next;
        self.queues[queue].4 ^= next == 0;
    }

    fn admin(&mut self, hw: &Fake, opcode: u8, words: &[u32], page: u64) -> Ending {
        match (opcode, words[10]) {
            (CREATE_COMPLETION, _) => self.queues[1].1 = page,
            (CREATE_SUBMISSION, _) => self.queues[1] = (page, self.queues[1].1, 0, 0, true),
            (IDENTIFY, CONTROLLER) => {
                let mut data = [0; identify::DATA_LEN];
                data[24..28].copy_from_slice(b"Fake");
                data[77] = 4;
                data[516] = self.namespaces.len() as u8;
                data[525] = 1;
                hw.write(page, &data);
            }
            (IDENTIFY, NAMESPACES) => match &self.list {
                None => return Ending::Status(2),
                Some(list) => {
                    hw.fill(page, 4096, 0);
                    for (at, id) in (page..).step_by(4).zip(list) {
                        hw.write(at, &id.to_le_bytes());
                    }
                }
            },
            (IDENTIFY, NAMESPACE) => match self.namespaces.get(words[1].wrapping_sub(1) as usize) {
                Some(data) => hw.write(page, data),
                None => return Ending::Status(0x0b),
            },
            _ => panic!("admin command {opcode:x}"),
        }
        Ending::Status(0)
    }
}

impl FakeDevice for FakeController {
    fn read(&mut self, _: &Fake, _: u16, _: u8) -> Option<u32> {
        None
    }
    fn write(&mut self, _: &Fake, _: u16, _: u8, _: u32) {}

    fn read_register(&mut self, _: &Fake, addr: u64) -> Option<u32> {
        let offset = addr.checked_sub(BASE).filter(|&offset| offset < 0x2000)?;
        self.accesses += 1;
        Some(match offset {
            CAP => 1 << 24 | 0x7ff,
            CSTS => self.reg(CC) & 1,
            _ => self.reg(offset),
        })
    }

    fn write_register(&mut self, hw: &Fake, addr: u64, value: u32) -> bool {
        let Some(offset) = addr.checked_sub(BASE).filter(|&offset| offset < 0x2000) else {
            return false;
        };
        self.accesses += 1;
        self.regs.insert(offset, value);
        match offset {
            CC if value & 1 != 0 => {
                self.starts += 1;
                let at = |register| {
                    u64::from(self.reg(register)) | u64::from(self.reg(register + 4)) << 32
                };
                self.queues = [(at(ASQ), at(ACQ), 0, 0, true), (0, 0, 0, 0, true)];
            }
            DOORBELLS => self.commands(hw, 0, value),
            0x1008 => self.commands(hw, 1, value),
            _ => {}
        }
        true
    }
}

fn controller(
    namespaces: &[identify::Data],
    list: Option<Vec<u32>>,
) -> (Fake, Rc<RefCell<FakeController>>, Vec<Found>) {
    let hw = Fake::default();
    let controller = Rc::new(RefCell::new(FakeController {
        namespaces: namespaces.into(),
        list,
        ..FakeController::default()
    }));
    hw.attach(controller.clone());
    let device = PciDevice {
        class: PCI_CLASS,
        pin: 1,
        ..PciDevice::new(Bdf::new(0, 6, 0), 0x8086, 0x5845)
    };
    let device = device.with_bar(
        0,
        Bar {
            kind: BarKind::Memory64,
            prefetchable: false,
            size: 0x4000,
            address: Some(BASE),
        },
    );
    let found = searched(&hw, device, None, search);
    (hw, controller, found)
}

fn disk(sectors: u64, shift: u8) -> (Fake, Rc<RefCell<FakeController>>, storage::Disk) {
    let (hw, controller, mut found) =
        controller(&[identify::tests::namespace(sectors, shift)], Some(vec![1]));
    let Some(Found::Device(disk)) = found.pop() else {
        panic!("no disk");
    };
    let bounce = Bounce::new(&hw);
    (hw, controller, storage::Disk::new(disk, bounce))
}

#[test]
fn reads_and_writes() {
    let (hw, controller, mut disk) = disk(1000, 9);
    assert!(
        disk.info()
            .place
            .is(&Path::new("/pci@i0cf8/pci8086,5845@6/namespace@1,0"))
    );
    assert_eq!(disk.info().limits.sectors, 128);
    disk.read(&hw, 5, 1, BUFFER).unwrap();
    disk.read(&hw, 6, 9, BUFFER + 512).unwrap();
    disk.write(&hw, 7, 20, BUFFER + 0xe00).unwrap();
    let commands = &controller.borrow().commands;
    assert_eq!(commands[0], (READ, 1, 5, 1, vec![BUFFER]));
    assert_eq!(
        commands[1],
        (READ, 1, 6, 9, vec![BUFFER + 512, BUFFER + 0x1000])
    );
    let pages = vec![
        BUFFER + 0xe00,
        BUFFER + 0x1000,
        BUFFER + 0x2000,
        BUFFER + 0x3000,
    ];
    assert_eq!(commands[2], (WRITE, 1, 7, 20, pages));
    assert_eq!((commands[3].0, commands[3].1), (FLUSH, 1));
}

#[test]
fn queues_go_round() {
    let (hw, controller, mut disk) = disk(1000, 9);
    for lba in 0..50 {
        let before = controller.borrow().accesses;
        disk.read(&hw, lba, 127, BUFFER).unwrap();
        assert_eq!(controller.borrow().accesses - before, 2);
    }
    assert_eq!(controller.borrow().starts, 1);
}

#[test]
fn several_namespaces_and_those_that_cannot_be_used() {
    let namespace = identify::tests::namespace;
    let namespaces = [
        namespace(10, 9),
        namespace(0, 9),
        namespace(20, 12),
        namespace(30, 16),
    ];
    for list in [None, Some(vec![1, 2, 3, 4, 77])] {
        let (_, _, found) = controller(&namespaces, list);
        let [
            Found::Device(first),
            Found::Device(second),
            Found::Unusable { why, .. },
        ] = &found[..]
        else {
            panic!("{} found", found.len());
        };
        assert_eq!((first.info().sectors, first.info().sector_size), (10, 512));
        assert_eq!(
            (second.info().sectors, second.info().sector_size),
            (20, 4096)
        );
        assert!(
            second
                .info()
                .place
                .is(&Path::new("/pci@i0cf8/pci8086,5845@6/namespace@3,0"))
        );
        assert_eq!(why, "its sectors have 2^16 bytes");
    }
}

#[test]
fn errors_and_completions_of_what_was_not_asked() {
    let (hw, controller, mut disk) = disk(1000, 9);
    let mut read = |endings: &[Ending]| {
        controller.borrow_mut().endings = endings.iter().copied().collect();
        disk.read(&hw, 0, 1, BUFFER)
    };
    assert_eq!(read(&[Ending::Status(0x281); 3]), Err(DiskError::Media));
    assert_eq!(
        read(&[Ending::Status(0x80); 3]),
        Err(DiskError::SectorNotFound)
    );
    assert_eq!(read(&[Ending::AnotherId]), Ok(()));
    assert_eq!(read(&[Ending::Never]), Ok(()));
    assert_eq!(controller.borrow().starts, 1 + 3 + 3 + 1 + 1);
}

#[test]
fn a_dead_controller_is_named_in_time() {
    let hw = Fake::default();
    // Memory that keeps what is written, and never gets ready.
    let device = PciDevice {
        class: PCI_CLASS,
        ..PciDevice::new(Bdf::new(0, 6, 0), 1, 2)
    };
    let device = device.with_bar(
        0,
        Bar {
            kind: BarKind::Memory32,
            size: 0x4000,
            address: Some(BASE),
            ..Bar::NONE
        },
    );
    let before = hw.now_us();
    let found = searched(&hw, device, None, search);
    assert!(hw.now_us() - before < 10_000_000);
    assert!(matches!(&found[..], [Found::Unusable { why, .. }] if why == "it does not answer"));
}
