//! QEMU's command line for a guest.

use crate::device::{Chardev, FwCfgValue, Nic, NicBackend, Rom, TpmBackend, Values};
use crate::disk::{Bus, Disk, Medium};
use crate::guest::{Accelerator, Guest, Machine};
use anyhow::{Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::Command;

/// The program.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// The command that starts a guest.
///
/// # Errors
/// QEMU has no place for a device, such as a fifth IDE disk.
pub fn command(guest: &Guest) -> Result<Command> {
    let mut command = Command::new(PROGRAM);
    command.args(arguments(guest)?);
    Ok(command)
}

/// The arguments that start a guest.
///
/// # Errors
/// As [`command`].
pub fn arguments(guest: &Guest) -> Result<Vec<OsString>> {
    let mut line = Line(Vec::new());
    machine(guest, &mut line);
    // The first device has the first free slot: the display, as with SeaBIOS's own defaults.
    if let Some(video) = &guest.video {
        line.add("-device", Options::new(video));
    }
    if !guest.window {
        line.word("-display", "none");
    }
    boot(guest, &mut line);
    tables(guest, &mut line);
    // QEMU looks for a device's bus among those that it has so far.
    for bridge in 0..guest.bridges {
        let chassis = (bridge + 1).to_string();
        let device = Options::new("pci-bridge").set("id", format!("b{bridge}"));
        line.add("-device", device.set("chassis_nr", chassis));
    }
    let mut buses = Buses::default();
    for (index, disk) in guest.disks.iter().enumerate() {
        buses.disk(guest, index, disk, &mut line)?;
    }
    for (index, card) in guest.nics.iter().enumerate() {
        nic(index, card, &mut line);
    }
    others(guest, &mut line);
    ports(guest, &mut line);
    line.0.extend(guest.arguments.iter().cloned());
    Ok(line.0)
}

/// The arguments so far.
struct Line(Vec<OsString>);

impl Line {
    /// Adds an option with a value that is one word.
    fn word(&mut self, option: &str, value: impl AsRef<OsStr>) {
        self.0.push(option.into());
        self.0.push(value.as_ref().to_owned());
    }

    /// Adds an option with a value that is a list.
    fn add(&mut self, option: &str, options: Options) {
        self.word(option, OsString::from_vec(options.0));
    }
}

/// The value of an option that is a list: what comes first, and then `name=value`, divided by commas.
struct Options(Vec<u8>);

impl Options {
    fn new(first: &str) -> Self {
        Self(first.as_bytes().to_vec())
    }

    /// Adds `name=value` with any value: QEMU wants each comma in it twice (docs/system/invocation: "option=value" lists).
    fn set(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        if !self.0.is_empty() {
            self.0.push(b',');
        }
        self.0.extend(name.as_bytes());
        self.0.push(b'=');
        for &byte in value.as_ref().as_bytes() {
            self.0
                .extend(std::iter::repeat_n(byte, 1 + usize::from(byte == b',')));
        }
        self
    }

    /// The same where there is a value.
    fn set_some<T: ToString>(self, name: &str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.set(name, value.to_string()),
            None => self,
        }
    }

    /// Adds `name=value` pairs that are QEMU's syntax already.
    fn raw(mut self, pairs: &[String]) -> Self {
        for pair in pairs {
            if !self.0.is_empty() {
                self.0.push(b',');
            }
            self.0.extend(pair.as_bytes());
        }
        self
    }
}

fn machine(guest: &Guest, line: &mut Line) {
    if let Some(name) = &guest.name {
        line.add("-name", Options::new("").set("guest", name));
    }
    let accelerator = match guest.accelerator {
        Accelerator::Tcg => "tcg",
        Accelerator::Kvm => "kvm",
    };
    let name = guest.machine_type.as_deref();
    let mut machine = Options::new(name.unwrap_or(guest.machine.name())).set("accel", accelerator);
    if !guest.acpi {
        machine = machine.set("acpi", "off");
    }
    if guest.serial_console {
        machine = machine.set("graphics", "off");
    }
    line.add("-machine", machine.raw(&guest.machine_options));
    if let Some(bios) = &guest.bios {
        line.word("-bios", bios);
    }
    if let Some(model) = &guest.cpus.model {
        line.word("-cpu", model);
    }
    line.word("-m", format!("{}M", guest.memory_mib));
    let mut smp = Options::new(&guest.cpus.count.to_string());
    smp = smp.set_some("maxcpus", guest.cpus.maximum);
    for (level, count) in &guest.cpus.topology {
        smp = smp.set(level, count.to_string());
    }
    line.add("-smp", smp);
    if let Some(uuid) = &guest.uuid {
        line.word("-uuid", uuid);
    }
    line.0.push("-nodefaults".into());
    if guest.local_time {
        line.word("-rtc", "base=localtime");
    }
    if !guest.restarts {
        line.0.push("-no-reboot".into());
    }
}

