use super::*;
use crate::arch::fake::{Fake, FakeDevice};
use crate::arch::{Clock, PhysMem, Ports};
use crate::devices::pci::{Bar, BarKind, Bdf, PciDevice};
use crate::devices::place::Path;
use crate::storage::ata::fake::FakeDrive;
use crate::storage::drivers;
use crate::storage::{Bounce, Disk};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

const BASE: u64 = 0xfebf_0000;
const BUFFER: u64 = 0x2_0000;

/// A controller with drives at ports 0 and 2 of four.
struct FakeController {
    regs: BTreeMap<u64, u32>,
    drives: [Option<FakeDrive>; 4],
    wide: bool,
    accesses: u32,
    link_resets: u32,
    /// Ports that never get ready.
    busy: Vec<u64>,
    /// How long a drive takes to tell what it is, and when those have told that were asked.
    slow_us: u64,
    due: BTreeMap<u64, u64>,
    /// Dies when it gets its first command: all registers read as ones.
    dies: bool,
    dead: bool,
}

impl FakeController {
    fn attach(hw: &Fake, first: FakeDrive, third: Option<FakeDrive>) -> Rc<RefCell<Self>> {
        let controller = Rc::new(RefCell::new(Self {
            regs: BTreeMap::new(),
            drives: [Some(first), None, third, None],
            wide: true,
            accesses: 0,
            link_resets: 0,
            busy: Vec::new(),
            slow_us: 0,
            due: BTreeMap::new(),
            dies: false,
            dead: false,
        }));
        hw.attach(controller.clone());
        controller
    }

    fn first(&mut self) -> &mut FakeDrive {
        self.drives[0].as_mut().unwrap()
    }

    fn reg(&self, offset: u64) -> u32 {
        self.regs.get(&offset).copied().unwrap_or(0)
    }

    fn finish(&mut self, hw: &Fake, port: u64, status: u8, error: u8) {
        let received = u64::from(self.reg(PORTS + port * PORT_LEN + FB)) + 0x40;
        hw.write(received, &[REGISTERS_TYPE, 0, status, error]);
        let task_file = u32::from_le_bytes([status, error, 0, 0]);
        self.regs.insert(PORTS + port * PORT_LEN + TFD, task_file);
        if status & STATUS_ERROR == 0 {
            self.regs.insert(PORTS + port * PORT_LEN + CI, 0);
        }
    }

    fn issue(&mut self, hw: &Fake, port: u64) {
        let list = u64::from(self.reg(PORTS + port * PORT_LEN + CLB));
        let header = hw.read32(list);
        let table = hw.read64(list + 8);
        let mut fis = [0; 20];
        hw.read(table, &mut fis);
        assert_eq!(fis[..2], [0x27, 0x80]);
        let lba48 = u64::from_le_bytes([fis[4], fis[5], fis[6], fis[8], fis[9], fis[10], 0, 0]);
        let count = u32::from(fis[12]) | u32::from(fis[13]) << 8;
        let Some(drive) = &mut self.drives[port as usize] else {
            return;
        };
        drive.commands.push((fis[2], lba48, count));
        if drive.hang > 0 {
            drive.hang -= 1;
            self.regs.insert(PORTS + port * PORT_LEN + TFD, 0x80);
            return;
        }
        if (lba48..lba48 + u64::from(count)).any(|lba| drive.bad.contains(&lba)) {
            return self.finish(hw, port, 0x51, 0x40);
        }
        let mut places = Vec::new();
        for entry in 0..u64::from(header >> 16) {
            let at = table + 0x80 + 16 * entry;
            let (addr, len) = (hw.read64(at), u64::from(hw.read32(at + 12) & 0x3f_ffff) + 1);
            assert!(self.wide || addr + len <= 1 << 32);
            places.extend((addr..addr + len).step_by(512));
        }
        match fis[2] {
            IDENTIFY_DEVICE | IDENTIFY_PACKET_DEVICE => {
                hw.write(places[0], &drive.identity);
                if self.slow_us > 0 {
                    self.due.insert(port, hw.now_us() + self.slow_us);
                    return;
                }
            }
            READ_DMA_EXT => {
                assert_eq!(places.len(), count as usize);
                for (lba, addr) in (lba48..).zip(places) {
                    hw.write(addr, &drive.sector(lba));
                }
            }
            WRITE_DMA_EXT => {
                assert_ne!(header & 1 << 6, 0);
                for (lba, addr) in (lba48..).zip(places) {
                    let mut sector = [0; 512];
                    hw.read(addr, &mut sector);
                    drive.written.insert(lba, sector);
                }
            }
            FLUSH_CACHE_EXT => {}
            _ => return self.finish(hw, port, 0x51, 0x04),
        }
        self.finish(hw, port, 0x50, 0);
    }
}

