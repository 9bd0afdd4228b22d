//! `<os>`: how the domain starts.

use super::{Kind, Reader, SmbiosMode, kept, lost};
use firstlight_vm::{BootDevice, Kernel, Machine};
use roxmltree::Node;
use std::path::PathBuf;

impl Reader {
    pub(super) fn os(&mut self, node: Node) {
        if node.attribute("firmware") == Some("efi") {
            self.log
                .error(node, "firmware='efi' asks for UEFI; this is a BIOS");
        } else {
            self.log.choice(node, "firmware", &[("bios", ())]);
        }
        let children = self.log.open(node, &["firmware"]);
        let mut kernel = None;
        let (mut initrd, mut command_line) = (None, None);
        let mut has_type = false;
        for child in children {
            match child.tag_name().name() {
                "type" => {
                    has_type = true;
                    self.os_type(child);
                }
                "loader" => self.loader(child),
                "boot" => self.boot(child),
                "bootmenu" => self.boot_menu(child),
                "bios" => self.bios(child),
                "smbios" => self.smbios_mode(child),
                "kernel" => kernel = self.kernel_file(child),
                "initrd" => {
                    initrd = self.kernel_file(child);
                    if kernel.is_none()
                        && !node.children().any(|other| other.has_tag_name("kernel"))
                    {
                        self.log
                            .error(child, "there is no <kernel> that it belongs to");
                    }
                }
                "cmdline" => {
                    let text = self.log.text(child);
                    if !node.children().any(|other| other.has_tag_name("kernel")) {
                        self.log
                            .error(child, "there is no <kernel> that it belongs to");
                    }
                    let fate = || kept("carried");
                    self.fate(child, text.clone(), [fate(), fate(), fate(), fate()]);
                    command_line = Some(text);
                }
                "acpi" => self.acpi_tables(child),
                "nvram" | "varstore" => self.log.error(child, "is for UEFI; this is a BIOS"),
                "firmware" => self.log.warn(child, "is ignored: the firmware is this one"),
                "dtb" | "shim" => self.log.error(child, "is nothing that a PC can take"),
                "init" | "initarg" | "initenv" | "initdir" | "inituser" | "initgroup" | "idmap" => {
                    self.log.error(child, "is for containers");
                }
                _ => self.log.unknown(child),
            }
        }
        if !has_type {
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

    fn os_type(&mut self, node: Node) {
        self.log.attributes(node, &["arch", "machine"]);
        match self.log.text(node).as_str() {
            "hvm" => {}
            "linux" | "xen" | "xenpvh" => return self.log.error(
                node,
                "is a guest without a BIOS (PV or PVH); firstlight-bootloader picks kernels for those",
            ),
            other => return self.log.error(node, format!("'{other}' is not hvm")),
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

    fn loader(&mut self, node: Node) {
        self.log
            .attributes(node, &["readonly", "type", "secure", "stateless", "format"]);
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
        let text = self.log.text(node);
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
        self.log.empty(node, &["dev"]);
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
        self.log.empty(node, &["enable", "timeout"]);
        let Some(enable) = self.log.yes_no(node, "enable") else {
            if !node.has_attribute("enable") {
                self.log.attribute(node, "enable");
            }
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
        self.log.empty(node, &["useserial", "rebootTimeout"]);
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
        self.log.empty(node, &["mode"]);
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
        for child in self.log.open(node, &[]) {
            if !child.has_tag_name("table") {
                self.log.unknown(child);
                continue;
            }
            self.log.attributes(child, &["type"]);
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
