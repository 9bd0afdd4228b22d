use super::*;
use crate::arch::PhysMem;
use crate::arch::fake::Fake;
use std::sync::{Arc, Mutex};

const BUFFER: u64 = 0x2_0000;

/// A device that answers by a script; with none left it works.
#[derive(Default)]
struct Script {
    statuses: Vec<Result<Status, DiskError>>,
    /// Sense data for a device that has to be asked for it.
    sense: [u8; SENSE_LEN],
    inquiry: Vec<u8>,
    capacity10: [u8; 8],
    capacity16: [u8; 12],
    commands: Vec<Vec<u8>>,
}

struct Scripted {
    hw: Fake,
    script: Arc<Mutex<Script>>,
}

impl Transport for Scripted {
    fn run(&mut self, command: &Command) -> Result<Status, DiskError> {
        let mut script = self.script.lock().unwrap();
        let block = &command.block[..command.block_len.into()];
        script.commands.push(block.to_vec());
        if block[0] != op::REQUEST_SENSE
            && let Some(status) = script.statuses.pop()
        {
            return status;
        }
        let answer = match block[0] {
            op::REQUEST_SENSE => script.sense.to_vec(),
            op::INQUIRY => script.inquiry.clone(),
            op::READ_CAPACITY_10 => script.capacity10.to_vec(),
            op::SERVICE_ACTION_IN_16 => script.capacity16.to_vec(),
            op::READ_10 | op::READ_16 => vec![0x5a; 512],
            _ => Vec::new(),
        };
        if let Data::In { buffer, len } = command.data {
            self.hw
                .write(buffer, &answer[..answer.len().min(len as usize)]);
        }
        Ok(Status::Good)
    }

