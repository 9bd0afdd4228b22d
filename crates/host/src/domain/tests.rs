//! Domains, good and bad.

use super::*;
use crate::check;
use firstlight_vm::{Bus, Chardev, qemu};

const FILE: &str = "/vm/guest.xml";

/// A domain with more elements in it, each on a line of its own: in `<domain>` on line 5, in `<os>` on 7, in `<devices>` on 9.
fn domain(top: &str, os: &str, devices: &str) -> String {
    format!(
        "<domain type='qemu'>\n<name>guest</name>\n<memory>262144</memory>\n<vcpu>2</vcpu>\n{top}\n<os>\n<type>hvm</type>{os}\n</os>\n\
         <devices>{devices}\n</devices>\n</domain>\n"
    )
}

fn parse(text: &str) -> Result<Domain> {
    Domain::parse(text, Path::new(FILE))
}

fn good(top: &str, os: &str, devices: &str) -> Domain {
    parse(&domain(top, os, devices)).expect("a good domain")
}

/// The arguments of QEMU after an option, in order.
fn values(domain: &Domain, option: &str) -> Vec<String> {
    let arguments = qemu::arguments(&domain.for_qemu()).expect("a place for each device");
    let arguments: Vec<String> = arguments
        .into_iter()
        .map(|word| word.into_string().expect("UTF-8"))
        .collect();
    let pairs = arguments.windows(2).filter(|pair| pair[0] == option);
    pairs.map(|pair| pair[1].clone()).collect()
}

