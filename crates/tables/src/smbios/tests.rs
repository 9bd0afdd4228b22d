use std::process::Command;

use super::*;
use crate::place::fake::FakePlacer;
use crate::place::sum;
use proptest::prelude::*;

fn uuid() -> [u8; 16] {
    0x3cd90213_12e3_4f46_a14e_390253fd9535_u128.to_be_bytes()
}

fn input() -> Input<'static> {
    Input {
        uuid: uuid(),
        bios_vendor: b"Xen",
        bios_version: b"4.17.3",
        manufacturer: b"Xen",
        product: b"HVM domU",
        cpu: Cpu {
            vendor: b"GenuineIntel",
            brand: b"Virtual CPU",
            signature: 0x306c3,
            features: 0x0f8b_fbff,
            mhz: 2400,
            sockets: 2,
            cores: 2,
            threads: 1,
            caches: vec![
                Cache { level: 1, kib: 64 },
                Cache {
                    level: 2,
                    kib: 40960,
                },
            ],
        },
        low_ram: 0x2000_0000,
        battery: true,
        ports: &[Port {
            label: "COM1",
            connector: 8,
            kind: 9,
        }],
        slots: &[Slot {
            device: 3,
            in_use: true,
        }],
        supplies: &[Supply {
            name: "PSU",
            manufacturer: "Acme",
            watts: Some(450),
        }],
        ..Input::default()
    }
}

/// The `<sysinfo>` of a libvirt domain, by our names.
const SYSINFO: [(&str, &str); 21] = [
    ("bios-vendor", "Acme Firmware Works"),
    ("bios-version", "4.2"),
    ("bios-release-date", "04/01/2014"),
    ("bios-release", "4.2"),
    ("system-manufacturer", "Acme"),
    ("system-product-name", "Rack Guest"),
    ("system-version", "7"),
    ("system-serial-number", "AC-0001"),
    ("system-sku-number", "RG-7"),
    ("system-family", "Guests"),
    ("baseboard-manufacturer", "Acme Boards"),
    ("baseboard-product-name", "Board"),
    ("baseboard-version", "B1"),
    ("baseboard-serial-number", "BB-0001"),
    ("baseboard-asset-tag", "A-1"),
    ("baseboard-location-in-chassis", "Slot 3"),
    ("enclosure-manufacturer", "Acme Cases"),
    ("enclosure-version", "C1"),
    ("enclosure-serial-number", "CH-0001"),
    ("enclosure-asset-tag", "A-2"),
    ("enclosure-sku-number", "CH-SKU"),
];

fn bytes(table: &Table) -> Vec<u8> {
    table.structures().collect::<Vec<_>>().concat()
}

/// What dmidecode says of the table, its errors included; `None` where it is not installed.
fn dmidecode(table: &Table, wide: bool) -> Option<String> {
    let info = table.info(32);
    let mut dump = if wide {
        entry_64(Version { major: 3, minor: 0 }, &info).to_vec()
    } else {
        entry_32(Version { major: 2, minor: 8 }, &info)?.to_vec()
    };
    dump.resize(32, 0);
    dump.extend(bytes(table));
    let name = format!(
        "firstlight-smbios-{}-{:?}-{wide}",
        std::process::id(),
        std::thread::current().id()
    );
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, dump).unwrap();
    let program = ["/usr/sbin/dmidecode", "dmidecode"];
    let output = program.iter().find_map(|program| {
        let mut command = Command::new(program);
        command.arg("--from-dump").arg(&path).output().ok()
    });
    std::fs::remove_file(&path).unwrap();
    let output = output?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text + &String::from_utf8_lossy(&output.stderr))
}

/// Checks what dmidecode shows; where it is not installed, only that the table is whole.
fn check_text(table: &Table, wanted: &[&str]) {
    check(table);
    for wide in [false, true] {
        let Some(text) = dmidecode(table, wide) else {
            eprintln!("dmidecode is not installed: its output is not checked");
            return;
        };
        for line in wanted {
            assert!(text.contains(line), "no {line:?} in:\n{text}");
        }
        for bad in [
            "OUT OF SPEC",
            "BAD INDEX",
            "TRUNCATED",
            "broken",
            "Wrong",
            "bogus",
        ] {
            assert!(!text.contains(bad), "{bad} in:\n{text}");
        }
    }
}

