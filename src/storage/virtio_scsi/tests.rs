use super::*;
use crate::arch::fake::Fake;
use crate::arch::{Clock, PhysMem};
use crate::devices::place::Path;
use crate::devices::virtio::fake::{Ending, FakeVirtio, function};
use crate::storage::drivers::probed;
use crate::storage::{self, Bounce};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

const BUFFER: u64 = 0x2_0000;
const INQUIRY: u8 = 0x12;
const READ_CAPACITY_10: u8 = 0x25;
const READ_10: u8 = 0x28;
const WRITE_10: u8 = 0x2a;
const MODE_SENSE: u8 = 0x1a;

/// What is behind the adapter, what it was asked, and how the next requests end.
#[derive(Default)]
struct Behind {
    /// The type of each unit.
    units: BTreeMap<(u8, u16), u8>,
    last: Cell<u32>,
    sector_size: Cell<u32>,
    read_only: Cell<bool>,
    requests: RefCell<Vec<(u8, u16, u8)>>,
    endings: RefCell<Vec<Ending>>,
    /// Response and status of the next commands that are no REPORT LUNS, and bytes that they leave out.
    answers: RefCell<Vec<(u8, u8, u32)>>,
    sense: Cell<[u8; SENSE_LEN]>,
}

impl Behind {
    fn serve(&self, hw: &Fake, parts: &[(u64, u32, bool)]) -> Ending {
        let (header, len, written) = parts[0];
        assert_eq!((len, written), (REQUEST_LEN, false));
        let mut request = [0; REQUEST_LEN as usize];
        hw.read(header, &mut request);
        let (target, lun) = (
            request[1],
            u16::from_be_bytes([request[2] & 0x3f, request[3]]),
        );
        assert_eq!((request[0], request[2] >> 6), (1, 1));
        let block = &request[REQUEST_BLOCK as usize..];
        self.requests.borrow_mut().push((target, lun, block[0]));
        let ending = self.endings.borrow_mut().pop().unwrap_or(Ending::Well);
        let response = parts.iter().position(|part| part.2).unwrap();
        let (answer_at, answer_len, _) = parts[response];
        assert_eq!(answer_len, RESPONSE_LEN);
        let there = self.units.keys().any(|unit| unit.0 == target);
        let most = parts.last().unwrap().1;
        let mut data = self.answer(block[0], (target, lun), most);
        let usual = (if there { 0 } else { response::BAD_TARGET }, 0, 0);
        let (code, status, missing) = match block[0] {
            REPORT_LUNS => usual,
            _ => self.answers.borrow_mut().pop().unwrap_or(usual),
        };
        if code != response::OK || status != 0 {
            data.clear();
        }
        if let Some(&(buffer, len, true)) = parts.get(response + 1) {
            data.truncate(len as usize);
            hw.write(buffer, &data);
        }
        if ending == Ending::Well {
            let sense = self.sense.get();
            let sense_len = if status == 2 && sense[0] != 0 { 18 } else { 0 };
            hw.write32(answer_at + RESPONSE_SENSE_LEN, sense_len);
            hw.write(answer_at + RESPONSE_SENSE, &sense);
            hw.write32(answer_at + RESPONSE_RESIDUAL, missing);
            hw.write8(answer_at + RESPONSE_QUALIFIER + 2, status);
            hw.write8(answer_at + RESPONSE_RESPONSE, code);
        }
        ending
    }

