use super::*;
use crate::place::fake::FakePlacer;
use proptest::prelude::*;

#[derive(Default)]
struct FakeFiles {
    files: Vec<(Vec<u8>, Vec<u8>)>,
    writes: Vec<(u32, u32, Vec<u8>)>,
    broken: bool,
}

impl FakeFiles {
    fn with(mut self, name: &str, bytes: &[u8]) -> Self {
        self.files.push((name.into(), bytes.into()));
        self
    }
}

impl FileSource for FakeFiles {
    fn find(&mut self, name: &[u8]) -> Option<File> {
        let handle = self.files.iter().position(|file| file.0 == name)?;
        let size = self.files[handle].1.len() as u32;
        let handle = handle as u32;
        Some(File { handle, size })
    }

    fn read(&mut self, file: File, dest: &mut [u8]) -> bool {
        dest.copy_from_slice(&self.files[file.handle as usize].1[..dest.len()]);
        !self.broken
    }

    fn write(&mut self, file: File, offset: u32, bytes: &[u8]) -> bool {
        self.writes.push((file.handle, offset, bytes.into()));
        true
    }
}

fn put_name(command: &mut [u8], field: usize, name: &str) {
    command[field..field + name.len()].copy_from_slice(name.as_bytes());
}

fn command(number: u32, names: &[&str], words: &[u32], last: u8) -> Vec<u8> {
    let mut command = vec![0; COMMAND_SIZE];
    command[..4].copy_from_slice(&number.to_le_bytes());
    let mut at = 4;
    for name in names {
        put_name(&mut command, at, name);
        at += NAME_SIZE;
    }
    for word in words {
        command[at..at + 4].copy_from_slice(&word.to_le_bytes());
        at += 4;
    }
    if at < COMMAND_SIZE {
        command[at] = last;
    }
    command
}

fn allocate(name: &str, align: u32, zone: u8) -> Vec<u8> {
    command(1, &[name], &[align], zone)
}

fn add_pointer(at: &str, to: &str, offset: u32, size: u8) -> Vec<u8> {
    command(2, &[at, to], &[offset], size)
}

fn add_checksum(at: &str, offset: u32, start: u32, size: u32) -> Vec<u8> {
    command(3, &[at], &[offset, start, size], 0)
}

fn write_pointer(at: &str, to: &str, offset: u32, to_offset: u32, size: u8) -> Vec<u8> {
    command(4, &[at, to], &[offset, to_offset], size)
}

fn rsdp_file() -> Vec<u8> {
    let mut rsdp = RSDP_SIGNATURE.to_vec();
    rsdp.extend_from_slice(&[0; 12]);
    rsdp[16] = 0x40;
    rsdp
}

fn files() -> FakeFiles {
    FakeFiles::default()
        .with("etc/acpi/rsdp", &rsdp_file())
        .with("etc/acpi/tables", &[7; 200])
        .with("etc/vmgenid_addr", &[0; 8])
}

fn good_script() -> Vec<u8> {
    [
        allocate("etc/acpi/rsdp", 16, 2),
        allocate("etc/acpi/tables", 64, 1),
        command(99, &["from a later QEMU"], &[], 0),
        add_pointer("etc/acpi/rsdp", "etc/acpi/tables", 16, 4),
        add_checksum("etc/acpi/rsdp", 8, 0, 20),
        add_checksum("etc/acpi/tables", 9, 0, 100),
        write_pointer("etc/vmgenid_addr", "etc/acpi/tables", 0, 40, 8),
    ]
    .concat()
}

#[test]
fn links_and_reports() {
    let mut source = files();
    let loaded = run(&good_script(), &mut source, &mut FakePlacer::default()).unwrap();
    let rsdp = loaded.rsdp.unwrap();
    assert_eq!(rsdp % 16, 0);
    assert!((0xf0000..0x100000).contains(&rsdp));
    let tables = &loaded.blocks[1];
    assert_eq!(tables.addr % 64, 0);
    let rsdp = loaded.at(rsdp).unwrap();
    assert_eq!(rsdp[16..20], (tables.addr as u32 + 0x40).to_le_bytes());
    assert_eq!(sum(&rsdp[..20]), 0);
    assert_eq!(sum(&tables.bytes[..100]), 0);
    assert_eq!(tables.bytes[100..], [7; 100]);
    let address = (tables.addr + 40).to_le_bytes().to_vec();
    assert_eq!(source.writes, [(2, 0, address)]);
}

fn fault(script: &[u8]) -> Fault {
    let mut source = files();
    let error = run(script, &mut source, &mut FakePlacer::default()).unwrap_err();
    assert!(source.writes.is_empty());
    error.fault
}

