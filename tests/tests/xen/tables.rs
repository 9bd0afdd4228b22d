//! What a guest of Xen is told about its machine, judged by Linux, dmidecode and iasl in it.

use std::collections::BTreeSet;
use std::fs;

use super::DEBIAN;
use anyhow::{Context, Result, ensure};
use firstlight_tests::linux::{complaints, dmidecode_says, is_content, strings};
use firstlight_tests::xen::{Bed, Guest, Loader, Version, bed, firstlight};
use xtask::linux::{Linux, REPORT_END, Report};

const UUID: &str = "3cd90213-12e3-4f46-a14e-390253fd9535";

/// The values of a `<sysinfo>` element in xenstore, below the domain's own path.
const SYSINFO: &[(&str, &str)] = &[
    ("bios-strings/bios-vendor", "Acme Firmware Works"),
    ("bios-strings/bios-version", "4.2"),
    ("bios-strings/system-manufacturer", "Acme"),
    ("bios-strings/system-product-name", "Gerät"),
    ("bios-strings/system-version", ""),
    ("bios-strings/system-serial-number", "LONG"),
    ("bios-strings/baseboard-manufacturer", "Acme"),
    ("bios-strings/baseboard-product-name", "Board"),
    ("bios-strings/baseboard-location-in-chassis", "Slot 3"),
    ("bios-strings/oem-1", "com.example:rack=12"),
    (
        "bios-strings/oem-2",
        "firstlight.smbios.bios-release-date=01/02/2025",
    ),
    ("bios-strings/oem-3", "firstlight.smbios.bios-release=9.8"),
    (
        "bios-strings/oem-4",
        "firstlight.smbios.system-sku-number=RG-7",
    ),
    (
        "bios-strings/oem-5",
        "firstlight.smbios.system-family=Guests",
    ),
];

/// The blob has the chassis of a `<sysinfo>`, and a structure of a vendor's own type.
fn blob() -> Result<Vec<u8>> {
    let xml = "<domain type='xen'><sysinfo type='smbios'><chassis><entry name='manufacturer'>Acme</entry><entry name='serial'>CH-0001</entry>\
               <entry name='sku'>CH-SKU</entry></chassis></sysinfo></domain>";
    let mut blob = firstlight_host::smbios::from_sysinfo(xml)?;
    let own = b"\xc8\x04\x00\xc8of a vendor\0\0";
    blob.extend((own.len() as u32).to_le_bytes());
    blob.extend(own);
    Ok(blob)
}

/// Starts the small Linux with `keys` in xenstore and `smbios` as its `smbios_firmware`, and returns its report, which lies in
/// `files`.
fn report(
    bed: &mut Bed,
    files: &tempfile::TempDir,
    loader: &Loader,
    keys: &[(&str, &str)],
    settings: impl FnOnce(Guest) -> Guest,
    smbios: &[u8],
) -> Result<Report> {
    let name = if *loader == Loader::Stock {
        "stock"
    } else {
        "tables"
    };
    let linux = Linux::get()?;
    let file = files.path().join("smbios");
    fs::write(&file, smbios)?;
    let mut guest = linux
        .xen_guest(name, loader, &linux.initrd())
        .set("memory", 512)
        .string("uuid", UUID);
    if !smbios.is_empty() {
        guest = guest
            .file_of_host(&file, "smbios")
            .string("smbios_firmware", "/job/smbios");
    }
    let guest = settings(guest);
    bed.create_paused(&guest)?;
    let mut script = format!("at=/local/domain/$(xl domid {name})\n");
    for (key, value) in keys {
        let value = value.replace("LONG", &"s".repeat(200));
        script.push_str(&format!("xenstore-write $at/{key} '{value}'\n"));
    }
    script.push_str(&format!("xl unpause {name}\n"));
    bed.check(&script)?;
    let console = bed.wait_for(&guest, REPORT_END, DEBIAN)?;
    // The machine is turned off after the report, and then the domain is gone.
    bed.check(&format!(
        "for i in $(seq 160); do xl domid {name} >/dev/null 2>&1 || exit 0; sleep 1; done; exit 1"
    ))?;
    Report::unpack(&console, &files.path().join(name))
}

