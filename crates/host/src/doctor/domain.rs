//! What a domain would get today, by each toolstack, and what is in its way.

use super::{Findings, automatic};
use crate::domain::{Domain, Kind};
use crate::{divert, firmware, run};
use firstlight_vm::{Disk, Format, FwCfgValue, Medium, Rom, Virtualization, xl};
use std::fs::File;
use std::io::Read;
use std::path::Path;

pub(super) fn examine(file: &Path, findings: &mut Findings) {
    findings.text += &format!("\nWhich firmware {} gets\n", file.display());
    let domain = match Domain::read(file) {
        Ok(domain) => domain,
        Err(error) => {
            for line in format!("{error:#}").lines() {
                findings.trouble("the domain", line);
            }
            return;
        }
    };
    match domain.guest.virtualization {
        Virtualization::Hvm => {
            by_our_run(&domain, findings);
            by_libvirt_on_qemu(&domain, findings);
            by_our_xl(&domain, findings);
            for loader in divert::installed() {
                let which = match divert::is_diverted(&loader) {
                    true => "Firstlight, by firstlight divert",
                    false => "Xen's own; firstlight divert changes that",
                };
                findings.good("libvirt, Xen", &format!("{}: {which}", loader.display()));
            }
        }
        Virtualization::Pvh | Virtualization::Pv => paravirtual(&domain, findings),
    }
    findings.text += "\nWhat is in its way\n";
    let before = findings.text.len();
    files(&domain, findings);
    if findings.text.len() == before {
        findings.good("nothing", "that can be seen from here");
    }
}

fn by_our_run(domain: &Domain, findings: &mut Findings) {
    let rom = match firmware::find(None, firmware::ROM) {
        Ok(rom) => rom,
        Err(error) => return findings.trouble("firstlight run", &format!("{error:#}")),
    };
    let options = run::Options {
        rom: rom.clone(),
        // Whoever runs it gives one.
        tpm: Some("swtpm.sock".into()),
        ..run::Options::default()
    };
    match run::guest(domain, &options) {
        Ok((_, notes)) => {
            findings.good("firstlight run", &rom.display().to_string());
            for note in notes {
                findings.bad("firstlight run", &note);
            }
        }
        Err(error) => findings.trouble("firstlight run", &format!("{error:#}")),
    }
    if domain.tpm_emulator.is_some() {
        let advice = "the TPM has to be emulated: start swtpm, and give its socket by --tpm";
        findings.bad("firstlight run", advice);
    }
}

fn by_libvirt_on_qemu(domain: &Domain, findings: &mut Findings) {
    const WHO: &str = "libvirt, QEMU";
    if domain.kind == Kind::Xen {
        return findings.good(WHO, "does not take <domain type='xen'>");
    }
    let Some(loader) = &domain.loader else {
        return match (domain.picks_firmware, automatic()) {
            (true, Some((descriptor, file))) => {
                let found = format!("{file}, by {}", descriptor.display());
                findings.good(WHO, &found);
            }
            (true, None) => findings.trouble(WHO, "there is no descriptor of a BIOS to pick"),
            (false, _) => findings.good(
                WHO,
                "SeaBIOS, which QEMU has; <loader type='rom'> names another",
            ),
        };
    };
    let name = loader.display();
    match std::fs::read(loader) {
        Ok(rom) if rom.starts_with(b"\x7fELF") => {
            findings.trouble(WHO, &format!("{name} is a loader for Xen, not a ROM"));
        }
        Ok(rom) => {
            let which = match rom.windows(NAME.len()).any(|part| part == NAME) {
                true => "Firstlight",
                false => "another firmware",
            };
            findings.good(WHO, &format!("{name}: {which}"));
        }
        Err(error) => findings.trouble(WHO, &format!("{name}: {error}")),
    }
}

/// What a ROM of ours has in it.
const NAME: &[u8] = b"Firstlight";

fn by_our_xl(domain: &Domain, findings: &mut Findings) {
    const WHO: &str = "firstlight xl";
    match firmware::find(None, firmware::HVMLOADER) {
        Ok(loader) => findings.good(WHO, &loader.display().to_string()),
        Err(error) => findings.trouble(WHO, &format!("{error:#}")),
    }
    if let Err(error) = xl::configuration(&domain.guest, &xl::Files::default()) {
        findings.bad(WHO, &format!("{error:#}"));
    }
}

/// Of a guest without a firmware: what picks its kernel.
fn paravirtual(domain: &Domain, findings: &mut Findings) {
    if domain.guest.kernel.is_some() {
        findings.good(
            "Xen",
            "none: a paravirtual guest, with a kernel of the host",
        );
        return;
    }
    match firmware::find(None, firmware::BOOTLOADER) {
        Ok(program) => findings.good(
            "firstlight xl",
            &format!("none; its kernel is picked by {}", program.display()),
        ),
        Err(error) => findings.trouble("firstlight xl", &format!("{error:#}")),
    }
    let program = domain.bootloader.as_deref();
    let name = program.map_or("pygrub".into(), |program| program.display().to_string());
    match program {
        Some(program) if program.is_absolute() && !program.is_file() => {
            findings.bad("libvirt, Xen", &format!("{name} is not there"));
        }
        _ => findings.good(
            "libvirt, Xen",
            &format!("none; its kernel is picked by {name}"),
        ),
    }
}

