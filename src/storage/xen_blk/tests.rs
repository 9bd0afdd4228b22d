use super::fake::{Backend, CONTENT, Reply, restore};
use super::link::Shared;
use super::*;
use crate::arch::fake::Fake;
use crate::arch::fake_xen::FakeXen;
use crate::arch::{Clock, PhysMem};
use crate::storage::{AtaPorts, Bounce, Disk, Dma, EddBus, EddPath};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

const BUFFER: u64 = 0x2_0000;
const SECTORS: u64 = 100_000;
const FRONT: &str = "device/vbd/768";
const SIZE: &[(&str, &str)] = &[("sectors", "100000"), ("sector-size", "512")];

/// An emulated disk: what it was asked for, and how it answers.
#[derive(Default)]
struct Log {
    requests: Vec<(u64, u32)>,
    flushes: u32,
    error: Option<DiskError>,
}

struct Emulated(DiskInfo, Arc<Mutex<Log>>);

impl BlockDevice for Emulated {
    fn info(&self) -> &DiskInfo {
        &self.0
    }
    fn transfer(&mut self, request: &Request) -> Result<(), DiskError> {
        let mut log = self.1.lock().unwrap();
        log.requests.push((request.lba, request.count));
        log.error.map_or(Ok(()), Err)
    }
    fn flush(&mut self) -> Result<(), DiskError> {
        self.1.lock().unwrap().flushes += 1;
        Ok(())
    }
    fn recover(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}

fn emulated(number: u16, kind: Kind) -> (Found, Arc<Mutex<Log>>) {
    let log = Arc::new(Mutex::new(Log::default()));
    let info = DiskInfo {
        kind,
        name: "emulated".into(),
        sector_size: 512,
        sectors: SECTORS,
        geometry: Chs::default(),
        limits: Limits {
            sectors: 256,
            dma: Some(Dma::BELOW_4G),
        },
        place: Arc::default(),
        edd: Some(EddPath {
            bus: EddBus::Isa(0x1f0),
            interface: *b"ATA     ",
            device: [0; 16],
            ata: Some(AtaPorts {
                command: 0x1f0,
                control: 0x3f6,
                irq: 14,
                second: false,
                number,
            }),
        }),
    };
    (Found::Device(Box::new(Emulated(info, log.clone()))), log)
}

struct Bed {
    hw: Fake,
    xen: FakeXen,
    backend: Rc<Backend>,
    disk: Disk,
    log: Arc<Mutex<Log>>,
}

impl Bed {
    fn read(&mut self, lba: u64, count: u32) -> Result<(), DiskError> {
        self.disk.read(&self.hw, lba, count, BUFFER)
    }

    /// Reads until there is a connection, if one is made. What it reads is far from what the tests read.
    fn connect(&mut self) {
        self.read(SECTORS / 2, WORTH_IT).unwrap();
        self.hw.fill(BUFFER, 128 * 512, 0);
        self.backend.seen.borrow_mut().clear();
        self.log.lock().unwrap().requests.clear();
    }

