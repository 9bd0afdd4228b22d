//! What a guest has.

use crate::device::{Chardev, FwCfg, FwCfgValue, Nic, Sysinfo, Tpm};
use crate::disk::Disk;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// A kind of machine that Firstlight supports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Machine {
    /// i440FX and PIIX3, with IDE disks.
    #[default]
    Pc,
    /// Q35 and ICH9, with AHCI disks.
    Q35,
}

impl Machine {
    /// Both machines, for what has to be true of each.
    pub const ALL: [Self; 2] = [Self::Pc, Self::Q35];

    /// QEMU's name of the machine, and ours.
    pub fn name(self) -> &'static str {
        match self {
            Machine::Pc => "pc",
            Machine::Q35 => "q35",
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How much of a PC a guest of Xen is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Virtualization {
    /// A whole PC with a BIOS; all guests of QEMU are.
    #[default]
    Hvm,
    /// A kernel in a hardware-virtualized machine without devices of a PC.
    Pvh,
    /// A kernel that asks Xen for all.
    Pv,
}

impl Virtualization {
    /// xl's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hvm => "hvm",
            Self::Pvh => "pvh",
            Self::Pv => "pv",
        }
    }
}

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Accelerator {
    /// QEMU's translator: works everywhere.
    #[default]
    Tcg,
    /// Linux's KVM, where /dev/kvm is there and may be used.
    Kvm,
}

/// A firmware for a guest of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Firmware {
    /// This project's.
    Firstlight,
    /// The one that QEMU starts by itself.
    #[value(name = "seabios")]
    SeaBios,
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Firstlight => "firstlight",
            Self::SeaBios => "seabios",
        })
    }
}

/// The virtual CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus {
    /// How many are there from the start.
    pub count: u32,
    /// How many there can be; [`Cpus::count`] where nothing is said.
    pub maximum: Option<u32>,
    /// Sockets, dies, cores and threads, as far as they are said.
    pub topology: Vec<(&'static str, u32)>,
    /// QEMU's name of the model with its features, QEMU's default where nothing is said.
    pub model: Option<String>,
}

impl Cpus {
    /// So many CPUs of QEMU's default model.
    pub fn new(count: u32) -> Self {
        Self {
            count,
            maximum: None,
            topology: Vec::new(),
            model: None,
        }
    }
}

/// A kind of device to boot from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BootDevice {
    /// The floppy drives.
    Floppy,
    /// The hard disks.
    Disk,
    /// The CD drives.
    Cdrom,
    /// The network cards.
    Network,
}

impl BootDevice {
    /// The letter that QEMU's `-boot order=` and xl's `boot=` have for it.
    pub fn letter(self) -> char {
        match self {
            Self::Floppy => 'a',
            Self::Disk => 'c',
            Self::Cdrom => 'd',
            Self::Network => 'n',
        }
    }
}

/// What is booted, and who is asked. The order of single devices is with them, in `boot_index`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// Kinds of devices in the order in which they are tried.
    pub order: Vec<BootDevice>,
    /// Nothing is tried that is not named.
    pub strict: bool,
    /// Whether the menu is offered.
    pub menu: Option<bool>,
    /// How long the menu is offered, in milliseconds.
    pub menu_timeout: Option<u32>,
    /// After how many milliseconds without anything to boot the machine restarts; -1 is never.
    pub reboot_timeout: Option<i32>,
}

/// A kernel that the host gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The kernel's file.
    pub file: PathBuf,
    /// The initial RAM disk's file.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub command_line: Option<String>,
}