fn boot(guest: &Guest, line: &mut Line) {
    let boot = &guest.boot;
    let mut options = Options::new("");
    if !boot.order.is_empty() {
        let order: String = boot.order.iter().map(|device| device.letter()).collect();
        options = options.set("order", order);
    }
    if let Some(menu) = boot.menu {
        options = options.set("menu", if menu { "on" } else { "off" });
    }
    options = options.set_some("splash-time", boot.menu_timeout);
    options = options.set_some("reboot-timeout", boot.reboot_timeout);
    if boot.strict {
        options = options.set("strict", "on");
    }
    if !options.0.is_empty() {
        line.add("-boot", options);
    }
    if let Some(kernel) = &guest.kernel {
        line.word("-kernel", &kernel.file);
        if let Some(initrd) = &kernel.initrd {
            line.word("-initrd", initrd);
        }
        if let Some(text) = &kernel.command_line {
            line.word("-append", text);
        }
    }
}

fn tables(guest: &Guest, line: &mut Line) {
    let sysinfo = &guest.sysinfo;
    let mut smbios = |kind: u8, values: &Values| {
        if values.is_empty() {
            return;
        }
        let first = Options::new("").set("type", kind.to_string());
        let options = values.iter();
        let options = options.fold(first, |options, (name, value)| options.set(name, value));
        line.add("-smbios", options);
    };
    smbios(0, &sysinfo.bios);
    smbios(1, &sysinfo.system);
    for board in &sysinfo.base_boards {
        smbios(2, board);
    }
    smbios(3, &sysinfo.chassis);
    let strings = sysinfo.oem_strings.iter();
    let strings = strings.map(|text| ("value".to_owned(), text.clone()));
    smbios(11, &strings.collect());
    for file in &guest.acpi_tables {
        line.add("-acpitable", Options::new("").set("file", file));
    }
    for file in &guest.fw_cfg {
        let options = Options::new("").set("name", &file.name);
        line.add(
            "-fw_cfg",
            match &file.value {
                FwCfgValue::Text(text) => options.set("string", text),
                FwCfgValue::File(path) => options.set("file", path),
            },
        );
    }
}

/// The buses that disks are on, and how many each has.
#[derive(Default)]
struct Buses {
    ide: u32,
    sata: u32,
    /// By the controller's number, as those of USB.
    scsi: BTreeMap<u32, u32>,
    usb: BTreeSet<u32>,
    floppy: u32,
    nvme: u32,
}

impl Buses {
    /// Adds a disk, and its controller before the first one of a bus that the machine does not have.
    fn disk(&mut self, guest: &Guest, index: usize, disk: &Disk, line: &mut Line) -> Result<()> {
        let id = format!("disk{index}");
        let drive = Options::new("if=none").set("id", &id);
        let drive = match &disk.source {
            // The file's name is told apart from names of protocols ("nbd:…", "json:…").
            Some(path) => {
                let host_device = if is_block_device(path) {
                    "host_device"
                } else {
                    "file"
                };
                let mut drive = drive.set("format", disk.format.name());
                drive = drive
                    .set("file.driver", host_device)
                    .set("file.filename", path);
                if disk.read_only || disk.medium == Medium::Cdrom {
                    drive = drive.set("readonly", "on");
                }
                if disk.snapshot {
                    drive.set("snapshot", "on")
                } else {
                    drive
                }
            }
            None => drive,
        };
        line.add("-drive", drive.raw(&disk.drive_options));
        let device = match disk.bus {
            Bus::Ide => self.ide(guest.machine, disk, line)?,
            Bus::Sata => self.sata(guest.machine, disk, line)?,
            Bus::Scsi => self.scsi(guest, disk, line),
            Bus::Usb => self.usb(guest, disk, line)?,
            Bus::Floppy => self.floppy(guest.machine, disk, line)?,
            Bus::Nvme => {
                let number = next(&mut self.nvme, disk.unit);
                let serial = format!("nvme-{number}");
                Options::new("nvme").set("serial", disk.serial.as_ref().unwrap_or(&serial))
            }
            Bus::Virtio => Options::new("virtio-blk-pci"),
        };
        let device = match (&disk.serial, disk.bus) {
            // A floppy has none, and the others were given theirs already.
            (_, Bus::Nvme | Bus::Floppy) => device,
            (serial, _) => device.set_some("serial", serial.as_ref()),
        };
        let device = device
            .set("drive", &id)
            // The controller has those of floppy drives.
            .set_some(
                "bootindex",
                disk.boot_index.filter(|_| disk.bus != Bus::Floppy),
            );
        line.add("-device", device.raw(&disk.device_options));
        Ok(())
    }

