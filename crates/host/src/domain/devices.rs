//! `<devices>`, all but disks.

use super::{Fate, Reader, kept, lost};
use firstlight_vm::{Chardev, Nic, Rom, Tpm, TpmBackend};
use roxmltree::Node;

impl Reader {
    pub(super) fn devices(&mut self, node: Node) {
        let children = self.log.open(node, &[]);
        // Controllers may come after the disks on them.
        for child in &children {
            match child.tag_name().name() {
                "graphics" | "video" => self.shows = true,
                _ => {}
            }
        }
        let mut consoles = Vec::new();
        let mut has_serial = false;
        for child in children {
            match child.tag_name().name() {
                "disk" => self.disk(child),
                "controller" => self.controller(child),
                "interface" => self.interface(child),
                "serial" => {
                    has_serial = true;
                    self.serial(child);
                }
                "console" => consoles.push(child),
                "video" => self.video(child),
                "tpm" => self.tpm(child),
                "rng" => self.rng(child),
                "emulator" => {
                    self.log.warn(child, "is ignored: no program that a domain names is run; this tool runs the QEMU that is installed");
                }
                "graphics" => {
                    self.log.warn(child, "is ignored: --display opens a window");
                    let libvirt = || kept("-vnc, -spice");
                    let fates = [
                        kept("--display"),
                        libvirt(),
                        lost("no display"),
                        kept("vnc="),
                    ];
                    let asks = child.attribute("type").unwrap_or_default();
                    self.fate(child, asks, fates);
                }
                "input" | "sound" | "audio" | "watchdog" | "memballoon" | "panic" | "channel"
                | "parallel" | "redirdev" | "redirfilter" | "hub" | "smartcard" | "vsock"
                | "lease" => {
                    self.log
                        .warn(child, "is left out: no guest needs it to boot");
                    let fates = [
                        lost("is left out"),
                        kept("-device"),
                        lost("is left out"),
                        lost("depends on the device"),
                    ];
                    let asks = child
                        .attribute("model")
                        .or(child.attribute("type"))
                        .unwrap_or_default();
                    self.fate(child, asks, fates);
                }
                "hostdev" => self
                    .log
                    .error(child, "devices of the host are not passed through"),
                "filesystem" | "shmem" | "memory" | "iommu" | "nvram" | "crypto" => {
                    self.log.error(child, "this device is not supported");
                }
                _ => self.log.unknown(child),
            }
        }
        for console in consoles {
            self.console(console, has_serial);
        }
    }

    fn controller(&mut self, node: Node) {
        let kind = node.attribute("type");
        let index = node.attribute("index").unwrap_or("0");
        match (kind, node.attribute("model")) {
            (None, _) => {
                self.log.attribute(node, "type");
            }
            (Some("scsi"), Some(model)) => {
                let models = [
                    ("virtio-scsi", "virtio-scsi-pci"),
                    ("virtio-transitional", "virtio-scsi-pci-transitional"),
                    (
                        "virtio-non-transitional",
                        "virtio-scsi-pci-non-transitional",
                    ),
                    ("lsilogic", "lsi"),
                    ("lsisas1068", "mptsas1068"),
                    ("lsisas1078", "megasas"),
                    ("vmpvscsi", "pvscsi"),
                    ("am53c974", "am53c974"),
                    ("dc390", "dc390"),
                ];
                if let Some(device) = self.log.choice(node, "model", &models) {
                    self.domain.guest.scsi_controller = device.into();
                    let fates = [
                        kept("-device"),
                        kept("-device"),
                        lost("an LSI controller"),
                        lost("an LSI controller"),
                    ];
                    self.fate(node, format!("SCSI, {model}"), fates);
                }
                if index != "0" {
                    self.log.error(node, "a guest has one SCSI controller here");
                }
            }
            (Some("usb"), Some(_)) => {
                let models = [
                    ("piix3-uhci", Some("piix3-usb-uhci")),
                    ("piix4-uhci", Some("piix4-usb-uhci")),
                    ("ehci", Some("usb-ehci")),
                    ("pci-ohci", Some("pci-ohci")),
                    ("nec-xhci", Some("nec-usb-xhci")),
                    ("qemu-xhci", Some("qemu-xhci")),
                    ("ich9-ehci1", Some("ich9-usb-ehci1")),
                    ("ich9-uhci1", None),
                    ("ich9-uhci2", None),
                    ("ich9-uhci3", None),
                    ("none", None),
                ];
                if let Some(Some(device)) = self.log.choice(node, "model", &models) {
                    self.domain.guest.usb_controller = device.into();
                }
            }
            (
                Some(
                    "scsi" | "usb" | "ide" | "sata" | "fdc" | "pci" | "virtio-serial" | "ccid"
                    | "xenbus",
                ),
                _,
            ) => {}
            (Some("nvme"), _) => {}
            (Some(other), _) => self
                .log
                .error(node, format!("type='{other}' is no controller")),
        }
    }

