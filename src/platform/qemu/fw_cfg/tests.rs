use super::fake::FakeFwCfg;
use super::*;

#[test]
fn reads_the_directory_in_one_transfer() {
    let fake = FakeFwCfg::new(&[("etc/a", b"one"), ("opt/firstlight/b", b"two!")]);
    let fw_cfg = FwCfg::open(&fake).unwrap();
    // Two signature reads; the descriptor of a host test lies above 4 GiB, which takes the second write.
    assert!(fake.accesses.get() <= 4);
    let names: Vec<&[u8]> = fw_cfg.files().map(|(_, name)| name).collect();
    assert_eq!(names, [&b"etc/a"[..], b"opt/firstlight/b"]);
    assert_eq!(
        fw_cfg.read_file(&fake, b"opt/firstlight/b", 16).unwrap(),
        b"two!"
    );
    assert_eq!(fw_cfg.read_file(&fake, b"opt/firstlight/b", 3), None);
    assert_eq!(fw_cfg.read_file(&fake, b"etc/b", 16), None);
}

#[test]
fn reads_a_directory_of_any_length() {
    let names: Vec<String> = (0..200).map(|i| format!("opt/{i}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), n.as_bytes())).collect();
    let fake = FakeFwCfg::new(&files);
    let fw_cfg = FwCfg::open(&fake).unwrap();
    assert_eq!(fw_cfg.files().count(), 200);
    assert_eq!(fw_cfg.read_file(&fake, b"opt/199", 16).unwrap(), b"opt/199");
}

#[test]
fn reads_and_writes_at_an_offset() {
    let fake = FakeFwCfg::new(&[("etc/rw", b"0123456789")]);
    let fw_cfg = FwCfg::open(&fake).unwrap();
    let file = fw_cfg.find(b"etc/rw").unwrap();
    let mut part = [0u8; 4];
    let addr = part.as_mut_ptr().expose_provenance() as u64;
    fw_cfg
        .read_to(&fake, file.handle as u16, 3, addr, 4)
        .unwrap();
    assert_eq!(core::hint::black_box(part), *b"3456");
    fw_cfg.write(&fake, file.handle as u16, 8, b"xy").unwrap();
    assert_eq!(
        fw_cfg.read_file(&fake, b"etc/rw", 16).unwrap(),
        b"01234567xy"
    );
    assert_eq!(
        fw_cfg.write(&fake, file.handle as u16, 9, b"xy"),
        Err(FwCfgError::Refused)
    );
}

#[test]
fn reads_byte_by_byte_where_there_is_no_dma() {
    let long: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
    let mut fake = FakeFwCfg::new(&[("etc/a", b"one"), ("etc/long", &long)]);
    fake.dma = false;
    let fw_cfg = FwCfg::open(&fake).unwrap();
    assert_eq!(fw_cfg.read_file(&fake, b"etc/a", 16).unwrap(), b"one");
    let file = fw_cfg.find(b"etc/long").unwrap();
    let mut part = [0u8; 4100];
    let addr = part.as_mut_ptr().expose_provenance() as u64;
    fw_cfg
        .read_to(&fake, file.handle as u16, 5000, addr, 4100)
        .unwrap();
    assert_eq!(core::hint::black_box(part), long[5000..9100]);
    assert_eq!(
        fw_cfg.write(&fake, file.handle as u16, 0, b"x"),
        Err(FwCfgError::Refused)
    );
}

#[test]
fn numbers_are_little_endian() {
    let fake = FakeFwCfg::new(&[("etc/n", &[1, 2, 0, 0])]).item(key::NB_CPUS, &[8, 1]);
    let fw_cfg = FwCfg::open(&fake).unwrap();
    assert_eq!(fw_cfg.number::<2>(&fake, key::NB_CPUS), 0x108);
    assert_eq!(fw_cfg.number_file(&fake, b"etc/n"), Some(0x201));
}

#[test]
fn says_what_is_wrong() {
    let mut fake = FakeFwCfg::new(&[]);
    fake.stuck = true;
    assert_eq!(FwCfg::open(&fake).unwrap_err(), FwCfgError::Timeout);
    fake.stuck = false;
    fake.dma = false;
    fake.absent = true;
    assert_eq!(FwCfg::open(&fake).unwrap_err(), FwCfgError::NoDevice);
    fake.dma = true;
    fake.absent = false;
    let fake = fake.item(key::FILE_DIR, &[0xff; 64]);
    assert_eq!(FwCfg::open(&fake).unwrap_err(), FwCfgError::BadDirectory);
}