fn is_clean(report: &Report) -> Result<()> {
    is_content(&report.text("dmesg.txt"))?;
    sums_are_right(report)
}

fn sums_are_right(report: &Report) -> Result<()> {
    for table in report.acpi()? {
        ensure!(table.sum_is_right(), "{}: wrong checksum", table.name);
    }
    Ok(())
}

pub fn smbios_emulate(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let files = tempfile::tempdir()?;
    let mode = [("platform/firstlight/smbios-mode", "emulate")];
    let keys = [&mode, SYSINFO].concat();
    let report = report(
        &mut bed,
        &files,
        &firstlight(),
        &keys,
        |guest| guest.set("acpi_s3", 0),
        &blob()?,
    )?;
    let uuid = format!("System Information: UUID: {UUID}");
    let lines = [
        "BIOS Information: Vendor: Xen",
        "System Information: Manufacturer: Xen",
        "System Information: Product Name: HVM domU",
        "Chassis Information: Manufacturer: Xen",
        &uuid,
    ];
    dmidecode_says(&report, &lines)?;
    ensure!(
        !has_name(&report, b"_S3_")? && has_name(&report, b"_S5_")?,
        "sleep states that the toolstack did not ask for"
    );
    is_clean(&report)
}

/// Whether the DSDT has an object of that name, or a text.
fn has_name(report: &Report, name: &[u8]) -> Result<bool> {
    let tables = report.acpi()?;
    let dsdt = tables.iter().find(|table| table.name == "DSDT");
    let bytes = &dsdt.context("no DSDT")?.bytes;
    Ok(bytes.windows(name.len()).any(|window| window == name))
}

pub fn smbios_host(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let files = tempfile::tempdir()?;
    let host = "<domain type='xen'><sysinfo type='smbios'><bios><entry name='vendor'>Host Works</entry><entry name='version'>9.8</entry></bios>\
                <system><entry name='manufacturer'>Host Maker</entry><entry name='serial'>H-1</entry></system></sysinfo></domain>";
    let keys = [
        ("platform/firstlight/smbios-mode", "host"),
        ("platform/acpi_laptop_slate", "1"),
    ];
    let blob = firstlight_host::smbios::from_sysinfo(host)?;
    let report = report(&mut bed, &files, &firstlight(), &keys, |guest| guest, &blob)?;
    let uuid = format!("System Information: UUID: {UUID}");
    let lines = [
        "BIOS Information: Vendor: Host Works",
        "System Information: Manufacturer: Host Maker",
        "System Information: Serial Number: H-1",
        "Chassis Information: Manufacturer: Xen",
        &uuid,
    ];
    dmidecode_says(&report, &lines)?;
    ensure!(
        has_name(&report, b"_S3_")? && has_name(&report, b"ID9001")?,
        "no S3, or no sensor of a slate"
    );
    is_clean(&report)
}

/// Structures that the stock loader takes from a blob beside those of a `<sysinfo>`, each with one text (DSP0134 3.7, sections 7.8 to 7.10
/// and 7.27 to 7.29).
fn further_structures() -> Vec<u8> {
    let structure = |fields: &[u8], text: &str| {
        let header = [fields[0], fields.len() as u8 + 2, fields[1], 0x90];
        [&header, &fields[2..], text.as_bytes(), b"\0\0"].concat()
    };
    let probe = [0x80; 10];
    let structures = [
        structure(
            &[7, 0, 1, 0, 1, 64, 0, 64, 0, 2, 0, 2, 0, 0, 5, 5, 5],
            "Blob Cache",
        ),
        structure(&[8, 0, 1, 0, 0, 0x0f, 0x0d], "Blob Port"),
        structure(&[9, 0, 1, 6, 5, 4, 4, 9, 0, 4, 1], "Blob Slot"),
        structure(
            &[&[26, 0, 1, 0x67], &probe[..], &[0; 4], &[0, 0x80]].concat(),
            "Blob Voltage",
        ),
        structure(
            &[27, 0, 0xff, 0xff, 0x65, 0, 0, 0, 0, 0, 0, 0x80, 1],
            "Blob Fan",
        ),
        structure(
            &[&[28, 0, 1, 0x67], &probe[..], &[0; 4], &[0, 0x80]].concat(),
            "Blob Heat",
        ),
    ];
    firstlight_tables::smbios::pack(&structures)
}