fn check(table: &Table) {
    let bytes = bytes(table);
    let mut rest = &bytes[..];
    let (mut count, mut largest, mut last) = (0, 0, 0);
    let mut handles = Vec::new();
    while !rest.is_empty() {
        let (structure, after) = Structure::parse(rest).unwrap();
        rest = after;
        count += 1;
        largest = largest.max(structure.bytes().len());
        last = structure.kind();
        assert!(!handles.contains(&structure.handle()), "handle used twice");
        handles.push(structure.handle());
    }
    assert_eq!(last, END_OF_TABLE);
    assert_eq!((count, largest), {
        let info = table.info(0);
        (info.count, info.largest as usize)
    });
}

fn blob(structures: &[Vec<u8>]) -> Vec<u8> {
    let mut blob = Vec::new();
    for structure in structures {
        blob.extend_from_slice(&(structure.len() as u32).to_le_bytes());
        blob.extend_from_slice(structure);
    }
    blob
}

#[test]
fn emulate_shows_the_platforms_values() {
    let mut input = input();
    input.mode = Mode::Emulate;
    input.strings.set("system-manufacturer", b"Acme");
    check_text(
        &generate(&input),
        &[
            "Vendor: Xen\n",
            "Version: 4.17.3\n",
            "BIOS Revision: 4.17\n",
            "Manufacturer: Xen\n",
            "Product Name: HVM domU\n",
            "UUID: 3cd90213-12e3-4f46-a14e-390253fd9535\n",
            "Socket Designation: CPU 1\n",
            "Maximum Capacity: 512 MB\n",
            "Size: 512 MB\n",
            "Range Size: 512 MB\n",
            "Installed Size: 40 MB\n",
            "Chemistry: Lithium Ion",
            "Max Power Capacity: 450 W",
            "External Reference Designator: COM1",
            "Designation: PCI 3",
        ],
    );
}

#[test]
fn sysinfo_shows_every_given_value() {
    let mut input = input();
    for (name, text) in SYSINFO {
        assert!(input.strings.set(name, text.as_bytes()), "{name}");
    }
    input.strings.add_oem(b"com.example:rack=12");
    input.strings.add_oem(b"firstlight.menu=yes");
    let table = generate(&input);
    let texts: Vec<&str> = SYSINFO.iter().map(|(_, text)| *text).collect();
    check_text(&table, &texts);
    check_text(
        &table,
        &[
            "BIOS Revision: 4.2\n",
            "Location In Chassis: Slot 3\n",
            "SKU Number: CH-SKU\n",
            "String 1: com.example:rack=12\n",
        ],
    );
    assert!(!bytes(&table).windows(10).any(|part| part == b"firstlight"));
    let stored = bytes(&table);
    let settings: Vec<_> = settings(structures(&stored)).collect();
    assert!(settings.is_empty());
}

#[test]
fn oem_strings_that_are_settings_reach_the_fields_xen_has_no_name_for() {
    let mut input = input();
    input
        .strings
        .add_oem(b"firstlight.smbios.system-family=Guests");
    let table = generate(&input);
    check_text(&table, &["Family: Guests\n"]);
    assert!(!structures(&bytes(&table)).any(|structure| structure.kind() == OEM_STRINGS));
    input.oem = b"Maker";
    check_text(&generate(&input), &["String 1: Maker\n"]);
    input.strings.add_oem(b"given");
    check_text(&generate(&input), &["String 1: given\n"]);
}

#[test]
fn odd_texts_stay_whole() {
    let mut input = input();
    let long = "x".repeat(200);
    input.strings.set("system-version", long.as_bytes());
    input.strings.set("system-serial-number", b"");
    input.strings.set("enclosure-asset-tag", b"cut\0here");
    input
        .strings
        .set("system-product-name", "G\u{e4}st \u{1f4bb}".as_bytes());
    let table = generate(&input);
    check_text(
        &table,
        &[
            &format!("Version: {long}\n"),
            "Serial Number: Not Specified\n",
            "Asset Tag: cut\n",
        ],
    );
    let stored = bytes(&table);
    let system = structures(&stored)
        .find(|structure| structure.kind() == 1)
        .unwrap();
    let product = system.strings().nth(1).unwrap();
    assert_eq!(product, "G\u{e4}st \u{1f4bb}".as_bytes());
}

