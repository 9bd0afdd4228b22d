//! Domains that libvirt's Xen driver starts on real Xen: the examples, verbatim but for the names of files.

use anyhow::{Result, ensure};
use firstlight_host::domain::{Domain, Fate};
use firstlight_tests::guest::workspace;
use firstlight_tests::guestdisk::{Fs, Layout};
use firstlight_tests::xen::libvirt::{bed, create, destroy, native, resume};
use firstlight_tests::xen::{HOSTED_END, PROBE, Then, debian, empty_disk, hosted_disk, probe_disk};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How long a Linux may take, two emulations deep.
const LINUX: Duration = Duration::from_secs(1200);
/// The last thing a probe says before it ticks.
const PROBE_END: &str = "probe end";

/// An example in which some names of files have others in their place.
fn example(name: &str, names: &[(&str, &str)]) -> Result<String> {
    let mut text = fs::read_to_string(workspace().join("docs/examples").join(name))?;
    for (from, to) in names {
        ensure!(text.contains(from), "{name} does not name {from}");
        text = text.replacen(from, to, 1);
    }
    Ok(text)
}

/// Our file diverted in hvmloader's place is what starts, and after going back Xen's own is.
#[test]
#[ignore = "the test bed of Xen takes minutes: cargo xtask test --xen"]
fn the_diverted_loader_starts_a_domain_and_xens_own_after_going_back() -> Result<()> {
    let mut bed = bed()?;
    let disk = probe_disk(&bed, Then::Tick)?;
    let cd = empty_disk(&bed)?;
    let xml = example("bios.xml", &[("disk.img", &disk), ("boot.iso", &cd)])?;
    for diverts in [true, false] {
        let undo = if diverts { "" } else { "--undo" };
        let said = bed.check(&format!("firstlight divert {undo}"))?;
        let whose = if diverts {
            "is Firstlight"
        } else {
            "is Xen's own"
        };
        ensure!(said.contains(whose), "{said}");
        bed.dmesg()?;
        let guest = create(&mut bed, "bios", &xml)?;
        bed.check("xenstore-write /local/domain/$(xl domid bios)/platform/firstlight/log debug")?;
        bed.open_terminal(&guest)?;
        resume(&mut bed, "bios")?;
        let serial = bed.wait_for(&guest, PROBE_END, PROBE)?;
        // libvirt's Xen driver drops <bootmenu>.
        ensure!(!serial.contains("Esc or F12"), "a menu:\n{serial}");
        let dmesg = bed.dmesg()?;
        let ours = dmesg.contains("firstlight: booting");
        let stock = dmesg.contains("HVM Loader");
        ensure!(
            (ours, stock) == (diverts, !diverts),
            "diverted: {diverts}\n{dmesg}"
        );
        destroy(&mut bed, "bios")?;
    }
    Ok(())
}

/// The bootloader picks the kernel, and its arguments, which arrive as one, are split.
#[test]
#[ignore = "the test bed of Xen takes minutes: cargo xtask test --xen"]
fn a_domain_whose_kernel_the_bootloader_picks() -> Result<()> {
    let mut bed = bed()?;
    let directory = tempfile::tempdir()?;
    let image = hosted_disk(directory.path(), Layout::Gpt, Fs::Ext4, "libvirt")?;
    fs::copy(&image, bed.job().join("hosted.img"))?;
    let names = [
        ("disk.img", "/job/hosted.img"),
        ("/usr/bin/pygrub", "/usr/bin/firstlight-bootloader"),
    ];
    let xml = example("hostboot.xml", &names)?;
    let guest = create(&mut bed, "hostboot", &xml)?.pv_console();
    bed.follow_console(&guest)?;
    resume(&mut bed, "hostboot")?;
    let console = bed.wait_for(&guest, HOSTED_END, LINUX)?;
    let line = console.lines().find(|line| line.contains("on=libvirt"));
    let appended = line.is_some_and(|line| line.contains(" single"));
    ensure!(appended, "another command line:\n{console}");
    destroy(&mut bed, "hostboot")
}

