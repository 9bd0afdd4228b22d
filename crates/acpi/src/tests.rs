use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use firstlight_tables::place::fake::FakePlacer;
use proptest::prelude::*;

fn cpus(possible: u32, online: u32) -> Vec<Cpu> {
    (0..possible)
        .map(|index| Cpu {
            apic_id: 2 * index,
            online: index < online,
        })
        .collect()
}

/// A machine with everything in it.
fn full<'a>(cpus: &'a [Cpu], numa: &'a Numa, extra: &'a [u8]) -> Input<'a> {
    Input {
        cpus,
        pci_window_64: Some(0x1_4000_0000..0x10_0000_0000),
        vga_device: Some(3),
        platform_device: Some(2),
        serial: [true, true],
        parallel: true,
        laptop_slate: true,
        tpm: Some(Tpm::V20),
        generation_id: Some(0xfc00_5000),
        numa: Some(numa),
        extra,
        ..Input::default()
    }
}

fn numa() -> Numa {
    let memory = |start, end, node| NumaMemory {
        range: start..end,
        node,
    };
    Numa {
        nodes: 2,
        cpu_nodes: vec![0, 0, 1, 1],
        memory: vec![memory(0, 1 << 30, 0), memory(1 << 32, 5 << 30, 1)],
        distances: vec![10, 20, 20, 10],
    }
}