/// What stands where, and the message that it has to give, with the line.
const BAD: &[(&str, &str, &str)] = &[
    // No XML, or not one that is taken.
    ("", "", "1:1: the document does not have a root node"),
    ("", "hello", "unknown token"),
    (
        "",
        "<domain type='qemu'>",
        "the root node was opened but never closed",
    ),
    (
        "",
        "<domain type='qemu'></guest>",
        "expected 'domain' tag, not 'guest'",
    ),
    (
        "",
        "<domain type='qemu' type='xen'/>",
        "1:21: attribute 'type' at 1:21 is already defined",
    ),
    (
        "",
        "<domain type='qemu'><name>&lol;</name></domain>",
        "unknown entity reference 'lol'",
    ),
    (
        "",
        "<!DOCTYPE d [<!ENTITY a 'b'>]><domain/>",
        "a document type is not taken",
    ),
    (
        "",
        "<!DOCTYPE d SYSTEM 'file:///etc/passwd'><domain/>",
        "a document type is not taken",
    ),
    ("", "<guest/>", "1:1: <guest>: is no <domain>"),
    ("", "<domain/>", "<domain>: the attribute 'type' is missing"),
    (
        "",
        "<domain type='lxc'/>",
        "type='lxc' is not one of xen, qemu, kvm",
    ),
    ("", "<domain type='qemu'/>", "<domain>: has no <name>"),
    (
        "",
        "<domain type='qemu'><name>x</name></domain>",
        "<domain>: has no <memory>",
    ),
    (
        "",
        "<domain type='qemu'><name>x</name><memory>9999</memory></domain>",
        "<domain>: has no <os>",
    ),
    (
        "",
        "<domain type='qemu'>text</domain>",
        "has text where only elements may stand",
    ),
    // In <domain>.
    (
        "top",
        "<name>again</name>",
        "5:1: <domain><name>: stands here twice",
    ),
    (
        "top",
        "<nam>x</nam>",
        "5:1: <domain><nam>: this element is not known here",
    ),
    (
        "top",
        "<uuid>12345</uuid>",
        "<domain><uuid>: '12345' is no UUID",
    ),
    (
        "top",
        "<genid>xyz</genid>",
        "<domain><genid>: 'xyz' is no UUID",
    ),
    (
        "top",
        "<memory unit='MiB'>512</memory>",
        "<domain><memory>: stands here twice",
    ),
    (
        "top",
        "<currentMemory unit='parsec'>5</currentMemory>",
        "unit='parsec' is not one of b, bytes, KB",
    ),
    (
        "top",
        "<bootloader>/usr/bin/pygrub</bootloader>",
        "is for paravirtual guests",
    ),
    (
        "top",
        "<launchSecurity type='sev'/>",
        "memory encryption is not supported",
    ),
    (
        "top",
        "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:arg value='-x'/></qemu:commandline>",
        "arguments for other programs are not taken from a domain",
    ),
    (
        "top",
        "<on_reboot>explode</on_reboot>",
        "'explode' is not one of destroy, restart",
    ),
    (
        "top",
        "<clock offset='mars'/>",
        "offset='mars' is not one of utc, localtime",
    ),
    (
        "top",
        "<clock offset='utc'><timer/></clock>",
        "<timer>: the attribute 'name' is missing",
    ),
    (
        "top",
        "<features><acpi on='yes'/></features>",
        "<features><acpi>: the attribute 'on' is not known here",
    ),
    (
        "top",
        "<features><warp/></features>",
        "<features><warp>: this element is not known here",
    ),
    (
        "top",
        "<features><vmport state='maybe'/></features>",
        "state='maybe' is not one of on, off",
    ),
    (
        "top",
        "<pm><suspend-to-mem enabled='perhaps'/></pm>",
        "enabled='perhaps' is not one of yes, no",
    ),
    (
        "top",
        "<cpu><model>pentium3</model></cpu>",
        "<cpu><model>: pentium3 has no long mode (64-bit)",
    ),
    (
        "top",
        "<cpu><model>qemu32</model></cpu>",
        "qemu32 has no long mode",
    ),
    (
        "top",
        "<cpu><feature name='lm' policy='disable'/></cpu>",
        "without the feature lm has no long mode",
    ),
    (
        "top",
        "<cpu><model>a,b</model></cpu>",
        "the model 'a,b' is no name",
    ),
    (
        "top",
        "<cpu mode='warp'/>",
        "mode='warp' is not one of custom, host-model",
    ),
    (
        "top",
        "<cpu><topology sockets='1' cores='3' threads='1'/></cpu>",
        "is of 3 processors, and <vcpu> says 2",
    ),
    (
        "top",
        "<cpu><topology sockets='0'/></cpu>",
        "sockets '0' is no number from 1 to 4096",
    ),
    // In <sysinfo>.
    (
        "top",
        "<sysinfo type='smbios'><bios><entry name='vendr'>x</entry></bios></sysinfo>",
        "name='vendr' is not one of vendor, version",
    ),
    (
        "top",
        "<sysinfo type='smbios'><bios><entry name='release'>four</entry></bios></sysinfo>",
        "'four' is no MAJOR.MINOR",
    ),
    (
        "top",
        "<sysinfo type='smbios'><bios><entry name='date'>2026-11-22</entry></bios></sysinfo>",
        "is no date MM/DD/YYYY",
    ),
    (
        "top",
        "<sysinfo type='fwcfg'><entry name='etc/e820'>x</entry></sysinfo>",
        "does not start with opt/",
    ),
    (
        "top",
        "<uuid>3cd90213-12e3-4f46-a14e-390253fd9535</uuid><sysinfo type='smbios'><system><entry name='uuid'>00000000-0000-0000-0000-000000000000</entry></system></sysinfo>",
        "is not the domain's",
    ),
    (
        "top",
        "<sysinfo type='dmi'/>",
        "type='dmi' is not one of smbios, fwcfg",
    ),
    // In <os>.
    (
        "os",
        "<boot/>",
        "7:17: <domain><os><boot>: the attribute 'dev' is missing",
    ),
    (
        "os",
        "<boot dev='usb'/>",
        "dev='usb' is not one of fd, hd, cdrom, network",
    ),
    (
        "os",
        "<bootmenu/>",
        "<bootmenu>: the attribute 'enable' is missing",
    ),
    (
        "os",
        "<bootmenu enable='yes' timeout='65536'/>",
        "timeout '65536' is no number from 0 to 65535",
    ),
    (
        "os",
        "<bios rebootTimeout='-2'/>",
        "rebootTimeout '-2' is no number from -1 to 65535",
    ),
    (
        "os",
        "<smbios mode='sysinfo'/>",
        "has <smbios mode='sysinfo'/>, but no <sysinfo type='smbios'>",
    ),
    (
        "os",
        "<smbios mode='guess'/>",
        "mode='guess' is not one of emulate, host, sysinfo",
    ),
    ("os", "<loader type='pflash'>/x</loader>", "asks for UEFI"),
    ("os", "<nvram>/x</nvram>", "is for UEFI"),
    (
        "os",
        "<initrd>/x</initrd>",
        "there is no <kernel> that it belongs to",
    ),
    ("os", "<kernel></kernel>", "<kernel>: is empty"),
    (
        "os",
        "<acpi><table type='dsdt'>/x</table></acpi>",
        "type='dsdt' is not one of slic",
    ),
    ("os", "<init>/sbin/init</init>", "is for containers"),
    (
        "os",
        "<type arch='armv7l'>hvm</type>",
        "arch='armv7l' is not x86_64",
    ),
    (
        "os",
        "<type machine='microvm'>hvm</type>",
        "machine='microvm' is none that this firmware runs on",
    ),
    (
        "os",
        "<type machine='pc,accel=kvm'>hvm</type>",
        "machine 'pc,accel=kvm' is no name",
    ),
    ("os", "<type>linux</type>", "is a guest without a BIOS"),
    // In <devices>.
    (
        "devices",
        "<disk type='network'/>",
        "type='network' is not one of file, block",
    ),
    (
        "devices",
        "<disk type='file' device='lun'/>",
        "device='lun' is not one of disk, cdrom, floppy",
    ),
    (
        "devices",
        "<disk type='file'><source file='x'/></disk>",
        "9:10: <domain><devices><disk>: has no <target>",
    ),
    (
        "devices",
        "<disk type='file'><target dev='hda'/></disk>",
        "a hard disk has a <source>",
    ),
    (
        "devices",
        "<disk type='file'><source file='x'/><target dev='sda1'/></disk>",
        "dev='sda1' is no name of a disk",
    ),
    (
        "devices",
        "<disk type='file'><source file='x'/><target dev='hda' bus='pigeon'/></disk>",
        "bus='pigeon' is not one of ide, sata",
    ),
    (
        "devices",
        "<disk type='file'><driver type='vmdk'/><source file='x'/><target dev='hda'/></disk>",
        "type='vmdk' is not one of raw, qcow2",
    ),
    (
        "devices",
        "<disk type='file'><source file='x'><encryption format='luks'/></source><target dev='hda'/></disk>",
        "encrypted disks are not supported",
    ),
    (
        "devices",
        "<disk type='file'><source file='x'/><target dev='hda'/></disk><disk type='file'><source file='y'/><target dev='hda'/></disk>",
        "has the place of another disk",
    ),
    (
        "devices",
        "<disk type='file' device='floppy'><target dev='hda' bus='ide'/></disk>",
        "a floppy disk, and nothing else, is on the bus fdc",
    ),
    (
        "devices",
        "<disk type='file'><source file='x'/><target dev='vda'/><boot order='0'/></disk>",
        "order '0' is no number from 1 to 999",
    ),
    (
        "devices",
        "<interface type='user'><mac address='zz'/></interface>",
        "address='zz' is none of a network card",
    ),
    (
        "devices",
        "<interface type='user'><mac address='01:00:00:00:00:01'/></interface>",
        "multicast",
    ),
    (
        "devices",
        "<interface type='user'><model type='e1000,script=/x'/></interface>",
        "type='e1000,script=/x' is not one of virtio",
    ),
    (
        "devices",
        "<interface type='hostdev'/>",
        "type='hostdev' is not one of user",
    ),
    (
        "devices",
        "<interface type='bridge'><source bridge='br0,script=x'/></interface>",
        "the bridge 'br0,script=x' is no name",
    ),
    (
        "devices",
        "<serial type='file'/>",
        "has no <source path=…> to write to",
    ),
    (
        "devices",
        "<serial/>",
        "<serial>: the attribute 'type' is missing",
    ),
    (
        "devices",
        "<hostdev mode='subsystem' type='pci'/>",
        "devices of the host are not passed through",
    ),
    (
        "devices",
        "<filesystem type='mount'/>",
        "this device is not supported",
    ),
    ("devices", "<tpm model='tpm-tis'/>", "has no <backend>"),
    (
        "devices",
        "<rng model='virtio'><backend model='random'>/etc/shadow</backend></rng>",
        "is not /dev/random",
    ),
    (
        "devices",
        "<video><model type='voodoo'/></video>",
        "type='voodoo' is not one of vga",
    ),
    (
        "devices",
        "<controller type='scsi' model='ncr53c90'/>",
        "model='ncr53c90' is not one of virtio-scsi",
    ),
    (
        "devices",
        "<teleporter/>",
        "9:10: <domain><devices><teleporter>: this element is not known here",
    ),
];