/// An ACPI table of Acme's (ACPI specification 6.5, section 5.2.6).
fn acpi_table(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut table = [name, &(36 + body.len() as u32).to_le_bytes()[..]].concat();
    table.extend(b"\x01\0ACME  SERVER  \x02\0\0\0ACME\x03\0\0\0");
    table.extend(body);
    table[9] = table
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
    table
}

/// Several ACPI tables in one blob, among them a licence for Windows, whose maker is then that of the tables that Windows compares; SMBIOS
/// structures of all types; and memory of the platform device that may be cached.
pub fn what_the_toolstack_hands_over_reaches_the_guest(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let files = tempfile::tempdir()?;
    let tables = [
        acpi_table(b"SSDT", b""),
        acpi_table(b"SLIC", &[0x5a; 338]),
        acpi_table(b"MSDM", &[0xa5; 49]),
    ];
    let file = files.path().join("acpi");
    fs::write(&file, tables.concat())?;
    let settings = |guest: Guest| {
        guest
            .file_of_host(&file, "acpi")
            .string("acpi_firmware", "/job/acpi")
    };
    let keys = [("hvmloader/pci/xen-platform-pci-bar-uc", "0")];
    let blob = further_structures();
    let report = report(&mut bed, &files, &firstlight(), &keys, settings, &blob)?;
    is_clean(&report)?;
    let found = report.acpi()?;
    for table in &tables[1..] {
        ensure!(
            found.iter().any(|found| found.bytes == *table),
            "a table of the toolstack's is not there as it was: {found:?}"
        );
    }
    let fadt = found.iter().find(|table| table.name == "FACP");
    ensure!(
        fadt.context("no FADT")?.bytes[10..24] == *b"ACME  SERVER  ",
        "the FADT is of another maker than the licence"
    );
    let messages = report.text("dmesg.txt");
    let root = messages.lines().find(|line| line.contains("ACPI: XSDT "));
    ensure!(
        root.is_some_and(|line| line.contains("ACME   SERVER")),
        "the XSDT is of another maker than the licence: {root:?}"
    );
    dmidecode_says(
        &report,
        &[
            "Cache Information: Socket Designation: Blob Cache",
            "Port Connector Information: Internal Reference Designator: Blob Port",
            "System Slot Information: Designation: Blob Slot",
            "Voltage Probe: Description: Blob Voltage",
            "Cooling Device: Description: Blob Fan",
            "Temperature Probe: Description: Blob Heat",
        ],
    )?;
    ensure!(
        messages.contains("0xfb000000-0xfbffffff"),
        "the platform device is not at the end of the hole:\n{messages}"
    );
    let uncached = report.text("mtrr.txt");
    let end = uncached.lines().filter_map(|line| {
        let base = line.split_once("base=0x")?.1.split(' ').next()?;
        let size = line.split_once("size=")?.1.trim_start();
        let mib: u64 = size.split_once("MB")?.0.parse().ok()?;
        Some(u64::from_str_radix(base, 16).ok()? + (mib << 20))
    });
    ensure!(end.max() == Some(0xfb00_0000), "{uncached}");
    Ok(())
}

/// Two nodes of virtual NUMA, a CPU in each.
fn with_numa(guest: Guest) -> Guest {
    let node = |cpu, distances| {
        format!("[\"pnode=0\",\"size=256\",\"vcpus={cpu}\",\"vdistances={distances}\"]")
    };
    let nodes = format!("[{},{}]", node(0, "10,20"), node(1, "20,10"));
    guest.set("vcpus", 2).set("vnuma", nodes)
}