    fn interface(&mut self, node: Node) {
        let children = self
            .log
            .open(node, &["type", "managed", "trustGuestRxFilters"]);
        let kinds = [
            "user", "network", "bridge", "ethernet", "direct", "internal",
        ];
        let kinds = kinds.map(|kind| (kind, kind));
        let Some(kind) = self.log.attribute(node, "type") else {
            return;
        };
        if self.log.choice(node, "type", &kinds).is_none() {
            return;
        }
        let mut nic = Nic::new("rtl8139");
        if self.domain.kind == super::Kind::Xen {
            nic.bridge = None;
        }
        for child in children {
            self.interface_part(child, kind, &mut nic);
        }
        if kind != "user" {
            self.log.warn(
                node,
                format!("type='{kind}': under QEMU the card is on QEMU's user network"),
            );
        }
        let network = match kind {
            "user" => kept("QEMU's user network"),
            _ => lost("QEMU's user network"),
        };
        let xen = |fate: fn(String) -> Fate| match (kind, &nic.bridge) {
            ("bridge", Some(bridge)) => fate(format!("vif, {bridge}")),
            _ => lost("vif, the default bridge"),
        };
        let fates = [network, kept("-netdev"), xen(kept), xen(kept)];
        self.fate(node, format!("{} on {kind}", nic.model), fates);
        self.domain.guest.nics.push(nic);
    }

    fn interface_part(&mut self, node: Node, kind: &str, nic: &mut Nic) {
        match node.tag_name().name() {
            "mac" => {
                self.log.attributes(node, &["address", "type", "check"]);
                let Some(mac) = self.log.attribute(node, "address") else {
                    return;
                };
                let parts: Vec<&str> = mac.split(':').collect();
                let hex =
                    |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
                let first = parts
                    .first()
                    .and_then(|part| u8::from_str_radix(part, 16).ok());
                if parts.len() != 6 || !parts.iter().all(hex) {
                    self.log
                        .error(node, format!("address='{mac}' is none of a network card"));
                } else if first.unwrap_or(1) & 1 != 0 {
                    self.log.error(
                        node,
                        format!("address='{mac}' is one of many cards (multicast)"),
                    );
                } else {
                    nic.mac = Some(mac.to_lowercase());
                }
            }
            "model" => {
                self.log.attributes(node, &["type"]);
                let models = [
                    ("virtio", "virtio-net-pci"),
                    ("virtio-transitional", "virtio-net-pci-transitional"),
                    ("virtio-non-transitional", "virtio-net-pci-non-transitional"),
                    ("e1000", "e1000"),
                    ("e1000e", "e1000e"),
                    ("igb", "igb"),
                    ("rtl8139", "rtl8139"),
                    ("ne2k_pci", "ne2k_pci"),
                    ("pcnet", "pcnet"),
                    ("vmxnet3", "vmxnet3"),
                    ("netfront", "rtl8139"),
                ];
                self.log.attribute(node, "type");
                if let Some(model) = self.log.choice(node, "type", &models) {
                    nic.model = model.into();
                }
            }
            "source" => {
                if let Some(bridge) = node.attribute("bridge")
                    && kind == "bridge"
                {
                    let bridge = self.log.word(node, "the bridge", bridge);
                    nic.bridge = bridge.map(str::to_owned);
                }
            }
            "boot" => nic.boot_index = self.boot_order(node),
            "rom" => {
                self.log.attributes(node, &["bar", "file", "enabled"]);
                self.log.on_off(node, "bar");
                let base = self.base.clone();
                if self.log.yes_no(node, "enabled") == Some(false) {
                    nic.rom = Rom::None;
                } else if let Some(file) = node.attribute("file") {
                    let path = self.log.path(node, "the file", file, &base);
                    nic.rom = path.map_or(Rom::Default, Rom::File);
                }
                let fates = [
                    kept("romfile="),
                    kept("romfile="),
                    lost("is dropped"),
                    lost("is dropped"),
                ];
                self.fate(node, node.attribute("file").unwrap_or("none"), fates);
            }
            "script" | "downscript" => {
                self.log
                    .warn(node, "is ignored: no program that a domain names is run");
            }
            "link" | "mtu" | "bandwidth" | "filterref" | "target" | "driver" | "tune"
            | "virtualport" | "vlan" | "address" | "alias" | "ip" | "route" | "guest"
            | "coalesce" | "port" | "backend" | "backenddomain" | "portForward" | "acpi"
            | "teaming" => self.log.warn(node, "is ignored"),
            _ => self.log.unknown(node),
        }
    }

