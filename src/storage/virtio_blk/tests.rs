use super::*;
use crate::arch::fake::Fake;
use crate::arch::{Clock, PhysMem};
use crate::devices::pci::Bar;
use crate::devices::place::Path;
use crate::devices::virtio::fake::{Ending, FakeVirtio, function};
use crate::storage::drivers::probed;
use crate::storage::{self, Bounce};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const BUFFER: u64 = 0x2_0000;
const ALL: u32 = SIZE_MAX | GEOMETRY | READ_ONLY | BLOCK_SIZE | FLUSH;

/// The first sector and the kind of each request, and how the next ones end.
#[derive(Default)]
struct Log {
    requests: RefCell<Vec<(u32, u64, u32)>>,
    status: Cell<u8>,
    endings: RefCell<Vec<Ending>>,
}

fn probe_one(features: u32, config: &[u32]) -> (Fake, Rc<RefCell<FakeVirtio>>, Rc<Log>, Found) {
    let hw = Fake::default();
    let log = Rc::new(Log::default());
    let seen = log.clone();
    let device = FakeVirtio::attach(
        &hw,
        features,
        config,
        Box::new(move |hw, parts| {
            let (header, len, written) = parts[0];
            assert_eq!((len, written), (16, false));
            let (status, len, written) = *parts.last().unwrap();
            assert_eq!((len, written), (1, true));
            let kind = hw.read32(header);
            let moved = if parts.len() == 3 { parts[1].1 } else { 0 };
            seen.requests
                .borrow_mut()
                .push((kind, hw.read64(header + 8), moved));
            let ending = seen.endings.borrow_mut().pop().unwrap_or(Ending::Well);
            if ending == Ending::Well {
                if kind == IN && seen.status.get() == OK {
                    hw.fill(parts[1].0, moved.into(), 0x5a);
                }
                hw.write8(status, seen.status.get());
            }
            ending
        }),
    );
    let mut found = probed(&hw, function(0x1001), None, probe);
    (hw, device, log, found.pop().unwrap())
}

fn disk(features: u32, config: &[u32]) -> (Fake, Rc<RefCell<FakeVirtio>>, Rc<Log>, storage::Disk) {
    let (hw, device, log, found) = probe_one(features, config);
    let Found::Device(disk) = found else {
        panic!("no disk");
    };
    let bounce = Bounce::new(&hw);
    (hw, device, log, storage::Disk::new(disk, bounce))
}

fn why_not(features: u32, config: &[u32]) -> String {
    match probe_one(features, config).3 {
        Found::Unusable { why, .. } => why,
        Found::Device(_) => panic!("it is used"),
    }
}

#[test]
fn says_what_it_is() {
    let (_, device, _, disk) = disk(ALL & !READ_ONLY, &[8000, 0, 65536, 0, 0x3f10_03e8, 4096]);
    let info = disk.info();
    assert_eq!((info.sector_size, info.sectors), (4096, 1000));
    assert_eq!(info.limits.sectors, 16);
    let chs = info.geometry;
    assert_eq!((chs.cylinders, chs.heads, chs.sectors), (1000, 16, 63));
    assert!(info.place.is(&Path::new("/pci@i0cf8/scsi@4/disk@0,0")));
    assert_eq!(device.borrow().features.1, ALL & !READ_ONLY);
}

#[test]
fn reads_writes_and_flushes_in_units_of_512_bytes() {
    let (hw, device, log, mut disk) = disk(BLOCK_SIZE | FLUSH, &[8000, 0, 0, 0, 0, 4096]);
    disk.read(&hw, 7, 3, BUFFER).unwrap();
    assert_eq!(hw.read64(BUFFER + 3 * 4096 - 8), 0x5a5a_5a5a_5a5a_5a5a);
    disk.write(&hw, 999, 1, BUFFER).unwrap();
    let expected = [(IN, 56, 3 * 4096), (OUT, 7992, 4096), (FLUSH_CACHE, 0, 0)];
    assert_eq!(*log.requests.borrow(), expected);
    assert_eq!(device.borrow().counts, (3, 1));
}

#[test]
fn a_read_costs_one_access() {
    let (hw, _, _, mut disk) = disk(0, &[8000]);
    let before = hw.port_accesses.get();
    disk.read(&hw, 7, 127, BUFFER).unwrap();
    assert_eq!(hw.port_accesses.get() - before, 1);
}

#[test]
fn a_read_only_disk_is_not_written() {
    let (hw, _, log, mut disk) = disk(READ_ONLY, &[8000]);
    assert_eq!(
        disk.write(&hw, 0, 1, BUFFER),
        Err(DiskError::WriteProtected)
    );
    assert!(log.requests.borrow().is_empty());
}

#[test]
fn absurd_sizes_are_said() {
    for size in [0, 3, 256, 513, 8192, 1 << 31] {
        let why = why_not(BLOCK_SIZE, &[8000, 0, 0, 0, 0, size]);
        assert_eq!(why, format!("its sectors have {size} bytes"));
    }
    assert!(why_not(SIZE_MAX, &[8000, 0, 511]).contains("less than a sector"));
    let (hw, _, log, mut disk) = disk(0, &[0]);
    assert_eq!(disk.read(&hw, 0, 1, BUFFER), Err(DiskError::BadRequest));
    assert!(log.requests.borrow().is_empty());
    let (_, _, _, largest) = self::disk(0, &[u32::MAX, u32::MAX]);
    assert_eq!(largest.info().sectors, u64::MAX / 512);
}

#[test]
fn errors_of_the_device() {
    let (hw, device, log, mut disk) = disk(0, &[8000]);
    log.status.set(1);
    assert_eq!(disk.read(&hw, 0, 1, BUFFER), Err(DiskError::Media));
    assert_eq!(device.borrow().counts, (3, 4));
    log.status.set(UNSUPPORTED);
    assert_eq!(disk.read(&hw, 0, 1, BUFFER), Err(DiskError::BadRequest));
    log.status.set(NO_STATUS);
    assert_eq!(disk.read(&hw, 0, 1, BUFFER), Err(DiskError::Controller));
}

#[test]
fn a_ring_that_jumps_or_ends_what_was_not_asked_is_reset() {
    for ending in [
        Ending::Jumped(2),
        Ending::Jumped(u16::MAX),
        Ending::Another(1),
        Ending::Another(7 << 16),
    ] {
        let (hw, device, log, mut disk) = disk(0, &[8000]);
        log.endings.borrow_mut().push(ending);
        assert_eq!(disk.read(&hw, 0, 1, BUFFER), Ok(()), "{ending:?}");
        assert_eq!(device.borrow().counts, (2, 2));
    }
}

#[test]
fn silence_ends_within_ten_seconds() {
    let (hw, _, log, mut disk) = disk(0, &[8000]);
    *log.endings.borrow_mut() = vec![Ending::Never; 10];
    let before = hw.now_us();
    assert_eq!(disk.read(&hw, 0, 1, BUFFER), Err(DiskError::Timeout));
    assert!(hw.now_us() - before < 10_000_000);
}

#[test]
fn a_device_without_registers_is_named() {
    let hw = Fake::default();
    let device = function(0x1001).with_bar(0, Bar::NONE);
    let found = probed(&hw, device, None, probe);
    assert!(matches!(&found[..], [Found::Unusable { why, .. }] if why.contains("registers")));
}