#[test]
fn the_blob_replaces_our_types_and_adds_the_vendors() {
    let type_1 = Builder::new(1, 0x0011)
        .string(b"Blob Maker")
        .raw(&[0; 3])
        .raw(&[0; 16])
        .raw(&[6, 0, 0])
        .finish();
    let clash = Builder::new(0x90, 0x0300)
        .raw(&[1, 2])
        .string(b"vendor's")
        .finish();
    let oem = Builder::new(OEM_STRINGS, 0x0b00).byte(1);
    let mut oem = oem;
    oem.add_string(b"firstlight.log=debug");
    let blob = blob(&[type_1, clash, oem.finish()]);
    let mut input = input();
    input.blob = &blob;
    let table = generate(&input);
    check_text(
        &table,
        &[
            "Manufacturer: Blob Maker\n",
            "UUID: 3cd90213-12e3-4f46-a14e-390253fd9535\n",
            "OEM-specific",
        ],
    );
    let types = |wanted| {
        structures(&bytes(&table))
            .filter(move |item| item.kind() == wanted)
            .count()
    };
    assert_eq!((types(1), types(3), types(0x90), types(11)), (1, 1, 1, 0));
    let found: Vec<_> = settings(blob_structures(&blob)).collect();
    assert_eq!(found, [("log", &b"debug"[..])]);
}

#[test]
fn host_mode_takes_blocks_0_and_1_but_not_the_uuid() {
    let type_1 = Builder::new(1, 1)
        .string(b"Host Maker")
        .raw(&[0; 3])
        .raw(&[0xaa; 16])
        .raw(&[6, 0, 0])
        .finish();
    let type_3 = Builder::new(3, 3)
        .string(b"Host Case")
        .raw(&[0; 16])
        .finish();
    let blob = blob(&[type_1, type_3]);
    let mut input = input();
    input.mode = Mode::Host;
    input.blob = &blob;
    input.strings.set("bios-vendor", b"Acme");
    let table = generate(&input);
    check_text(
        &table,
        &[
            "Manufacturer: Host Maker\n",
            "UUID: 3cd90213-12e3-4f46-a14e-390253fd9535\n",
            "Vendor: Xen\n",
            "Chassis Information\n\tManufacturer: Xen\n",
        ],
    );
}

#[test]
fn completes_what_qemu_made() {
    let mut given = Builder::new(1, 0x100)
        .string(b"QEMU")
        .raw(&[0; 3])
        .raw(&uuid_field(&uuid()))
        .raw(&[6, 0, 0])
        .finish();
    let mut oem = Builder::new(OEM_STRINGS, 0xe00).byte(2);
    oem.add_string(b"firstlight.menu=yes");
    oem.add_string(b"shown");
    given.extend(oem.finish());
    given.extend(Builder::new(END_OF_TABLE, 0x7f00).finish());
    let table = complete(&given, &Input::default());
    check_text(
        &table,
        &[
            "Vendor: Firstlight\n",
            "Manufacturer: QEMU\n",
            "UUID: 3cd90213-12e3-4f46-a14e-390253fd9535\n",
            "String 1: shown\n",
        ],
    );
    let own = types::bios(&Input {
        bios_vendor: b"Given",
        ..Input::default()
    });
    let given = [own, given].concat();
    let table = complete(&given, &Input::default());
    check_text(&table, &["Vendor: Given\n"]);
    assert!(!bytes(&table).windows(10).any(|part| part == b"Firstlight"));
}