    fn ide(&mut self, machine: Machine, disk: &Disk, line: &mut Line) -> Result<Options> {
        if machine == Machine::Q35 && self.ide == 0 {
            line.word("-device", "piix3-ide,id=piix");
        }
        let unit = next(&mut self.ide, disk.unit);
        ensure!(unit < 4, "an IDE controller has four drives at most");
        let bus = match machine {
            Machine::Pc => "ide",
            Machine::Q35 => "piix",
        };
        let device = Options::new(ata(disk.medium)?);
        let device = device.set("bus", format!("{bus}.{}", unit / 2));
        Ok(device.set("unit", (unit % 2).to_string()))
    }

    fn sata(&mut self, machine: Machine, disk: &Disk, line: &mut Line) -> Result<Options> {
        if machine == Machine::Pc && self.sata == 0 {
            line.word("-device", "ahci,id=sata");
        }
        let unit = next(&mut self.sata, disk.unit);
        ensure!(unit < 6, "an AHCI controller has six drives at most");
        let bus = match machine {
            Machine::Pc => "sata",
            Machine::Q35 => "ide",
        };
        Ok(Options::new(ata(disk.medium)?).set("bus", format!("{bus}.{unit}")))
    }

    fn scsi(&mut self, guest: &Guest, disk: &Disk, line: &mut Line) -> Options {
        let bus = format!("scsi{}", disk.controller);
        let count = self.scsi.entry(disk.controller).or_insert_with(|| {
            let device = guest.scsi_controller(disk.controller);
            line.add("-device", Options::new(device).set("id", &bus));
            0
        });
        let unit = next(count, disk.unit);
        let device = match disk.medium {
            Medium::Cdrom => "scsi-cd",
            Medium::Disk | Medium::Floppy => "scsi-hd",
        };
        let device = Options::new(device).set("bus", format!("{bus}.0"));
        device.set("scsi-id", unit.to_string())
    }

    fn usb(&mut self, guest: &Guest, disk: &Disk, line: &mut Line) -> Result<Options> {
        ensure!(
            disk.medium != Medium::Floppy,
            "QEMU has no USB floppy drive"
        );
        let bus = format!("usb{}", disk.controller);
        if self.usb.insert(disk.controller) {
            let device = guest.usb_controller(disk.controller);
            line.add("-device", Options::new(device).set("id", &bus));
        }
        let device = Options::new("usb-storage").set("bus", format!("{bus}.0"));
        let removable = if disk.medium == Medium::Cdrom {
            "on"
        } else {
            "off"
        };
        Ok(device.set("removable", removable))
    }

    fn floppy(&mut self, machine: Machine, disk: &Disk, line: &mut Line) -> Result<Options> {
        if machine == Machine::Q35 && self.floppy == 0 {
            line.word("-device", "isa-fdc");
        }
        let unit = next(&mut self.floppy, disk.unit);
        ensure!(unit < 2, "a floppy controller has two drives at most");
        if let Some(index) = disk.boot_index {
            let letter = if unit == 0 { 'A' } else { 'B' };
            line.word("-global", format!("isa-fdc.bootindex{letter}={index}"));
        }
        Ok(Options::new("floppy").set("unit", unit.to_string()))
    }
}

/// The number of the next device on a bus, or the one that it has to have.
fn next(count: &mut u32, unit: Option<u32>) -> u32 {
    let unit = unit.unwrap_or(*count);
    *count = unit.saturating_add(1).max(*count);
    unit
}

fn ata(medium: Medium) -> Result<&'static str> {
    match medium {
        Medium::Disk => Ok("ide-hd"),
        Medium::Cdrom => Ok("ide-cd"),
        Medium::Floppy => bail!("QEMU has no ATA floppy drive"),
    }
}

fn is_block_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|file| file.file_type().is_block_device())
}

