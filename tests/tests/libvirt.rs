//! Domains by a real libvirt and its QEMU driver: they start with our ROM, each element of `<os>` does what it says, and the host tool
//! makes the same of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firstlight_host::domain::Domain;
use firstlight_host::run;
use firstlight_tests::libvirt::Libvirt;
use firstlight_vm::qemu;
use serde_json::Value;
use xtask::linux::{COMMAND_LINE, Linux, REPORT_END, Report};

/// A domain with our ROM; `@` stands for the directory of all files.
fn domain(libvirt: &Libvirt, top: &str, os: &str, devices: &str) -> String {
    let text = format!(
        "<domain type='qemu'><name>guest</name><uuid>3cd90213-12e3-4f46-a14e-390253fd9535</uuid><memory unit='MiB'>256</memory>\
         <vcpu>2</vcpu><os><type arch='x86_64' machine='pc'>hvm</type><loader type='rom'>@/firstlight.rom</loader>{os}</os>\
         <features><acpi/></features>{top}<devices>{devices}</devices></domain>"
    );
    let directory = libvirt.path("").display().to_string();
    text.replace('@', directory.trim_end_matches('/'))
}

/// The serial port goes to a file.
const SERIAL: &str = "<serial type='file'><source path='@/serial'/></serial>";

/// What a command line means: each option with its values, such that two ways to say one thing are the same.
fn meaning(arguments: &[String]) -> BTreeMap<String, BTreeSet<String>> {
    let mut meaning: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut floppy = None;
    let mut say = |option: &str, value: String| {
        meaning.entry(option.to_owned()).or_default().insert(value);
    };
    for pair in arguments.windows(2) {
        let [option, value] = pair else { continue };
        match option.as_str() {
            // A floppy drive's place, which our tool gives to the drive.
            "-global" if value.starts_with("isa-fdc.bootindex") => {
                floppy = value.rsplit('=').next().map(str::to_owned);
            }
            _ => values(option, value)
                .into_iter()
                .for_each(|value| say(option, value)),
        }
    }
    if arguments.iter().any(|argument| argument == "-no-acpi") {
        say("-machine", "acpi=off".into());
    }
    let devices = meaning.entry("-device".into()).or_default();
    if let Some(place) = floppy
        && devices.remove("floppy unit=0")
    {
        devices.insert(format!("floppy bootindex={place} unit=0"));
    }
    // Without a word QEMU has these.
    meaning
        .entry("-cpu".into())
        .or_insert_with(|| ["qemu64".into()].into());
    meaning
        .entry("-rtc".into())
        .or_insert_with(|| ["base=utc".into()].into());
    meaning
}

