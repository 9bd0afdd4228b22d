//! `<os>`: how the domain starts.

use super::{Kind, Reader, SmbiosMode, kept, lost};
use crate::node::Node;
use firstlight_vm::{BootDevice, Kernel, Machine, Virtualization};
use std::path::PathBuf;

impl Reader {
    pub(super) fn os(&mut self, node: Node) {
        if node.attribute("firmware") == Some("efi") {
            self.log
                .error(node, "firmware='efi' asks for UEFI; this is a BIOS");
        } else {
            let picks = self.log.choice(node, "firmware", &[("bios", ())]);
            self.domain.picks_firmware = picks.is_some();
        }
        let paravirtual = self.domain.guest.virtualization != Virtualization::Hvm;
        let mut kernel = None;
        let (mut initrd, mut command_line) = (None, None);
        for child in self.log.children(node, &["boot", "initarg", "initenv"]) {
            match child.name() {
                "type" => self.os_type(child),
                "loader" | "boot" | "bootmenu" | "bios" | "smbios" | "acpi" if paravirtual => {
                    self.without_bios(child);
                }
                "loader" => self.loader(child),
                "boot" => self.boot(child),
                "bootmenu" => self.boot_menu(child),
                "bios" => self.bios(child),
                "smbios" => self.smbios_mode(child),
                "kernel" => kernel = self.kernel_file(child),
                "initrd" => {
                    initrd = self.kernel_file(child);
                    self.belongs_to_kernel(child, node);
                }
                "cmdline" => {
                    let text = child.text();
                    self.belongs_to_kernel(child, node);
                    let fate = || kept("carried");
                    self.fate(child, text.clone(), [fate(), fate(), fate(), fate()]);
                    command_line = Some(text);
                }
                "acpi" => self.acpi_tables(child),
                "nvram" | "varstore" => self.refuse(child, "is for UEFI; this is a BIOS"),
                "firmware" => self
                    .log
                    .ignore(child, "is ignored: the firmware is this one"),
                "dtb" | "shim" => self.refuse(child, "is nothing that a PC can take"),
                "init" | "initarg" | "initenv" | "initdir" | "inituser" | "initgroup" | "idmap" => {
                    self.refuse(child, "is for containers");
                }
                _ => {}
            }
        }
        if !node.contains("type") {
            self.log.error(node, "has no <type>");
        }
        if let Some(file) = kernel {
            self.domain.guest.kernel = Some(Kernel {
                file,
                initrd,
                command_line,
            });
        }
    }

    /// An element for a BIOS, in a domain that has none.
    fn without_bios(&mut self, node: Node) {
        let why = "is ignored: a paravirtual guest has no BIOS";
        self.log.ignore(node, why);
        let fate = || lost("is ignored");
        self.fate(
            node,
            "something of a BIOS",
            [fate(), fate(), fate(), fate()],
        );
    }

    fn belongs_to_kernel(&mut self, node: Node, os: Node) {
        if !os.contains("kernel") {
            self.log
                .error(node, "there is no <kernel> that it belongs to");
        }
    }

    /// What kind of guest `<type>` in `<os>` of a domain says it is.
    pub(super) fn virtualization(domain: Node) -> Virtualization {
        let kind = domain.child("os").and_then(|os| os.child("type"));
        let kind = kind.map(|kind| (kind.text(), kind.attribute("machine")));
        match kind
            .as_ref()
            .map(|(kind, machine)| (kind.as_str(), *machine))
        {
            Some(("xenpvh", _) | ("linux" | "xen", Some("xenpvh"))) => Virtualization::Pvh,
            Some(("linux" | "xen", _)) => Virtualization::Pv,
            _ => Virtualization::Hvm,
        }
    }

