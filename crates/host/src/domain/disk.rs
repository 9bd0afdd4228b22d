//! `<disk>`.

use super::{Reader, kept, lost};
use crate::node::Node;
use firstlight_vm::{Bus, Disk, Format, Medium, Virtualization};
use std::path::PathBuf;

/// What stands in a `<disk>`, as far as it goes.
#[derive(Default)]
struct Parts {
    source: Option<PathBuf>,
    bus: Option<Bus>,
    /// The target's name.
    name: Option<String>,
    /// The letter of the target's name, from 0.
    letter: Option<u32>,
    /// The controller's number.
    controller: u32,
    unit: Option<u32>,
}

impl Reader {
    pub(super) fn disk(&mut self, node: Node) {
        self.log
            .ignore_attributes(node, &["snapshot", "model", "rawio", "sgio"]);
        let (Some(source), Some(medium)) = (self.disk_type(node), self.disk_medium(node)) else {
            return;
        };
        let mut disk = Disk::new(Bus::Ide, "".as_ref());
        disk.medium = medium;
        disk.read_only = medium == Medium::Cdrom;
        let mut parts = Parts::default();
        for child in self.log.children(node, &[]) {
            self.disk_part(child, source, &mut disk, &mut parts);
        }
        disk.source = parts.source;
        if disk.source.is_none() && medium == Medium::Disk {
            self.log.error(node, "a hard disk has a <source>");
        }
        let Some(bus) = parts.bus else {
            if !node.contains("target") {
                self.log.error(node, "has no <target>");
            }
            return;
        };
        disk.bus = bus;
        disk.unit = parts.unit.or(match bus {
            Bus::Ide | Bus::Sata | Bus::Scsi | Bus::Floppy => parts.letter,
            Bus::Virtio | Bus::Usb | Bus::Nvme => None,
        });
        disk.name = parts.name;
        disk.controller = parts.controller;
        if !matches!(bus, Bus::Scsi | Bus::Usb) && disk.controller != 0 {
            let why = "only disks on scsi and usb have a choice of controllers";
            self.log.error(node, why);
        }
        if let Some(why) = self.no_place(&disk) {
            self.log.error(node, why);
            return;
        }
        self.disk_fate(node, &disk);
        self.domain.guest.disks.push(disk);
    }