impl FakeDevice for FakeController {
    fn read(&mut self, _: &Fake, _: u16, _: u8) -> Option<u32> {
        None
    }
    fn write(&mut self, _: &Fake, _: u16, _: u8, _: u32) {}

    fn read_register(&mut self, hw: &Fake, addr: u64) -> Option<u32> {
        let offset = addr.checked_sub(BASE).filter(|&offset| offset < 0x400)?;
        self.accesses += 1;
        if self.dead {
            return Some(u32::MAX);
        }
        let port = offset.checked_sub(PORTS).map(|offset| offset / PORT_LEN);
        if let Some(port) = port
            && self.due.get(&port).is_some_and(|&due| hw.now_us() >= due)
        {
            self.due.remove(&port);
            self.finish(hw, port, 0x50, 0);
        }
        let drive = port.and_then(|port| self.drives[port as usize].as_ref());
        Some(match (offset, offset % PORT_LEN) {
            (PORTS.., TFD) if port.is_some_and(|port| self.busy.contains(&port)) => TFD_BUSY,
            // What is turned off ends a little later.
            (PORTS.., CMD) => {
                let command = self.reg(offset);
                let (started, receives) = (command & CMD_START != 0, command & CMD_RECEIVE != 0);
                let running = if started { CMD_RUNNING } else { 0 };
                let receiving = if receives { CMD_RECEIVING } else { 0 };
                let rest = command & !(CMD_RUNNING | CMD_RECEIVING);
                self.regs.insert(offset, rest | running | receiving);
                command
            }
            (CAP, _) => u32::from(self.wide) << 31,
            (PI, _) => 0xf,
            (PORTS.., SSTS) => drive.map_or(0, |_| 0x113),
            (PORTS.., SIG) => match drive {
                Some(drive) if drive.packet => SIGNATURE_PACKET,
                _ => SIGNATURE_DISK,
            },
            _ => self.reg(offset),
        })
    }

    fn write_register(&mut self, hw: &Fake, addr: u64, value: u32) -> bool {
        let Some(offset) = addr.checked_sub(BASE).filter(|&offset| offset < 0x400) else {
            return false;
        };
        self.accesses += 1;
        if self.dead {
            return true;
        }
        let register = offset % PORT_LEN;
        let value = match register {
            CMD if offset >= PORTS => {
                let old = self.reg(offset);
                assert!(value & CMD_RECEIVE != 0 || old & CMD_RUNNING == 0);
                if value & CMD_START == 0 {
                    self.regs.insert(offset - CMD + CI, 0);
                }
                value | old & (CMD_RUNNING | CMD_RECEIVING)
            }
            CLB | FB if offset >= PORTS => {
                let command = self.reg(offset - register + CMD);
                assert_eq!(command & (CMD_RUNNING | CMD_RECEIVING), 0);
                value
            }
            // Ones clear.
            IS if offset >= PORTS => 0,
            SCTL if offset >= PORTS && value == 1 => {
                self.link_resets += 1;
                self.regs.insert(offset - SCTL + TFD, 0x50);
                value
            }
            _ => value,
        };
        self.regs.insert(offset, value);
        if offset >= PORTS && register == CI && value == 1 {
            self.dead = self.dies;
            self.issue(hw, (offset - PORTS) / PORT_LEN);
        }
        true
    }
}

fn probed(hw: &Fake) -> Vec<Found> {
    let device = PciDevice {
        class: u32::from(PCI_CLASS) << 8 | 1,
        pin: 1,
        irq: Some(10),
        ..PciDevice::new(Bdf::new(0, 31, 2), 0x8086, 0x2922)
    };
    let device = device.with_bar(
        BAR,
        Bar {
            kind: BarKind::Memory32,
            address: Some(BASE),
            ..Bar::NONE
        },
    );
    drivers::searched(hw, device, None, search)
}