    /// What a unit says to a command, of which `len` bytes are read.
    fn answer(&self, opcode: u8, (target, lun): (u8, u16), len: u32) -> Vec<u8> {
        let luns = self.units.keys().filter(|unit| unit.0 == target);
        match opcode {
            REPORT_LUNS => {
                let entries: Vec<u8> = luns
                    .flat_map(|unit| {
                        let [high, low] = unit.1.to_be_bytes();
                        let method = if unit.1 < 256 { 0 } else { 0x40 };
                        [high | method, low, 0, 0, 0, 0, 0, 0]
                    })
                    .collect();
                let len = (entries.len() as u32).to_be_bytes();
                [len.as_slice(), &[0; 4], &entries].concat()
            }
            INQUIRY => {
                let mut data = vec![0; 36];
                data[0] = self.units.get(&(target, lun)).copied().unwrap_or(0x7f);
                data[8..32].copy_from_slice(b"QEMU    QEMU HARDDISK   ");
                data
            }
            READ_CAPACITY_10 => [
                self.last.get().to_be_bytes(),
                self.sector_size.get().to_be_bytes(),
            ]
            .concat(),
            MODE_SENSE => vec![3, 0, if self.read_only.get() { 0x80 } else { 0 }, 0],
            READ_10 => vec![0x5a; len as usize],
            _ => Vec::new(),
        }
    }

    fn asked(&self, code: u8) -> Vec<(u8, u16)> {
        let requests = self.requests.borrow();
        let asked = requests.iter().filter(|request| request.2 == code);
        asked.map(|request| (request.0, request.1)).collect()
    }
}

fn behind(units: &[(u8, u16, u8)]) -> Rc<Behind> {
    Rc::new(Behind {
        units: units
            .iter()
            .map(|unit| ((unit.0, unit.1), unit.2))
            .collect(),
        last: Cell::new(999),
        sector_size: Cell::new(512),
        ..Behind::default()
    })
}

/// An adapter's configuration: queues, segments, sectors, commands, events, sense, blocks, channel and target, unit.
fn config(most_sectors: u32, most_target: u16, most_lun: u32) -> [u32; 9] {
    let target = u32::from(most_target) << 16;
    [1, 254, most_sectors, 128, 16, 96, 32, target, most_lun]
}

fn probe_with(
    behind: &Rc<Behind>,
    config: &[u32],
    wanted: Option<&[Path]>,
) -> (Fake, Rc<RefCell<FakeVirtio>>, Vec<Found>) {
    let hw = Fake::default();
    let serving = behind.clone();
    let serve = Box::new(move |hw: &Fake, parts: &[_]| serving.serve(hw, parts));
    let device = FakeVirtio::attach(&hw, 0, config, serve);
    let found = probed(&hw, function(0x1004), wanted, probe);
    (hw, device, found)
}

fn probe_all(behind: &Rc<Behind>) -> (Fake, Rc<RefCell<FakeVirtio>>, Vec<Found>) {
    probe_with(behind, &config(0xffff, 255, 16383), None)
}

fn disk(behind: &Rc<Behind>) -> (Fake, Rc<RefCell<FakeVirtio>>, storage::Disk) {
    let (hw, device, mut found) = probe_all(behind);
    let Some(Found::Device(disk)) = found.pop() else {
        panic!("no disk");
    };
    let bounce = Bounce::new(&hw);
    behind.requests.borrow_mut().clear();
    (hw, device, storage::Disk::new(disk, bounce))
}

fn paths(found: &[Found]) -> Vec<String> {
    let place = |found: &Found| match found {
        Found::Device(disk) => disk.info().place.to_string(),
        Found::Unusable { place, .. } => format!("not {place}"),
    };
    found.iter().map(place).collect()
}

#[test]
fn every_unit_of_every_target_is_found_with_few_notifications() {
    let units = [(0, 0, 0), (0x1f, 0, 5), (0x1f, 3, 0), (255, 0x123, 0)];
    let behind = behind(&units);
    let (_, device, found) = probe_all(&behind);
    assert_eq!(
        paths(&found),
        [
            "/pci@i0cf8/*@4/channel@0/disk@0,0",
            "/pci@i0cf8/*@4/channel@0/disk@1f,0",
            "/pci@i0cf8/*@4/channel@0/disk@1f,3",
            "/pci@i0cf8/*@4/channel@0/disk@ff,123",
        ]
    );
    // One more for the target with two units.
    assert_eq!(behind.asked(REPORT_LUNS).len(), 257);
    assert_eq!(behind.asked(INQUIRY).len(), 4);
    assert_eq!(device.borrow().counts.1, 1);
    let Found::Device(disk) = &found[3] else {
        panic!("no disk");
    };
    let info = disk.info();
    assert_eq!((info.sectors, info.sector_size), (1000, 512));
    assert_eq!(info.limits.sectors, MOST_BYTES / 512);
    let edd = info.edd.unwrap();
    assert_eq!(edd.device[..4], [255, 0, 0x23, 1]);
}