fn nic(index: usize, nic: &Nic, line: &mut Line) {
    let id = format!("net{index}");
    let mut device = Options::new(&nic.model);
    if let NicBackend::User(options) = &nic.backend {
        let netdev = Options::new("user").set("id", &id);
        let options = options.iter();
        let netdev = options.fold(netdev, |netdev, (name, value)| netdev.set(name, value));
        line.add("-netdev", netdev);
        device = device.set("netdev", &id);
    }
    device = device.set_some("mac", nic.mac.as_ref());
    device = device.set_some("bootindex", nic.boot_index);
    device = match &nic.rom {
        Rom::Default => device,
        Rom::None => device.set("romfile", ""),
        Rom::File(path) => device.set("romfile", path),
    };
    line.add("-device", device.raw(&nic.options));
}

fn others(guest: &Guest, line: &mut Line) {
    if let Some(id) = &guest.generation_id {
        line.add("-device", Options::new("vmgenid").set("guid", id));
    }
    if let Some(file) = &guest.random {
        let object = Options::new("rng-random").set("id", "rng0");
        line.add("-object", object.set("filename", file));
        line.word("-device", "virtio-rng-pci,rng=rng0");
    }
    if let Some(tpm) = &guest.tpm {
        let backend = match &tpm.backend {
            TpmBackend::Socket(path) => {
                let socket = Options::new("socket").set("id", "tpm");
                line.add("-chardev", socket.set("path", path));
                Options::new("emulator").set("chardev", "tpm")
            }
            TpmBackend::Device(path) => Options::new("passthrough").set("path", path),
        };
        line.add("-tpmdev", backend.set("id", "tpm0"));
        let device = Options::new(&tpm.model).set("tpmdev", "tpm0");
        line.add("-device", device);
    }
}

fn ports(guest: &Guest, line: &mut Line) {
    let terminal = [Chardev::Terminal];
    let own_monitor = guest.serial.iter().any(|serial| terminal.contains(serial));
    if !own_monitor {
        line.word("-monitor", "none");
    }
    for (index, serial) in guest.serial.iter().enumerate() {
        let id = format!("serial{index}");
        chardev(serial, &id, line);
        line.word("-serial", format!("chardev:{id}"));
    }
    for (port, output) in &guest.debug_ports {
        let id = format!("debug{port:x}");
        chardev(output, &id, line);
        let device = Options::new("isa-debugcon").set("iobase", format!("{port:#x}"));
        line.add("-device", device.set("chardev", &id));
    }
    if let Some(socket) = &guest.monitor {
        let monitor = Options::new("socket").set("id", "qmp").set("path", socket);
        line.add("-chardev", monitor.raw(&["server=on,wait=off".into()]));
        line.word("-mon", "chardev=qmp,mode=control");
    }
}

