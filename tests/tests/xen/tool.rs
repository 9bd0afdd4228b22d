//! The host tool at work in dom0, and what xl reads of its configurations.

use anyhow::{Context, Result, ensure};
use firstlight_host::domain::Domain;
use firstlight_tests::guest::workspace;
use firstlight_tests::guestdisk::{Fs, Layout};
use firstlight_tests::xen::{
    Bed, Guest, HOSTED_END, Loader, PROBE, Then, Version, bed, empty_disk, firstlight, hosted_disk,
    probe_disk,
};
use firstlight_vm::xl;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;
use xtask::build::host::{self, Program};

/// How long a small Linux may take: two emulations deep.
const SMALL: Duration = Duration::from_secs(600);
/// The last thing a probe says before it ticks.
const PROBE_END: &str = "probe end";

/// Puts the programs and the loader into dom0, as the archive of `cargo xtask dist` has them, and keeps guests off dom0's processor.
fn install(bed: &mut Bed) -> Result<()> {
    let job = bed.job();
    for (program, name) in [
        (Program::Tool, "firstlight"),
        (Program::Bootloader, "firstlight-bootloader"),
    ] {
        fs::copy(host::file(program)?, job.join(name))?;
    }
    if let Loader::File(loader) = firstlight() {
        fs::copy(loader, job.join("hvmloader"))?;
    }
    bed.check(
        "mkdir -p /tmp/fl/bin /tmp/fl/share/firstlight /etc/xen &&\n\
         cp /job/firstlight /job/firstlight-bootloader /tmp/fl/bin && cp /job/hvmloader /tmp/fl/share/firstlight &&\n\
         echo 'vm.cpumask=\"1\"' >/etc/xen/xl.conf",
    )?;
    Ok(())
}

/// Has the tool make and start an example, in which some names of files have others in their place. Returns the guest for what a
/// test bed asks of one.
fn started(bed: &mut Bed, name: &str, names: &[(&str, &str)]) -> Result<Guest> {
    let file = format!("{name}.xml");
    let mut text = fs::read_to_string(workspace().join("docs/examples").join(&file))?;
    for (from, to) in names {
        ensure!(text.contains(from), "{file} does not name {from}");
        text = text.replacen(from, to, 1);
    }
    fs::write(bed.job().join(&file), text)?;
    let start = format!("/tmp/fl/bin/firstlight xl /job/{file} -o /tmp/{name} --start");
    let guest = Guest::new(name, &Loader::Stock);
    let mut said = String::new();
    // The toolstack's own deadlines are short here.
    for _ in 0..4 {
        let output = bed.run(&start)?;
        if output.status == 0 {
            return Ok(guest);
        }
        said = output.text;
        bed.run(&format!("xl destroy {name}"))?;
    }
    anyhow::bail!("{start}: {said}");
}

/// A paravirtual domain, whose kernel our bootloader picks in place of the program that the domain names.
pub fn the_tool_starts_a_paravirtual_domain(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    install(&mut bed)?;
    let directory = tempfile::tempdir()?;
    let image = hosted_disk(directory.path(), Layout::Lvm, Fs::Ext4, "tool")?;
    fs::copy(&image, bed.job().join("hosted.img"))?;
    let guest = started(&mut bed, "hostboot", &[("disk.img", "/job/hosted.img")])?.pv_console();
    bed.follow_console(&guest)?;
    let console = bed.wait_for(&guest, HOSTED_END, SMALL)?;
    let line = console.lines().find(|line| line.contains("on=tool"));
    ensure!(
        line.is_some_and(|line| line.contains(" single")),
        "another command line:\n{console}"
    );
    bed.destroy_all()
}

/// A domain with a BIOS: ours, and its menu, which xl.cfg has no word for.
pub fn the_tool_starts_a_domain_with_a_bios(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    install(&mut bed)?;
    let disk = probe_disk(&bed, Then::Tick)?;
    let cd = empty_disk(&bed)?;
    let guest = started(&mut bed, "bios", &[("disk.img", &disk), ("boot.iso", &cd)])?;
    bed.open_terminal(&guest)?;
    let serial = bed.wait_for(&guest, PROBE_END, PROBE)?;
    ensure!(serial.contains("Esc or F12"), "no menu:\n{serial}");
    let dmesg = bed.dmesg()?;
    ensure!(!dmesg.contains("HVM Loader"), "{dmesg}");
    bed.destroy_all()
}

/// Names with all that quotes, divides or ends something in xl.cfg: xl reads the very same.
pub fn xl_reads_the_names_that_the_domain_has(version: Version) -> Result<()> {
    let names = [
        "plain",
        "with blanks in it",
        "quotes ' and \" and `",
        "commas,=[]()#;$x%d",
        "back\\slash\\\\n\\\"",
        "target=/etc/passwd,access=ro",
        "tab\tand é ☃",
        "' ] ; bootloader = \"/bin/sh\"",
    ];
    let mut bed = bed(version)?;
    for (index, name) in names.into_iter().enumerate() {
        let path = format!("/tmp/{name}/disk {name}.img");
        // libvirt has no domain with that character.
        let domain_name = name.replace('/', "|");
        let escape = |text: &str| {
            let text = text.replace('&', "&amp;").replace('<', "&lt;");
            text.replace('\'', "&apos;").replace('\t', "&#9;")
        };
        let xml = format!(
            "<domain type='xen'><name>{}</name><memory unit='MiB'>64</memory><os><type>hvm</type><kernel>{}</kernel>\
             <cmdline>{}</cmdline></os><devices><disk type='file'><driver name='qemu' type='raw'/><source file='{}'/>\
             <target dev='hda' bus='ide'/></disk></devices></domain>",
            escape(&domain_name),
            escape(&path),
            escape(name),
            escape(&path),
        );
        let domain = Domain::parse(&xml, Path::new("/tmp/x.xml"))?;
        let files = xl::Files {
            links: "/tmp".into(),
            ..xl::Files::default()
        };
        let text = xl::configuration(&domain.guest, &files)?.text;
        let file = format!("names-{index}.cfg");
        fs::write(bed.job().join(&file), &text)?;
        let json = bed.check(&format!("xl create -n /job/{file}"))?;
        let start = json.find('{').with_context(|| json.clone())?;
        let read: Value = serde_json::from_str(&json[start..]).with_context(|| json.clone())?;
        let found = |pointer: &str| read.pointer(pointer).and_then(Value::as_str);
        let is = |pointer: &str, expected: &str| {
            let found = found(pointer);
            ensure!(
                found == Some(expected),
                "{pointer}: {found:?}\n{text}\n{json}"
            );
            Ok(())
        };
        is("/c_info/name", &domain_name)?;
        is("/disks/0/pdev_path", &path)?;
        is("/disks/0/vdev", "hda")?;
        is("/b_info/kernel", &path)?;
        is("/b_info/cmdline", name)?;
        ensure!(found("/b_info/bootloader").is_none(), "{json}");
    }
    Ok(())
}