/// Kernel, initial RAM disk and command line of the domain's own.
#[test]
#[ignore = "the test bed of Xen takes minutes: cargo xtask test --xen"]
fn a_domain_with_a_kernel() -> Result<()> {
    let mut bed = bed()?;
    let names = [
        ("vmlinuz", "/job/vmlinuz"),
        ("initrd.img", "/job/initrd.img"),
    ];
    for (name, _) in names {
        let copy = bed.job().join(name);
        xtask::image::copy_out(&debian()?, &format!("/{name}"), &copy)?;
    }
    bed.check("firstlight divert")?;
    let guest = create(
        &mut bed,
        "direct-kernel",
        &example("direct-kernel.xml", &names)?,
    )?;
    bed.open_terminal(&guest)?;
    resume(&mut bed, "direct-kernel")?;
    let line = "Kernel command line: console=ttyS0 ks=http://example.com/f8-i386/os/";
    let serial = bed.wait_for(&guest, line, LINUX)?;
    let dmesg = bed.dmesg()?;
    ensure!(!dmesg.contains("HVM Loader"), "{dmesg}");
    ensure!(
        serial.contains("Hypervisor detected: Xen HVM"),
        "no Xen:\n{serial}"
    );
    destroy(&mut bed, "direct-kernel")
}

/// Elements of a domain, each on a line of its own: in `<domain>`, in `<os>` and in `<devices>`.
const TOP: &[&str] = &[
    "<uuid>3cd90213-12e3-4f46-a14e-390253fd9535</uuid>",
    "<vcpu>2</vcpu>",
    "<clock offset='localtime'/>",
    "<on_reboot>destroy</on_reboot>",
    "<genid>43dc0cf8-809b-4adb-9bea-a9abb5f3d90e</genid>",
    "<cpu mode='host-passthrough'/>",
];
const OS: &[&str] = &[
    "<boot dev='cdrom'/>",
    "<bootmenu enable='yes' timeout='3000'/>",
    "<bios useserial='yes' rebootTimeout='500'/>",
    "<smbios mode='sysinfo'/>",
];
const DEVICES: &[&str] = &[
    "<disk type='file'><driver name='qemu' type='raw'/><source file='/job/a'/><target dev='hda' bus='ide'/></disk>",
    "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='/job/b'/><target dev='hdc' bus='ide'/></disk>",
    "<disk type='file'><driver name='qemu' type='raw'/><source file='/job/c'/><target dev='sda' bus='scsi'/></disk>",
    "<disk type='file'><driver name='qemu' type='raw'/><source file='/job/d'/><target dev='xvdd' bus='xen'/></disk>",
    "<disk type='file'><driver name='qemu' type='raw'/><source file='/job/e'/><target dev='sde' bus='sata'/></disk>",
    "<disk type='file'><driver name='qemu' type='raw'/><source file='/job/f'/><target dev='sdf' bus='usb'/></disk>",
    "<disk type='file' device='floppy'><driver name='qemu' type='raw'/><source file='/job/g'/><target dev='fda' bus='fdc'/></disk>",
    "<disk type='file'><driver name='qemu' type='raw'/><source file='/job/h'/><target dev='nvme0n1' bus='nvme'/></disk>",
    "<interface type='bridge'><mac address='00:16:3e:12:34:56'/><source bridge='br0'/><model type='e1000'/></interface>",
    "<serial type='pty'/>",
    "<video><model type='cirrus'/></video>",
    "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>",
    "<memballoon model='xen'/>",
];