    fn os_type(&mut self, node: Node) {
        match node.text().as_str() {
            "hvm" => {}
            "linux" | "xen" | "xenpvh" => return self.paravirtual_type(node),
            other => {
                let message = format!("'{other}' is not one of hvm, linux, xen, xenpvh");
                return self.log.error(node, message);
            }
        }
        match node.attribute("arch") {
            None | Some("x86_64") => {}
            Some("i686") => {
                self.log.warn(node, "arch='i686' is ignored: the machine has 64-bit processors, which this firmware needs");
                let fates = [
                    kept("64-bit processors"),
                    lost("without <cpu>, -cpu qemu32, which this firmware cannot run on"),
                    kept("64-bit processors"),
                    kept("64-bit processors"),
                ];
                self.fate(node, "arch i686", fates);
            }
            Some(other) => self
                .log
                .error(node, format!("arch='{other}' is not x86_64")),
        }
        let Some(machine) = node.attribute("machine") else {
            return;
        };
        if self.log.word(node, "machine", machine).is_none() {
            return;
        }
        let guest = &mut self.domain.guest;
        let exact = match machine {
            "pc" | "xenfv" | "xenner" => false,
            "q35" => {
                guest.machine = Machine::Q35;
                false
            }
            name if name.starts_with("pc-i440fx-") => true,
            name if name.starts_with("xenfv-") => false,
            name if name.starts_with("pc-q35-") => {
                guest.machine = Machine::Q35;
                true
            }
            _ => {
                self.log.error(
                    node,
                    format!("machine='{machine}' is none that this firmware runs on: pc, q35, pc-i440fx-… or pc-q35-…"),
                );
                return;
            }
        };
        guest.machine_type = exact.then(|| machine.to_owned());
        let on_xen = match guest.machine {
            Machine::Pc => kept("i440FX, the only one there"),
            Machine::Q35 => lost("i440FX, the only one there"),
        };
        let fates = [kept("-machine"), kept("-machine"), on_xen.clone(), on_xen];
        self.fate(node, machine, fates);
    }

    /// The `<type>` of a domain whose kernel knows Xen and needs no BIOS.
    fn paravirtual_type(&mut self, node: Node) {
        if self.domain.kind != Kind::Xen {
            let message = "is a paravirtual guest, which only <domain type='xen'> can have";
            self.log.error(node, message);
        }
        let arches = [("x86_64", ()), ("i686", ())];
        self.log.choice(node, "arch", &arches);
        let machines = [
            ("xenpv", Virtualization::Pv),
            ("xenpvh", Virtualization::Pvh),
        ];
        self.log.choice(node, "machine", &machines);
        let (asks, option) = match self.domain.guest.virtualization {
            Virtualization::Pvh => ("a paravirtual guest, PVH", "type=pvh"),
            _ => ("a paravirtual guest, PV", "type=pv"),
        };
        let fates = [kept(""), kept(""), kept(option), kept(option)];
        self.fate(node, asks, fates);
    }

    fn loader(&mut self, node: Node) {
        self.log.ignore_attributes(node, &["stateless", "format"]);
        let kinds = [("rom", true), ("pflash", false)];
        if self.log.choice(node, "type", &kinds) == Some(false) {
            self.log.error(
                node,
                "type='pflash' asks for UEFI; this is a BIOS: type='rom'",
            );
        }
        if self.log.yes_no(node, "secure") == Some(true) {
            self.log
                .error(node, "secure='yes' asks for UEFI; this is a BIOS");
        }
        self.log.yes_no(node, "readonly");
        let text = node.text();
        self.domain.loader = (!text.is_empty()).then(|| self.base.join(&text));
        let xen_path = self.domain.kind == Kind::Xen || text.ends_with("hvmloader");
        let fates = [
            kept("Firstlight's ROM in its place"),
            if xen_path {
                lost("-bios with a file that QEMU cannot start")
            } else {
                kept("-bios")
            },
            kept("firmware_override="),
            lost("is ignored: the system's hvmloader, see firstlight divert"),
        ];
        self.fate(node, text, fates);
    }

    fn boot(&mut self, node: Node) {
        let kinds = [
            ("fd", BootDevice::Floppy),
            ("hd", BootDevice::Disk),
            ("cdrom", BootDevice::Cdrom),
            ("network", BootDevice::Network),
        ];
        let Some(name) = self.log.attribute(node, "dev") else {
            return;
        };
        let Some(device) = self.log.choice(node, "dev", &kinds) else {
            return;
        };
        self.boots_by_kind = true;
        if self.domain.guest.boot.order.contains(&device) {
            self.log
                .warn(node, format!("{name} is named twice, and counts once"));
            return;
        }
        self.domain.guest.boot.order.push(device);
        let place = self.domain.guest.boot.order.len();
        let fates = [
            kept(format!("bootindex={place} of the first such device")),
            kept(format!("bootindex={place} of the first such device")),
            kept(format!("boot=, letter {place}")),
            kept(format!("boot=, letter {place}")),
        ];
        self.fate(node, name, fates);
    }