/// The `<sysinfo>` of a domain that libvirt starts from its disks.
const DOMAIN: &str = "<domain type='xen'><sysinfo type='smbios'>
    <bios>
        <entry name='vendor'>Acme Firmware Works</entry>
        <entry name='version'>4.2</entry>
        <entry name='date'>11/22/2026</entry>
        <entry name='release'>4.2</entry>
    </bios>
    <system>
        <entry name='manufacturer'>Acme</entry>
        <entry name='product'>Rack Guest</entry>
        <entry name='version'>7</entry>
        <entry name='serial'>AC-0001</entry>
        <entry name='uuid'>3cd90213-12e3-4f46-a14e-390253fd9535</entry>
        <entry name='sku'>RG-7</entry>
        <entry name='family'>Guests</entry>
    </system>
    <baseBoard>
        <entry name='manufacturer'>Acme</entry>
        <entry name='product'>Board</entry>
        <entry name='version'>B1</entry>
        <entry name='serial'>BB-0001</entry>
        <entry name='asset'>A-1</entry>
        <entry name='location'>Slot 3</entry>
    </baseBoard>
    <chassis>
        <entry name='manufacturer'>Acme</entry>
        <entry name='version'>C1</entry>
        <entry name='serial'>CH-0001</entry>
        <entry name='asset'>A-2</entry>
        <entry name='sku'>CH-SKU</entry>
    </chassis>
    <oemStrings>
        <entry>com.example:rack=12</entry>
    </oemStrings>
</sysinfo></domain>";

/// What dmidecode says of [`DOMAIN`], field by field.
pub(super) const OF_DOMAIN: &[&str] = &[
    "BIOS Information: Vendor: Acme Firmware Works",
    "BIOS Information: Version: 4.2",
    "BIOS Information: Release Date: 11/22/2026",
    "BIOS Information: BIOS Revision: 4.2",
    "System Information: Manufacturer: Acme",
    "System Information: Product Name: Rack Guest",
    "System Information: Version: 7",
    "System Information: Serial Number: AC-0001",
    "System Information: UUID: 3cd90213-12e3-4f46-a14e-390253fd9535",
    "System Information: SKU Number: RG-7",
    "System Information: Family: Guests",
    "Base Board Information: Manufacturer: Acme",
    "Base Board Information: Product Name: Board",
    "Base Board Information: Version: B1",
    "Base Board Information: Serial Number: BB-0001",
    "Base Board Information: Asset Tag: A-1",
    "Base Board Information: Location In Chassis: Slot 3",
    "Chassis Information: Manufacturer: Acme",
    "Chassis Information: Version: C1",
    "Chassis Information: Serial Number: CH-0001",
    "Chassis Information: Asset Tag: A-2",
    "Chassis Information: SKU Number: CH-SKU",
    "OEM Strings: String 1: com.example:rack=12",
];

/// As `firstlight smbios --domain` makes a blob of a domain's `<sysinfo>`.
pub fn smbios_sysinfo_of_a_domain(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let files = tempfile::tempdir()?;
    let blob = firstlight_host::smbios::from_sysinfo(DOMAIN)?;
    let report = report(&mut bed, &files, &firstlight(), &[], |guest| guest, &blob)?;
    dmidecode_says(&report, OF_DOMAIN)?;
    is_clean(&report)
}