    /// The attribute of `<source>` that names what is in the disk.
    fn disk_type(&mut self, node: Node) -> Option<&'static str> {
        let kinds = [("file", "file"), ("block", "dev")];
        match node.attribute("type").is_some() {
            true => self.log.choice(node, "type", &kinds),
            false => Some("file"),
        }
    }

    fn disk_medium(&mut self, node: Node) -> Option<Medium> {
        let media = [
            ("disk", Medium::Disk),
            ("cdrom", Medium::Cdrom),
            ("floppy", Medium::Floppy),
        ];
        match node.attribute("device").is_some() {
            true => self.log.choice(node, "device", &media),
            false => Some(Medium::Disk),
        }
    }

    /// Why the guest has no place for a disk.
    fn no_place(&self, disk: &Disk) -> Option<&'static str> {
        let guest = &self.domain.guest;
        if guest.virtualization != Virtualization::Hvm && disk.bus != Bus::Virtio {
            return Some("a paravirtual guest has disks of Xen: bus='xen'");
        }
        if (disk.bus == Bus::Floppy) != (disk.medium == Medium::Floppy) {
            return Some("a floppy disk, and nothing else, is on the bus fdc");
        }
        let mut taken = guest.disks.iter().filter(|other| other.bus == disk.bus);
        let place = |disk: &Disk| disk.unit.map(|unit| (disk.controller, unit));
        let same = |other: &Disk| place(other) == place(disk) && disk.unit.is_some();
        taken
            .any(|other| other.name == disk.name || same(other))
            .then_some("has the place of another disk")
    }

    fn disk_part(&mut self, node: Node, source: &str, disk: &mut Disk, parts: &mut Parts) {
        match node.name() {
            "source" => self.disk_source(node, source, disk, parts),
            "driver" => self.disk_driver(node, disk),
            "target" => self.disk_target(node, parts),
            "readonly" => {
                node.met();
                disk.read_only = true;
            }
            "transient" => {
                self.log.ignore_attributes(node, &["shareBacking"]);
                disk.snapshot = true;
            }
            "boot" => disk.boot_index = self.boot_order(node),
            "serial" => {
                let serial = node.text();
                disk.serial = Some(serial).filter(|serial| !serial.is_empty());
            }
            "blockio" => self.disk_sectors(node, disk),
            "geometry" => self.disk_geometry(node, disk),
            "address" => self.disk_address(node, parts),
            "wwn" | "vendor" | "product" | "iotune" | "shareable" | "auth" => {
                self.log.ignore(node, "is ignored");
            }
            "encryption" => self.encrypted(node),
            // What stands behind an image is in the image, and the rest tells what libvirt does.
            "mirror" | "backingStore" | "backenddomain" | "alias" | "cookies" => node.ignore(),
            _ => {}
        }
    }

    /// What is in a disk: what the attribute `attribute` names.
    fn disk_source(&mut self, node: Node, attribute: &str, disk: &Disk, parts: &mut Parts) {
        self.log.ignore_attributes(node, &["startupPolicy"]);
        // The number that libvirt gives it while the domain runs.
        node.attribute("index");
        for child in self.log.children(node, &["seclabel"]) {
            match child.name() {
                "encryption" => self.encrypted(child),
                "slices" => {
                    child.ignore();
                    self.log.error(child, "a part of a file is no disk here");
                }
                "seclabel" | "privateData" | "reservations" | "dataStore" => {
                    self.host_only(child);
                }
                _ => {}
            }
        }
        let base = self.base.clone();
        if let Some(file) = node.attribute(attribute) {
            parts.source = self.log.path(node, attribute, file, &base);
        } else if disk.medium == Medium::Disk {
            self.log.attribute(node, attribute);
        }
    }

    fn disk_sectors(&mut self, node: Node, disk: &mut Disk) {
        self.log.ignore_attributes(node, &["discard_granularity"]);
        for name in ["logical_block_size", "physical_block_size"] {
            if let Some(size) = self.log.number_of(node, name, 512..=32768) {
                disk.device_options.push(format!("{name}={size}"));
            }
        }
    }

    fn disk_geometry(&mut self, node: Node, disk: &mut Disk) {
        for name in ["cyls", "heads", "secs"] {
            if let Some(number) = self.log.number_of(node, name, 1..=65535) {
                disk.device_options.push(format!("{name}={number}"));
            }
        }
        let translations = [("none", "none"), ("lba", "lba"), ("auto", "auto")];
        if let Some(trans) = self.log.choice(node, "trans", &translations) {
            disk.device_options.push(format!("bios-chs-trans={trans}"));
        }
    }

    fn encrypted(&mut self, node: Node) {
        node.ignore();
        self.log.error(node, "encrypted disks are not supported");
    }

    fn disk_driver(&mut self, node: Node, disk: &mut Disk) {
        let host = [
            "error_policy",
            "rerror_policy",
            "io",
            "ioeventfd",
            "event_idx",
            "copy_on_read",
            "discard",
            "iothread",
            "detect_zeroes",
            "queues",
            "queue_size",
            "packed",
            "discard_no_unref",
            "iommu",
            "ats",
            "page_per_vq",
            "metadata_cache",
        ];
        self.log.ignore_attributes(node, &host);
        for child in self.log.children(node, &[]) {
            if matches!(child.name(), "iothreads" | "metadata_cache" | "statistics") {
                self.host_only(child);
            }
        }
        self.log.choice(
            node,
            "name",
            &[
                ("qemu", ()),
                ("tap", ()),
                ("tap2", ()),
                ("phy", ()),
                ("file", ()),
            ],
        );
        let formats = [
            ("raw", Format::Raw),
            ("qcow2", Format::Qcow2),
            ("aio", Format::Raw),
        ];
        if let Some(format) = self.log.choice(node, "type", &formats) {
            disk.format = format;
        }
        let caches = [
            ("default", None),
            ("none", Some("none")),
            ("writeback", Some("writeback")),
            ("writethrough", Some("writethrough")),
            ("directsync", Some("directsync")),
            ("unsafe", Some("unsafe")),
        ];
        if let Some(cache) = self.log.choice(node, "cache", &caches).flatten() {
            disk.drive_options.push(format!("cache={cache}"));
        }
    }

    fn disk_target(&mut self, node: Node, parts: &mut Parts) {
        self.log
            .ignore_attributes(node, &["tray", "removable", "rotation_rate"]);
        let Some(name) = self.log.attribute(node, "dev") else {
            return;
        };
        let paravirtual = self.domain.guest.virtualization != Virtualization::Hvm;
        let prefixes = [
            ("hd", Bus::Ide),
            ("sd", Bus::Scsi),
            ("vd", Bus::Virtio),
            ("xvd", Bus::Virtio),
            ("fd", Bus::Floppy),
            ("ubd", Bus::Virtio),
            ("nvme", Bus::Nvme),
        ];
        let found = prefixes.iter().find_map(|(prefix, bus)| {
            let rest = name.strip_prefix(prefix)?;
            let letter = rest.bytes().next().filter(u8::is_ascii_lowercase);
            // Paravirtual guests have partitions for disks, too.
            let digits = rest.trim_start_matches(|c: char| c.is_ascii_lowercase());
            let number = digits.is_empty()
                || paravirtual && digits.bytes().all(|byte| byte.is_ascii_digit());
            let plain = rest.len() - digits.len() == 1 && number || *bus == Bus::Nvme;
            plain.then(|| (*bus, letter.map(|letter| u32::from(letter - b'a'))))
        });
        let Some((bus, letter)) = found else {
            self.log.error(
                node,
                format!("dev='{name}' is no name of a disk, such as hda, sda or vda"),
            );
            return;
        };
        parts.letter = letter;
        parts.name = Some(name.to_owned());
        let buses = [
            ("ide", Bus::Ide),
            ("sata", Bus::Sata),
            ("scsi", Bus::Scsi),
            ("virtio", Bus::Virtio),
            ("xen", Bus::Virtio),
            ("usb", Bus::Usb),
            ("nvme", Bus::Nvme),
            ("fdc", Bus::Floppy),
        ];
        parts.bus = match node.attribute("bus").is_some() {
            true => self.log.choice(node, "bus", &buses),
            false => Some(bus),
        };
    }

    /// The controller and the number on its bus that an `<address>` gives a disk.
    fn disk_address(&mut self, node: Node, parts: &mut Parts) {
        match node.attribute("type") {
            Some("drive") => {
                let controller = self.log.number_of(node, "controller", 0..=255);
                parts.controller = controller.unwrap_or(0) as u32;
                let bus = self.log.number_of(node, "bus", 0..=1).unwrap_or(0);
                let target = self.log.number_of(node, "target", 0..=255).unwrap_or(0);
                let unit = self.log.number_of(node, "unit", 0..=255);
                // IDE has two drives a channel; SCSI has targets, whose unit is the logical one.
                parts.unit = unit.map(|unit| (bus * 2 + target + unit) as u32);
            }
            Some("usb") => {
                let bus = self.log.number_of(node, "bus", 0..=255);
                parts.controller = bus.unwrap_or(0) as u32;
                self.log.ignore_attributes(node, &["port"]);
            }
            _ => self
                .log
                .ignore(node, "is ignored: QEMU has its own choice of slots"),
        }
    }

    /// The place in the boot order that an element `<boot order='N'/>` gives a device.
    pub(super) fn boot_order(&mut self, node: Node) -> Option<u32> {
        self.log.ignore_attributes(node, &["loadparm"]);
        self.log.attribute(node, "order")?;
        let place = self.log.number_of(node, "order", 1..=999)? as u32;
        if self.boot_places.contains(&place) {
            self.log
                .error(node, format!("order='{place}' is another device's"));
        }
        self.boot_places.push(place);
        let fates = [
            kept(format!("bootindex={place}")),
            kept(format!("bootindex={place}")),
            kept("setting order"),
            lost("is ignored"),
        ];
        self.fate(node, format!("place {place}"), fates);
        Some(place)
    }

    fn disk_fate(&mut self, node: Node, disk: &Disk) {
        let what = match disk.medium {
            Medium::Disk => "disk",
            Medium::Cdrom => "CD drive",
            Medium::Floppy => "floppy drive",
        };
        let paravirtual = self.domain.guest.virtualization != Virtualization::Hvm;
        let (bus, on_xen, by_libvirt) = match disk.bus {
            _ if paravirtual => ("Xen", kept("vdev="), kept("vdev=")),
            Bus::Ide => ("IDE", kept("vdev=hd*"), kept("vdev=hd*")),
            Bus::Sata => ("SATA", kept("hdtype=ahci"), lost("vdev=sd*, a SCSI disk")),
            Bus::Scsi if disk.controller != 0 => (
                "SCSI",
                lost("an error: Xen has one SCSI controller"),
                lost("an error: Xen has one SCSI controller"),
            ),
            Bus::Scsi => (
                "SCSI",
                kept("vdev=sd*, an LSI controller"),
                kept("vdev=sd*"),
            ),
            Bus::Virtio => (
                "virtio",
                kept("vdev=xvd*, Xen's own disk"),
                kept("vdev=xvd*"),
            ),
            Bus::Usb => (
                "USB",
                kept("device_model_args_hvm="),
                lost("vdev=sd*, a SCSI disk"),
            ),
            Bus::Nvme => ("NVMe", kept("device_model_args_hvm="), lost("an error")),
            Bus::Floppy => ("", kept("device_model_args_hvm="), lost("is dropped")),
        };
        let source = disk
            .source
            .as_ref()
            .map_or("empty".into(), |path| path.display().to_string());
        let asks = format!("{bus} {what}, {source}").trim_start().to_owned();
        let by_libvirt_qemu = match disk.bus {
            Bus::Nvme => lost("an error"),
            _ => kept("-device"),
        };
        self.fate(
            node,
            asks,
            [kept("-device"), by_libvirt_qemu, on_xen, by_libvirt],
        );
    }
}
