//! `firstlight doctor`: what is installed, which firmware a guest would get, and what is in the way.

mod domain;

use crate::{divert, firmware, run};
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where QEMU's firmware descriptors are, what comes first counts (QEMU, docs/interop/firmware.json).
const DESCRIPTORS: [&str; 2] = ["/etc/qemu/firmware", "/usr/share/qemu/firmware"];

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    text: String,
    /// Whether something is in the way of starting a guest.
    pub trouble: bool,
}

impl Findings {
    fn good(&mut self, what: &str, found: &str) {
        let _ = writeln!(self.text, "  {what:15} {found}");
    }

    fn bad(&mut self, what: &str, advice: &str) {
        let _ = writeln!(self.text, "! {what:15} {advice}");
    }

    /// Something that is in the way.
    fn trouble(&mut self, what: &str, advice: &str) {
        self.trouble = true;
        self.bad(what, advice);
    }

    /// The findings for a person to read.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Looks at this machine, and at a domain's file where one is given.
pub fn examine(file: Option<&Path>) -> Findings {
    let mut findings = machine();
    if let Some(file) = file {
        domain::examine(file, &mut findings);
    }
    findings
}

fn machine() -> Findings {
    let mut findings = Findings::default();
    let qemu = installed(&mut findings);
    own_files(&mut findings);
    firmwares(qemu, &mut findings);
    findings
}

/// Finds what runs guests, and returns whether QEMU is there.
fn installed(findings: &mut Findings) -> bool {
    findings.text += "What is installed\n";
    let qemu = first_line("qemu-system-x86_64", &["--version"]);
    match &qemu {
        Some(version) => findings.good("QEMU", version),
        None => findings.bad("QEMU", "is not there: install qemu-system-x86"),
    }
    match (Path::new("/dev/kvm").exists(), run::kvm_works()) {
        (_, true) => findings.good("KVM", "may be used"),
        (true, false) => findings.bad(
            "KVM",
            "is there, but this user may not use it: join the group kvm",
        ),
        (false, _) => findings.bad(
            "KVM",
            "is not there: guests are translated, which is slower",
        ),
    }
    let xen = Path::new("/proc/xen/capabilities");
    let dom0 = fs::read_to_string(xen).is_ok_and(|text| text.contains("control_d"));
    match (first_line("xl", &["info", "xen_version"]), dom0) {
        (Some(version), true) => findings.good("Xen", &version),
        (Some(_), false) => findings.bad("Xen", "xl is there, but this is no dom0"),
        (None, _) => findings.good("Xen", "is not there"),
    }
    match first_line("virsh", &["--version"]) {
        Some(version) => findings.good("libvirt", &version),
        None => findings.good("libvirt", "is not there"),
    }
    if qemu.is_none() && !dom0 {
        findings.trouble = true;
    }
    qemu.is_some()
}

fn own_files(findings: &mut Findings) {
    findings.text += "\nFirstlight's files\n";
    for (name, what) in [
        (firmware::ROM, "for QEMU"),
        (firmware::HVMLOADER, "for Xen"),
    ] {
        match firmware::find(None, name) {
            Ok(path) => findings.good(what, &path.display().to_string()),
            Err(error) => findings.trouble(what, &format!("{error:#}")),
        }
    }
}

fn firmwares(qemu: bool, findings: &mut Findings) {
    findings.text += "\nWhich firmware a guest gets\n";
    if qemu {
        findings.good(
            "QEMU",
            "SeaBIOS, unless -bios or libvirt's <loader type='rom'> names another",
        );
    }
    match automatic() {
        Some((descriptor, file)) => {
            let found = format!(
                "with <os firmware='bios'>: {file} ({})",
                descriptor.display()
            );
            findings.good("libvirt", &found);
        }
        None => findings.good(
            "libvirt",
            "with <os firmware='bios'>: an error, there is no descriptor of a BIOS",
        ),
    }
    for file in divert::installed() {
        let which = match divert::is_diverted(&file) {
            true => "Firstlight, by firstlight divert",
            false => "Xen's own; firstlight divert changes that for libvirt",
        };
        findings.good("Xen", &format!("{}: {which}", file.display()));
    }
}

/// The first line of what a program says.
fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next().unwrap_or_default().trim();
    output.status.success().then(|| line.to_owned())
}

/// The descriptor of a BIOS that libvirt picks, and the file that it names. Of descriptors with one name the first directory's counts;
/// names are in order.
fn automatic() -> Option<(PathBuf, String)> {
    let mut all: Vec<(String, PathBuf)> = Vec::new();
    for directory in DESCRIPTORS {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".json") && all.iter().all(|(other, _)| *other != name) {
                all.push((name, entry.path()));
            }
        }
    }
    all.sort();
    all.into_iter().find_map(|(_, path)| {
        let descriptor: Value = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        let types = descriptor["interface-types"].as_array()?;
        let bios = types.iter().any(|kind| kind == "bios");
        let file = descriptor["mapping"]["filename"].as_str()?.to_owned();
        bios.then_some((path, file))
    })
}