/// The parts of an option's value that a guest's firmware can see.
fn values(option: &str, value: &str) -> Vec<String> {
    let parts = |wanted: fn(&str) -> bool| -> Vec<String> {
        let parts = value.split(',').filter(|part| wanted(part));
        parts.map(str::to_owned).collect()
    };
    match option {
        "-bios" | "-uuid" | "-smbios" | "-fw_cfg" | "-kernel" | "-initrd" | "-append" => {
            vec![value.to_owned()]
        }
        "-boot" | "-cpu" => parts(|_| true),
        "-acpitable" => parts(|part| part.starts_with("file=")),
        "-rtc" => parts(|part| part.starts_with("base=")),
        "-m" => {
            let size = value.trim_start_matches("size=");
            // Since libvirt 11 in KiB.
            let kib = size.strip_suffix('k').and_then(|kib| kib.parse().ok());
            let mib = kib.map(|kib: u64| (kib / 1024).to_string());
            vec![mib.unwrap_or_else(|| size.trim_end_matches('M').to_owned())]
        }
        // One thread of one core of a socket each, unless something else is said.
        "-smp" => parts(|part| {
            !["cores=1", "threads=1", "dies=1", "clusters=1", "sockets=2"].contains(&part)
        }),
        "-machine" => {
            parts(|part| ["graphics=off", "hpet=off", "acpi=off", "vmport=off"].contains(&part))
        }
        "-global" if value.contains("disable_s") => vec![value.to_owned()],
        "-device" => device(value).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// What of a device a guest's firmware can see: not how its parts are called, and not in which slot it is.
fn device(value: &str) -> Option<String> {
    let mut properties = BTreeMap::new();
    if let Ok(Value::Object(object)) = serde_json::from_str(value) {
        for (name, value) in object {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            properties.insert(name, text);
        }
    } else {
        for (index, part) in value.split(',').enumerate() {
            let (name, value) = part.split_once('=').unwrap_or(("driver", part));
            let name = if index == 0 && name != "driver" {
                "driver"
            } else {
                name
            };
            properties.insert(name.to_owned(), value.to_owned());
        }
    }
    let driver = properties.get("driver")?.clone();
    // What libvirt adds of its own, and ports that this test connects in another way.
    let own = [
        "piix3-usb-uhci",
        "virtio-balloon-pci",
        "isa-serial",
        "ich9",
        "pcie-root",
        "qemu-xhci",
    ];
    if own.iter().any(|name| driver.starts_with(name)) {
        return None;
    }
    let shown = [
        "bootindex",
        "mac",
        "serial",
        "unit",
        "romfile",
        "scsi-id",
        "logical_block_size",
        "guid",
        "cyls",
    ];
    let mut text = driver;
    for name in shown {
        if let Some(value) = properties.get(name) {
            text += &format!(" {name}={value}");
        }
    }
    Some(text)
}

/// Elements of a domain in `<domain>`, in `<os>` and in `<devices>`.
const VARIATIONS: &[(&str, &str, &str)] = &[
    ("", "", ""),
    ("", "<boot dev='hd'/><boot dev='cdrom'/>", DISKS),
    (
        "",
        "<boot dev='network'/><boot dev='cdrom'/><boot dev='fd'/>",
        DISKS,
    ),
    ("", "<bootmenu enable='yes' timeout='3000'/>", DISKS),
    ("", "<bootmenu enable='no'/>", ""),
    ("", "<bios useserial='yes' rebootTimeout='500'/>", SERIAL),
    ("", "<bios rebootTimeout='-1'/>", ""),
    ("", "<smbios mode='emulate'/>", ""),
    (SYSINFO, "<smbios mode='sysinfo'/>", ""),
    (
        "<sysinfo type='fwcfg'><entry name='opt/firstlight/log'>debug</entry><entry name='opt/x' file='@/disk.img'/></sysinfo>",
        "",
        "",
    ),
    (
        "",
        "<kernel>@/kernel</kernel><initrd>@/initrd</initrd><cmdline>a b=\"c, d\"</cmdline>",
        "",
    ),
    ("", "<acpi><table type='slic'>@/slic</table></acpi>", ""),
    (
        "<cpu mode='custom' match='exact' check='none'><model fallback='allow'>Nehalem</model><feature policy='disable' name='x2apic'/></cpu>",
        "",
        "",
    ),
    (
        "<cpu><topology sockets='1' dies='1' cores='1' threads='2'/></cpu>",
        "",
        "",
    ),
    ("<clock offset='localtime'/>", "", ""),
    (
        "<clock offset='utc'><timer name='hpet' present='no'/></clock>",
        "",
        "",
    ),
    (
        "<genid>3cd90213-12e3-4f46-a14e-390253fd9536</genid>",
        "",
        "",
    ),
    ("<pm><suspend-to-mem enabled='no'/></pm>", "", ""),
    (
        "",
        "",
        "<disk type='file'><driver name='qemu' type='raw'/><source file='@/disk.img'/><target dev='vda' bus='virtio'/><serial>S1</serial><boot order='2'/></disk>\
         <interface type='user'><mac address='52:54:00:12:34:56'/><model type='e1000'/><boot order='1'/></interface>",
    ),
    (
        "",
        "",
        "<disk type='file'><driver name='qemu' type='raw'/><source file='@/disk.img'/><target dev='sda' bus='scsi'/><boot order='1'/></disk>\
         <controller type='scsi' model='virtio-scsi'/>",
    ),
    (
        "",
        "",
        "<disk type='file'><driver name='qemu' type='raw'/><source file='@/disk.img'/><target dev='sda' bus='scsi'/>\
         <address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>\
         <disk type='file'><driver name='qemu' type='raw'/><source file='@/other.img'/><target dev='sdb' bus='scsi'/>\
         <address type='drive' controller='1' bus='0' target='1' unit='0'/></disk>\
         <controller type='scsi' index='0' model='virtio-scsi'/><controller type='scsi' index='1' model='virtio-scsi'/>",
    ),
    (
        "",
        "",
        "<disk type='file'><driver name='qemu' type='raw'/><source file='@/disk.img'/><target dev='vda' bus='virtio'/>\
         <blockio logical_block_size='4096' physical_block_size='4096'/></disk>",
    ),
    (
        "",
        "",
        "<interface type='user'><mac address='52:54:00:12:34:56'/><model type='virtio'/><rom file='@/disk.img'/></interface>\
         <interface type='user'><mac address='52:54:00:12:34:57'/><model type='rtl8139'/><rom enabled='no'/></interface>",
    ),
    ("", "<bootmenu enable='yes'/>", DISKS),
    ("", "<bios rebootTimeout='65535'/>", DISKS),
    (
        "",
        "",
        "<disk type='file'><driver name='qemu' type='raw'/><source file='@/disk.img'/><target dev='sda' bus='sata'/><boot order='3'/></disk>\
         <disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='@/other.img'/><target dev='sdb' bus='sata'/><boot order='1'/></disk>\
         <disk type='file' device='floppy'><driver name='qemu' type='raw'/><source file='@/floppy.img'/><target dev='fda' bus='fdc'/><boot order='2'/></disk>",
    ),
    (
        "",
        "",
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    ),
    (
        "",
        "",
        "<disk type='file' device='floppy'><driver name='qemu' type='raw'/><source file='@/floppy.img'/><target dev='fda' bus='fdc'/></disk>",
    ),
];

const DISKS: &str = "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='@/disk.img'/><target dev='hda' bus='ide'/></disk>\
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='@/other.img'/><target dev='hdb' bus='ide'/></disk>\
    <disk type='file' device='cdrom'><target dev='hdc' bus='ide'/></disk>\
    <interface type='user'><mac address='52:54:00:12:34:56'/><model type='e1000'/></interface>";

const SYSINFO: &str = "<sysinfo type='smbios'><bios><entry name='vendor'>Acme, Firmware</entry><entry name='version'>4.2</entry>\
    <entry name='date'>11/22/2026</entry><entry name='release'>4.2</entry></bios><system><entry name='manufacturer'>Acme</entry>\
    <entry name='product'>Rack Guest</entry><entry name='version'>7</entry><entry name='serial'>AC-0001</entry>\
    <entry name='uuid'>3cd90213-12e3-4f46-a14e-390253fd9535</entry><entry name='sku'>RG-7</entry><entry name='family'>Guests</entry></system>\
    <baseBoard><entry name='manufacturer'>Acme</entry><entry name='product'>Board</entry><entry name='serial'>BB-0001</entry>\
    <entry name='asset'>A-1</entry><entry name='location'>Slot 3</entry></baseBoard><chassis><entry name='manufacturer'>Acme</entry>\
    <entry name='serial'>CH-0001</entry><entry name='sku'>CH-SKU</entry></chassis><oemStrings><entry>com.example:rack=12</entry></oemStrings></sysinfo>";

/// The files that the domains above name.
fn files(libvirt: &Libvirt) -> Result<()> {
    for name in ["disk.img", "other.img", "initrd"] {
        fs::File::create(libvirt.path(name))?.set_len(1 << 20)?;
    }
    fs::File::create(libvirt.path("floppy.img"))?.set_len(1_474_560)?;
    fs::copy(Linux::get()?.kernel(), libvirt.path("kernel"))?;
    // A table's header (ACPI 6.5, section 5.2.6).
    let mut slic = b"SLIC".to_vec();
    slic.extend(36u32.to_le_bytes());
    slic.resize(36, b'x');
    fs::write(libvirt.path("slic"), slic)?;
    Ok(())
}

#[test]
fn the_host_tool_makes_the_same_of_a_domain_as_libvirt() -> Result<()> {
    let libvirt = Libvirt::start()?;
    files(&libvirt)?;
    let options = run::Options {
        rom: libvirt.path("firstlight.rom"),
        ..run::Options::default()
    };
    let mut differences = String::new();
    for (top, os, devices) in VARIATIONS {
        let xml = domain(&libvirt, top, os, devices);
        libvirt.create(&xml, true).with_context(|| xml.clone())?;
        libvirt.destroy("guest")?;
        let theirs = meaning(&libvirt.arguments("guest")?);
        let domain = Domain::parse(&xml, &libvirt.path("domain.xml"))?;
        let (guest, _) = run::guest(&domain, &options)?;
        let ours: Vec<String> = qemu::arguments(&guest)?
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let ours = meaning(&ours);
        let options: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        for option in options {
            if ours.get(option) != theirs.get(option) {
                differences += &format!(
                    "{top}{os}{devices}\n  {option}\n    ours    {:?}\n    libvirt {:?}\n",
                    ours.get(option),
                    theirs.get(option)
                );
            }
        }
    }
    ensure!(differences.is_empty(), "{differences}");
    Ok(())
}

/// A boot sector that says its letter on COM1 and stops.
fn saying(letter: u8) -> [u8; 512] {
    let mut sector = [0; 512];
    // mov al, letter; mov dx, 3F8h; out dx, al; cli; hlt
    sector[..8].copy_from_slice(&[0xb0, letter, 0xba, 0xf8, 0x03, 0xee, 0xfa, 0xf4]);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

fn disk(libvirt: &Libvirt, name: &str, sector: &[u8]) -> Result<()> {
    let mut content = sector.to_vec();
    content.resize(1 << 20, 0);
    fs::write(libvirt.path(name), content)?;
    Ok(())
}

/// Starts a domain and waits for what its serial port says.
fn says(libvirt: &Libvirt, xml: &str, text: &str) -> Result<String> {
    let serial = libvirt.path("serial");
    let _ = fs::remove_file(&serial);
    libvirt.create(xml, false)?;
    let said = libvirt.wait_for(&serial, text);
    libvirt.destroy("guest")?;
    said.with_context(|| xml.to_owned())
}

#[test]
fn elements_of_os_do_what_they_say() -> Result<()> {
    let libvirt = Libvirt::start()?;
    disk(&libvirt, "disk.img", &saying(b'A'))?;
    disk(&libvirt, "other.img", &saying(b'B'))?;
    disk(&libvirt, "blank.img", &[])?;
    let by_order = |first: u32, second: u32| {
        format!(
            "{SERIAL}<disk type='file'><driver name='qemu' type='raw'/><source file='@/disk.img'/><target dev='hda' bus='ide'/><boot order='{first}'/></disk>\
             <disk type='file'><driver name='qemu' type='raw'/><source file='@/other.img'/><target dev='hdb' bus='ide'/><boot order='{second}'/></disk>"
        )
    };
    let start = |os: &str, devices: &str, text: &str| {
        says(&libvirt, &domain(&libvirt, "", os, devices), text)
    };
    // What boots in each order.
    ensure!(start("", &by_order(1, 2), "A")?.trim_end() == "A");
    ensure!(start("", &by_order(2, 1), "B")?.trim_end() == "B");
    ensure!(
        start(
            "<boot dev='cdrom'/><boot dev='hd'/>",
            &format!("{SERIAL}{DISKS}"),
            "A"
        )?
        .trim_end()
            == "A"
    );
    // A menu for half a second, seen on the serial port; then the disk.
    let menu = "<boot dev='hd'/><bootmenu enable='yes' timeout='500'/><bios useserial='yes'/>";
    let said = start(menu, &format!("{SERIAL}{DISKS}"), "A")?;
    ensure!(said.contains("F12"), "no menu:\n{said}");
    // Nothing boots: the report, a restart, and the report again.
    let blank = format!(
        "{SERIAL}<disk type='file'><driver name='qemu' type='raw'/><source file='@/blank.img'/><target dev='hda' bus='ide'/></disk>"
    );
    let xml = domain(
        &libvirt,
        "",
        "<bios useserial='yes' rebootTimeout='100'/>",
        &blank,
    );
    let serial = libvirt.path("serial");
    let _ = fs::remove_file(&serial);
    libvirt.create(&xml, false)?;
    let first = libvirt.wait_for(&serial, "othing")?;
    let word = "othing";
    ensure!(first.contains(word));
    let deadline = std::time::Instant::now()
        + std::time::Duration::from_secs(60) * firstlight_vm::wait::scale();
    let again = firstlight_vm::wait::until(deadline, firstlight_vm::wait::POLL, || {
        let said = String::from_utf8_lossy(&fs::read(&serial)?).into_owned();
        Ok((said.matches(word).count() > first.matches(word).count()).then_some(()))
    })?;
    libvirt.destroy("guest")?;
    again.context("no restart after the report")
}

/// A boot sector that says its letter in brackets on COM1 and gives the turn to the next.
fn passing(letter: char) -> [u8; 512] {
    // mov dx, 3F8h; three times mov al, …; out dx, al; int 18h; cli; hlt
    let mut program = vec![0xba, 0xf8, 0x03];
    for byte in [b'[', letter as u8, b']'] {
        program.extend([0xb0, byte, 0xee]);
    }
    program.extend([0xcd, 0x18, 0xfa, 0xf4]);
    let mut sector = [0; 512];
    sector[..program.len()].copy_from_slice(&program);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// The letters that boot sectors said, in their order.
fn letters(said: &str) -> String {
    let parts = said.split('[').skip(1);
    let letters = parts.filter_map(|part| {
        let mut part = part.chars();
        let letter = part.next()?;
        (part.next() == Some(']')).then_some(letter)
    });
    letters.collect()
}

/// What the report begins with.
const NOTHING_BOOTS: &str = "Nothing could be booted";

/// Disks on four buses. A place of 0 is none.
fn on_four_buses(places: [u32; 4]) -> String {
    let buses = [
        ("hda", "ide"),
        ("sda", "sata"),
        ("vda", "virtio"),
        ("sdb", "scsi"),
    ];
    let mut devices = format!("{SERIAL}<controller type='scsi' model='virtio-scsi'/>");
    for (((name, bus), place), number) in buses.into_iter().zip(places).zip(1..) {
        let order = match place {
            0 => String::new(),
            place => format!("<boot order='{place}'/>"),
        };
        devices += &format!(
            "<disk type='file'><driver name='qemu' type='raw'/><source file='@/{number}.img'/><target dev='{name}' bus='{bus}'/>{order}</disk>"
        );
    }
    devices
}

/// Each device in its place, and none that has no place: libvirt's order ends in HALT.
#[test]
fn the_order_of_devices_is_followed_on_every_bus() -> Result<()> {
    let libvirt = Libvirt::start()?;
    for number in ['1', '2', '3', '4'] {
        disk(&libvirt, &format!("{number}.img"), &passing(number))?;
    }
    for (places, expected) in [
        ([1, 2, 3, 4], "1234"),
        ([4, 3, 2, 1], "4321"),
        ([2, 4, 1, 3], "3142"),
        ([0, 2, 0, 1], "42"),
    ] {
        let os = "<bios useserial='yes' rebootTimeout='-1'/>";
        let xml = domain(&libvirt, "", os, &on_four_buses(places));
        let said = says(&libvirt, &xml, NOTHING_BOOTS)?;
        ensure!(letters(&said) == expected, "{places:?}: {said}");
    }
    Ok(())
}

/// Reads a port until it has said `text` after what was read before.
fn read_until(port: &mut UnixStream, text: &str) -> Result<String> {
    let mut said = String::new();
    let mut bytes = [0; 4096];
    port.set_read_timeout(Some(Duration::from_secs(60) * firstlight_vm::wait::scale()))?;
    while !said.contains(text) {
        let count = port.read(&mut bytes).with_context(|| said.clone())?;
        ensure!(count > 0, "the port is closed: {said}");
        said += &String::from_utf8_lossy(&bytes[..count]);
    }
    Ok(said)
}

/// The menu on the serial port that libvirt connects, and a device chosen there, once.
#[test]
fn a_key_on_the_serial_port_chooses_in_the_menu() -> Result<()> {
    let libvirt = Libvirt::start()?;
    for number in ['1', '2'] {
        disk(&libvirt, &format!("{number}.img"), &passing(number))?;
    }
    let port = "<serial type='unix'><source mode='bind' path='@/port'/></serial>";
    let devices = on_four_buses([1, 2, 0, 0]).replace(SERIAL, port);
    // Two of the disks are enough.
    let devices: String = devices.split_inclusive("</disk>").take(2).collect();
    let os = "<bootmenu enable='yes' timeout='60000'/><bios useserial='yes' rebootTimeout='-1'/>";
    // The port has to be read from the start on.
    libvirt.create(&domain(&libvirt, "", os, &devices), true)?;
    let mut port = UnixStream::connect(libvirt.path("port"))?;
    libvirt.virsh(["resume", "guest"])?;
    read_until(&mut port, "F12")?;
    port.write_all(b"\x1b")?;
    read_until(&mut port, "Choose what to boot")?;
    port.write_all(b"\x1b[B\r")?;
    let said = read_until(&mut port, NOTHING_BOOTS)?;
    libvirt.destroy("guest")?;
    ensure!(letters(&said) == "21", "{said}");
    Ok(())
}

/// Without a menu or `useserial` nothing of the firmware's is on the port, and without a time there is no restart.
#[test]
fn what_is_not_asked_for_is_not_there() -> Result<()> {
    let libvirt = Libvirt::start()?;
    disk(&libvirt, "1.img", &saying(b'A'))?;
    let devices = on_four_buses([1, 0, 0, 0]);
    let devices: String = devices.split_inclusive("</disk>").take(1).collect();
    let os = "<bootmenu enable='no'/>";
    let said = says(&libvirt, &domain(&libvirt, "", os, &devices), "A")?;
    ensure!(said == "A", "{said:?}");
    disk(&libvirt, "1.img", &[])?;
    let os = "<bios useserial='yes' rebootTimeout='-1'/>";
    let serial = libvirt.path("serial");
    fs::remove_file(&serial)?;
    libvirt.create(&domain(&libvirt, "", os, &devices), false)?;
    libvirt.wait_for(&serial, NOTHING_BOOTS)?;
    // As long as ten restarts of the other test take.
    std::thread::sleep(Duration::from_secs(2));
    let said = String::from_utf8_lossy(&fs::read(&serial)?).into_owned();
    libvirt.destroy("guest")?;
    ensure!(said.matches(NOTHING_BOOTS).count() == 1, "{said}");
    Ok(())
}

/// A Linux with `<smbios mode>`: what its dmidecode says.
fn dmidecode(libvirt: &Libvirt, top: &str, os: &str, loader: bool) -> Result<String> {
    let linux = Linux::get()?;
    fs::copy(linux.kernel(), libvirt.path("kernel"))?;
    fs::copy(linux.initrd(), libvirt.path("initrd"))?;
    let os = format!(
        "<kernel>@/kernel</kernel><initrd>@/initrd</initrd><cmdline>{COMMAND_LINE}</cmdline>{os}"
    );
    let mut xml = domain(libvirt, top, &os, SERIAL);
    if !loader {
        let (before, rest) = xml.split_once("<loader").context("a loader")?;
        let (_, after) = rest.split_once("</loader>").context("its end")?;
        xml = format!("{before}{after}").replace("<os>", "<os firmware='bios'>");
    }
    let console = says(libvirt, &xml, REPORT_END)?;
    let report = Report::unpack(&console, &libvirt.path("report"))?;
    Ok(report.text("dmidecode.txt"))
}

#[test]
fn dmidecode_shows_the_domains_sysinfo() -> Result<()> {
    let libvirt = Libvirt::start()?;
    let said = dmidecode(&libvirt, SYSINFO, "<smbios mode='sysinfo'/>", true)?;
    for value in [
        "Acme, Firmware",
        "Rack Guest",
        "AC-0001",
        "RG-7",
        "BB-0001",
        "Slot 3",
        "CH-SKU",
        "com.example:rack=12",
    ] {
        ensure!(said.contains(value), "no {value}:\n{said}");
    }
    let said = dmidecode(&libvirt, SYSINFO, "<smbios mode='emulate'/>", true)?;
    ensure!(
        !said.contains("Acme") && said.contains("System Information"),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_descriptor_makes_it_the_bios_that_libvirt_picks() -> Result<()> {
    let libvirt = Libvirt::start()?;
    let rom = libvirt.path("firstlight.rom");
    let descriptor = xtask::dist::descriptor(&rom.display().to_string());
    fs::write(
        libvirt.path("config/qemu/firmware/70-firstlight.json"),
        descriptor,
    )?;
    let said = dmidecode(&libvirt, "", "", false)?;
    ensure!(said.contains("Firstlight"), "{said}");
    let arguments = libvirt.arguments("guest")?;
    let named = |path: &Path| {
        arguments
            .iter()
            .any(|argument| argument.contains(&path.display().to_string()))
    };
    ensure!(named(&rom), "{arguments:?}");
    Ok(())
}
