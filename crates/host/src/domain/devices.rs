//! `<devices>`, all but disks.

use super::{Fate, Reader, kept, lost};
use crate::node::Node;
use firstlight_vm::{Chardev, Nic, Rom, Tpm, TpmBackend, Virtualization};

impl Reader {
    pub(super) fn devices(&mut self, node: Node) {
        self.shows = node.contains("graphics") || node.contains("video");
        let mut consoles = Vec::new();
        for child in node.children().filter(|child| !child.is_foreign()) {
            match child.name() {
                "disk" => self.disk(child),
                "controller" => self.controller(child),
                "interface" => self.interface(child),
                "serial" => self.serial(child),
                // After all serial ports, of which one may be the same.
                "console" => consoles.push(child),
                "video" => self.video(child),
                "tpm" => self.tpm(child),
                "rng" => self.rng(child),
                "emulator" => {
                    self.log.ignore(child, "is ignored: no program that a domain names is run; this tool runs the QEMU that is installed");
                }
                "graphics" => self.graphics(child),
                "input" | "sound" | "audio" | "watchdog" | "memballoon" | "panic" | "channel"
                | "parallel" | "redirdev" | "redirfilter" | "hub" | "smartcard" | "vsock"
                | "lease" => self.left_out(child),
                "hostdev" => self.refuse(child, "devices of the host are not passed through"),
                "filesystem" | "shmem" | "memory" | "iommu" | "nvram" | "crypto" => {
                    self.refuse(child, "this device is not supported");
                }
                _ => {}
            }
        }
        for console in consoles {
            self.console(console, node.contains("serial"));
        }
    }

    fn graphics(&mut self, node: Node) {
        let asks = node.attribute("type").unwrap_or_default();
        self.log
            .ignore(node, "is ignored: --display opens a window");
        let fates = [
            kept("--display"),
            kept("-vnc, -spice"),
            lost("no display"),
            kept("vnc="),
        ];
        self.fate(node, asks, fates);
    }

    /// A device that the guest does without.
    fn left_out(&mut self, node: Node) {
        let asks = node.attribute("model").or(node.attribute("type"));
        self.log
            .ignore(node, "is left out: no guest needs it to boot");
        let fates = [
            lost("is left out"),
            kept("-device"),
            lost("is left out"),
            lost("depends on the device"),
        ];
        self.fate(node, asks.unwrap_or_default(), fates);
    }

    /// Which slot a device has, what the host calls it, and how the host does its work.
    fn place(&mut self, node: Node) {
        match node.name() {
            "address" => self
                .log
                .ignore(node, "is ignored: QEMU has its own choice of slots"),
            "alias" => node.ignore(),
            "driver" | "log" | "acpi" => self.host_only(node),
            _ => {}
        }
    }

    fn controller(&mut self, node: Node) {
        let known = [
            "scsi",
            "usb",
            "ide",
            "sata",
            "fdc",
            "pci",
            "virtio-serial",
            "ccid",
            "xenbus",
            "nvme",
        ];
        let known = known.map(|kind| (kind, kind));
        let Some(kind) = self.log.required(node, "type", &known) else {
            return;
        };
        self.log.ignore_attributes(
            node,
            &["ports", "vectors", "maxGrantFrames", "maxEventChannels"],
        );
        let index = self.log.number_of(node, "index", 0..=255).unwrap_or(0) as u32;
        match kind {
            "scsi" => self.scsi_controller(node, index),
            "usb" => self.usb_controller(node, index),
            "pci" => {
                let root = matches!(node.attribute("model"), Some("pci-root" | "pcie-root"));
                if !root {
                    let why = "is left out: QEMU has its own choice of slots";
                    return self.log.ignore(node, why);
                }
            }
            // Those of disks come with the disks, and no guest needs the others to boot.
            _ => self.log.ignore_attributes(node, &["model"]),
        }
        for child in self.log.children(node, &[]) {
            match child.name() {
                "target" | "model" | "pcihole64" | "serial" => {
                    self.log.ignore(child, "is ignored: QEMU has its default");
                }
                "master" => child.ignore(),
                _ => self.place(child),
            }
        }
    }