/// The files that the domain names.
fn files(domain: &Domain, findings: &mut Findings) {
    let guest = &domain.guest;
    let mut open = |what: &str, path: &Path| {
        let file = File::open(path).and_then(|file| {
            let kind = file.metadata()?.file_type();
            match kind.is_dir() {
                true => Err(std::io::Error::other("is a directory")),
                false => Ok(file),
            }
        });
        if let Err(error) = &file {
            findings.trouble(what, &format!("{}: {error}", path.display()));
        }
        file.ok()
    };
    let mut blank = Vec::new();
    for disk in &guest.disks {
        let Some(path) = &disk.source else { continue };
        let Some(file) = open("a disk", path) else {
            continue;
        };
        let boots = guest.virtualization == Virtualization::Hvm && guest.kernel.is_none();
        if boots && is_blank(disk, file) {
            blank.push(path.display().to_string());
        }
    }
    if let Some(kernel) = &guest.kernel {
        open("the kernel", &kernel.file);
        if let Some(initrd) = &kernel.initrd {
            open("the initrd", initrd);
        }
    }
    for table in &guest.acpi_tables {
        open("an ACPI table", table);
    }
    for nic in &guest.nics {
        if let Rom::File(path) = &nic.rom {
            open("a card's ROM", path);
        }
    }
    for file in &guest.fw_cfg {
        if let FwCfgValue::File(path) = &file.value {
            open("a file", path);
        }
    }
    for name in blank {
        let advice = "has no boot sector (bytes 510 and 511 are not 55h AAh)";
        findings.bad("a disk", &format!("{name} {advice}"));
    }
}

/// Whether a hard disk has nothing that a BIOS starts, as far as that can be seen from outside.
fn is_blank(disk: &Disk, file: File) -> bool {
    if disk.medium != Medium::Disk || disk.format != Format::Raw {
        return false;
    }
    let mut sector = Vec::new();
    let read = file.take(512).read_to_end(&mut sector);
    read.is_err() || !sector.ends_with(&[0x55, 0xaa]) || sector.len() < 512
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examined(xml: &str, files: &[(&str, &[u8])]) -> Findings {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, content) in files {
            std::fs::write(directory.path().join(name), content).expect("a file");
        }
        let file = directory.path().join("d.xml");
        std::fs::write(&file, xml).expect("a file");
        let mut findings = Findings::default();
        examine(&file, &mut findings);
        findings
    }

    fn domain(kind: &str, os: &str, devices: &str) -> String {
        format!(
            "<domain type='{kind}'><name>x</name><memory>99999</memory><os>{os}</os><devices>{devices}</devices></domain>"
        )
    }

    #[test]
    fn what_cannot_be_read_is_in_the_way() {
        let findings = examined("<domain/>", &[]);
        assert!(findings.trouble && findings.text.contains("has no <name>"));
    }

    #[test]
    fn the_loader_that_libvirt_takes_is_looked_at() {
        let os = "<type>hvm</type><loader>rom</loader>";
        let xml = domain("qemu", os, "");
        for (content, expected) in [
            (&b"\x7fELF"[..], "is a loader for Xen"),
            (b"SeaBIOS", "another firmware"),
            (b"..Firstlight..", "rom: Firstlight"),
        ] {
            let findings = examined(&xml, &[("rom", content)]);
            assert!(findings.text.contains(expected), "{}", findings.text);
        }
        let findings = examined(&xml, &[]);
        assert!(findings.trouble && findings.text.contains("No such file"));
        let findings = examined(&domain("qemu", "<type>hvm</type>", ""), &[]);
        assert!(findings.text.contains("SeaBIOS, which QEMU has"));
        let findings = examined(&domain("xen", "<type>hvm</type>", ""), &[]);
        assert!(findings.text.contains("does not take <domain type='xen'>"));
    }

    #[test]
    fn files_that_are_missing_or_blank_are_told() {
        let devices = "<disk><source file='there'/><target dev='hda'/></disk>\
                       <disk><source file='gone'/><target dev='hdb'/></disk>";
        let xml = domain("qemu", "<type>hvm</type>", devices);
        let findings = examined(&xml, &[("there", &[0; 1024])]);
        assert!(findings.text.contains("there has no boot sector"));
        assert!(findings.trouble && findings.text.contains("gone: No such file"));
        let mut sector = [0; 512];
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        let findings = examined(&xml, &[("there", &sector), ("gone", &sector)]);
        assert!(findings.text.contains("  nothing "), "{}", findings.text);
    }

    #[test]
    fn a_paravirtual_domain_has_no_firmware() {
        let xml = domain("xen", "<type>linux</type>", "");
        let findings = examined(&xml, &[]);
        assert!(findings.text.contains("its kernel is picked by pygrub"));
        let xml = xml.replace("<os>", "<bootloader>/nowhere/b</bootloader><os>");
        let findings = examined(&xml, &[]);
        assert!(findings.text.contains("/nowhere/b is not there"));
        let os = "<type>linux</type><kernel>k</kernel>";
        let findings = examined(&domain("xen", os, ""), &[]);
        assert!(findings.text.contains("with a kernel of the host"));
        assert!(findings.trouble && findings.text.contains("the kernel"));
    }
}