#[test]
fn each_bad_domain_gives_its_message() {
    assert!(BAD.len() >= 60);
    let mut wrong = String::new();
    for (place, text, message) in BAD {
        let xml = match *place {
            "top" => domain(text, "", ""),
            "os" => domain("", text, ""),
            "devices" => domain("", "", text),
            _ => (*text).to_owned(),
        };
        let error = match parse(&xml) {
            Ok(_) => "no error".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if !error.contains(message) || !error.starts_with("/vm/guest.xml:") {
            wrong += &format!("{text}\n  gave  {error}\n  wants {message}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let error =
        parse(&domain("<nam/>", "<boot dev='usb'/>", "<teleporter/>")).expect_err("three errors");
    assert_eq!(format!("{error:#}").lines().count(), 3);
}

#[test]
fn two_kinds_of_order_do_not_go_together() {
    let disk = "<disk type='file'><source file='x'/><target dev='vda'/><boot order='1'/></disk>";
    let error = parse(&domain("", "<boot dev='hd'/>", disk)).expect_err("an error");
    assert!(format!("{error:#}").contains("only one of them can count"));
    let error = parse(&domain("", "", &format!("{disk}{disk}"))).expect_err("an error");
    assert!(format!("{error:#}").contains("order='1' is another device's"));
}

#[test]
fn large_and_deep_files_are_refused_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("big.xml");
    std::fs::File::create(&file)
        .expect("a file")
        .set_len(100 << 20)
        .expect("a size");
    let start = std::time::Instant::now();
    let error = Domain::read(&file).expect_err("too large");
    assert!(format!("{error:#}").contains("is larger than 1024 KiB"));
    let deep = "<a>".repeat(300_000);
    assert!(parse(&deep).is_err());
    let deep = format!(
        "<domain type='qemu'>{}{}</domain>",
        "<a>".repeat(90_000),
        "</a>".repeat(90_000)
    );
    assert!(parse(&deep).is_err());
    let wide = format!("<domain type='qemu'>{}</domain>", "<a/>".repeat(110_000));
    let error = parse(&wide).expect_err("too many");
    assert!(
        format!("{error:#}").contains("has too many elements"),
        "{error:#}"
    );
    assert!(start.elapsed().as_secs() < 30);
    let error = Domain::read(directory.path()).expect_err("a directory");
    assert!(format!("{error:#}").contains("is a directory"));
    std::fs::write(&file, b"<domain>\xff</domain>").expect("a file");
    assert!(format!("{:#}", Domain::read(&file).expect_err("no text")).contains("is not UTF-8"));
    assert!(Domain::read(Path::new("/nowhere/x.xml")).is_err());
}

#[test]
fn the_boot_order_is_libvirts() {
    let disks = "<disk type='file' device='cdrom'><target dev='hdc' bus='ide'/></disk>\
                 <disk type='file'><source file='a'/><target dev='vda' bus='virtio'/></disk>\
                 <disk type='file'><source file='b'/><target dev='vdb' bus='virtio'/></disk>\
                 <interface type='user'><model type='e1000'/></interface>";
    let devices = values(
        &good(
            "",
            "<boot dev='network'/><boot dev='hd'/><boot dev='cdrom'/>",
            disks,
        ),
        "-device",
    );
    let indexes: Vec<&str> = devices
        .iter()
        .filter_map(|device| device.split("bootindex=").nth(1))
        .collect();
    // CD, first disk, card; the second disk has none.
    assert_eq!(indexes, ["3", "2", "1"]);
    let plain = good("", "", disks);
    assert_eq!(values(&plain, "-boot"), ["strict=on"]);
    assert!(
        values(&plain, "-device")
            .iter()
            .any(|device| device.starts_with("virtio-blk-pci") && device.ends_with("bootindex=1"))
    );
}

#[test]
fn hostile_names_stay_names() {
    let name = "a b,c'\"d;$(touch x)\n`e`&lt;nbd:";
    let plain = "a b,c'\"d;$(touch x)\n`e`<nbd:";
    let disk = format!(
        "<disk type='file'><source file=\"{}\"/><target dev='hda'/></disk>",
        name.replace('"', "&quot;").replace('\n', "&#10;")
    );
    let domain = good(
        "",
        &format!("<kernel>{name}</kernel><cmdline>{name}</cmdline>"),
        &disk,
    );
    let expected = format!("/vm/{plain}");
    assert_eq!(
        domain.guest.disks[0].source.as_deref(),
        Some(Path::new(&expected))
    );
    let drive = &values(&domain, "-drive")[0];
    assert_eq!(
        drive,
        &format!(
            "if=none,id=disk0,format=raw,file.driver=file,file.filename={}",
            expected.replace(',', ",,")
        )
    );
    assert_eq!(values(&domain, "-kernel"), [expected]);
    assert_eq!(values(&domain, "-append"), [plain]);
}

#[test]
fn nothing_that_a_domain_names_is_run() {
    let domain = good(
        "",
        "",
        "<emulator>/tmp/evil</emulator><interface type='bridge'><source bridge='br0'/><script path='/tmp/evil'/></interface>",
    );
    let arguments = qemu::arguments(&domain.for_qemu()).expect("a place for each device");
    assert!(
        arguments
            .iter()
            .all(|argument| !argument.to_string_lossy().contains("evil"))
    );
    let files = firstlight_vm::xl::Files::default();
    let configuration =
        firstlight_vm::xl::configuration(&domain.guest, &files).expect("a place for each device");
    assert!(!configuration.text.contains("evil") && !configuration.text.contains("script"));
    let warned = |text: &str| {
        domain
            .warnings
            .iter()
            .any(|warning| warning.message.contains(text))
    };
    assert!(warned("no program that a domain names is run"));
}

#[test]
fn every_bus_and_device_is_carried() {
    let domain = good(
        "<uuid>3CD90213-12e3-4f46-a14e-390253fd9535</uuid><genid/><cpu mode='custom'><model>Nehalem</model><feature name='x2apic'/>\
         <topology sockets='1' cores='2' threads='1'/></cpu><clock offset='localtime'><timer name='hpet' present='no'/></clock>\
         <on_reboot>destroy</on_reboot><features><acpi/></features><pm><suspend-to-mem enabled='no'/></pm>\
         <sysinfo type='fwcfg'><entry name='opt/firstlight/log'>debug</entry><entry name='opt/x' file='f'/></sysinfo>",
        "<bios useserial='yes' rebootTimeout='500'/><bootmenu enable='yes' timeout='7'/><acpi><table type='slic'>slic</table></acpi>",
        "<disk type='file'><source file='a'/><target dev='hda' bus='ide'/></disk>\
         <disk type='file'><driver type='qcow2' cache='none'/><source file='b'/><target dev='sda' bus='sata'/></disk>\
         <disk type='file'><source file='c'/><target dev='sdb' bus='scsi'/><serial>S</serial></disk>\
         <disk type='block'><source dev='/dev/zero'/><target dev='vda' bus='virtio'/><transient/></disk>\
         <disk type='file'><source file='e'/><target dev='sdc' bus='usb'/></disk>\
         <disk type='file'><source file='f'/><target dev='nvme0n1' bus='nvme'/><blockio logical_block_size='4096'/></disk>\
         <disk type='file' device='floppy'><target dev='fda'/></disk>\
         <interface type='user'><mac address='52:54:00:12:34:56'/><model type='virtio'/><rom file='r'/></interface>\
         <serial type='pty'/><serial type='file'><source path='log'/></serial><console type='pty'><target type='serial'/></console>\
         <video><model type='cirrus'/></video><rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>\
         <tpm model='tpm-crb'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm><memballoon model='virtio'/>",
    );
    let buses: Vec<Bus> = domain.guest.disks.iter().map(|disk| disk.bus).collect();
    assert_eq!(
        buses,
        [
            Bus::Ide,
            Bus::Sata,
            Bus::Scsi,
            Bus::Virtio,
            Bus::Usb,
            Bus::Nvme,
            Bus::Floppy
        ]
    );
    assert_eq!(
        domain.guest.serial,
        [Chardev::Pty, Chardev::File("/vm/log".into())]
    );
    assert_eq!(values(&domain, "-cpu"), ["Nehalem,x2apic=on"]);
    assert_eq!(values(&domain, "-smp"), ["2,sockets=1,cores=2,threads=1"]);
    assert_eq!(
        values(&domain, "-machine"),
        ["pc,accel=tcg,graphics=off,hpet=off"]
    );
    assert_eq!(
        values(&domain, "-boot"),
        ["menu=on,splash-time=7,reboot-timeout=500,strict=on"]
    );
    assert_eq!(values(&domain, "-rtc"), ["base=localtime"]);
    assert_eq!(
        values(&domain, "-fw_cfg"),
        [
            "name=opt/firstlight/log,string=debug",
            "name=opt/x,file=/vm/f"
        ]
    );
    assert_eq!(values(&domain, "-acpitable"), ["file=/vm/slic"]);
    assert_eq!(
        values(&domain, "-tpmdev"),
        ["passthrough,path=/dev/tpm0,id=tpm0"]
    );
    assert_eq!(values(&domain, "-global"), ["PIIX4_PM.disable_s3=1"]);
    assert!(
        values(&domain, "-drive")[1].contains("format=qcow2")
            && values(&domain, "-drive")[1].ends_with("cache=none")
    );
    let devices = values(&domain, "-device");
    for device in [
        "cirrus-vga",
        "scsi-hd,bus=scsi0.0,scsi-id=1,serial=S,drive=disk2",
        "nvme,serial=nvme-0,drive=disk5,logical_block_size=4096",
        "virtio-net-pci,netdev=net0,mac=52:54:00:12:34:56,romfile=/vm/r",
        "vmgenid,guid=auto",
        "virtio-rng-pci,rng=rng0",
        "tpm-crb,tpmdev=tpm0",
    ] {
        assert!(
            devices.iter().any(|own| own == device),
            "{device}: {devices:#?}"
        );
    }
}

#[test]
fn what_is_lost_is_told() {
    let domain = good("", "<bootmenu enable='yes'/>", "");
    assert!(check::loses(&domain, &[3]) && !check::loses(&domain, &[0, 1, 2]));
    let table = check::table(&domain, &[0, 3]);
    assert!(
        table.contains("   7 os/bootmenu") && table.contains("! LOST: is ignored"),
        "{table}"
    );
    let json = check::json(&domain, &[3]);
    assert_eq!(json["lost"], true);
    let menu = json["elements"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|element| element["element"] == "os/bootmenu");
    assert_eq!(
        menu.expect("the menu")["toolstacks"]["libvirt, Xen"]["lost"],
        true
    );
}