    fn scsi_controller(&mut self, node: Node, index: u32) {
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
            ("auto", "virtio-scsi-pci"),
        ];
        if let Some(device) = self.log.choice(node, "model", &models) {
            let controllers = &mut self.domain.guest.scsi_controllers;
            if controllers.insert(index, device.into()).is_some() {
                self.log.error(node, "has the number of another controller");
            }
            let fates = [
                kept("-device"),
                kept("-device"),
                lost("an LSI controller"),
                lost("an LSI controller"),
            ];
            let model = node.attribute("model").unwrap_or_default();
            self.fate(node, format!("SCSI, {model}"), fates);
        }
    }

    fn usb_controller(&mut self, node: Node, index: u32) {
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
            ("qusb1", None),
            ("qusb2", None),
            ("none", None),
        ];
        let model = self.log.choice(node, "model", &models).flatten();
        // The companions of an EHCI have its number: what is plugged in there is on the EHCI.
        if let Some(device) = model {
            let controllers = &mut self.domain.guest.usb_controllers;
            if controllers.insert(index, device.into()).is_some() {
                self.log.error(node, "has the number of another controller");
            }
        }
    }

    fn interface(&mut self, node: Node) {
        self.log
            .ignore_attributes(node, &["managed", "trustGuestRxFilters"]);
        let kinds = [
            "user", "network", "bridge", "ethernet", "direct", "internal",
        ];
        let kinds = kinds.map(|kind| (kind, kind));
        let Some(kind) = self.log.required(node, "type", &kinds) else {
            return;
        };
        let mut nic = Nic::new("rtl8139");
        if self.domain.kind == super::Kind::Xen {
            nic.bridge = None;
        }
        for child in self
            .log
            .children(node, &["ip", "route", "portForward", "filterref"])
        {
            self.interface_part(child, kind, &mut nic);
        }
        if kind != "user" {
            self.log.warn(
                node,
                format!("type='{kind}': under QEMU the card is on QEMU's user network"),
            );
        }
        let model = match self.domain.guest.virtualization {
            Virtualization::Hvm => nic.model.clone(),
            _ => "Xen's own card".into(),
        };
        let network = match kind {
            "user" => kept("QEMU's user network"),
            _ => lost("QEMU's user network"),
        };
        let xen = |fate: fn(String) -> Fate| match (kind, &nic.bridge) {
            ("bridge", Some(bridge)) => fate(format!("vif, {bridge}")),
            _ => lost("vif, the default bridge"),
        };
        let fates = [network, kept("-netdev"), xen(kept), xen(kept)];
        self.fate(node, format!("{model} on {kind}"), fates);
        self.domain.guest.nics.push(nic);
    }

    fn interface_part(&mut self, node: Node, kind: &str, nic: &mut Nic) {
        match node.name() {
            "mac" => nic.mac = self.mac(node),
            "model" => self.card_model(node, nic),
            "source" => self.network(node, kind, nic),
            "boot" => nic.boot_index = self.boot_order(node),
            "rom" => self.card_rom(node, nic),
            "script" | "downscript" => {
                let why = "is ignored: no program that a domain names is run";
                self.log.ignore(node, why);
            }
            "link" | "mtu" | "bandwidth" | "filterref" | "target" | "driver" | "tune"
            | "virtualport" | "vlan" | "address" | "ip" | "route" | "guest" | "coalesce"
            | "port" | "backend" | "backenddomain" | "portForward" | "acpi" | "teaming" => {
                self.log.ignore(node, "is ignored");
            }
            _ => self.place(node),
        }
    }

    /// The address of a network card.
    fn mac(&mut self, node: Node) -> Option<String> {
        self.log.ignore_attributes(node, &["type", "check"]);
        let mac = self.log.attribute(node, "address")?;
        let parts: Vec<&str> = mac.split(':').collect();
        let hex = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
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
            return Some(mac.to_lowercase());
        }
        None
    }

    fn card_model(&mut self, node: Node, nic: &mut Nic) {
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
        if let Some(model) = self.log.required(node, "type", &models) {
            nic.model = model.into();
        }
    }

    /// Where the cable of a card goes.
    fn network(&mut self, node: Node, kind: &str, nic: &mut Nic) {
        if kind != "user" {
            // The card is on another network, as the warning at <interface> says.
            node.ignore();
        }
        if let Some(bridge) = node.attribute("bridge")
            && kind == "bridge"
        {
            let bridge = self.log.word(node, "the bridge", bridge);
            nic.bridge = bridge.map(str::to_owned);
        }
    }

    fn card_rom(&mut self, node: Node, nic: &mut Nic) {
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

    /// Where a serial port goes.
    fn chardev(&mut self, node: Node) -> Option<Chardev> {
        let kinds = [
            "pty", "stdio", "file", "null", "dev", "tcp", "udp", "unix", "vc", "pipe", "spicevmc",
            "nmdm",
        ];
        let kinds = kinds.map(|kind| (kind, kind));
        let kind = self.log.required(node, "type", &kinds)?;
        // The name of a running guest's terminal.
        node.attribute("tty");
        let source = node.child("source");
        Some(match kind {
            "null" => Chardev::Null,
            "file" => {
                let Some((source, path)) =
                    source.and_then(|source| Some((source, source.attribute("path")?)))
                else {
                    self.log.error(node, "has no <source path=…> to write to");
                    return None;
                };
                self.log.on_off(source, "append");
                let base = self.base.clone();
                Chardev::File(self.log.path(node, "the file", path, &base)?)
            }
            other => {
                for part in ["source", "protocol"] {
                    if let Some(part) = node.child(part) {
                        part.ignore();
                    }
                }
                if !matches!(other, "pty" | "stdio") {
                    let message = format!("type='{other}': a pseudo-terminal takes its place");
                    self.log.warn(node, message);
                }
                Chardev::Pty
            }
        })
    }

    fn serial(&mut self, node: Node) {
        if self.domain.guest.virtualization != Virtualization::Hvm {
            let why = "is ignored: a paravirtual guest has no serial port";
            self.log.ignore(node, why);
            let fate = || lost("is ignored");
            self.fate(node, "a serial port", [fate(), fate(), fate(), fate()]);
            return;
        }
        let Some(chardev) = self.chardev(node) else {
            return;
        };
        for child in self.log.children(node, &[]) {
            match child.name() {
                "source" | "protocol" => {}
                "target" => self.serial_target(child),
                _ => self.place(child),
            }
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

    /// Which of the PC's ports it is.
    fn serial_target(&mut self, node: Node) {
        let next = self.domain.guest.serial.len() as i64;
        let port = self.log.number_of(node, "port", 0..=3);
        if port.is_some_and(|port| port != next && next < 4) {
            let message = format!(
                "port='{}' comes after {next}: the ports have numbers in order, from 0 on",
                port.unwrap_or(0)
            );
            self.log.error(node, message);
        }
        // A <console> says what it is, a <serial> the hardware.
        let kinds = [("isa-serial", ()), ("serial", ())];
        self.log.choice(node, "type", &kinds);
        if let Some(model) = node.child("model") {
            self.log.choice(model, "name", &[("isa-serial", ())]);
        }
    }

    fn console(&mut self, node: Node, has_serial: bool) {
        let target = node.child("target");
        let kind = target.and_then(|target| target.attribute("type"));
        if self.domain.guest.virtualization != Virtualization::Hvm
            && matches!(kind, None | Some("xen" | "serial"))
        {
            self.console_again(node);
            let console = || kept("Xen's own console");
            self.fate(
                node,
                "a console",
                [console(), console(), console(), console()],
            );
            return;
        }
        match kind {
            // libvirt has a console for the first serial port that stands there too.
            None | Some("serial") if !has_serial => self.serial(node),
            None | Some("serial") => self.console_again(node),
            Some("xen") => {
                let why = "is ignored: Xen gives each guest its paravirtual console";
                self.log.ignore(node, why);
            }
            Some("virtio" | "sclp" | "sclplm" | "lxc" | "openvz" | "uml") => {
                self.log
                    .ignore(node, "is left out: no guest needs it to boot");
            }
            Some(other) => self
                .log
                .error(node, format!("<target type='{other}'> is no console")),
        }
    }

    /// A console that is the first serial port, which stands there too.
    fn console_again(&mut self, node: Node) {
        for name in ["type", "tty"] {
            node.attribute(name);
        }
        for child in self.log.children(node, &[]) {
            match child.name() {
                "source" | "protocol" => child.ignore(),
                "target" => {
                    child.attribute("type");
                    self.log.number_of(child, "port", 0..=3);
                }
                _ => self.place(child),
            }
        }
    }

    fn video(&mut self, node: Node) {
        let Some(model) = node.child("model") else {
            self.log.error(node, "has no <model>");
            return;
        };
        let sizes = [
            "vram", "ram", "vgamem", "vram64", "heads", "primary", "blob", "edid",
        ];
        self.log.ignore_attributes(model, &sizes);
        for child in self.log.children(model, &[]) {
            if matches!(child.name(), "acceleration" | "resolution") {
                self.log.ignore(child, "is ignored: QEMU has its default");
            }
        }
        for child in self.log.children(node, &[]) {
            self.place(child);
        }
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
        let Some(device) = self.log.required(model, "type", &models) else {
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
        let models = [("tpm-tis", "tpm-tis"), ("tpm-crb", "tpm-crb")];
        let model = match node.attribute("model") {
            Some(_) => self.log.choice(node, "model", &models),
            None => Some("tpm-tis"),
        };
        let Some(model) = model else { return };
        let Some(backend) = node.child("backend") else {
            self.log.error(node, "has no <backend>");
            return;
        };
        for child in self.log.children(node, &[]) {
            self.place(child);
        }
        let kinds = [("emulator", true), ("passthrough", false)];
        match self.log.required(backend, "type", &kinds) {
            Some(true) => {
                // What the program keeps, and how, is said where it is started.
                self.log
                    .ignore_attributes(backend, &["version", "persistent_state", "debug"]);
                for child in self.log.children(backend, &[]) {
                    match child.name() {
                        "encryption" | "active_pcr_banks" | "source" | "profile" => {
                            self.host_only(child);
                        }
                        _ => {}
                    }
                }
                self.domain.tpm_emulator = Some(model.into());
            }
            Some(false) => {
                let device = backend.child("device");
                let path = device.and_then(|device| device.attribute("path"));
                self.domain.guest.tpm = Some(Tpm {
                    model: model.into(),
                    backend: TpmBackend::Device(path.unwrap_or("/dev/tpm0").into()),
                });
            }
            None => return,
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
        let models = [
            ("virtio", ()),
            ("virtio-transitional", ()),
            ("virtio-non-transitional", ()),
        ];
        self.log.choice(node, "model", &models);
        let Some(backend) = node.child("backend") else {
            self.log.error(node, "has no <backend>");
            return;
        };
        for child in self.log.children(node, &[]) {
            match child.name() {
                "rate" => self.log.ignore(child, "is ignored: there is no limit"),
                _ => self.place(child),
            }
        }
        let kinds = [("random", true), ("builtin", false)];
        let Some(from_file) = self.log.required(backend, "model", &kinds) else {
            return;
        };
        let text = backend.text();
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
