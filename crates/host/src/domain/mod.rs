//! A libvirt domain's XML as one description of a guest.
//!
//! Every element and attribute is either understood, an error, or ignored with a warning where that is harmless.

#[cfg(test)]
mod bad;
mod cpu;
mod devices;
mod disk;
mod os;
mod sysinfo;
#[cfg(test)]
mod tests;

pub use sysinfo::sysinfo_of;

use crate::node::{Node, Record};
use crate::problem::{Log, Problem, Problems};
use crate::source;
use anyhow::Result;
use firstlight_vm::{Accelerator, Boot, BootDevice, Guest, Machine, Medium, Virtualization};
use std::path::{Path, PathBuf};

/// What becomes of an element under one toolstack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It does this.
    Kept(String),
    /// It is dropped, or does less than it says: so.
    Lost(String),
}

fn kept(text: impl Into<String>) -> Fate {
    Fate::Kept(text.into())
}

fn lost(text: impl Into<String>) -> Fate {
    Fate::Lost(text.into())
}

/// The toolstacks in the order of [`Element::fates`].
pub const TOOLSTACKS: [&str; 4] = [
    "firstlight run",
    "libvirt, QEMU",
    "firstlight xl",
    "libvirt, Xen",
];

/// An element of the domain, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its line, from 1.
    pub line: u32,
    /// Its name with those of what it is in, below `<domain>`: `os/bootmenu`.
    pub name: String,
    /// What it asks for.
    pub asks: String,
    /// What becomes of it: see [`TOOLSTACKS`].
    pub fates: [Fate; 4],
}

/// Who the domain is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Xen.
    Xen,
    /// QEMU's translator.
    Qemu,
    /// QEMU with KVM.
    Kvm,
}

/// Where the values in the SMBIOS tables come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmbiosMode {
    /// The firmware.
    Emulate,
    /// The host, for types 0 and 1.
    Host,
    /// The element `<sysinfo>`.
    Sysinfo,
}

/// A domain.
#[derive(Clone, Debug)]
pub struct Domain {
    /// Its file.
    pub file: PathBuf,
    /// Who it is made for.
    pub kind: Kind,
    /// The guest that it describes. `boot.order` has the kinds of devices that `<boot>` names; for QEMU see [`Domain::for_qemu`].
    pub guest: Guest,
    /// Where the values in the SMBIOS tables come from, where that is said.
    pub smbios: Option<SmbiosMode>,
    /// What `<sysinfo>` says, whether it is used or not.
    pub sysinfo: firstlight_vm::Sysinfo,
    /// The firmware's file that the domain names.
    pub loader: Option<PathBuf>,
    /// Whether the toolstack is to pick a BIOS.
    pub picks_firmware: bool,
    /// The program that the domain names to pick a paravirtual guest's kernel. It is never run.
    pub bootloader: Option<PathBuf>,
    /// Whether a TPM is asked for that a program has to emulate.
    pub tpm_emulator: Option<String>,
    /// What becomes of each element.
    pub elements: Vec<Element>,
    /// What is ignored.
    pub warnings: Vec<Problem>,
}

impl Domain {
    /// Reads a domain's file.
    ///
    /// # Errors
    /// The file cannot be read or is no XML, or something in it is not understood: then a [`Problems`] names each place.
    pub fn read(file: &Path) -> Result<Self> {
        Self::parse(&source::read(file)?, file)
    }

    /// Reads the text of a domain that stands in `file`: what paths are relative to.
    ///
    /// # Errors
    /// As [`Domain::read`].
    pub fn parse(text: &str, file: &Path) -> Result<Self> {
        let document = source::parse(text, file)?;
        let base = file.parent().unwrap_or(Path::new(""));
        let base = std::path::absolute(if base.as_os_str().is_empty() {
            Path::new(".")
        } else {
            base
        })?;
        let mut reader = Reader::new(file, base);
        let record = Record::default();
        reader.domain(Node::root(&document, &record));
        let Reader {
            mut domain, log, ..
        } = reader;
        if !log.errors.is_empty() {
            let mut list = log.errors;
            list.sort_by_key(|problem| (problem.line, problem.column));
            let file = file.to_owned();
            return Err(Problems { file, list }.into());
        }
        domain.warnings = log.warnings;
        Ok(domain)
    }

