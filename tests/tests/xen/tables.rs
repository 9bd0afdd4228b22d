//! What a guest of Xen is told about its machine, judged by Linux, dmidecode and iasl in it.

use std::collections::BTreeSet;
use std::fs;

use super::DEBIAN;
use anyhow::{Result, ensure};
use firstlight_tests::linux::{complaints, dmidecode_says, strings};
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
    let xml = "<domain><sysinfo><chassis><entry name='manufacturer'>Acme</entry><entry name='serial'>CH-0001</entry>\
               <entry name='sku'>CH-SKU</entry></chassis></sysinfo></domain>";
    let mut blob = xtask::smbios::from_sysinfo(xml)?;
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
    let messages = report.text("dmesg.txt");
    // A CPU that two emulators imitate has reports of its own; what it says of firmware is what counts.
    let bad = complaints(&messages);
    ensure!(bad.is_empty(), "the kernel says {bad:#?}");
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
        |guest| guest,
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
    is_clean(&report)
}

pub fn smbios_host(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let files = tempfile::tempdir()?;
    let host = "<domain><sysinfo><bios><entry name='vendor'>Host Works</entry><entry name='version'>9.8</entry></bios>\
                <system><entry name='manufacturer'>Host Maker</entry><entry name='serial'>H-1</entry></system></sysinfo></domain>";
    let keys = [("platform/firstlight/smbios-mode", "host")];
    let blob = xtask::smbios::from_sysinfo(host)?;
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
    is_clean(&report)
}

/// Two nodes of virtual NUMA, a CPU in each.
fn with_numa(guest: Guest) -> Guest {
    let node = |cpu, distances| {
        format!("[\"pnode=0\",\"size=256\",\"vcpus={cpu}\",\"vdistances={distances}\"]")
    };
    let nodes = format!("[{},{}]", node(0, "10,20"), node(1, "20,10"));
    guest.set("vcpus", 2).set("vnuma", nodes)
}

pub fn smbios_sysinfo_and_tables_as_good_as_the_stock_loaders(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let files = tempfile::tempdir()?;
    let ours = report(
        &mut bed,
        &files,
        &firstlight(),
        SYSINFO,
        with_numa,
        &blob()?,
    )?;
    is_sysinfo(&ours)?;
    is_clean(&ours)?;
    let messages = ours.text("dmesg.txt");
    for said in ["SRAT: Node 1", "smp: Brought up 2 nodes, 2 CPUs"] {
        ensure!(messages.contains(said), "no {said:?}:\n{messages}");
    }
    let peer = report(
        &mut bed,
        &files,
        &Loader::Stock,
        SYSINFO,
        with_numa,
        &blob()?,
    )?;
    let (complaints_of_ours, known) = (iasl(&ours)?, iasl(&peer)?);
    let new: Vec<_> = complaints_of_ours.difference(&known).collect();
    ensure!(
        new.is_empty(),
        "iasl says {new:?}, of the stock loader's {known:?}"
    );
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