#[test]
fn the_largest_machine_needs_the_64_bit_entry_point() {
    let mut input = input();
    input.cpu.sockets = 240;
    input.high_ram = (12800 << 30) - input.low_ram;
    for number in 1..=99 {
        let text = format!("{number}:{}", "y".repeat(900));
        input.strings.add_oem(text.as_bytes());
    }
    let table = generate(&input);
    check(&table);
    assert!(bytes(&table).len() > 0xffff);
    let mut placer = FakePlacer::default();
    let before = placer.fseg.start;
    let info = install(&table, Entries::BOTH, &mut placer).unwrap().table;
    assert_eq!(info.size as usize, bytes(&table).len());
    assert_eq!(placer.fseg.start, before + ENTRY_64_SIZE as u64);
    if let Some(text) = dmidecode(&table, true) {
        assert!(text.contains("Socket Designation: CPU 239\n"), "{text}");
        assert!(text.contains("String 99: 99:yyy"));
        assert!(text.contains("Maximum Capacity: 12800 GB\n"), "{text}");
    }
}

#[test]
fn entry_points_sum_to_zero_and_point_to_the_table() {
    let table = generate(&input());
    let mut placer = FakePlacer::default();
    let info = install(&table, Entries::BOTH, &mut placer).unwrap().table;
    assert!((0xf0000..0x10_0000).contains(&info.addr));
    let entry = entry_32(Version { major: 2, minor: 8 }, &info).unwrap();
    assert_eq!((sum(&entry), sum(&entry[16..])), (0, 0));
    let entry = entry_64(Version { major: 3, minor: 0 }, &info);
    assert_eq!(sum(&entry), 0);
    assert_eq!(entry[16..], info.addr.to_le_bytes());
    placer.limit = 0;
    assert_eq!(install(&table, Entries::BOTH, &mut placer), Err(NoMemory));
}

/// Type 4 has 2Ah bytes up to version 2.8 and 30h from 3.0 on (DSP0134, section 7.5): fwts fails a table with another length than its entry
/// point's version has.
#[test]
fn entry_points_have_the_version_that_structures_have_the_length_of() {
    let table = generate(&input());
    let processors = table.structures().filter(|structure| structure[0] == 4);
    let lengths: Vec<u8> = processors.map(|structure| structure[1]).collect();
    assert!(!lengths.is_empty());
    assert!(lengths.iter().all(|length| *length == 0x30), "{lengths:x?}");
    for version in [Entries::BOTH.version_32, Entries::BOTH.version_64] {
        assert_eq!(version, Some(Version { major: 3, minor: 0 }));
    }
}

#[test]
fn the_anchor_says_which_entry_point() {
    let old = Entries::from_anchor(b"_SM_\0\x1f\x02\x08rest");
    let version_32 = Some(Version { major: 2, minor: 8 });
    assert_eq!((old.version_32, old.version_64), (version_32, None));
    let new = Entries::from_anchor(b"_SM3_\0\x18\x03\x00\0");
    let version_64 = Some(Version { major: 3, minor: 0 });
    assert_eq!((new.version_32, new.version_64), (None, version_64));
    assert_eq!(Entries::from_anchor(b"_SM"), Entries::BOTH);
    assert_eq!(Entries::from_anchor(b"_SM_"), Entries::BOTH);
}

proptest! {
    #[test]
    fn any_input_gives_a_valid_table(
        texts in prop::collection::vec((prop::sample::select(&NAMES[..]), prop::collection::vec(any::<u8>(), 0..400)), 0..20),
        oem in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..120),
        blob in prop::collection::vec(prop_oneof![Just(0u8), 0u8..20, any::<u8>()], 0..400),
        given in prop::collection::vec(prop_oneof![Just(0u8), 4u8..20, any::<u8>()], 0..400),
        sockets in any::<u32>(),
        (low, high) in (0u64..1 << 32, 0u64..1 << 52),
        mode in prop::sample::select(vec![Mode::Emulate, Mode::Host, Mode::Sysinfo]),
    ) {
        let mut input = input();
        for (name, text) in &texts {
            input.strings.set(name, text);
        }
        for text in &oem {
            input.strings.add_oem(text);
        }
        input.mode = mode;
        input.blob = &blob;
        input.cpu.sockets = sockets % 2000;
        input.low_ram = low;
        input.high_ram = high;
        check(&generate(&input));
        let table = complete(&given, &input);
        let bytes = bytes(&table);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            rest = Structure::parse(rest).unwrap().1;
        }
    }
}