    fn recover(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}

fn fixed(key: u8, code: u8, qualifier: u8) -> [u8; SENSE_LEN] {
    let mut sense = [0; SENSE_LEN];
    (sense[0], sense[2], sense[12], sense[13]) = (0x70, key, code, qualifier);
    sense
}

fn check(key: u8, code: u8, qualifier: u8) -> Result<Status, DiskError> {
    Ok(Status::Check(Some(fixed(key, code, qualifier))))
}

fn inquiry(kind: u8) -> Vec<u8> {
    let mut data = vec![0; INQUIRY_LEN];
    data[0] = kind;
    data[8..32].copy_from_slice(b"QEMU    QEMU HARDDISK   ");
    data
}

fn device(kind: u8, last: u32, size: u32) -> Arc<Mutex<Script>> {
    let mut capacity10 = [0; 8];
    capacity10[..4].copy_from_slice(&last.to_be_bytes());
    capacity10[4..].copy_from_slice(&size.to_be_bytes());
    Arc::new(Mutex::new(Script {
        inquiry: inquiry(kind),
        capacity10,
        ..Script::default()
    }))
}

fn probe(
    hw: &Fake,
    script: &Arc<Mutex<Script>>,
) -> Result<Option<ScsiDisk<Fake, Scripted>>, DiskError> {
    let transport = Scripted {
        hw: hw.clone(),
        script: script.clone(),
    };
    let found = Found {
        name: "target 0".into(),
        place: Place::default(),
        edd: None,
        most_bytes: 1 << 20,
        dma: Some(Dma::ALL),
    };
    ScsiDisk::probe(hw.clone(), transport, found)
}

fn disk(script: &Arc<Mutex<Script>>) -> (Fake, ScsiDisk<Fake, Scripted>) {
    let hw = Fake::default();
    let disk = probe(&hw, script).unwrap().unwrap();
    script.lock().unwrap().commands.clear();
    (hw, disk)
}

fn read(disk: &mut impl BlockDevice, lba: u64, count: u32) -> Result<(), DiskError> {
    disk.transfer(&Request {
        op: crate::storage::Op::Read,
        lba,
        count,
        buffer: BUFFER,
        last_try: false,
        deadline_us: 1000,
    })
}

#[test]
fn a_disk_is_asked_what_it_is_and_how_large() {
    let script = device(0, 999, 512);
    script.lock().unwrap().statuses = vec![check(6, 0x29, 0)];
    let (hw, mut disk) = disk(&script);
    let info = disk.info();
    assert_eq!(info.name.to_string(), "QEMU QEMU HARDDISK (target 0)");
    assert_eq!((info.sectors, info.sector_size), (1000, 512));
    assert_eq!(info.limits.sectors, 2048);
    read(&mut disk, 7, 3).unwrap();
    let commands = script.lock().unwrap().commands.clone();
    assert_eq!(commands, [[op::READ_10, 0, 0, 0, 0, 7, 0, 0, 3, 0]]);
    assert_eq!(hw.read8(BUFFER), 0x5a);
}

#[test]
fn large_disks_use_long_commands() {
    let script = device(0, u32::MAX, 512);
    let mut long = [0; 12];
    long[..8].copy_from_slice(&((1u64 << 40) - 1).to_be_bytes());
    long[10] = 0x10;
    script.lock().unwrap().capacity16 = long;
    let (_, mut disk) = disk(&script);
    assert_eq!(
        (disk.info().sectors, disk.info().sector_size),
        (1 << 40, 4096)
    );
    read(&mut disk, (1 << 40) - 1, 1).unwrap();
    read(&mut disk, (1 << 32) - 1, 1).unwrap();
    let codes: Vec<u8> = script
        .lock()
        .unwrap()
        .commands
        .iter()
        .map(|c| c[0])
        .collect();
    assert_eq!(codes, [op::READ_16, op::READ_16]);
}

#[test]
fn absurd_answers_make_a_disk_unusable() {
    for size in [0, 3, 511, 1 << 31] {
        let hw = Fake::default();
        let refused = probe(&hw, &device(0, 99, size)).err();
        assert_eq!(refused, Some(DiskError::Controller), "{size}");
    }
    let script = device(0, u32::MAX, 512);
    script.lock().unwrap().capacity16 = [0xff; 12];
    assert!(probe(&Fake::default(), &script).is_err());
    for kind in [0x01, 0x20, 0x7f, 0x65] {
        assert!(matches!(
            probe(&Fake::default(), &device(kind, 0, 512)),
            Ok(None)
        ));
    }
}

#[test]
fn cd_drives_are_found_without_a_medium() {
    let script = device(5, 999, 2048);
    let (_, mut cd) = disk(&script);
    assert_eq!((cd.info().kind, cd.info().sectors), (Kind::CdRom, 0));
    script.lock().unwrap().statuses = vec![check(2, 0x3a, 0)];
    assert_eq!(cd.medium(), Ok(Medium::Absent));
    script.lock().unwrap().statuses = vec![check(2, 4, 1), check(6, 0x28, 0)];
    assert_eq!(cd.medium(), Ok(Medium::Changed));
    assert_eq!(cd.info().sectors, 1000);
    assert_eq!(cd.medium(), Ok(Medium::Same));
    script.lock().unwrap().statuses = vec![check(6, 0x28, 0)];
    assert_eq!(read(&mut cd, 0, 1), Err(DiskError::MediumChanged));
    assert_eq!(read(&mut cd, 0, 1), Ok(()));
}

#[test]
fn sense_data_is_asked_for_where_it_does_not_come_along() {
    let script = device(0, 999, 512);
    let (_, mut disk) = disk(&script);
    script.lock().unwrap().sense = fixed(3, 0x11, 0);
    script.lock().unwrap().statuses = vec![Ok(Status::Check(None))];
    assert_eq!(read(&mut disk, 0, 1), Err(DiskError::Media));
}

#[test]
fn what_devices_say_becomes_an_error_or_a_further_try() {
    let script = device(0, 999, 512);
    let (hw, mut disk) = disk(&script);
    let mut read_after = |statuses: Vec<Result<Status, DiskError>>| {
        script.lock().unwrap().statuses = statuses;
        read(&mut disk, 0, 1)
    };
    assert_eq!(read_after(vec![check(1, 0x17, 0)]), Ok(()));
    assert_eq!(
        read_after(vec![Ok(Status::Busy), check(6, 0x2a, 1)]),
        Ok(())
    );
    assert_eq!(read_after(vec![check(2, 4, 2)]), Ok(()));
    assert_eq!(
        read_after(vec![check(7, 0x27, 0)]),
        Err(DiskError::WriteProtected)
    );
    assert_eq!(
        read_after(vec![check(5, 0x21, 0)]),
        Err(DiskError::SectorNotFound)
    );
    assert_eq!(read_after(vec![check(2, 4, 3)]), Err(DiskError::NotReady));
    assert_eq!(
        read_after(vec![Err(DiskError::Timeout)]),
        Err(DiskError::Timeout)
    );
    // One that never gets ready, or never ends to have something to say.
    let start = crate::arch::Clock::now_us(&hw);
    assert_eq!(
        read_after(vec![Ok(Status::Busy); 1000]),
        Err(DiskError::NotReady)
    );
    assert!(crate::arch::Clock::now_us(&hw) - start < 10_000_000);
    assert_eq!(
        read_after(vec![check(6, 0x29, 0); 1000]),
        Err(DiskError::NotReady)
    );
}

#[test]
fn a_disk_without_a_cache_need_not_know_how_to_flush_it() {
    let script = device(0, 999, 512);
    let (_, mut disk) = disk(&script);
    script.lock().unwrap().statuses = vec![check(5, 0x20, 0)];
    assert_eq!(disk.flush(), Ok(()));
    script.lock().unwrap().statuses = vec![check(4, 0x44, 0)];
    assert_eq!(disk.flush(), Err(DiskError::Controller));
}

#[test]
fn a_geometry_fits_the_size() {
    let mut answer = [0; GEOMETRY_LEN];
    answer[4..10].copy_from_slice(&[0x84, 22, 0, 0, 32, 16]);
    let chs = |cylinders, heads, sectors| Chs {
        cylinders,
        heads,
        sectors,
    };
    assert_eq!(geometry(answer, 32768), chs(32, 16, 64));
    assert_eq!(geometry(answer, 500), Chs::default());
    assert_eq!(geometry(answer, 32769), Chs::default());
    assert_eq!(geometry(answer, 1 << 30), Chs::default());
    answer[3] = 255;
    assert_eq!(geometry(answer, 32768), Chs::default());
    assert_eq!(geometry([0; GEOMETRY_LEN], 32768), Chs::default());
}

proptest::proptest! {
    #[test]
    fn any_reply_is_judged(
        data in proptest::collection::vec(proptest::num::u8::ANY, INQUIRY_LEN),
        sense: [u8; SENSE_LEN],
        last: u64,
        size: u32,
    ) {
        let _ = identity(&data.try_into().unwrap());
        let _ = Sense::parse(&sense).verdict();
        if let Ok((sectors, size)) = capacity(last, size) {
            assert!(sectors > 0 && size.is_power_of_two() && (512..=4096).contains(&size));
        }
    }

    #[test]
    fn commands_name_the_sectors_that_are_meant(lba: u64, count in 1u32..=0xffff, writes: bool) {
        let (block, len) = transfer_block(writes, lba, count);
        let number = |bytes: &[u8]| bytes.iter().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
        let (first, sectors) = match len {
            10 => (number(&block[2..6]), number(&block[7..9])),
            _ => (number(&block[2..10]), number(&block[10..14])),
        };
        assert_eq!((first, sectors), (lba, count.into()));
    }
}