fn chardev(chardev: &Chardev, id: &str, line: &mut Line) {
    let named = |kind: &str| Options::new(kind).set("id", id);
    let options = match chardev {
        Chardev::Stdio => named("stdio").set("signal", "off"),
        Chardev::Terminal => named("stdio").set("mux", "on").set("signal", "off"),
        Chardev::Pty => named("pty"),
        Chardev::Null => named("null"),
        Chardev::File(path) => named("file").set("path", path),
        Chardev::Socket(path, log) => named("socket")
            .set("path", path)
            .set("logfile", log)
            .raw(&["server=on,wait=off".into()]),
    };
    line.add("-chardev", options);
    if *chardev == Chardev::Terminal {
        line.word("-mon", format!("chardev={id},mode=readline"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BootDevice, FwCfg, Kernel};

    fn line(guest: &Guest) -> Vec<String> {
        let words = arguments(guest).expect("a place for each device");
        words
            .into_iter()
            .map(|word| word.into_string().expect("UTF-8"))
            .collect()
    }

    /// The values of an option, in order.
    fn values(guest: &Guest, option: &str) -> Vec<String> {
        let line = line(guest);
        let pairs = line.windows(2).filter(|pair| pair[0] == option);
        pairs.map(|pair| pair[1].clone()).collect()
    }

    #[test]
    fn a_plain_machine_has_nothing_but_itself() {
        let expected = "-machine pc,accel=tcg -m 256M -smp 1 -nodefaults -device VGA -display none -monitor none";
        assert_eq!(line(&Guest::new(Machine::Pc)).join(" "), expected);
    }

    #[test]
    fn bridges_come_before_what_is_behind_them() {
        let mut guest = Guest::new(Machine::Q35);
        guest.bridges = 1;
        let disk = Disk::new(Bus::Virtio, Path::new("/a")).device_option("bus=b0");
        guest.disks.push(disk);
        let devices = values(&guest, "-device");
        assert_eq!(devices[1], "pci-bridge,id=b0,chassis_nr=1");
        assert!(devices[2].ends_with(",bus=b0"), "{devices:?}");
    }

    #[test]
    fn names_of_files_keep_their_commas_and_are_no_protocol() {
        let mut guest = Guest::new(Machine::Q35);
        guest
            .disks
            .push(Disk::new(Bus::Virtio, Path::new("nbd:a,b\n'\"c")).snapshot());
        assert_eq!(
            values(&guest, "-drive"),
            [
                "if=none,id=disk0,format=raw,file.driver=file,file.filename=nbd:a,,b\n'\"c,snapshot=on"
            ]
        );
    }

    #[test]
    fn each_bus_has_its_controller_once() {
        let mut guest = Guest::new(Machine::Q35);
        let buses = [
            Bus::Ide,
            Bus::Sata,
            Bus::Scsi,
            Bus::Usb,
            Bus::Nvme,
            Bus::Virtio,
        ];
        for bus in buses.iter().chain(&buses) {
            guest.disks.push(Disk::new(*bus, Path::new("x")));
        }
        guest.disks.push(Disk::cdrom(Bus::Sata, None));
        guest.disks.push(Disk::floppy(None).boot_index(1));
        let devices = values(&guest, "-device");
        for device in [
            "piix3-ide,id=piix",
            "ide-hd,bus=piix.0,unit=1,drive=disk6",
            "ide-hd,bus=ide.1,drive=disk7",
            "ide-cd,bus=ide.2,drive=disk12",
            "virtio-scsi-pci,id=scsi0",
            "scsi-hd,bus=scsi0.0,scsi-id=1,drive=disk8",
            "usb-storage,bus=usb0.0,removable=off,drive=disk3",
            "nvme,serial=nvme-1,drive=disk10",
            "floppy,unit=0,drive=disk13",
        ] {
            assert_eq!(
                devices.iter().filter(|own| *own == device).count(),
                1,
                "{device}: {devices:#?}"
            );
        }
    }

    #[test]
    fn a_fifth_ide_disk_is_refused() {
        let mut guest = Guest::new(Machine::Pc);
        guest.disks = vec![Disk::new(Bus::Ide, Path::new("x")); 5];
        assert!(arguments(&guest).is_err());
    }

    #[test]
    fn what_the_firmware_is_told() {
        let mut guest = Guest::new(Machine::Pc);
        guest.boot.order = vec![BootDevice::Cdrom, BootDevice::Disk];
        guest.boot.menu = Some(true);
        guest.boot.menu_timeout = Some(3000);
        guest.boot.strict = true;
        guest.setting("log", "debug");
        guest.fw_cfg.push(FwCfg::text("opt/a,b", "c,d"));
        guest.sysinfo.system.push(("serial".into(), "1,2".into()));
        guest.sysinfo.oem_strings = vec!["a".into(), "b=c".into()];
        assert_eq!(
            values(&guest, "-boot"),
            ["order=dc,menu=on,splash-time=3000,strict=on"]
        );
        assert_eq!(
            values(&guest, "-fw_cfg"),
            [
                "name=opt/firstlight/log,string=debug",
                "name=opt/a,,b,string=c,,d"
            ]
        );
        assert_eq!(
            values(&guest, "-smbios"),
            ["type=1,serial=1,,2", "type=11,value=a,value=b=c"]
        );
    }

    #[test]
    fn kernels_cards_and_ports() {
        let mut guest = Guest::new(Machine::Pc);
        guest.kernel = Some(Kernel {
            file: "k".into(),
            initrd: Some("i".into()),
            command_line: Some("a, b".into()),
        });
        let mut card = Nic::new("e1000");
        card.rom = Rom::None;
        card.boot_index = Some(2);
        card.backend = NicBackend::User(vec![("tftp".into(), "/a,b".into())]);
        guest.nics.push(card);
        guest.serial.push(Chardev::Terminal);
        guest.debug_ports.push((0xE9, Chardev::File("/x".into())));
        assert_eq!(values(&guest, "-append"), ["a, b"]);
        assert_eq!(values(&guest, "-netdev"), ["user,id=net0,tftp=/a,,b"]);
        let devices = values(&guest, "-device");
        assert_eq!(devices[1], "e1000,netdev=net0,bootindex=2,romfile=");
        assert_eq!(devices[2], "isa-debugcon,iobase=0xe9,chardev=debuge9");
        assert_eq!(values(&guest, "-mon"), ["chardev=serial0,mode=readline"]);
        assert!(values(&guest, "-monitor").is_empty());
    }
}