    /// Where a serial port goes.
    fn chardev(&mut self, node: Node) -> Option<Chardev> {
        let source = node.children().find(|child| child.has_tag_name("source"));
        let kind = self.log.attribute(node, "type")?;
        let kinds = [
            "pty", "stdio", "file", "null", "dev", "tcp", "udp", "unix", "vc", "pipe", "spicevmc",
            "nmdm",
        ];
        self.log
            .choice(node, "type", &kinds.map(|kind| (kind, ())))?;
        Some(match kind {
            "null" => Chardev::Null,
            "file" => {
                let Some(path) = source.and_then(|source| source.attribute("path")) else {
                    self.log.error(node, "has no <source path=…> to write to");
                    return None;
                };
                let base = self.base.clone();
                Chardev::File(self.log.path(node, "the file", path, &base)?)
            }
            "pty" | "stdio" => Chardev::Pty,
            other => {
                self.log.warn(
                    node,
                    format!("type='{other}': a pseudo-terminal takes its place"),
                );
                Chardev::Pty
            }
        })
    }

    fn serial(&mut self, node: Node) {
        let Some(chardev) = self.chardev(node) else {
            return;
        };
        let target = node.children().find(|child| child.has_tag_name("target"));
        if let Some(target) = target {
            self.log.number_of(target, "port", 0..=3);
        }
        if self.domain.guest.serial.len() == 4 {
            self.log.error(node, "a PC has four serial ports");
            return;
        }
        let asks = node.attribute("type").unwrap_or_default();
        let first = self.domain.guest.serial.is_empty() && chardev == Chardev::Pty;
        let here = if first {
            kept("this terminal")
        } else {
            kept("-serial")
        };
        self.fate(
            node,
            asks,
            [here, kept("-serial"), kept("serial="), kept("serial=")],
        );
        self.domain.guest.serial.push(chardev);
    }

    fn console(&mut self, node: Node, has_serial: bool) {
        let target = node.children().find(|child| child.has_tag_name("target"));
        let kind = target.and_then(|target| target.attribute("type"));
        match kind {
            // libvirt has a console for the first serial port that stands there too.
            None | Some("serial") if !has_serial => self.serial(node),
            None | Some("serial") => {}
            Some("xen") => self.log.warn(
                node,
                "is ignored: Xen gives each guest its paravirtual console",
            ),
            Some("virtio" | "sclp" | "sclplm" | "lxc" | "openvz" | "uml") => {
                self.log
                    .warn(node, "is left out: no guest needs it to boot");
            }
            Some(other) => self
                .log
                .error(node, format!("<target type='{other}'> is no console")),
        }
    }