    /// The guest for QEMU. As libvirt has it, the first device of each kind that `<boot>` names has its place in the boot order, and
    /// what has none is not booted.
    pub fn for_qemu(&self) -> Guest {
        let mut guest = self.guest.clone();
        let order = std::mem::take(&mut guest.boot.order);
        for (kind, index) in order.into_iter().zip(1..) {
            let medium = match kind {
                BootDevice::Disk => Medium::Disk,
                BootDevice::Cdrom => Medium::Cdrom,
                BootDevice::Floppy => Medium::Floppy,
                BootDevice::Network => {
                    if let Some(nic) = guest.nics.first_mut() {
                        nic.boot_index = Some(index);
                    }
                    continue;
                }
            };
            let mut disks = guest.disks.iter_mut();
            if let Some(disk) = disks.find(|disk| disk.medium == medium) {
                disk.boot_index = Some(index);
            }
        }
        guest.boot.strict = true;
        guest
    }
}

/// A domain that is being read.
struct Reader {
    /// What relative paths start at.
    base: PathBuf,
    domain: Domain,
    log: Log,
    /// `<boot dev>` in `<os>` was seen.
    boots_by_kind: bool,
    /// The place that a device has in the boot order, by number.
    boot_places: Vec<u32>,
    /// A `<graphics>` or `<video>` was seen.
    shows: bool,
}

impl Reader {
    fn new(file: &Path, base: PathBuf) -> Self {
        let mut guest = Guest::new(Machine::Pc);
        // Without an element that asks for ACPI there is none.
        guest.acpi = false;
        guest.boot = Boot::default();
        guest.video = None;
        Self {
            base,
            domain: Domain {
                file: file.to_owned(),
                kind: Kind::Qemu,
                guest,
                smbios: None,
                sysinfo: firstlight_vm::Sysinfo::default(),
                loader: None,
                picks_firmware: false,
                bootloader: None,
                tpm_emulator: None,
                elements: Vec::new(),
                warnings: Vec::new(),
            },
            log: Log::default(),
            boots_by_kind: false,
            boot_places: Vec::new(),
            shows: false,
        }
    }

    /// Notes what becomes of an element.
    fn fate(&mut self, node: Node, asks: impl Into<String>, fates: [Fate; 4]) {
        let names = node.names();
        let mut fates = fates;
        if self.domain.guest.virtualization != Virtualization::Hvm {
            fates[..2].fill(lost("QEMU has no paravirtual guests"));
        }
        self.domain.elements.push(Element {
            line: node.position().0,
            name: names[1..].join("/"),
            asks: asks.into(),
            fates,
        });
    }

    /// An element of the host's own affairs, which changes nothing that a guest sees.
    fn host_only(&mut self, node: Node) {
        self.log
            .ignore(node, "is ignored: it concerns the host, not the guest");
    }

    /// An element that is known, and that no guest here can have.
    fn refuse(&mut self, node: Node, why: &str) {
        node.ignore();
        self.log.error(node, why);
    }

    fn domain(&mut self, node: Node) {
        if !node.is("domain") {
            self.log.error(node, "is no <domain>");
            return;
        }
        let kinds = [("xen", Kind::Xen), ("qemu", Kind::Qemu), ("kvm", Kind::Kvm)];
        let kind = self.log.required(node, "type", &kinds);
        self.domain.kind = kind.unwrap_or(Kind::Qemu);
        if self.domain.kind == Kind::Kvm {
            self.domain.guest.accelerator = Accelerator::Kvm;
        }
        // The number of a running domain.
        node.attribute("id");
        self.domain.guest.virtualization = Self::virtualization(node);
        for child in self.log.children(node, &["sysinfo", "seclabel"]) {
            self.element(child, child.name());
        }
        self.log.leftovers(node);
        for required in ["name", "memory", "os"] {
            if !node.contains(required) {
                self.log.error(node, format!("has no <{required}>"));
            }
        }
        self.finish(node);
    }