/// The domain with all of these but the ones left out, by their places in the three lists together.
fn with_elements(keep: impl Fn(usize) -> bool) -> String {
    let mut number = 0;
    let mut lines = |list: &[&str]| {
        let mut text = String::new();
        for line in list {
            // A line stays one, so that each element keeps its number.
            text.push_str(if keep(number) { line } else { "" });
            text.push('\n');
            number += 1;
        }
        text
    };
    let (top, os, devices) = (lines(TOP), lines(OS), lines(DEVICES));
    format!(
        "<domain type='xen'><name>all</name><memory unit='MiB'>512</memory><features><acpi/><apic/><pae/></features>\
         <sysinfo type='smbios'><system><entry name='product'>X</entry></system></sysinfo>\n\
         {top}<os><type>hvm</type>\n{os}</os><devices>\n{devices}</devices></domain>\n"
    )
}

/// Whether what is lost is in vain by what is made of it, and not left out or refused.
fn becomes_another(fate: &Fate) -> bool {
    matches!(fate, Fate::Lost(text) if text.starts_with("vdev="))
}

/// What `firstlight check` says of libvirt's Xen driver, held against the driver: what is lost makes no difference, becomes something
/// else or is refused, and the rest makes a difference.
#[test]
#[ignore = "the test bed of Xen takes minutes: cargo xtask test --xen"]
fn the_table_of_the_host_tool_is_true() -> Result<()> {
    let mut bed = bed()?;
    // The line of each element, of which the first is on the second, and two lines open what is around the others.
    let line = |number: usize| {
        let opened = usize::from(number >= TOP.len()) + usize::from(number >= TOP.len() + OS.len());
        (number + 2 + opened) as u32
    };
    let count = TOP.len() + OS.len() + DEVICES.len();
    let xml = with_elements(|_| true);
    let domain = Domain::parse(&xml, Path::new("/job/all.xml"))?;
    let mut wrong = String::new();
    let mut refused = Vec::new();
    for number in 0..count {
        let xml = with_elements(|other| other == number);
        if native(&mut bed, &xml).is_err() {
            refused.push(number);
        }
    }
    let made = native(&mut bed, &with_elements(|other| !refused.contains(&other)))?;
    for number in 0..count {
        let text = xml.lines().nth(line(number) as usize - 1);
        let text = text.unwrap_or_default();
        // What writes xl.cfg has a card only with a screen to show: see below.
        if text.starts_with("<video>") {
            continue;
        }
        let without = with_elements(|other| other != number && !refused.contains(&other));
        let matters = !refused.contains(&number) && native(&mut bed, &without)? != made;
        let mut told = domain.elements.iter();
        let told = told.find(|element| element.line == line(number));
        let fate = told.map(|element| &element.fates[3]);
        let expected = fate.map(|fate| matches!(fate, Fate::Kept(_)) || becomes_another(fate));
        if expected != Some(matters) {
            let is_refused = refused.contains(&number);
            wrong += &format!("{text}: matters: {matters}, refused: {is_refused}, but: {fate:?}\n");
        }
    }
    ensure!(wrong.is_empty(), "{wrong}\n{made}");

    // What it starts, which is not made by what writes xl.cfg.
    bed.check("cd /job && for name in a b c d e f; do truncate -s 1M $name; done")?;
    let start = [
        "target dev='hda'",
        "target dev='hdc'",
        "bus='sata'",
        "bus='usb'",
        "type='cirrus'",
    ];
    let lines: Vec<_> = TOP.iter().chain(OS).chain(DEVICES).collect();
    let xml = with_elements(|number| start.iter().any(|part| lines[number].contains(part)));
    create(&mut bed, "all", &xml)?;
    let log = bed.check("cat /var/log/libvirt/libxl/all.log")?;
    for part in [
        r#""vdev": "hda""#,
        r#""vdev": "hdc""#,
        r#""vdev": "sde""#,
        r#""vdev": "sdf""#,
        r#""kind": "cirrus""#,
    ] {
        ensure!(log.contains(part), "no {part}:\n{log}");
    }
    destroy(&mut bed, "all")
}