#[test]
fn the_adapters_limits_are_kept() {
    let behind = behind(&[(0, 0, 0), (0, 1, 0), (0, 2, 0), (7, 0, 0), (8, 0, 0)]);
    let (_, _, found) = probe_with(&behind, &config(16, 7, 1), None);
    let places = paths(&found);
    assert_eq!(places.len(), 3, "{places:?}");
    assert_eq!(behind.asked(REPORT_LUNS).len(), 9);
    let Found::Device(disk) = &found[0] else {
        panic!("no disk");
    };
    assert_eq!(disk.info().limits.sectors, 16);
}

#[test]
fn only_what_is_wanted_is_asked() {
    let behind = behind(&[(0, 0, 0), (3, 0, 0), (3, 1, 0), (0x31, 1, 0)]);
    let wanted = [
        "/pci@i0cf8/scsi@4/channel@0/disk@3,1",
        "/pci@i0cf8/scsi@4",
        "/pci@i0cf8/scsi@5/channel@0/disk@0,0",
        "/pci@i0cf8/scsi@4/channel@0/disk@3,1/more@0",
    ]
    .map(Path::new);
    let (_, _, found) = probe_with(&behind, &config(0xffff, 255, 16383), Some(&wanted));
    assert_eq!(paths(&found), ["/pci@i0cf8/*@4/channel@0/disk@3,1"]);
    assert_eq!(behind.asked(REPORT_LUNS), [(3, 0), (3, 0)]);
    assert_eq!(behind.asked(READ_CAPACITY_10), [(3, 1)]);
    assert_eq!(behind.asked(INQUIRY), [(3, 1)]);
}

#[test]
fn a_read_costs_one_access() {
    let behind = behind(&[(2, 0, 0)]);
    let (hw, _, mut disk) = disk(&behind);
    let before = hw.port_accesses.get();
    disk.read(&hw, 7, 127, BUFFER).unwrap();
    assert_eq!(hw.port_accesses.get() - before, 1);
    assert_eq!(hw.read64(BUFFER + 127 * 512 - 8), 0x5a5a_5a5a_5a5a_5a5a);
    assert_eq!(*behind.requests.borrow(), [(2, 0, READ_10)]);
}

#[test]
fn what_the_unit_has_to_say_is_understood() {
    let behind = behind(&[(0, 0, 0)]);
    let (hw, device, mut disk) = disk(&behind);
    let mut read_after = |key, code, answers: &[(u8, u8, u32)]| {
        let mut sense = [0; SENSE_LEN];
        (sense[0], sense[2], sense[12]) = (0x70, key, code);
        behind.sense.set(sense);
        *behind.answers.borrow_mut() = answers.into();
        disk.read(&hw, 0, 1, BUFFER)
    };
    const CHECK: (u8, u8, u32) = (0, status::CHECK_CONDITION, 0);
    assert_eq!(read_after(6, 0x29, &[CHECK]), Ok(()));
    assert_eq!(read_after(3, 0x11, &[CHECK; 3]), Err(DiskError::Media));
    assert_eq!(read_after(6, 0x28, &[CHECK]), Err(DiskError::MediumChanged));
    for busy in [
        (0, status::BUSY, 0),
        (0, status::TASK_SET_FULL, 0),
        (response::BUSY, 0, 0),
        (response::RESET, 0, 0),
    ] {
        assert_eq!(read_after(0, 0, &[busy; 4]), Ok(()), "{busy:?}");
    }
    let gone = (response::BAD_TARGET, 0, 0);
    assert_eq!(read_after(0, 0, &[gone]), Err(DiskError::NotReady));
    for fault in [(9, 0, 0), (0xff, 0, 0), (0, 0x18, 0), (0, 0, 1)] {
        let resets = device.borrow().counts.1;
        assert_eq!(
            read_after(0, 0, &[fault; 3]),
            Err(DiskError::Controller),
            "{fault:?}"
        );
        assert_eq!(device.borrow().counts.1 - resets, 3);
        assert_eq!(read_after(0, 0, &[fault]), Ok(()), "{fault:?}");
    }
}