    fn emulated(&self) -> Vec<(u64, u32)> {
        self.log.lock().unwrap().requests.clone()
    }
}

/// The first hard disk of a domain, emulated and as a vbd, whose back end has `keys`.
fn paired(keys: &[(&str, &str)]) -> Bed {
    let hw = Fake::default();
    let keys: Vec<_> = SIZE.iter().chain(keys).copied().collect();
    let (xen, backend) = Backend::attach(&hw, 768, &keys);
    let (device, log) = emulated(0, Kind::HardDisk);
    let mut found = join(&hw, vec![device]);
    assert_eq!(found.len(), 1);
    let Some(Found::Device(device)) = found.pop() else {
        panic!("no device");
    };
    let disk = Disk::new(device, Bounce::new(&hw));
    Bed {
        hw,
        xen,
        backend,
        disk,
        log,
    }
}

/// A disk that is a vbd only.
fn alone(keys: &[(&str, &str)]) -> (Fake, FakeXen, Rc<Backend>, Found) {
    let hw = Fake::default();
    let (xen, backend) = Backend::attach(&hw, 51776, keys);
    let mut found = join(&hw, Vec::new());
    assert_eq!(found.len(), 1);
    (hw, xen, backend, found.pop().unwrap())
}

fn device(found: Found, hw: &Fake) -> Disk {
    match found {
        Found::Device(device) => Disk::new(device, Bounce::new(hw)),
        Found::Unusable { why, .. } => panic!("{why}"),
    }
}

#[test]
fn a_disk_of_which_little_is_wanted_stays_emulated() {
    let mut bed = paired(&[]);
    bed.read(0, 1).unwrap();
    bed.read(63, 64).unwrap();
    assert_eq!(bed.emulated(), [(0, 1), (63, 64)]);
    assert_eq!(bed.backend.connections.get(), 0);
    bed.read(200, 100).unwrap();
    assert_eq!(bed.emulated().len(), 2);
    assert_eq!(bed.backend.connections.get(), 1);
    assert_eq!(bed.hw.read8(BUFFER + 512), CONTENT ^ 201);
}

/// 64 KiB are a request of 11 pages and one of 5.
#[test]
fn requests_are_cut_to_what_one_can_have() {
    let mut bed = paired(&[]);
    bed.connect();
    bed.read(7, 127).unwrap();
    let expected = [(0, 7, 88, false), (0, 95, 39, false)];
    assert_eq!(*bed.backend.seen.borrow(), expected);
    for sector in [0, 87, 88, 126] {
        let expected = CONTENT ^ (7 + sector) as u8;
        assert_eq!(bed.hw.read8(BUFFER + sector * 512 + 511), expected);
    }
    assert_eq!(bed.hw.read8(BUFFER + 127 * 512), 0);
}

#[test]
fn a_page_of_segments_makes_them_one() {
    let mut bed = paired(&[("feature-max-indirect-segments", "256")]);
    bed.connect();
    bed.read(7, 127).unwrap();
    bed.read(200, 88).unwrap();
    let expected = [(0, 7, 127, true), (0, 200, 88, false)];
    assert_eq!(*bed.backend.seen.borrow(), expected);
    assert_eq!(bed.hw.read8(BUFFER), CONTENT ^ 200);
}

#[test]
fn writes_are_made_lasting_in_the_way_that_the_back_end_has() {
    for (key, flush) in [("feature-flush-cache", 3), ("feature-barrier", 2)] {
        let mut bed = paired(&[(key, "1")]);
        bed.connect();
        bed.hw.fill(BUFFER, 1024, 0x77);
        bed.disk.write(&bed.hw, 9, 2, BUFFER).unwrap();
        let expected = [(1, 9, 2, false), (flush, 0, 0, false)];
        assert_eq!(*bed.backend.seen.borrow(), expected);
        assert_eq!(*bed.backend.written.borrow(), [(9, 0x77), (10, 0x77)]);
    }
    let mut bed = paired(&[("feature-flush-cache", "1")]);
    bed.connect();
    // Not supported after all, and then not asked for again.
    *bed.backend.replies.borrow_mut() = vec![Reply::Status(-2), Reply::Status(0)];
    bed.disk.write(&bed.hw, 9, 2, BUFFER).unwrap();
    bed.disk.write(&bed.hw, 9, 2, BUFFER).unwrap();
    assert_eq!(bed.backend.seen.borrow().len(), 3);
    assert_eq!(bed.log.lock().unwrap().flushes, 0);
}

#[test]
fn many_requests_go_round_the_ring() {
    let mut bed = paired(&[]);
    bed.connect();
    for lba in (0..100).rev() {
        bed.read(lba, 1).unwrap();
        assert_eq!(bed.hw.read8(BUFFER), CONTENT ^ lba as u8);
    }
    assert_eq!(bed.backend.seen.borrow().len(), 100);
    assert_eq!(bed.backend.connections.get(), 1);
    assert!(bed.emulated().is_empty());
}

#[test]
fn a_file_comes_in_large_pieces() {
    let mut bed = paired(&[("feature-max-indirect-segments", "256")]);
    bed.connect();
    for index in 0..47 {
        bed.read(100 + 63 * index, 63).unwrap();
        for sector in [0, 62] {
            let expected = CONTENT ^ (100 + 63 * index + sector) as u8;
            assert_eq!(bed.hw.read8(BUFFER + sector * 512 + 511), expected);
        }
    }
    let pieces = [63_u64, 126, 252, 504, 1008, 1008];
    let seen = bed.backend.seen.borrow();
    let mut next = 100;
    for ((operation, sector, count, _), piece) in seen.iter().zip(pieces) {
        assert_eq!((*operation, *sector, u64::from(*count)), (0, next, piece));
        next += piece;
    }
    assert_eq!(seen.len(), 6);
}

#[test]
fn what_is_written_is_read_again() {
    let mut bed = paired(&[]);
    bed.connect();
    bed.read(100, 8).unwrap();
    bed.read(108, 8).unwrap();
    bed.disk.write(&bed.hw, 118, 1, BUFFER).unwrap();
    let before = bed.backend.seen.borrow().len();
    bed.read(116, 8).unwrap();
    assert_eq!(bed.backend.seen.borrow().len(), before + 1);
}

/// Nobody asked for the sectors that fail.
#[test]
fn a_bad_sector_ahead_does_not_matter() {
    let mut bed = paired(&[]);
    bed.connect();
    bed.read(100, 8).unwrap();
    bed.backend.replies.borrow_mut().push(Reply::Status(-1));
    bed.read(108, 8).unwrap();
    assert_eq!(bed.hw.read8(BUFFER), CONTENT ^ 108);
    let seen: Vec<_> = bed
        .backend
        .seen
        .borrow()
        .iter()
        .map(|seen| seen.2)
        .collect();
    assert_eq!(seen, [8, 16, 8]);
    assert!(bed.emulated().is_empty());
}

#[test]
fn each_disk_has_numbers_of_its_own_and_the_first_one_more() {
    let hw = Fake::default();
    let references = [0, 1, 2].map(|index| Shared::new(&hw, index).unwrap().references());
    assert_eq!(references, [382..512, 364..382, 346..364]);
    let last = Shared::new(&hw, MOST_DEVICES - 1).unwrap().references();
    assert!(last.start >= 32);
}

/// The guest's driver finds what it would find had nobody been there.
#[test]
fn it_is_left_as_it_was_found() {
    let mut bed = paired(&[]);
    bed.connect();
    bed.disk.quiesce();
    assert_eq!(bed.xen.get("device/vbd/768/state"), "1");
    assert_eq!(bed.xen.get("device/vbd/768/feature-persistent"), "0");
    assert_eq!(bed.xen.get("/local/domain/3/backend/vbd/7/768/state"), "2");
    assert!(bed.xen.ports.borrow().is_empty());
    let mut table = [0; 4096];
    bed.hw.read(0xfd00_0000, &mut table);
    assert_eq!(table, [0; 4096]);
    // And again, when there is something to do.
    bed.read(0, 1).unwrap();
    assert_eq!(bed.emulated(), [(0, 1)]);
    bed.connect();
    assert_eq!(bed.backend.connections.get(), 2);
}

#[test]
fn a_back_end_that_does_not_come_leaves_the_emulated_disk() {
    let mut wrong = vec![("sectors", "0")];
    for keys in [
        &[("sector-size", "3")],
        &[("sector-size", "4096")],
        &[("sectors", "99999")],
        &[("sectors", "x")],
    ] {
        wrong.push(keys[0]);
    }
    for key in wrong {
        let mut bed = paired(&[key]);
        bed.read(0, WORTH_IT).unwrap();
        bed.read(5, 127).unwrap();
        assert_eq!(bed.emulated(), [(0, 128), (5, 127)], "{key:?}");
        assert_eq!(bed.xen.get("device/vbd/768/state"), "1");
    }
    for state in ["2", "3", "4", "6", "17"] {
        let mut bed = paired(&[]);
        bed.xen.set("device/vbd/768/state", state);
        bed.connect();
        assert_eq!(bed.backend.connections.get(), 0);
        assert_eq!(bed.xen.get("device/vbd/768/state"), state);
    }
}

#[test]
fn a_dead_back_end_costs_some_seconds_once() {
    let mut bed = paired(&[]);
    bed.backend.deaf_to.borrow_mut().extend(["3", "5", "6"]);
    let start = bed.hw.now_us();
    bed.read(0, WORTH_IT).unwrap();
    assert!(bed.hw.now_us() - start < 10_000_000);
    let start = bed.hw.now_us();
    bed.read(0, WORTH_IT).unwrap();
    assert!(bed.hw.now_us() - start < 100_000);
    assert_eq!(bed.emulated(), [(0, 128), (0, 128)]);
}

#[test]
fn a_dead_xenstore_costs_some_seconds_once() {
    let mut bed = paired(&[]);
    bed.xen.mute.set(true);
    let start = bed.hw.now_us();
    bed.read(0, WORTH_IT).unwrap();
    assert!(bed.hw.now_us() - start < 10_000_000);
    assert_eq!(bed.emulated(), [(0, 128)]);
}

/// Whatever the back end says to a request, the emulated disk does it.
#[test]
fn what_the_back_end_fails_to_do_the_emulated_disk_does() {
    for reply in [
        Reply::Status(-1),
        Reply::Status(-2),
        Reply::Status(5),
        Reply::Silence,
        Reply::WrongNumber,
        Reply::IndexJumps,
    ] {
        let mut bed = paired(&[]);
        bed.connect();
        bed.backend.replies.borrow_mut().push(reply);
        let start = bed.hw.now_us();
        bed.read(3, 4).unwrap();
        assert!(bed.hw.now_us() - start < 20_000_000, "{reply:?}");
        bed.read(9, 127).unwrap();
        assert_eq!(bed.emulated(), [(3, 4), (9, 127)], "{reply:?}");
        assert_eq!(bed.xen.get("device/vbd/768/state"), "1", "{reply:?}");
    }
}

#[test]
fn an_answer_that_comes_twice_is_nonsense_where_it_is_looked_at() {
    let mut bed = paired(&[]);
    bed.connect();
    // The first of two requests: its second answer takes the place of the other's.
    *bed.backend.replies.borrow_mut() = vec![Reply::Silence, Reply::Twice];
    bed.read(3, 100).unwrap();
    assert_eq!(bed.emulated(), [(3, 100)]);
}

#[test]
fn a_sector_that_neither_reads_is_an_error_of_the_medium() {
    let mut bed = paired(&[]);
    bed.connect();
    *bed.backend.replies.borrow_mut() = vec![Reply::Status(-1); 3];
    bed.log.lock().unwrap().error = Some(DiskError::Media);
    assert_eq!(bed.read(3, 4), Err(DiskError::Media));
    bed.log.lock().unwrap().error = None;
    bed.read(9, 1).unwrap();
    assert_eq!(bed.emulated(), [(3, 4); 3]);
}

/// What it may still write would come over what is written later.
#[test]
fn a_write_that_a_back_end_may_yet_do_is_not_done_twice() {
    let mut bed = paired(&[]);
    bed.connect();
    bed.backend.replies.borrow_mut().push(Reply::Silence);
    bed.backend.deaf_to.borrow_mut().extend(["5", "6"]);
    assert_eq!(bed.disk.write(&bed.hw, 3, 4, BUFFER), Ok(()));
    // By the second try, the emulated disk's. The first one had to end without.
    assert_eq!(bed.emulated(), [(3, 4)]);
}

#[test]
fn pages_that_the_back_end_keeps_are_not_used_again() {
    let mut bed = paired(&[]);
    bed.backend.keeps_pages.set(true);
    bed.connect();
    bed.read(3, 4).unwrap();
    bed.disk.quiesce();
    bed.read(3, 127).unwrap();
    bed.read(3, 127).unwrap();
    assert_eq!(bed.emulated(), [(3, 127), (3, 127)]);
    assert_eq!(bed.backend.connections.get(), 1);
}

#[test]
fn a_restored_domain_connects_anew() {
    let mut bed = paired(&[]);
    bed.connect();
    restore(&bed.xen, FRONT);
    bed.read(3, 4).unwrap();
    assert_eq!(bed.backend.connections.get(), 2);
    bed.backend.replies.borrow_mut().push(Reply::Restore);
    bed.read(4, 4).unwrap();
    assert_eq!(bed.backend.connections.get(), 3);
    assert_eq!(bed.hw.read8(BUFFER), CONTENT ^ 4);
    assert!(bed.emulated().is_empty());
    restore(&bed.xen, FRONT);
    bed.backend.deaf_to.borrow_mut().push("3");
    bed.read(5, 4).unwrap();
    assert_eq!(bed.emulated(), [(5, 4)]);
}

/// A guest's driver has the grant table by then: nothing of it is touched, nor of the device.
#[test]
fn a_restored_domain_is_left_alone() {
    let mut bed = paired(&[]);
    bed.connect();
    restore(&bed.xen, FRONT);
    bed.backend.restored_at.set(Some("5"));
    bed.disk.quiesce();
    assert_eq!(bed.backend.restored_at.get(), Some("5"));
    bed.read(5, 4).unwrap();
    assert_eq!(bed.emulated(), [(5, 4)]);
}

#[test]
fn a_domain_that_is_restored_while_it_connects_tries_again() {
    let mut bed = paired(&[]);
    bed.backend.restored_at.set(Some("3"));
    bed.connect();
    bed.read(4, 4).unwrap();
    assert_eq!(bed.backend.connections.get(), 1);
    assert_eq!(bed.hw.read8(BUFFER), CONTENT ^ 4);
}

#[test]
fn a_domain_that_is_restored_while_it_leaves_the_back_end_connects_anew() {
    for state in ["5", "6"] {
        let mut bed = paired(&[]);
        bed.connect();
        bed.backend.restored_at.set(Some(state));
        bed.disk.quiesce();
        assert_eq!(bed.xen.get("device/vbd/768/state"), "1");
        assert_eq!(bed.xen.get("/local/domain/3/backend/vbd/7/768/state"), "2");
        bed.connect();
        bed.read(4, 4).unwrap();
        assert_eq!(bed.backend.connections.get(), 2, "{state}");
    }
}

#[test]
fn a_disk_that_is_only_a_vbd_is_one() {
    let (hw, xen, backend, found) = alone(&[
        ("sectors", "100000"),
        ("sector-size", "4096"),
        ("info", "0"),
        ("feature-flush-cache", "1"),
    ]);
    let mut disk = device(found, &hw);
    assert_eq!(disk.info().name.to_string(), "Xen disk xvde");
    assert_eq!(
        (disk.info().sector_size, disk.info().sectors),
        (4096, 12_500)
    );
    disk.read(&hw, 1, 17, 0x1_0000_0002).unwrap();
    // The second part goes on from the first, and so what follows it comes, too.
    let expected = [(0, 8, 88), (0, 96, 40), (0, 136, 88), (0, 224, 48)]
        .map(|(operation, sector, count)| (operation, sector, count, false));
    assert_eq!(*backend.seen.borrow(), expected);
    assert_eq!(hw.read8(0x1_0000_0002 + 16 * 4096), CONTENT ^ 136);
    disk.quiesce();
    assert_eq!(xen.get("device/vbd/51776/state"), "1");
    disk.write(&hw, 2, 1, BUFFER).unwrap();
    assert_eq!(backend.connections.get(), 2);
    assert_eq!(backend.written.borrow().len(), 8);
}

#[test]
fn a_read_only_vbd_is_not_written() {
    let (hw, _, backend, found) = alone(&[("sectors", "8"), ("info", "4")]);
    let mut disk = device(found, &hw);
    let refused = disk.write(&hw, 2, 1, BUFFER);
    assert_eq!(refused, Err(DiskError::WriteProtected));
    assert!(backend.seen.borrow().is_empty());
}

#[test]
fn a_vbd_that_fails_is_tried_again_and_then_an_error() {
    let (hw, _, backend, found) = alone(SIZE);
    let mut disk = device(found, &hw);
    for (lba, reply) in [
        (3, Reply::Silence),
        (300, Reply::WrongNumber),
        (3, Reply::Restore),
    ] {
        backend.replies.borrow_mut().push(reply);
        disk.read(&hw, lba, 4, BUFFER).unwrap();
    }
    *backend.replies.borrow_mut() = vec![Reply::Status(-1); 3];
    assert_eq!(disk.read(&hw, 300, 4, BUFFER), Err(DiskError::Media));
    *backend.replies.borrow_mut() = vec![Reply::Silence; 2];
    assert_eq!(disk.read(&hw, 300, 4, BUFFER), Err(DiskError::Timeout));
    disk.read(&hw, 300, 4, BUFFER).unwrap();
}

#[test]
fn what_is_no_disk_is_none() {
    let hw = Fake::default();
    let (xen, _) = Backend::attach(&hw, 5632, SIZE);
    // An emulated CD has a vbd, too.
    let (cd, log) = emulated(2, Kind::CdRom);
    let found = join(&hw, vec![cd]);
    assert_eq!(found.len(), 1);
    let mut cd = device(found.into_iter().next().unwrap(), &hw);
    cd.read(&hw, 0, 128, BUFFER).unwrap();
    assert_eq!(log.lock().unwrap().requests.len(), 1);
    xen.set("device/vbd/5632/device-type", "cdrom");
    assert!(join(&hw, Vec::new()).is_empty());
    // Partitions, and names that are no numbers.
    for name in ["769", "abc", "-1", ""] {
        xen.store.borrow_mut().clear();
        xen.set(&format!("device/vbd/{name}/state"), "1");
        assert!(join(&hw, Vec::new()).is_empty());
    }
    *hw.xen.borrow_mut() = None;
    assert!(join(&hw, Vec::new()).is_empty());
}

#[test]
fn a_vbd_without_a_back_end_is_named_in_the_report() {
    let hw = Fake::default();
    let (xen, backend) = Backend::attach(&hw, 51776, SIZE);
    backend.deaf_to.borrow_mut().push("3");
    let found = join(&hw, Vec::new());
    assert!(
        matches!(&found[0], Found::Unusable { name, .. } if name.to_string() == "Xen disk xvde")
    );
    xen.set("device/vbd/51776/backend-id", "x");
    assert!(join(&hw, Vec::new()).is_empty());
}

#[test]
fn more_vbds_than_the_table_has_room_for_are_left_out() {
    let hw = Fake::default();
    let (xen, _) = Backend::attach(&hw, 51776, SIZE);
    for disk in 0..40 {
        let number = 1 << 28 | disk << 8;
        for (key, value) in [
            ("device-type", "disk"),
            ("backend", "x"),
            ("backend-id", "0"),
        ] {
            xen.set(&format!("device/vbd/{number}/{key}"), value);
        }
    }
    assert_eq!(join(&hw, Vec::new()).len(), MOST_DEVICES as usize);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    /// Whatever comes, the caller gets what the disk has, or an error.
    #[test]
    fn any_back_end_ends(
        replies in proptest::collection::vec(0usize..7, 0..20),
        requests in proptest::collection::vec((0u64..SECTORS - 128, 1u32..128, proptest::bool::ANY), 1..8),
        sectors in proptest::option::of("[0-9]{0,22}"),
    ) {
        const REPLIES: [Reply; 7] = [
            Reply::Status(0), Reply::Status(-1), Reply::WrongNumber, Reply::Twice, Reply::IndexJumps,
            Reply::Restore, Reply::Status(-2),
        ];
        let sectors = sectors.unwrap_or_else(|| "100000".into());
        let mut bed = paired(&[("sectors", &sectors)]);
        *bed.backend.replies.borrow_mut() = replies.iter().map(|reply| REPLIES[*reply]).collect();
        for (lba, count, quiesce) in requests {
            let before = bed.emulated().len();
            bed.read(lba, count).unwrap();
            let by_backend = bed.emulated().len() == before;
            if by_backend {
                proptest::prop_assert_eq!(bed.hw.read8(BUFFER), CONTENT ^ lba as u8);
            }
            if quiesce {
                bed.disk.quiesce();
            }
        }
    }
}
