//! `<disk>`.

use super::{Reader, kept, lost};
use firstlight_vm::{Bus, Disk, Format, Medium};
use roxmltree::Node;
use std::path::PathBuf;

/// What stands in a `<disk>`, as far as it goes.
#[derive(Default)]
struct Parts {
    source: Option<PathBuf>,
    bus: Option<Bus>,
    /// The letter of the target's name, from 0.
    letter: Option<u32>,
    unit: Option<u32>,
}

impl Reader {
    pub(super) fn disk(&mut self, node: Node) {
        let attributes = ["type", "device", "snapshot", "model", "rawio", "sgio"];
        let children = self.log.open(node, &attributes);
        let kinds = [("file", "file"), ("block", "dev")];
        let source = match node.has_attribute("type") {
            true => self.log.choice(node, "type", &kinds),
            false => Some("file"),
        };
        let media = [
            ("disk", Medium::Disk),
            ("cdrom", Medium::Cdrom),
            ("floppy", Medium::Floppy),
        ];
        let medium = match node.has_attribute("device") {
            true => self.log.choice(node, "device", &media),
            false => Some(Medium::Disk),
        };
        let (Some(source), Some(medium)) = (source, medium) else {
            return;
        };
        let mut disk = Disk::new(Bus::Ide, "".as_ref());
        disk.medium = medium;
        disk.read_only = medium == Medium::Cdrom;
        let mut parts = Parts::default();
        for child in children {
            self.disk_part(child, source, &mut disk, &mut parts);
        }
        disk.source = parts.source;
        if disk.source.is_none() && medium == Medium::Disk {
            self.log.error(node, "a hard disk has a <source>");
        }
        let Some(bus) = parts.bus else {
            if !node.children().any(|child| child.has_tag_name("target")) {
                self.log.error(node, "has no <target>");
            }
            return;
        };
        disk.bus = bus;
        disk.unit = parts.unit.or(match bus {
            Bus::Ide | Bus::Sata | Bus::Scsi | Bus::Floppy => parts.letter,
            Bus::Virtio | Bus::Usb | Bus::Nvme => None,
        });
        if (bus == Bus::Floppy) != (medium == Medium::Floppy) {
            self.log
                .error(node, "a floppy disk, and nothing else, is on the bus fdc");
            return;
        }
        let taken = self.domain.guest.disks.iter();
        let mut taken = taken.filter(|other| other.bus == bus && disk.unit.is_some());
        if taken.any(|other| other.unit == disk.unit) {
            self.log.error(node, "has the place of another disk");
            return;
        }
        self.disk_fate(node, &disk);
        self.domain.guest.disks.push(disk);
    }

    fn disk_part(&mut self, node: Node, source: &str, disk: &mut Disk, parts: &mut Parts) {
        match node.tag_name().name() {
            "source" => {
                self.log
                    .attributes(node, &[source, "startupPolicy", "index"]);
                for child in node.children().filter(|child| child.is_element()) {
                    match child.tag_name().name() {
                        "seclabel" => {}
                        "encryption" => self.log.error(child, "encrypted disks are not supported"),
                        _ => self
                            .log
                            .warn(child, "is ignored: it concerns the host, not the guest"),
                    }
                }
                let base = self.base.clone();
                if let Some(file) = node.attribute(source) {
                    parts.source = self.log.path(node, source, file, &base);
                } else if disk.medium == Medium::Disk {
                    self.log.attribute(node, source);
                }
            }
            "driver" => self.disk_driver(node, disk),
            "target" => self.disk_target(node, parts),
            "readonly" => disk.read_only = true,
            "transient" => disk.snapshot = true,
            "boot" => disk.boot_index = self.boot_order(node),
            "serial" => {
                let serial = self.log.text(node);
                disk.serial = Some(serial).filter(|serial| !serial.is_empty());
            }
            "blockio" => {
                self.log.attributes(
                    node,
                    &[
                        "logical_block_size",
                        "physical_block_size",
                        "discard_granularity",
                    ],
                );
                for name in ["logical_block_size", "physical_block_size"] {
                    if let Some(size) = self.log.number_of(node, name, 512..=32768) {
                        disk.device_options.push(format!("{name}={size}"));
                    }
                }
            }
            "geometry" => {
                self.log
                    .attributes(node, &["cyls", "heads", "secs", "trans"]);
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
            "address" => parts.unit = self.disk_address(node),
            "wwn" | "vendor" | "product" | "iotune" | "shareable" | "auth" => {
                self.log.warn(node, "is ignored");
            }
            "encryption" => self.log.error(node, "encrypted disks are not supported"),
            "mirror" | "backingStore" | "backenddomain" | "alias" | "cookies" => {}
            _ => self.log.unknown(node),
        }
    }

    fn disk_driver(&mut self, node: Node, disk: &mut Disk) {
        let host = [
            "name",
            "type",
            "cache",
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
        ];
        self.log.attributes(node, &host);
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
            .attributes(node, &["dev", "bus", "tray", "removable", "rotation_rate"]);
        let Some(name) = self.log.attribute(node, "dev") else {
            return;
        };
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
            let plain = rest.bytes().all(|byte| byte.is_ascii_lowercase()) && rest.len() == 1;
            let plain = plain || *bus == Bus::Nvme;
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
        parts.bus = match node.has_attribute("bus") {
            true => self.log.choice(node, "bus", &buses),
            false => Some(bus),
        };
    }

    /// The number on its bus that a `<address type='drive'>` gives a disk.
    fn disk_address(&mut self, node: Node) -> Option<u32> {
        if node.attribute("type") != Some("drive") {
            self.log
                .warn(node, "is ignored: QEMU has its own choice of slots");
            return None;
        }
        self.log
            .attributes(node, &["type", "controller", "bus", "target", "unit"]);
        self.log.number_of(node, "controller", 0..=0);
        let bus = self.log.number_of(node, "bus", 0..=1).unwrap_or(0);
        let target = self.log.number_of(node, "target", 0..=255).unwrap_or(0);
        let unit = self.log.number_of(node, "unit", 0..=255)?;
        // IDE has two drives a channel; SCSI has targets, whose unit is the logical one.
        Some((bus * 2 + target + unit) as u32)
    }

    /// The place in the boot order that an element `<boot order='N'/>` gives a device.
    pub(super) fn boot_order(&mut self, node: Node) -> Option<u32> {
        self.log.empty(node, &["order", "loadparm"]);
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
        let (bus, on_xen, by_libvirt) = match disk.bus {
            Bus::Ide => ("IDE", kept("vdev=hd*"), kept("vdev=hd*")),
            Bus::Sata => ("SATA", kept("hdtype=ahci"), lost("an error")),
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
            Bus::Usb => ("USB", kept("device_model_args_hvm="), lost("an error")),
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