/// All tables of a machine, by signature.
fn tables(input: &Input) -> Vec<(String, Vec<u8>)> {
    let mut found = vec![
        ("FACS".to_string(), fixed::facs().to_vec()),
        (
            "DSDT".to_string(),
            fixed::table(b"DSDT", 2, &dsdt::body(input)),
        ),
        ("FACP".to_string(), fixed::fadt(0x1000, 0x2000)),
        ("APIC".to_string(), fixed::madt(input)),
        ("HPET".to_string(), fixed::hpet()),
        ("WAET".to_string(), fixed::waet()),
        ("TCPA".to_string(), fixed::tcpa(0x1_0000, TPM_LOG_SIZE)),
        ("TPM2".to_string(), fixed::tpm2(0x1_0000, TPM_LOG_SIZE)),
        (
            "RSDT".to_string(),
            fixed::table(b"RSDT", 1, &[0, 0x10, 0, 0]),
        ),
        (
            "XSDT".to_string(),
            fixed::table(b"XSDT", 1, &[0, 0x10, 0, 0, 0, 0, 0, 0]),
        ),
    ];
    if let Some(numa) = input.numa {
        found.push(("SRAT".to_string(), fixed::srat(input, numa)));
        found.extend(fixed::slit(numa).map(|slit| ("SLIT".to_string(), slit)));
    }
    found
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("firstlight-acpi-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a program of the ACPICA tools says; `None` where it is not installed.
fn run(program: &str, directory: &Path, arguments: &[&str]) -> Option<(bool, String)> {
    let mut command = Command::new(program);
    let output = command.current_dir(directory).args(arguments).output();
    let Ok(output) = output else {
        eprintln!("{program} is not installed: nothing is checked with it");
        return None;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let text = text + &String::from_utf8_lossy(&output.stderr);
    Some((output.status.success(), text))
}

/// Disassembles and compiles again. The one warning that is let pass is the one that every table with processor
/// objects has.
fn check_with_iasl(name: &str, signature: &str, table: &[u8]) {
    let scratch = Scratch::new(&format!("{name}-{signature}"));
    std::fs::write(scratch.0.join("table.aml"), table).unwrap();
    let Some((good, text)) = run("iasl", &scratch.0, &["-d", "table.aml"]) else {
        return;
    };
    assert!(
        good && !text.contains("Error") && !text.contains("Warning"),
        "{signature}: {text}"
    );
    let source = std::fs::read_to_string(scratch.0.join("table.dsl")).unwrap();
    assert!(
        !source.contains("Incorrect checksum") && !source.contains("Invalid"),
        "{source}"
    );
    let (good, text) = run("iasl", &scratch.0, &["-p", "again", "table.dsl"]).unwrap();
    let bad = |line: &&str| {
        let finding = line.starts_with("Warning") || line.starts_with("Error");
        finding && !line.contains(" 3168 ")
    };
    let bad: Vec<&str> = text.lines().filter(bad).collect();
    assert!(good && bad.is_empty(), "{signature}: {text}");
}

#[test]
fn every_table_is_what_iasl_takes_it_for() {
    let (many, numa) = (cpus(128, 3), numa());
    for (signature, table) in tables(&full(&many, &numa, &[])) {
        assert_eq!(&table[..4], signature.as_bytes());
        let length = u32::from_le_bytes(table[4..8].try_into().unwrap());
        assert_eq!(length as usize, table.len(), "{signature}");
        assert!(signature == "FACS" || sum(&table) == 0, "{signature}");
        check_with_iasl("full", &signature, &table);
    }
}

#[test]
fn the_smallest_machine_has_a_sound_dsdt() {
    let one = cpus(1, 1);
    let input = Input {
        cpus: &one,
        hpet: false,
        floppy: false,
        serial: [false; 2],
        s3: false,
        s4: false,
        ..Input::default()
    };
    let dsdt = fixed::table(b"DSDT", 2, &dsdt::body(&input));
    check_with_iasl("small", "DSDT", &dsdt);
}

/// Runs methods in ACPICA's own interpreter.
fn execute(input: &Input, name: &str, commands: &str) -> Option<String> {
    let scratch = Scratch::new(name);
    let dsdt = fixed::table(b"DSDT", 2, &dsdt::body(input));
    std::fs::write(scratch.0.join("dsdt.aml"), dsdt).unwrap();
    run("acpiexec", &scratch.0, &["-b", commands, "dsdt.aml"]).map(|(_, text)| text)
}

#[test]
fn methods_run() {
    let (four, numa) = (cpus(4, 2), numa());
    let input = full(&four, &numa, &[]);
    // The interpreter's test memory is zero: no CPU is online in the bitmap when event 2 comes.
    let methods = [
        "_SB.CP01._MAT",
        "_SB.CP01._STA",
        "_SB.CP02._STA",
        "_SB.LNKA._CRS",
        "_SB.LNKA._STA",
        "_GPE._E01",
        "_GPE._E02",
        "_SB.CP00._STA",
        "_SB.PCI0._CRS",
    ];
    let commands: Vec<_> = methods
        .iter()
        .map(|name| format!("execute \\{name}"))
        .collect();
    let commands = commands.join(";");
    let Some(text) = execute(&input, "methods", &commands) else {
        return;
    };
    assert!(
        !text.contains("ACPI Error") && !text.contains("Exception"),
        "{text}"
    );
    assert!(text.contains("00 08 01 02 01 00 00 00"), "{text}");
    assert!(text.contains("000000000000000F"), "{text}");
    assert_eq!(text.matches("(Eject Request)").count(), 2, "{text}");
    assert!(
        text.contains("on [CP00]") && text.contains("on [CP01]"),
        "{text}"
    );
}

#[test]
fn installs_everything_and_points_to_it() {
    let (two, numa) = (cpus(2, 2), numa());
    let mut extra = fixed::table(b"SSDT", 2, &[]);
    let mut bad = extra.clone();
    bad[9] ^= 1;
    extra.extend(bad);
    extra.extend([b'X'; 40]);
    let mut placer = FakePlacer::default();
    let installed = install(&full(&two, &numa, &extra), &mut placer).unwrap();
    assert_eq!(installed.rsdp % 16, 0);
    assert_eq!(installed.facs % 64, 0);
    assert!((0xf0000..0x10_0000).contains(&installed.rsdp));
    for limit in 0..12 {
        let mut placer = FakePlacer {
            limit,
            ..FakePlacer::default()
        };
        let result = install(&full(&two, &numa, &extra), &mut placer);
        assert_eq!(result, Err(NoMemory));
    }
    assert_eq!(extra_tables(&extra).count(), 1);
}

#[test]
fn a_licence_has_tables_of_its_maker_around_it() {
    let licensed = |name: &[u8; 4], oem: &[u8]| {
        let mut table = fixed::table(name, 1, &[7; 20]);
        fixed::set_oem(&mut table, oem);
        assert_eq!(sum(&table), 0);
        table
    };
    let (slic, msdm) = (
        licensed(b"SLIC", b"Acme\0\0Server\0\0"),
        licensed(b"MSDM", b"Other\0Tower\0\0\0"),
    );
    let extra = [fixed::table(b"SSDT", 2, &[]), msdm.clone(), slic.clone()].concat();
    let tables: Vec<_> = extra_tables(&extra).collect();
    assert_eq!(tables.len(), 3);
    let licence = licence(&tables);
    assert_eq!(licence, Some(&slic[..]));
    let fadt = of_its_maker(fixed::fadt(0x1000, 0x2000), licence);
    assert_eq!((fixed::oem(&fadt), sum(&fadt)), (fixed::oem(&slic), 0));
    assert_eq!(super::licence(&tables[..2]), Some(&msdm[..]));
    assert_eq!(super::licence(&tables[..1]), None);
    let rsdp = fixed::rsdp(0, 0, fixed::oem(&fadt));
    assert_eq!(rsdp[9..15], *b"Acme\0\0");
}

#[test]
fn the_root_pointer_sums_to_zero_twice() {
    let rsdp = fixed::rsdp(0x1234_5670, 0x1234_5680, b"Acme  Board   ");
    assert_eq!((sum(&rsdp[..20]), sum(&rsdp)), (0, 0));
}

#[test]
fn distances_that_are_no_square_give_no_slit() {
    let mut numa = numa();
    numa.distances.pop();
    assert_eq!(fixed::slit(&numa), None);
    numa.nodes = u32::MAX;
    assert_eq!(fixed::slit(&numa), None);
}

#[test]
fn blocks_and_paths_are_encoded_as_the_crate_does() {
    use super::aml::{Code, code, path, scope};
    use acpi_tables::aml::{Path, Scope};
    for size in [0, 57, 58, 59, 4087, 4088, 4089, 4090, 1 << 20] {
        let content = Code(vec![7; size]);
        let theirs = code(&[&Scope::new("ABCD".into(), vec![&content])]);
        assert_eq!(scope("ABCD", &[&content]).0, theirs.0, "{size}");
    }
    for name in ["ABCD", "\\ABCD", "ABCD.EF_G", "\\_SB_.PCI0.ISA_.PIRA"] {
        let theirs = code(&[&Path::new(name)]);
        assert_eq!(code(&[&path(name)]).0, theirs.0, "{name}");
    }
}

#[test]
fn what_has_to_stay_cannot_be_ejected() {
    let input = Input {
        vga_device: Some(3),
        platform_device: Some(2),
        ..Input::default()
    };
    let body = dsdt::body(&input);
    let has = |name: &[u8]| body.windows(4).any(|part| part == name);
    assert!(has(b"SL04") && has(b"SL31") && has(b"VGA_"));
    assert!(!has(b"SL01") && !has(b"SL02") && !has(b"SL03"));
}

proptest! {
    #[test]
    fn any_extra_tables_are_read(bytes in prop::collection::vec(prop_oneof![Just(0u8), 30u8..50, any::<u8>()], 0..300)) {
        for table in extra_tables(&bytes) {
            prop_assert_eq!(sum(table), 0);
        }
    }

    #[test]
    fn any_machine_has_tables(
        possible in 0u32..300,
        window in any::<(u32, u32)>(),
        window_64 in any::<Option<(u64, u64)>>(),
        vga in any::<Option<u8>>(),
        platform in any::<Option<u8>>(),
        generation in any::<Option<u64>>(),
    ) {
        let cpus = cpus(possible, 1);
        let input = Input {
            cpus: &cpus,
            pci_window: window.0..window.1,
            pci_window_64: window_64.map(|(start, end)| start..end),
            vga_device: vga,
            platform_device: platform,
            generation_id: generation,
            ..Input::default()
        };
        prop_assert!(install(&input, &mut FakePlacer::default()).is_ok());
    }
}

/// ACPI 6.5, table 5.9: X_GPE0_BLK, at byte 220, is accessed by bytes. fwts checks it.
#[test]
fn general_purpose_events_are_accessed_by_bytes() {
    let fadt = fixed::fadt(0x1000, 0x2000);
    assert_eq!(fadt[220..228], [1, 32, 0, 1, 0xe0, 0xaf, 0, 0]);
}