    fn element(&mut self, node: Node, name: &str) {
        match name {
            "name" => self.name(node),
            "uuid" => self.uuid(node),
            "genid" => self.generation_id(node),
            // For people and programs of the host.
            "title" | "description" | "metadata" => node.ignore(),
            "memory" => self.memory(node),
            "currentMemory" => self.current_memory(node),
            "vcpu" => self.vcpu(node),
            "cpu" => self.cpu(node),
            "os" => self.os(node),
            "sysinfo" => self.sysinfo(node),
            "features" => self.features(node),
            "clock" => self.clock(node),
            "on_poweroff" | "on_reboot" | "on_crash" => self.event(node, name),
            "pm" => self.pm(node),
            "devices" => self.devices(node),
            "maxMemory" | "memoryBacking" | "memtune" | "numatune" | "blkiotune" | "cputune"
            | "resource" | "iothreads" | "iothreadids" | "seclabel" | "perf" | "keywrap"
            | "defaultiothread" | "throttlegroups" | "vcpus" => self.host_only(node),
            "bootloader" | "bootloader_args" => self.bootloader(node, name),
            "launchSecurity" => self.refuse(node, "memory encryption is not supported"),
            _ => {}
        }
    }

    /// `<bootloader>` and `<bootloader_args>`: what picks a paravirtual guest's kernel.
    fn bootloader(&mut self, node: Node, name: &str) {
        if self.domain.guest.virtualization == Virtualization::Hvm {
            let why = "is for paravirtual guests, whose kernel the host picks; this one has a BIOS";
            return self.refuse(node, why);
        }
        let Some(text) = self.log.some_text(node) else {
            return;
        };
        let (ours, theirs) = match name {
            "bootloader_args" => {
                self.domain.guest.bootloader_arguments = Some(text.clone());
                ("bootloader_args=", "one argument, all of it")
            }
            _ => {
                self.domain.bootloader = Some(text.clone().into());
                ("firstlight-bootloader in its place", "is run")
            }
        };
        let fates = [kept(""), kept(""), kept(ours), kept(theirs)];
        self.fate(node, text, fates);
    }

    fn name(&mut self, node: Node) {
        let Some(name) = self.log.some_text(node) else {
            return;
        };
        if name.contains(['/', '\n']) {
            self.log.error(node, "a name has no '/' and no line end");
        }
        self.domain.guest.name = Some(name);
    }

    fn uuid(&mut self, node: Node) {
        if let Some(uuid) = self.uuid_text(node) {
            let known = || kept("carried");
            self.fate(node, uuid.clone(), [known(), known(), known(), known()]);
            self.domain.guest.uuid = Some(uuid);
        }
    }