fn ready(hw: &Fake, controller: &RefCell<FakeController>) -> Disk {
    let Some(Found::Device(device)) = probed(hw).pop() else {
        panic!("no disk");
    };
    controller.borrow_mut().first().commands.clear();
    controller.borrow_mut().accesses = 0;
    Disk::new(device, Bounce::new(hw))
}

fn disk(hw: &Fake, sectors: u64) -> (Disk, Rc<RefCell<FakeController>>) {
    let controller = FakeController::attach(hw, FakeDrive::disk(sectors), None);
    (ready(hw, &controller), controller)
}

#[test]
fn finds_disks_and_cd_drives() {
    let hw = Fake::default();
    FakeController::attach(&hw, FakeDrive::disk(100), Some(FakeDrive::cd()));
    let found = probed(&hw);
    assert_eq!(found.len(), 2);
    let Found::Device(disk) = &found[0] else {
        panic!("no disk");
    };
    assert_eq!(disk.info().sectors, 100);
    assert!(
        disk.info()
            .place
            .is(&Path::new("/pci@i0cf8/pci8086,2922@1f,2/drive@0/disk@0"))
    );
    let Found::Device(cd) = &found[1] else {
        panic!("no CD drive");
    };
    let DiskInfo { kind, place, .. } = cd.info();
    assert_eq!(*kind, Kind::CdRom);
    assert!(place.is(&Path::new("/pci@i0cf8/pci8086,2922@1f,2/drive@2/disk@0")));
    assert_eq!(hw.in8(0x1f7), 0xff, "no legacy ports are involved");
}

/// What is found at a controller with disks at ports 0 and 2, and how long that took.
fn looked_at(set: impl Fn(&mut FakeController)) -> (Vec<Found>, u64) {
    let hw = Fake::default();
    let controller = FakeController::attach(&hw, FakeDrive::disk(100), Some(FakeDrive::disk(300)));
    set(&mut controller.borrow_mut());
    let start = hw.now_us();
    let found = probed(&hw);
    (found, hw.now_us() - start)
}

#[test]
fn slow_drives_are_waited_for_together() {
    let (found, took) = looked_at(|controller| controller.slow_us = IDENTIFY_US * 3 / 4);
    assert_eq!(found.len(), 2);
    assert!(took < IDENTIFY_US, "{took} us");
}

#[test]
fn ports_that_never_answer_cost_one_deadline_together() {
    let (found, took) = looked_at(|controller| {
        controller.first().hang = 1;
        controller.busy = vec![2];
    });
    assert!(found.is_empty());
    assert!(
        (IDENTIFY_US..IDENTIFY_US * 9 / 8).contains(&took),
        "{took} us"
    );
}

#[test]
fn a_dead_port_does_not_keep_a_good_one_out() {
    let hangs = |controller: &mut FakeController| controller.first().hang = 1;
    let is_busy = |controller: &mut FakeController| controller.busy = vec![0];
    for dead in [hangs, is_busy] {
        let (found, took) = looked_at(dead);
        let [Found::Device(disk)] = &found[..] else {
            panic!("not one disk");
        };
        assert_eq!(disk.info().sectors, 300);
        assert!(took < IDENTIFY_US * 9 / 8, "{took} us");
    }
}

#[test]
fn a_controller_that_dies_in_the_middle_has_no_drives() {
    let (found, took) = looked_at(|controller| controller.dies = true);
    assert!(found.is_empty());
    assert!(took < IDENTIFY_US * 9 / 8, "{took} us");
}

#[test]
fn a_port_that_runs_is_stopped_first() {
    const RUNS: u32 = CMD_START | CMD_RUNNING | CMD_RECEIVE | CMD_RECEIVING;
    let (found, took) = looked_at(|controller| {
        controller.regs.insert(PORTS + CMD, RUNS);
        controller.regs.insert(PORTS + 2 * PORT_LEN + CMD, RUNS);
    });
    assert_eq!(found.len(), 2);
    assert!(took < 10_000, "{took} us");
}

