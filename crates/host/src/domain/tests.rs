//! Domains, good and bad.

use super::bad::BAD;
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

#[test]
fn each_bad_domain_gives_its_message() {
    assert!(BAD.len() >= 60);
    let mut wrong = String::new();
    for (place, text, message) in BAD {
        let xml = match *place {
            "top" => domain(text, "", ""),
            "type" => domain("", "", "").replace("<type>hvm</type>", text),
            "os" => domain("", text, ""),
            "devices" => domain("", "", text),
            _ => (*text).to_owned(),
        };
        let error = match parse(&xml) {
            Ok(_) => "no error".to_owned(),
            Err(error) => format!("{error:#}").replace("/vm/guest.xml:", ""),
        };
        if error != *message {
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

/// All that a domain can have, in `<domain>`, `<os>` and `<devices>`.
const ALL: [&str; 3] = [
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
];

/// Each controller has its number, and a disk is on the one that its address names.
#[test]
fn disks_are_on_their_controllers() {
    let devices = "<controller type='scsi' index='0' model='virtio-scsi'/><controller type='scsi' index='2' model='lsilogic'/>\
         <controller type='usb' index='1' model='ehci'/>\
         <disk type='file'><source file='a'/><target dev='sda' bus='scsi'/><address type='drive' controller='2' target='0' unit='0'/></disk>\
         <disk type='file'><source file='b'/><target dev='sdb' bus='scsi'/><address type='drive' controller='0' target='0' unit='0'/></disk>\
         <disk type='file'><source file='c'/><target dev='sdc' bus='usb'/><address type='usb' bus='1' port='1'/></disk>\
         <disk type='file'><source file='d'/><target dev='sdd' bus='usb'/></disk>";
    let domain = parse(&domain("", "", devices)).expect("a good domain");
    let devices = values(&domain, "-device");
    for device in [
        "lsi,id=scsi2",
        "scsi-hd,bus=scsi2.0,scsi-id=0,drive=disk0,bootindex=1",
        "virtio-scsi-pci,id=scsi0",
        "scsi-hd,bus=scsi0.0,scsi-id=0,drive=disk1",
        "usb-ehci,id=usb1",
        "usb-storage,bus=usb1.0,removable=off,drive=disk2",
        "qemu-xhci,id=usb0",
        "usb-storage,bus=usb0.0,removable=off,drive=disk3",
    ] {
        let found = devices.iter().any(|found| found == device);
        assert!(found, "{device}: {devices:#?}");
    }
}

#[test]
fn an_attribute_or_element_that_is_not_known_never_passes_in_silence() {
    let xml = domain(ALL[0], ALL[1], ALL[2]);
    parse(&xml).expect("a good domain");
    let starts = xml.match_indices('<').map(|(at, _)| at);
    let starts = starts.filter(|at| xml.as_bytes()[at + 1].is_ascii_alphabetic());
    let mut silent = Vec::new();
    let mut tried = 0;
    for start in starts {
        let name = xml[start + 1..].find([' ', '/', '>']).expect("an end") + start + 1;
        let end = xml[start..].find('>').expect("an end") + start;
        let attribute = format!("{} zzz='1'{}", &xml[..name], &xml[name..]);
        let child = match xml.as_bytes()[end - 1] {
            b'/' => {
                let element = &xml[start + 1..name];
                format!("{}><zzz/></{element}>{}", &xml[..end - 1], &xml[end + 1..])
            }
            _ => format!("{}<zzz/>{}", &xml[..=end], &xml[end + 1..]),
        };
        for changed in [attribute, child] {
            tried += 1;
            match parse(&changed) {
                Err(error) if error.to_string().contains("zzz") => {}
                // The whole element is ignored, and that is said.
                Ok(domain) if warns(&domain, &xml[start + 1..name]) => {}
                _ => silent.push(changed[start..].chars().take(80).collect::<String>()),
            }
        }
    }
    assert!(tried > 100 && silent.is_empty(), "{silent:#?}");
}

/// Whether there is a warning at an element of this name.
fn warns(domain: &Domain, name: &str) -> bool {
    let end = format!("<{name}>");
    let mut all = domain.warnings.iter();
    all.any(|warning| warning.element.ends_with(&end))
}

#[test]
fn every_bus_and_device_is_carried() {
    let domain = good(ALL[0], ALL[1], ALL[2]);
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
fn what_is_no_device_is_carried() {
    let domain = good(ALL[0], ALL[1], ALL[2]);
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

/// A domain of Xen without a BIOS.
fn paravirtual(kind: &str, top: &str, os: &str, devices: &str) -> Result<Domain> {
    parse(&format!(
        "<domain type='xen'><name>pv</name><memory>262144</memory>{top}<os>{kind}{os}</os><devices>{devices}</devices></domain>"
    ))
}

const PV: &str = "<type arch='x86_64' machine='xenpv'>linux</type>";
const PYGRUB: &str =
    "<bootloader>/usr/bin/pygrub</bootloader><bootloader_args>--append single</bootloader_args>";
const PV_DEVICES: &str = "<disk type='file'><source file='d'/><target dev='xvda1' bus='xen'/></disk>\
     <disk type='file'><source file='e'/><target dev='xvdc' bus='xen'/></disk>\
     <interface type='bridge'><source bridge='br0'/></interface><console type='pty'><target type='xen' port='0'/></console>";

#[test]
fn a_paravirtual_domain_has_its_kernel_picked() {
    let domain = paravirtual(PV, PYGRUB, "", PV_DEVICES).expect("a good domain");
    assert_eq!(domain.guest.virtualization, Virtualization::Pv);
    assert!(domain.guest.boot.order.is_empty());
    let files = firstlight_vm::xl::Files {
        bootloader: Some("/ours".into()),
        ..Default::default()
    };
    let configuration =
        firstlight_vm::xl::configuration(&domain.guest, &files).expect("a place for each device");
    for line in [
        "type = \"pv\"\n",
        "bootloader = \"/ours\"\n",
        "\"--append single\"",
        "vdev=xvda1,",
        "vdev=xvdc,",
        "\"type=vif,bridge=br0\"",
    ] {
        assert!(configuration.text.contains(line), "{}", configuration.text);
    }
    for other in ["pygrub", "firmware", "serial", "vga", "boot ="] {
        assert!(
            !configuration.text.contains(other),
            "{}",
            configuration.text
        );
    }
}

#[test]
fn a_paravirtual_domain_is_carried_by_xen_and_refused_for_qemu() {
    let domain = paravirtual(PV, PYGRUB, "", PV_DEVICES).expect("a good domain");
    assert!(check::loses(&domain, &[0]) && check::loses(&domain, &[1]));
    assert!(
        !check::loses(&domain, &[2, 3]),
        "{}",
        check::table(&domain, &[2, 3])
    );
    let table = check::table(&domain, &[2, 3]);
    assert!(
        table.contains("firstlight-bootloader in") && table.contains("is run"),
        "{table}"
    );
    let json = check::json(&domain, &[2]);
    assert_eq!(json["lost"], false);
    let options = crate::run::Options::default();
    let error = crate::run::guest(&domain, &options).expect_err("no guest for QEMU");
    assert!(error.to_string().contains("firstlight xl"), "{error}");
}

#[test]
fn kinds_of_paravirtual_guests() {
    for (kind, expected) in [
        (PV, Virtualization::Pv),
        ("<type>xen</type>", Virtualization::Pv),
        ("<type>xenpvh</type>", Virtualization::Pvh),
        ("<type machine='xenpvh'>linux</type>", Virtualization::Pvh),
    ] {
        let domain = paravirtual(kind, "", "", "").expect("a good domain");
        assert_eq!(domain.guest.virtualization, expected, "{kind}");
    }
    // What a BIOS has is lost, and said to be.
    let os = "<loader>/usr/lib/xen/boot/hvmloader</loader><bootmenu enable='yes'/>";
    let domain = paravirtual(PV, "", os, "<serial type='pty'/>").expect("a good domain");
    assert!(warns(&domain, "loader") && warns(&domain, "bootmenu") && warns(&domain, "serial"));
    assert!(check::loses(&domain, &[2]) && domain.guest.serial.is_empty());
}