    fn video(&mut self, node: Node) {
        let model = node.children().find(|child| child.has_tag_name("model"));
        let Some(model) = model else {
            self.log.error(node, "has no <model>");
            return;
        };
        let models = [
            ("vga", Some("VGA")),
            ("cirrus", Some("cirrus-vga")),
            ("qxl", Some("qxl-vga")),
            ("virtio", Some("virtio-vga")),
            ("vmvga", Some("vmware-svga")),
            ("bochs", Some("bochs-display")),
            ("ramfb", Some("ramfb")),
            ("xen", Some("VGA")),
            ("none", None),
        ];
        self.log.attribute(model, "type");
        let Some(device) = self.log.choice(model, "type", &models) else {
            return;
        };
        if self.domain.guest.video.is_some() {
            self.log
                .warn(node, "is left out: a guest has one display here");
            return;
        }
        let on_xen = match device {
            None | Some("VGA" | "cirrus-vga" | "qxl-vga") => kept("vga="),
            Some(_) => lost("stdvga"),
        };
        let asks = model.attribute("type").unwrap_or_default();
        self.fate(
            node,
            asks,
            [kept("-device"), kept("-device"), on_xen.clone(), on_xen],
        );
        self.domain.guest.video = device.map(str::to_owned);
    }

    fn tpm(&mut self, node: Node) {
        self.log.attributes(node, &["model"]);
        let models = [("tpm-tis", "tpm-tis"), ("tpm-crb", "tpm-crb")];
        let model = match node.has_attribute("model") {
            true => self.log.choice(node, "model", &models),
            false => Some("tpm-tis"),
        };
        let Some(model) = model else { return };
        let backend = node.children().find(|child| child.has_tag_name("backend"));
        let Some(backend) = backend else {
            self.log.error(node, "has no <backend>");
            return;
        };
        let kinds = [("emulator", true), ("passthrough", false)];
        match self.log.choice(backend, "type", &kinds) {
            Some(true) => self.domain.tpm_emulator = Some(model.into()),
            Some(false) => {
                let device = backend
                    .children()
                    .find(|child| child.has_tag_name("device"));
                let path = device.and_then(|device| device.attribute("path"));
                self.domain.guest.tpm = Some(Tpm {
                    model: model.into(),
                    backend: TpmBackend::Device(path.unwrap_or("/dev/tpm0").into()),
                });
            }
            None => {
                self.log.attribute(backend, "type");
                return;
            }
        }
        let here = match self.domain.tpm_emulator {
            Some(_) => kept("--tpm SOCKET of swtpm"),
            None => kept("-tpmdev"),
        };
        self.fate(
            node,
            model,
            [
                here,
                kept("-tpmdev"),
                lost("is dropped"),
                lost("is dropped"),
            ],
        );
    }

    fn rng(&mut self, node: Node) {
        let backend = node.children().find(|child| child.has_tag_name("backend"));
        let Some(backend) = backend else {
            self.log.error(node, "has no <backend>");
            return;
        };
        let kinds = [("random", true), ("builtin", false)];
        let Some(from_file) = self.log.choice(backend, "model", &kinds) else {
            self.log.attribute(backend, "model");
            return;
        };
        let text = self.log.text(backend);
        let file = match from_file && !text.is_empty() {
            true => text,
            false => "/dev/urandom".to_owned(),
        };
        if !["/dev/random", "/dev/urandom", "/dev/hwrng"].contains(&file.as_str()) {
            self.log.error(
                backend,
                format!("'{file}' is not /dev/random, /dev/urandom or /dev/hwrng"),
            );
            return;
        }
        self.domain.guest.random = Some(file.clone().into());
        self.fate(
            node,
            file,
            [
                kept("-device"),
                kept("-device"),
                lost("is dropped"),
                lost("is dropped"),
            ],
        );
    }
}