#[test]
fn a_read_costs_three_accesses() {
    let hw = Fake::default();
    let (mut disk, controller) = disk(&hw, 3 << 31);
    let lba = (3 << 31) - 127;
    disk.read(&hw, lba, 127, BUFFER).unwrap();
    assert!(controller.borrow().accesses <= 3);
    assert_eq!(hw.read64(BUFFER + 126 * 512), (3 << 31) - 1);
    assert_eq!(
        controller.borrow_mut().first().commands,
        [(READ_DMA_EXT, lba, 127)]
    );
}

#[test]
fn writes_are_flushed_and_bounced_where_needed() {
    let hw = Fake::default();
    let (mut disk, controller) = disk(&hw, 1000);
    for addr in [BUFFER, BUFFER + 1, 0xc_0000, 5 << 32] {
        hw.fill(addr, 65 * 512, addr as u8 | 2);
        disk.write(&hw, 10, 65, addr).unwrap();
        assert_eq!(
            controller.borrow_mut().first().sector(74)[511],
            addr as u8 | 2
        );
        disk.read(&hw, 9, 66, addr).unwrap();
        assert_eq!(hw.read64(addr), 9);
    }
    let last = controller.borrow_mut().first().commands.pop().unwrap();
    assert_eq!(last, (READ_DMA_EXT, 9, 66));
    let flushes = |command: &&(u8, u64, u32)| command.0 == FLUSH_CACHE_EXT;
    let mut controller = controller.borrow_mut();
    assert_eq!(
        controller.first().commands.iter().filter(flushes).count(),
        4
    );
}

#[test]
fn narrow_controllers_never_see_high_memory() {
    let hw = Fake::default();
    let controller = FakeController::attach(&hw, FakeDrive::disk(1000), None);
    controller.borrow_mut().wide = false;
    let mut disk = ready(&hw, &controller);
    disk.read(&hw, 7, 70, 5 << 32).unwrap();
    assert_eq!(hw.read64((5 << 32) + 69 * 512), 76);
}

#[test]
fn errors_are_retried_and_reported() {
    let hw = Fake::default();
    let (mut disk, controller) = disk(&hw, 1000);
    controller.borrow_mut().first().bad = vec![12];
    assert_eq!(disk.read(&hw, 10, 4, BUFFER), Err(DiskError::Media));
    assert_eq!(controller.borrow_mut().first().commands.len(), 3);
    assert_eq!(disk.read(&hw, 13, 1, BUFFER), Ok(()));
    assert_eq!(disk.read(&hw, 999, 2, BUFFER), Err(DiskError::BadRequest));
}

#[test]
fn a_stuck_drive_is_reset_once_and_then_given_up() {
    let hw = Fake::default();
    let (mut disk, controller) = disk(&hw, 1000);
    controller.borrow_mut().first().hang = 1;
    assert_eq!(disk.read(&hw, 10, 4, BUFFER), Ok(()));
    assert_eq!(controller.borrow().link_resets, 1);
    controller.borrow_mut().first().hang = 9;
    assert_eq!(disk.read(&hw, 10, 4, BUFFER), Err(DiskError::Timeout));
    controller.borrow_mut().first().hang = 0;
    assert_eq!(disk.read(&hw, 10, 4, BUFFER), Ok(()));
}

/// What docs/adding-a-driver.md quotes of this driver and of the table is there, but for what `…` stands for.
#[test]
fn the_guide_to_drivers_quotes_this_one() {
    let guide = include_str!("../../../docs/adding-a-driver.md");
    let lines = |text: &'static str| text.lines().map(str::trim).collect::<Vec<_>>();
    let code = [
        lines(include_str!("../ahci.rs")),
        lines(include_str!("../drivers.rs")),
    ]
    .concat();
    let mut quoted = 0;
    for block in guide.split("```rust\n").skip(1) {
        let block = lines(block.split("```").next().unwrap());
        let mut rest = &code[..];
        let parts = block.split(|line| *line == "…");
        for part in parts.filter(|part| !part.is_empty()) {
            let at = rest.windows(part.len()).position(|here| here == part);
            let at = at.unwrap_or_else(|| panic!("not in the code: {part:#?}"));
            rest = &rest[at + part.len()..];
            quoted += part.len();
        }
    }
    assert!(quoted > 60, "{quoted} lines are quoted");
}
