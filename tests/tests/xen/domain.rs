//! A libvirt domain, converted by the host tool, in guests of Xen.

use anyhow::{Context, Result, ensure};
use firstlight_host::domain::Domain;
use firstlight_host::smbios;
use firstlight_tests::guest::workspace;
use firstlight_tests::linux::dmidecode_says;
use firstlight_tests::xen::{Bed, Guest, Version, bed, empty_disk, firstlight, linux_disk};
use firstlight_vm::xl;
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use xtask::linux::{REPORT_END, Report};

use super::linux::DEBIAN;
use super::tables::OF_DOMAIN;

/// The guest that `firstlight xl` makes of an example, in which some names of files have others in their place.
fn converted(files: &TempDir, example: &str, names: &[(&str, &str)]) -> Result<Guest> {
    let mut text = fs::read_to_string(workspace().join("docs/examples").join(example))?;
    for (from, to) in names {
        ensure!(text.contains(from), "{example} does not name {from}");
        text = text.replacen(from, to, 1);
    }
    // Relative names are so to dom0's directory of files.
    let domain = Domain::parse(&text, &Path::new("/job").join(example))?;
    let blob = smbios::of_domain(&domain, Path::new(smbios::HOST_TABLE))?;
    let mut places = xl::Files {
        links: "/job".into(),
        ..xl::Files::default()
    };
    let blob_file = files.path().join("smbios");
    fs::write(&blob_file, &blob)?;
    let name = domain.guest.name.clone().context("a domain has a name")?;
    let blob_name = format!("{name}.smbios");
    if !blob.is_empty() {
        places.smbios = Some(Path::new("/job").join(&blob_name));
    }
    let configuration = xl::configuration(&domain.guest, &places)?;
    Ok(Guest::new(&name, &firstlight())
        .text(&configuration.text)
        .unset("memory")
        .unset("vcpus")
        .file_of_host(&blob_file, &blob_name))
}

/// What the guest wrote to its first serial port.
fn serial(bed: &Bed, name: &str) -> Result<String> {
    let log = fs::read(bed.job().join(format!("{name}.serial")))?;
    Ok(String::from_utf8_lossy(&log).into_owned())
}

/// The menu is offered, the disk is booted before the CD, and dmidecode shows what `<sysinfo>` says.
pub fn a_domain_has_its_menu_its_order_and_its_sysinfo(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let files = tempfile::tempdir()?;
    let disk = linux_disk(&mut bed, "")?;
    let cd = empty_disk(&bed)?;
    let guest = converted(&files, "bios.xml", &[("disk.img", disk), ("boot.iso", &cd)])?;
    let console = bed.boot(&guest.pv_console(), REPORT_END, DEBIAN)?;
    let report = Report::unpack(&console, &files.path().join("report"))?;
    dmidecode_says(&report, OF_DOMAIN)?;
    let text = report.text("dmidecode.txt");
    ensure!(!text.contains("firstlight."), "settings show:\n{text}");
    let said = serial(&bed, "bios")?;
    ensure!(said.contains("Esc or F12"), "no menu:\n{said}");
    Ok(())
}

/// Kernel, initrd and command line of the domain's own.
pub fn a_domain_with_a_kernel(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let files = tempfile::tempdir()?;
    let mut guest = converted(
        &files,
        "direct-kernel.xml",
        &[
            ("vmlinuz", "/job/vmlinuz"),
            ("initrd.img", "/job/initrd.img"),
        ],
    )?;
    for name in ["vmlinuz", "initrd.img"] {
        let copy = files.path().join(name);
        xtask::image::copy_out(
            &firstlight_tests::xen::debian()?,
            &format!("/{name}"),
            &copy,
        )?;
        guest = guest.file_of_host(&copy, name);
    }
    // What Debian's initrd shows when nothing names a root file system. QEMU gives both files byte by byte before that.
    let serial = bed.boot(&guest, "(initramfs) ", 2 * DEBIAN)?;
    let line = "console=ttyS0 ks=http://example.com/f8-i386/os/";
    let told = format!("Kernel command line: {line}\r\n");
    ensure!(serial.contains(&told), "another command line:\n{serial}");
    ensure!(
        serial.contains("Hypervisor detected: Xen HVM"),
        "no Xen:\n{serial}"
    );
    Ok(())
}