#[test]
fn names_each_fault() {
    let placed = [
        allocate("etc/acpi/rsdp", 16, 2),
        allocate("etc/acpi/tables", 64, 1),
    ]
    .concat();
    let after = |command: Vec<u8>| fault(&[placed.clone(), command].concat());
    let (rsdp, tables) = ("etc/acpi/rsdp", "etc/acpi/tables");
    assert_eq!(fault(&[0; 127]), Fault::TornScript);
    assert_eq!(fault(&allocate("nothing", 1, 1)), Fault::NoSuchFile);
    assert_eq!(fault(&allocate(rsdp, 1, 3)), Fault::UnknownZone(3));
    assert_eq!(fault(&allocate(rsdp, 0, 1)), Fault::BadAlignment(0));
    assert_eq!(fault(&allocate(rsdp, 3, 1)), Fault::BadAlignment(3));
    assert_eq!(fault(&allocate("", 16, 1)), Fault::BadName);
    assert_eq!(fault(&allocate(&"a".repeat(56), 16, 1)), Fault::BadName);
    assert_eq!(fault(&add_checksum(rsdp, 0, 0, 1)), Fault::NotAllocated);
    assert_eq!(after(allocate(rsdp, 16, 2)), Fault::AllocatedTwice);
    assert_eq!(
        after(add_pointer(rsdp, "etc/vmgenid_addr", 0, 4)),
        Fault::NotAllocated
    );
    assert_eq!(
        after(add_pointer(rsdp, tables, 0, 3)),
        Fault::BadPointerSize(3)
    );
    assert_eq!(
        after(add_pointer(rsdp, tables, 16, 1)),
        Fault::BadPointerSize(1)
    );
    assert_eq!(after(add_pointer(rsdp, tables, 17, 4)), Fault::OutOfRange);
    assert_eq!(
        after(add_pointer(rsdp, tables, u32::MAX, 8)),
        Fault::OutOfRange
    );
    // The pointer's own value lies outside the file it points to.
    assert_eq!(after(add_pointer(rsdp, tables, 0, 4)), Fault::OutOfRange);
    assert_eq!(after(add_checksum(rsdp, 20, 0, 1)), Fault::OutOfRange);
    assert_eq!(after(add_checksum(rsdp, 8, 1, u32::MAX)), Fault::OutOfRange);
    assert_eq!(
        after(write_pointer("etc/vmgenid_addr", tables, 1, 0, 8)),
        Fault::OutOfRange
    );
    assert_eq!(
        after(write_pointer("etc/vmgenid_addr", tables, 0, 200, 8)),
        Fault::OutOfRange
    );
}

#[test]
fn leaves_nothing_behind_when_memory_or_the_source_fails() {
    for limit in 0..2 {
        let mut placer = FakePlacer {
            limit,
            ..FakePlacer::default()
        };
        let mut source = files();
        let error = run(&good_script(), &mut source, &mut placer).unwrap_err();
        assert_eq!(error.fault, Fault::NoMemory);
        assert_eq!(error.command, limit);
        assert!(source.writes.is_empty());
    }
    let mut source = files();
    source.broken = true;
    let error = run(&good_script(), &mut source, &mut FakePlacer::default()).unwrap_err();
    assert_eq!(error.fault, Fault::ReadFailed);
}

/// Commands that are nearly right, so that the later checks are reached.
fn near_command() -> impl Strategy<Value = Vec<u8>> {
    let file = || {
        prop::sample::select(vec![
            "etc/acpi/rsdp",
            "etc/acpi/tables",
            "etc/vmgenid_addr",
            "x",
        ])
    };
    let number = || prop_oneof![0u32..300, any::<u32>(), Just(u32::MAX), Just(u32::MAX - 3)];
    let size = || prop_oneof![Just(4u8), Just(8u8), any::<u8>()];
    prop_oneof![
        (file(), 0u32..9, 1u8..4).prop_map(|(file, align, zone)| allocate(file, align, zone)),
        (file(), file(), number(), size()).prop_map(|(a, b, c, d)| add_pointer(a, b, c, d)),
        (file(), number(), number(), number()).prop_map(|(a, b, c, d)| add_checksum(a, b, c, d)),
        (file(), file(), number(), number(), size())
            .prop_map(|(a, b, c, d, e)| write_pointer(a, b, c, d, e)),
        prop::collection::vec(any::<u8>(), COMMAND_SIZE),
    ]
}

proptest! {
    #[test]
    fn survives_any_script(
        commands in prop::collection::vec(near_command(), 0..12),
        good in any::<bool>(),
        tail in prop::collection::vec(any::<u8>(), 0..3),
    ) {
        let mut script = if good { good_script() } else { Vec::new() };
        script.extend(commands.concat());
        script.extend(tail);
        let _ = run(&script, &mut files(), &mut FakePlacer::default());
    }
}