    fn uuid_text(&mut self, node: Node) -> Option<String> {
        let text = self.log.some_text(node)?.to_lowercase();
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        if digits.len() != 32 || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            self.log.error(node, format!("'{text}' is no UUID"));
            return None;
        }
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| digits[range].to_owned());
        Some(parts.join("-"))
    }

    fn generation_id(&mut self, node: Node) {
        let empty = node.text().is_empty();
        let id = if empty {
            Some("auto".to_owned())
        } else {
            self.uuid_text(node)
        };
        let Some(id) = id else { return };
        let fates = [
            kept("device vmgenid"),
            kept("device vmgenid"),
            kept("ms_vm_genid="),
            lost("is dropped"),
        ];
        self.fate(node, id.clone(), fates);
        self.domain.guest.generation_id = Some(id);
    }

    /// A size in bytes.
    fn bytes(&mut self, node: Node) -> Option<u64> {
        let units = [
            ("b", 1),
            ("bytes", 1),
            ("KB", 1000),
            ("k", 1 << 10),
            ("KiB", 1 << 10),
            ("MB", 1_000_000),
            ("M", 1 << 20),
            ("MiB", 1 << 20),
            ("GB", 1_000_000_000),
            ("G", 1 << 30),
            ("GiB", 1 << 30),
            ("TB", 1_000_000_000_000),
            ("T", 1 << 40),
            ("TiB", 1 << 40),
        ];
        let unit = match node.attribute("unit") {
            Some(_) => self.log.choice(node, "unit", &units)?,
            None => 1 << 10,
        };
        let text = self.log.some_text(node)?;
        let number = self.log.number(node, "the size", &text, 1..=i64::MAX)?;
        let bytes = (number as u64).checked_mul(unit);
        if bytes.is_none() {
            self.log.error(node, "is more than a machine can have");
        }
        bytes
    }

    fn memory(&mut self, node: Node) {
        self.log.ignore_attributes(node, &["dumpCore"]);
        let Some(bytes) = self.bytes(node) else {
            return;
        };
        let mib = bytes.div_ceil(1 << 20);
        if !(4..=1 << 22).contains(&mib) {
            self.log
                .error(node, format!("{mib} MiB: a guest has from 4 MiB to 4 TiB"));
        }
        self.domain.guest.memory_mib = mib;
    }

    fn current_memory(&mut self, node: Node) {
        let memory = self.domain.guest.memory_mib;
        if self
            .bytes(node)
            .is_some_and(|bytes| bytes.div_ceil(1 << 20) != memory)
        {
            self.log.warn(
                node,
                "is ignored: the guest has all its memory from the start",
            );
        }
    }

    fn features(&mut self, node: Node) {
        for child in self.log.children(node, &[]) {
            match child.name() {
                "acpi" => {
                    child.met();
                    self.domain.guest.acpi = true;
                }
                "apic" | "pae" => {
                    child.met();
                    self.log.ignore_attributes(child, &["eoi"]);
                }
                "hap" | "viridian" | "hyperv" | "kvm" | "pvspinlock" | "pmu" | "msrs" | "xen"
                | "privnet" | "tcg" | "async-teardown" | "ps2" => {
                    let why = "is ignored: the hypervisor has its default";
                    self.log.ignore(child, why);
                }
                name @ ("vmport" | "smm") => {
                    if let Some(on) = self.log.on_off(child, "state") {
                        let option = format!("{name}={}", if on { "on" } else { "off" });
                        self.domain.guest.machine_options.push(option);
                    }
                    if let Some(tseg) = child.child("tseg") {
                        let why = "is ignored: the machine has its default";
                        self.log.ignore(tseg, why);
                    }
                }
                _ => {}
            }
        }
    }

    fn clock(&mut self, node: Node) {
        self.log
            .ignore_attributes(node, &["adjustment", "basis", "timezone", "start"]);
        let offsets = [
            ("utc", Some(false)),
            ("localtime", Some(true)),
            ("timezone", None),
            ("variable", None),
            ("absolute", None),
        ];
        match self.log.choice(node, "offset", &offsets) {
            Some(Some(local)) => {
                self.domain.guest.local_time = local;
                let fates = [
                    kept("-rtc"),
                    kept("-rtc"),
                    kept("localtime="),
                    kept("localtime="),
                ];
                let asks = if local { "local time" } else { "UTC" };
                self.fate(node, asks, fates);
            }
            Some(None) => {
                self.log
                    .warn(node, "is ignored: the clock has UTC or local time");
                let dropped = || lost("UTC");
                let fates = [dropped(), kept("-rtc"), dropped(), dropped()];
                self.fate(node, node.attribute("offset").unwrap_or_default(), fates);
            }
            None => {}
        }
        for child in self.log.children(node, &["timer"]) {
            if child.is("timer") {
                self.timer(child);
            }
        }
    }

    fn timer(&mut self, node: Node) {
        let present = self.log.yes_no(node, "present");
        let details = ["tickpolicy", "track", "frequency", "mode"];
        match (self.log.attribute(node, "name"), present) {
            (Some("hpet"), Some(present)) => {
                let option = format!("hpet={}", if present { "on" } else { "off" });
                self.domain.guest.machine_options.push(option);
                self.log.ignore_attributes(node, &details);
            }
            (Some(_), _) => self
                .log
                .ignore(node, "is ignored: the timer has its default"),
            (None, _) => {}
        }
    }

    fn event(&mut self, node: Node, name: &str) {
        let Some(action) = self.log.some_text(node) else {
            return;
        };
        let known = [
            "destroy",
            "restart",
            "preserve",
            "rename-restart",
            "coredump-destroy",
            "coredump-restart",
        ];
        if !known.contains(&action.as_str()) {
            let known = known.join(", ");
            self.log
                .error(node, format!("'{action}' is not one of {known}"));
        }
        if name == "on_reboot" && action == "destroy" {
            self.domain.guest.restarts = false;
            let fates = [
                kept("-no-reboot"),
                kept("-no-reboot"),
                kept("on_reboot="),
                kept("on_reboot="),
            ];
            self.fate(node, action, fates);
        }
    }

    fn pm(&mut self, node: Node) {
        for child in self.log.children(node, &[]) {
            let state = match child.name() {
                "suspend-to-mem" => "s3",
                "suspend-to-disk" => "s4",
                _ => continue,
            };
            if let Some(enabled) = self.log.yes_no(child, "enabled") {
                let device = match self.domain.guest.machine {
                    Machine::Pc => "PIIX4_PM",
                    Machine::Q35 => "ICH9-LPC",
                };
                let disabled = u8::from(!enabled);
                let value = format!("{device}.disable_{state}={disabled}");
                self.domain.guest.arguments(["-global", &value]);
                let asks = if enabled { "enabled" } else { "disabled" };
                let fates = [
                    kept("-global"),
                    kept("-global"),
                    lost("Xen's default"),
                    lost("Xen's default"),
                ];
                self.fate(child, asks, fates);
            }
        }
    }

    /// What can be said only when all is read.
    fn finish(&mut self, node: Node) {
        if self.boots_by_kind && !self.boot_places.is_empty() {
            self.log.error(node, "has both <boot dev=…> in <os> and <boot order=…> at a device: only one of them can count");
        }
        let paravirtual = self.domain.guest.virtualization != Virtualization::Hvm;
        if paravirtual && self.domain.guest.kernel.is_some() && node.contains("bootloader") {
            self.log.error(
                node,
                "has both a <bootloader> and a <kernel>: only one of them can pick the kernel",
            );
        }
        if !self.boots_by_kind
            && self.boot_places.is_empty()
            && self.domain.guest.kernel.is_none()
            && !paravirtual
        {
            // libvirt's default.
            self.domain.guest.boot.order = vec![BootDevice::Disk];
        }
        if self.domain.kind == Kind::Xen && self.domain.guest.video.is_none() && !self.shows {
            self.domain.guest.video = Some("VGA".into());
        }
        let mode = self.domain.smbios;
        match mode {
            Some(SmbiosMode::Sysinfo) if self.domain.sysinfo.is_empty() => {
                self.log.error(
                    node,
                    "has <smbios mode='sysinfo'/>, but no <sysinfo type='smbios'>",
                );
            }
            Some(SmbiosMode::Sysinfo) => self.domain.guest.sysinfo = self.domain.sysinfo.clone(),
            _ => {}
        }
        if let (Some(own), Some((_, given))) = (
            self.domain.guest.uuid.clone(),
            self.domain
                .sysinfo
                .system
                .iter()
                .find(|(name, _)| name == "uuid"),
        ) && own != given.to_lowercase()
        {
            self.log.error(
                node,
                format!("the UUID of <sysinfo>, {given}, is not the domain's, {own}"),
            );
        }
    }
}