#[test]
fn absurd_sizes_are_said() {
    for size in [0, 3, 513, 8192, 1 << 31] {
        let behind = behind(&[(0, 0, 0), (1, 0, 0x1f)]);
        behind.sector_size.set(size);
        let (_, _, found) = probe_all(&behind);
        let [Found::Unusable { why, .. }] = &found[..] else {
            panic!("{size}: {:?}", paths(&found));
        };
        assert!(why.contains("Controller"), "{why}");
    }
}

#[test]
fn a_ring_that_jumps_or_ends_what_was_not_asked_is_reset() {
    for ending in [
        Ending::Jumped(2),
        Ending::Jumped(u16::MAX),
        Ending::Another(1),
        Ending::Another(7 << 16),
    ] {
        let behind = behind(&[(0, 0, 0)]);
        let (hw, device, mut disk) = disk(&behind);
        behind.endings.borrow_mut().push(ending);
        assert_eq!(disk.read(&hw, 0, 1, BUFFER), Ok(()), "{ending:?}");
        assert_eq!(device.borrow().counts.1, 2);
        // The same at the end of those that are asked at once.
        let mut endings = vec![Ending::Well; MOST_AT_ONCE];
        endings[0] = ending;
        *behind.endings.borrow_mut() = endings;
        let (_, _, found) = probe_all(&behind);
        assert!(matches!(&found[..], [Found::Unusable { .. }]), "{ending:?}");
    }
}

#[test]
fn silence_ends_within_ten_seconds() {
    let behind = behind(&[(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0)]);
    let (hw, _, mut disk) = disk(&behind);
    *behind.endings.borrow_mut() = vec![Ending::Never; 100];
    let before = hw.now_us();
    assert_eq!(disk.read(&hw, 0, 1, BUFFER), Err(DiskError::Timeout));
    assert!(hw.now_us() - before < 10_000_000);
    let (hw, _, found) = probe_all(&behind);
    assert!(matches!(&found[..], [Found::Unusable { why, .. }] if why.contains("not answer")));
    assert!(hw.now_us() < 10_000_000);
    // The units are silent, and the adapter is not.
    let mut endings = vec![Ending::Never; 100];
    endings.extend(vec![Ending::Well; 256]);
    *behind.endings.borrow_mut() = endings;
    let (hw, _, found) = probe_all(&behind);
    assert_eq!(found.len(), MOST_SILENT as usize);
    assert!(hw.now_us() < 10_000_000);
}

proptest::proptest! {
    #[test]
    fn any_list_of_units_is_read(answer in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
        let (luns, _) = reported(&answer);
        assert!(luns.len() <= answer.len() / 8);
        assert!(luns.iter().all(|&lun| u32::from(lun) <= LUNS));
    }
}

#[test]
fn a_disk_that_says_that_it_cannot_be_written_is_not_asked_to() {
    let units = behind(&[(0, 0, 0)]);
    units.read_only.set(true);
    let (hw, _, mut disk) = disk(&units);
    assert_eq!(disk.read(&hw, 0, 1, BUFFER), Ok(()));
    let refused = Err(DiskError::WriteProtected);
    assert_eq!(disk.write(&hw, 0, 1, BUFFER), refused);
    assert_eq!(units.asked(WRITE_10), []);
}