    fn boot_menu(&mut self, node: Node) {
        let Some(enable) = self.log.yes_no(node, "enable") else {
            self.log.attribute(node, "enable");
            return;
        };
        let timeout = self.log.number_of(node, "timeout", 0..=65535);
        let boot = &mut self.domain.guest.boot;
        boot.menu = Some(enable);
        boot.menu_timeout = timeout.map(|timeout| timeout as u32);
        let asks = match (enable, timeout) {
            (false, _) => "no menu".to_owned(),
            (true, None) => "a menu".to_owned(),
            (true, Some(timeout)) => format!("a menu, for {timeout} ms"),
        };
        let fates = [
            kept("-boot menu="),
            kept("-boot menu="),
            kept("setting menu"),
            if enable {
                lost("is ignored")
            } else {
                kept("no menu, Firstlight's default")
            },
        ];
        self.fate(node, asks, fates);
    }

    fn bios(&mut self, node: Node) {
        let serial = self.log.yes_no(node, "useserial");
        let timeout = self.log.number_of(node, "rebootTimeout", -1..=65535);
        if serial == Some(true) {
            self.domain.guest.serial_console = true;
            let fates = [
                kept("-machine graphics=off"),
                kept("-machine graphics=off"),
                kept("setting serial-console"),
                lost("is ignored"),
            ];
            self.fate(node, "text on the serial port", fates);
        }
        if let Some(timeout) = timeout {
            self.domain.guest.boot.reboot_timeout = Some(timeout as i32);
            let fates = [
                kept("-boot reboot-timeout="),
                kept("-boot reboot-timeout="),
                kept("setting fail-timeout"),
                lost("is ignored"),
            ];
            let asks = match timeout {
                -1 => "no restart when nothing boots".to_owned(),
                _ => format!("a restart {timeout} ms after nothing boots"),
            };
            self.fate(node, asks, fates);
        }
    }

    fn smbios_mode(&mut self, node: Node) {
        let modes = [
            ("emulate", SmbiosMode::Emulate),
            ("host", SmbiosMode::Host),
            ("sysinfo", SmbiosMode::Sysinfo),
        ];
        let Some(mode) = self.log.attribute(node, "mode") else {
            return;
        };
        self.domain.smbios = self.log.choice(node, "mode", &modes);
        let fates = match self.domain.smbios {
            None => return,
            Some(SmbiosMode::Emulate) => ["the firmware's"; 4].map(kept),
            Some(_) => [
                kept("-smbios"),
                kept("-smbios"),
                kept("smbios_firmware="),
                lost("is ignored"),
            ],
        };
        self.fate(node, mode, fates);
    }

    fn kernel_file(&mut self, node: Node) -> Option<PathBuf> {
        let text = self.log.some_text(node)?;
        let fate = || kept("carried");
        self.fate(node, text.clone(), [fate(), fate(), fate(), fate()]);
        let base = self.base.clone();
        self.log.path(node, "the file", &text, &base)
    }

    fn acpi_tables(&mut self, node: Node) {
        for child in self.log.children(node, &["table"]) {
            if !child.is("table") {
                continue;
            }
            let kinds = [("slic", ()), ("raw", ()), ("rawset", ()), ("msdm", ())];
            self.log.choice(child, "type", &kinds);
            let Some(text) = self.log.some_text(child) else {
                continue;
            };
            let fates = [
                kept("-acpitable"),
                kept("-acpitable"),
                kept("acpi_firmware="),
                lost("is dropped"),
            ];
            self.fate(child, text.clone(), fates);
            let base = self.base.clone();
            let path = self.log.path(child, "the file", &text, &base);
            self.domain.guest.acpi_tables.extend(path);
        }
    }
}