/// A guest. [`Guest::new`] is a machine with nothing but its own devices; the rest is added by setting fields.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Its UUID, in the usual notation.
    pub uuid: Option<String>,
    /// The UUID that changes when the guest is copied or taken back, or `auto` for one of QEMU's choice.
    pub generation_id: Option<String>,
    /// How much of a PC it is.
    pub virtualization: Virtualization,
    /// What the bootloader is told that picks a paravirtual guest's kernel.
    pub bootloader_arguments: Option<String>,
    /// The kind of machine.
    pub machine: Machine,
    /// QEMU's name of an exact version of the machine, such as `pc-i440fx-8.2`.
    pub machine_type: Option<String>,
    /// More properties of the machine, `name=value`, such as `graphics=off`.
    pub machine_options: Vec<String>,
    /// Whether it has ACPI.
    pub acpi: bool,
    /// Whether its clock is set to local time; to UTC otherwise.
    pub local_time: bool,
    /// Whether a restart starts it again; it ends otherwise.
    pub restarts: bool,
    /// What runs its instructions.
    pub accelerator: Accelerator,
    /// The firmware's ROM, or nothing for QEMU's own.
    pub bios: Option<PathBuf>,
    /// RAM in MiB.
    pub memory_mib: u64,
    /// The virtual CPUs.
    pub cpus: Cpus,
    /// What is booted.
    pub boot: Boot,
    /// A kernel that the host gives.
    pub kernel: Option<Kernel>,
    /// What the SMBIOS tables say.
    pub sysinfo: Sysinfo,
    /// Files of ACPI tables that are added.
    pub acpi_tables: Vec<PathBuf>,
    /// Files for the firmware's configuration device. Firstlight's settings are `opt/firstlight/NAME`.
    pub fw_cfg: Vec<FwCfg>,
    /// The disks, in order.
    pub disks: Vec<Disk>,
    /// QEMU's devices that serve [`crate::Bus::Scsi`], each with its number.
    pub scsi_controllers: BTreeMap<u32, String>,
    /// QEMU's devices that serve [`crate::Bus::Usb`], each with its number.
    pub usb_controllers: BTreeMap<u32, String>,
    /// The network cards, in order.
    pub nics: Vec<Nic>,
    /// QEMU's device for the display; a guest without one has none.
    pub video: Option<String>,
    /// Whether QEMU opens a window.
    pub window: bool,
    /// Whether the firmware shows its text on the first serial port.
    pub serial_console: bool,
    /// The file that a source of random numbers reads, for a guest that has one.
    pub random: Option<PathBuf>,
    /// How many PCI bridges it has for devices that are put on `bus=b0` and so on.
    pub bridges: u32,
    /// Its TPM.
    pub tpm: Option<Tpm>,
    /// The serial ports from COM1 on.
    pub serial: Vec<Chardev>,
    /// Ports that a guest writes text to (QEMU's isa-debugcon), each with where the text goes.
    pub debug_ports: Vec<(u16, Chardev)>,
    /// The socket of the machine's [`crate::Monitor`].
    pub monitor: Option<PathBuf>,
    /// More arguments for QEMU.
    pub arguments: Vec<OsString>,
}

impl Guest {
    /// QEMU's device for the SCSI controller of a number: virtio where nothing is said.
    pub fn scsi_controller(&self, number: u32) -> &str {
        let named = self.scsi_controllers.get(&number);
        named.map_or("virtio-scsi-pci", String::as_str)
    }

    /// QEMU's device for the USB controller of a number: xHCI where nothing is said.
    pub fn usb_controller(&self, number: u32) -> &str {
        let named = self.usb_controllers.get(&number);
        named.map_or("qemu-xhci", String::as_str)
    }

    /// A machine with 256 MiB, one CPU, a VGA card, no disk and no network card, started by QEMU's own firmware.
    pub fn new(machine: Machine) -> Self {
        Self {
            name: None,
            uuid: None,
            generation_id: None,
            virtualization: Virtualization::Hvm,
            bootloader_arguments: None,
            machine,
            machine_type: None,
            machine_options: Vec::new(),
            acpi: true,
            local_time: false,
            restarts: true,
            accelerator: Accelerator::Tcg,
            bios: None,
            memory_mib: 256,
            cpus: Cpus::new(1),
            boot: Boot::default(),
            kernel: None,
            sysinfo: Sysinfo::default(),
            acpi_tables: Vec::new(),
            fw_cfg: Vec::new(),
            disks: Vec::new(),
            scsi_controllers: BTreeMap::new(),
            usb_controllers: BTreeMap::new(),
            nics: Vec::new(),
            video: Some("VGA".into()),
            window: false,
            serial_console: false,
            random: None,
            bridges: 0,
            tpm: None,
            serial: Vec::new(),
            debug_ports: Vec::new(),
            monitor: None,
            arguments: Vec::new(),
        }
    }

    /// Gives a setting of Firstlight.
    pub fn setting(&mut self, name: &str, value: &str) {
        let file = FwCfg::text(&format!("opt/firstlight/{name}"), value);
        self.fw_cfg.push(file);
    }

    /// The settings of Firstlight that [`Guest::fw_cfg`] has, by name.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fw_cfg.iter().filter_map(|file| {
            let name = file.name.strip_prefix("opt/firstlight/")?;
            match &file.value {
                FwCfgValue::Text(text) => Some((name, text.as_str())),
                FwCfgValue::File(_) => None,
            }
        })
    }

    /// Adds arguments for QEMU.
    pub fn arguments<I: IntoIterator<Item = S>, S: Into<OsString>>(&mut self, arguments: I) {
        self.arguments.extend(arguments.into_iter().map(Into::into));
    }
}