/// The values come from xenstore here, with a letter that is not ASCII, an empty value, one of 200 bytes, and missing ones.
pub fn smbios_sysinfo_and_tables_as_good_as_the_stock_loaders(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let files = tempfile::tempdir()?;
    let mut start = |loader: &Loader| -> Result<Report> {
        let blob = blob()?;
        report(&mut bed, &files, loader, SYSINFO, with_numa, &blob)
    };
    let ours = start(&firstlight())?;
    is_sysinfo(&ours)?;
    sums_are_right(&ours)?;
    let messages = ours.text("dmesg.txt");
    for said in ["SRAT: Node 1", "smp: Brought up 2 nodes, 2 CPUs"] {
        ensure!(messages.contains(said), "no {said:?}:\n{messages}");
    }
    let tables = ours.acpi()?;
    let distances = tables.iter().find(|table| table.name == "SLIT");
    ensure!(
        distances.is_some_and(|table| table.bytes.ends_with(&[10, 20, 20, 10])),
        "SLIT: {distances:?}"
    );
    let peer = start(&Loader::Stock)?;
    // Xen's CPUID has both CPUs share a cache, which Linux does not believe of two nodes: it warns whatever the firmware is.
    let (bad, known) = (warnings(&messages), warnings(&peer.text("dmesg.txt")));
    let new: Vec<_> = bad.difference(&known).collect();
    ensure!(
        new.is_empty(),
        "the kernel says {new:#?}, with the stock loader {known:#?}"
    );
    for table in peer.acpi()? {
        let same = tables.iter().any(|own| own.name == table.name);
        // The stock loader has its processors and its power states in tables of their own.
        ensure!(
            same || table.name.starts_with("SSDT"),
            "no {} as the stock loader has",
            table.name
        );
    }
    let (complaints_of_ours, known) = (iasl(&ours)?, iasl(&peer)?);
    let new: Vec<_> = complaints_of_ours.difference(&known).collect();
    ensure!(
        new.is_empty(),
        "iasl says {new:?}, of the stock loader's {known:?}"
    );
    Ok(())
}

/// A guest with one CPU.
pub fn making_the_tables_takes_less_than_a_million_instructions(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let Loader::File(loader) = firstlight() else {
        anyhow::bail!("the loader under test is a file");
    };
    let instructions = xtask::bench::tables::instructions(&mut bed, &loader)?;
    ensure!(instructions < 1_000_000, "{instructions} instructions");
    Ok(())
}

fn is_sysinfo(report: &Report) -> Result<()> {
    let serial = format!("System Information: Serial Number: {}", "s".repeat(200));
    let uuid = format!("System Information: UUID: {UUID}");
    let lines = [
        "BIOS Information: Vendor: Acme Firmware Works",
        "BIOS Information: Version: 4.2",
        "BIOS Information: Release Date: 01/02/2025",
        "BIOS Information: BIOS Revision: 9.8",
        "System Information: Manufacturer: Acme",
        "System Information: Version: Not Specified",
        "System Information: SKU Number: RG-7",
        "System Information: Family: Guests",
        &serial,
        &uuid,
        "Base Board Information: Product Name: Board",
        "Base Board Information: Location In Chassis: Slot 3",
        "Chassis Information: Manufacturer: Acme",
        "Chassis Information: Serial Number: CH-0001",
        "Chassis Information: SKU Number: CH-SKU",
        "OEM-specific Type: of a vendor",
    ];
    dmidecode_says(report, &lines)?;
    let product = strings(report, 1)?;
    ensure!(
        product.get(1).map(Vec::as_slice) == Some("Gerät".as_bytes()),
        "product {product:?}"
    );
    let oem = strings(report, 11)?;
    ensure!(oem == [b"com.example:rack=12".to_vec()], "{oem:?}");
    Ok(())
}

/// What the kernel complains of, without its times.
fn warnings(messages: &str) -> BTreeSet<String> {
    let complaints = complaints(messages).into_iter();
    let text = |line: &str| {
        line.split_once("] ")
            .map_or(line, |(_, text)| text)
            .to_owned()
    };
    complaints.map(text).collect()
}

/// Kinds of what iasl says of all tables: "Warning 3168", "Error 6126".
fn iasl(report: &Report) -> Result<BTreeSet<String>> {
    let mut kinds = BTreeSet::new();
    for table in report.acpi()? {
        for message in table.decompile()?.messages {
            let kind = message.split_whitespace().take(2).collect::<Vec<_>>();
            kinds.insert(kind.join(" "));
        }
    }
    Ok(kinds)
}
