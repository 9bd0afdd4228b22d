//! The configuration of a guest of Xen: xl.cfg(5).

use crate::device::Chardev;
use crate::disk::{Bus, Disk, Medium};
use crate::guest::{BootDevice, Guest, Virtualization};
use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The files beside a configuration.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The loader that takes hvmloader's place, or nothing for the one that Xen has.
    pub loader: Option<PathBuf>,
    /// The program that picks a paravirtual guest's kernel, unless the guest has one from the host.
    pub bootloader: Option<PathBuf>,
    /// A blob of SMBIOS structures.
    pub smbios: Option<PathBuf>,
    /// Where symbolic links are made to files whose names a list of disks cannot have.
    pub links: PathBuf,
}

/// A configuration, and what it takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The text of the file.
    pub text: String,
    /// Symbolic links to make: where, and to which file.
    pub links: Vec<(PathBuf, PathBuf)>,
}

/// The settings of Firstlight that say what xl.cfg has no option for.
pub fn settings(guest: &Guest) -> Vec<(String, String)> {
    let mut settings: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: String| settings.push((name.into(), value));
    // What the user gave by name comes first, and counts.
    for (name, value) in guest.settings() {
        set(name, value.into());
    }
    let order = order(guest);
    if !order.is_empty() {
        set("order", order.join(","));
    }
    if let Some(menu) = guest.boot.menu {
        set("menu", if menu { "yes" } else { "no" }.into());
    }
    if let Some(timeout) = guest.boot.menu_timeout {
        set("menu-timeout", timeout.to_string());
    }
    if let Some(timeout) = guest.boot.reboot_timeout {
        set("fail-timeout", timeout.to_string());
    }
    if guest.serial_console {
        set("serial-console", "yes".into());
    }
    let mut names = std::collections::BTreeSet::new();
    settings.retain(|(name, _)| names.insert(name.clone()));
    settings
}

/// The words of the setting `order` for devices that have a place of their own.
fn order(guest: &Guest) -> Vec<String> {
    let disks = disk_names(guest).into_iter();
    let disks = guest.disks.iter().zip(disks).filter_map(|(disk, name)| {
        let index = disk.boot_index?;
        let kind = match disk.medium {
            Medium::Disk => "hd",
            Medium::Cdrom => "cdrom",
            Medium::Floppy => "floppy",
        };
        // The IDE controller of the machine that Xen's QEMU makes is function 1 of device 1.
        let ide = name.strip_prefix("hd").and_then(|name| name.bytes().next());
        let place = ide.map(|letter| {
            let (channel, unit) = ((letter - b'a') / 2, (letter - b'a') % 2);
            format!("/pci@i0cf8/ide@1,1/drive@{channel}/disk@{unit}")
        });
        Some((index, place.unwrap_or_else(|| kind.into())))
    });
    let cards = guest.nics.iter();
    let cards = cards.filter_map(|nic| Some((nic.boot_index?, "network".to_owned())));
    let mut all: Vec<(u32, String)> = disks.chain(cards).collect();
    all.sort_by_key(|(index, _)| *index);
    let mut words: Vec<String> = Vec::new();
    for (_, word) in all {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

/// The configuration of a guest.
///
/// # Errors
/// It has something that Xen has no place for.
pub fn configuration(guest: &Guest, files: &Files) -> Result<Configuration> {
    let mut configuration = Configuration::default();
    let mut config = Text(String::new());
    config.string("name", guest.name.as_deref().unwrap_or("guest"))?;
    config.string("type", guest.virtualization.name())?;
    if let Some(uuid) = &guest.uuid {
        config.string("uuid", uuid)?;
    }
    config.number("memory", guest.memory_mib);
    config.number("vcpus", guest.cpus.count.into());
    if let Some(maximum) = guest.cpus.maximum {
        config.number("maxvcpus", maximum.into());
    }
    config.number("localtime", guest.local_time.into());
    if !guest.restarts {
        config.string("on_reboot", "destroy")?;
    }
    match guest.virtualization {
        Virtualization::Hvm => firmware(guest, files, &mut config)?,
        Virtualization::Pvh | Virtualization::Pv => bootloader(guest, files, &mut config)?,
    }
    if let Some(kernel) = &guest.kernel {
        config.path("kernel", &kernel.file)?;
        if let Some(initrd) = &kernel.initrd {
            config.path("ramdisk", initrd)?;
        }
        if let Some(line) = &kernel.command_line {
            config.string("cmdline", line)?;
        }
    }
    disks(guest, files, &mut config, &mut configuration.links)?;
    cards(guest, &mut config)?;
    if guest.virtualization == Virtualization::Hvm {
        serial(guest, &mut config)?;
        match guest.video.as_deref() {
            None => config.string("vga", "none")?,
            Some("cirrus-vga") => config.string("vga", "cirrus")?,
            Some("qxl-vga") => config.string("vga", "qxl")?,
            Some(_) => config.string("vga", "stdvga")?,
        }
    }
    configuration.text = config.0;
    Ok(configuration)
}

/// What a guest with a BIOS has.
fn firmware(guest: &Guest, files: &Files, config: &mut Text) -> Result<()> {
    if let Some(loader) = &files.loader {
        config.path("firmware_override", loader)?;
    }
    if let Some(smbios) = &files.smbios {
        config.path("smbios_firmware", smbios)?;
    }
    match &guest.acpi_tables[..] {
        [] => {}
        [table] => config.path("acpi_firmware", table)?,
        _ => bail!("Xen takes one file of ACPI tables, which may have several in a row"),
    }
    if let Some(id) = &guest.generation_id {
        let id = if id == "auto" { "generate" } else { id };
        config.string("ms_vm_genid", id)?;
    }
    config.number("acpi", guest.acpi.into());
    let boot: String = boot_letters(guest).into_iter().collect();
    if !boot.is_empty() {
        config.string("boot", &boot)?;
    }
    Ok(())
}

/// What picks a paravirtual guest's kernel.
fn bootloader(guest: &Guest, files: &Files, config: &mut Text) -> Result<()> {
    if guest.virtualization == Virtualization::Pvh {
        config.number("acpi", guest.acpi.into());
    }
    if guest.kernel.is_some() {
        return Ok(());
    }
    if let Some(bootloader) = &files.bootloader {
        config.path("bootloader", bootloader)?;
    }
    // One argument, as libvirt gives them: a string that is no list would be divided at blanks, whatever stands in quotes.
    match &guest.bootloader_arguments {
        Some(arguments) => config.list("bootloader_args", std::slice::from_ref(arguments)),
        None => Ok(()),
    }
}

fn cards(guest: &Guest, config: &mut Text) -> Result<()> {
    let mut cards = Vec::new();
    for nic in &guest.nics {
        let mut fields = match guest.virtualization {
            Virtualization::Hvm => vec!["type=ioemu".to_owned(), format!("model={}", nic.model)],
            Virtualization::Pvh | Virtualization::Pv => vec!["type=vif".to_owned()],
        };
        fields.extend(nic.mac.as_ref().map(|mac| format!("mac={mac}")));
        fields.extend(nic.bridge.as_ref().map(|bridge| format!("bridge={bridge}")));
        let plain = fields.iter().all(|field| !field.contains([',', '\n', ' ']));
        ensure!(plain, "a network card has a name that xl.cfg cannot have");
        cards.push(fields.join(","));
    }
    match cards[..] {
        [] => Ok(()),
        _ => config.list("vif", &cards),
    }
}

/// The letters of `boot=`, which names kinds of devices: of the devices that have a place of their own, the kinds in that order.
fn boot_letters(guest: &Guest) -> Vec<char> {
    let mut order = guest.boot.order.clone();
    if order.is_empty() {
        let disks = guest.disks.iter().filter_map(|disk| {
            let kind = match disk.medium {
                Medium::Disk => BootDevice::Disk,
                Medium::Cdrom => BootDevice::Cdrom,
                Medium::Floppy => BootDevice::Floppy,
            };
            Some((disk.boot_index?, kind))
        });
        let cards = guest.nics.iter();
        let cards = cards.filter_map(|nic| Some((nic.boot_index?, BootDevice::Network)));
        let mut all: Vec<(u32, BootDevice)> = disks.chain(cards).collect();
        all.sort();
        order = all.into_iter().map(|(_, kind)| kind).collect();
    }
    let mut letters = Vec::new();
    for device in order {
        if !letters.contains(&device.letter()) {
            letters.push(device.letter());
        }
    }
    letters
}

/// Xen's name of each disk. IDE disks have their place on the controller; others are Xen's own, after those.
fn disk_names(guest: &Guest) -> Vec<String> {
    let letter = |number: u32| char::from(b'a' + number.min(25) as u8);
    let (mut ide, mut sata, mut scsi, mut own) = (0, 0, 0, 0);
    let mut number = |disk: &Disk| match disk.bus {
        Bus::Ide => format!("hd{}", letter(next(&mut ide, disk.unit))),
        Bus::Sata => format!("hd{}", letter(next(&mut sata, disk.unit))),
        Bus::Scsi => format!("sd{}", letter(next(&mut scsi, disk.unit))),
        Bus::Virtio => format!("xvd{}", letter(next(&mut own, disk.unit))),
        Bus::Usb | Bus::Nvme | Bus::Floppy => String::new(),
    };
    let name = |disk: &Disk| match (guest.virtualization, &disk.name) {
        // It is in the guest's own configuration, perhaps.
        (Virtualization::Pvh | Virtualization::Pv, Some(name)) => name.clone(),
        _ => number(disk),
    };
    guest.disks.iter().map(name).collect()
}

fn next(count: &mut u32, unit: Option<u32>) -> u32 {
    let unit = unit.unwrap_or(*count);
    *count = unit.saturating_add(1).max(*count);
    unit
}

/// A disk as the list of disks has it.
fn listed_disk(disk: &Disk, name: &str, source: Option<String>) -> String {
    let mut fields = vec![format!("vdev={name}")];
    match &disk.source {
        None => fields.push("format=empty".into()),
        Some(_) => fields.push(format!("format={}", disk.format.name())),
    }
    if disk.medium == Medium::Cdrom {
        fields.push("devtype=cdrom".into());
    }
    let access = if disk.read_only { "ro" } else { "rw" };
    fields.push(format!("access={access}"));
    fields.push("backendtype=qdisk".into());
    // The target is last: all that follows is its name, commas too.
    fields.extend(source.map(|source| format!("target={source}")));
    fields.join(",")
}

/// The device model's own `arguments` for a disk that the list cannot have.
fn own_disk(
    guest: &Guest,
    index: usize,
    disk: &Disk,
    source: Option<String>,
    arguments: &mut Vec<String>,
) {
    let format = disk.format.name();
    let file = source.map(|source| source.replace(',', ",,"));
    let file = file.map(|file| format!(",format={format},file.driver=file,file.filename={file}"));
    let file = file.unwrap_or_default();
    let number = disk.controller;
    let controller = format!("{},id=usb{number}", guest.usb_controller(number));
    let has_controller = arguments.contains(&controller);
    let mut argument = |option: &str, value: String| {
        arguments.extend([option.to_owned(), value]);
    };
    let drive = format!("if=none,id=own{index}{file}");
    match disk.bus {
        Bus::Floppy => {
            let unit = disk.unit.unwrap_or(0);
            argument("-drive", format!("if=floppy,index={unit}{file}"));
        }
        Bus::Nvme => {
            let device = format!("nvme,serial=nvme-{index},drive=own{index}");
            argument("-drive", drive);
            argument("-device", device);
        }
        _ => {
            if !has_controller {
                argument("-device", controller);
            }
            argument("-drive", drive);
            let device = format!("usb-storage,bus=usb{number}.0,drive=own{index}");
            argument("-device", device);
        }
    }
}

fn disks(
    guest: &Guest,
    files: &Files,
    config: &mut Text,
    links: &mut Vec<(PathBuf, PathBuf)>,
) -> Result<()> {
    let mut list = Vec::new();
    let mut arguments = Vec::new();
    for (index, (disk, name)) in guest.disks.iter().zip(disk_names(guest)).enumerate() {
        let source = disk.source.as_deref().map(text_of).transpose()?;
        let source = match source {
            // A list of disks has one a line: xl-disk-configuration(5).
            Some(text) if text.contains(['\n', '\r']) => {
                let link = files.links.join(format!("disk{index}"));
                links.push((link.clone(), PathBuf::from(text)));
                Some(text_of(&link)?.to_owned())
            }
            other => other.map(str::to_owned),
        };
        if name.is_empty() {
            own_disk(guest, index, disk, source, &mut arguments);
        } else {
            list.push(listed_disk(disk, &name, source));
        }
    }
    if !list.is_empty() {
        config.list("disk", &list)?;
    }
    let beyond = |disk: &Disk| disk.bus == Bus::Scsi && disk.controller != 0;
    ensure!(
        !guest.disks.iter().any(beyond),
        "Xen has one SCSI controller"
    );
    if guest.disks.iter().any(|disk| disk.bus == Bus::Sata) {
        ensure!(
            guest.disks.iter().all(|disk| disk.bus != Bus::Ide),
            "Xen has either IDE or SATA disks, not both"
        );
        config.string("hdtype", "ahci")?;
    }
    if !arguments.is_empty() {
        config.list("device_model_args_hvm", &arguments)?;
    }
    Ok(())
}

fn serial(guest: &Guest, config: &mut Text) -> Result<()> {
    let mut ports = Vec::new();
    for port in &guest.serial {
        ports.push(match port {
            Chardev::Stdio | Chardev::Terminal | Chardev::Pty => "pty".to_owned(),
            Chardev::Null => "null".to_owned(),
            Chardev::File(path) => format!("file:{}", text_of(path)?),
            Chardev::Socket(..) => bail!("a serial port of Xen is no socket"),
        });
    }
    match &ports[..] {
        [] => Ok(()),
        [port] => config.string("serial", port),
        ports => config.list("serial", ports),
    }
}

fn text_of(path: &Path) -> Result<&str> {
    let text = path.to_str();
    text.with_context(|| format!("{} is no text", path.display()))
}

/// Lines of a configuration.
struct Text(String);

impl Text {
    fn number(&mut self, option: &str, value: u64) {
        let _ = writeln!(self.0, "{option} = {value}");
    }

    fn string(&mut self, option: &str, value: &str) -> Result<()> {
        let value = quoted(value)?;
        let _ = writeln!(self.0, "{option} = {value}");
        Ok(())
    }

    fn path(&mut self, option: &str, path: &Path) -> Result<()> {
        self.string(option, text_of(path)?)
    }

    fn list(&mut self, option: &str, values: &[String]) -> Result<()> {
        let values: Result<Vec<String>> = values.iter().map(|value| quoted(value)).collect();
        let _ = writeln!(self.0, "{option} = [\n    {},\n]", values?.join(",\n    "));
        Ok(())
    }
}

/// A string in the syntax of xl.cfg, with the escapes that its scanner knows (Xen, tools/libs/util/libxlu_cfg.c).
fn quoted(text: &str) -> Result<String> {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\0' => bail!("a text of xl.cfg has no NUL"),
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    Ok(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kernel, Machine, Nic};

    fn text(guest: &Guest) -> String {
        let files = Files {
            loader: Some("/l".into()),
            bootloader: Some("/b".into()),
            smbios: Some("/s".into()),
            links: "/d".into(),
        };
        configuration(guest, &files)
            .expect("a place for each device")
            .text
    }

    #[test]
    fn a_guest_of_xen() {
        let mut guest = Guest::new(Machine::Pc);
        guest.name = Some("a \"b\"".into());
        guest.boot.order = vec![BootDevice::Disk, BootDevice::Cdrom];
        guest
            .disks
            .push(Disk::new(Bus::Ide, Path::new("/a,b c\\'\".img")));
        let mut cd = Disk::cdrom(Bus::Ide, None);
        cd.unit = Some(2);
        guest.disks.push(cd);
        guest.serial.push(Chardev::Terminal);
        let mut nic = Nic::new("e1000");
        nic.bridge = Some("br0".into());
        guest.nics.push(nic);
        assert_eq!(
            text(&guest),
            "name = \"a \\\"b\\\"\"\ntype = \"hvm\"\nmemory = 256\nvcpus = 1\nlocaltime = 0\nfirmware_override = \"/l\"\nsmbios_firmware = \"/s\"\n\
             acpi = 1\nboot = \"cd\"\ndisk = [\n    \"vdev=hda,format=raw,access=rw,backendtype=qdisk,target=/a,b c\\\\'\\\".img\",\n    \
             \"vdev=hdc,format=empty,devtype=cdrom,access=ro,backendtype=qdisk\",\n]\nvif = [\n    \"type=ioemu,model=e1000,bridge=br0\",\n]\n\
             serial = \"pty\"\nvga = \"stdvga\"\n"
        );
    }

    #[test]
    fn a_name_with_a_new_line_is_reached_by_a_link() {
        let mut guest = Guest::new(Machine::Pc);
        guest.disks.push(Disk::new(Bus::Ide, Path::new("/a\nb")));
        guest.kernel = Some(Kernel {
            file: "/k\nl".into(),
            initrd: None,
            command_line: None,
        });
        let files = Files {
            links: "/d".into(),
            ..Files::default()
        };
        let made = configuration(&guest, &files).expect("a place for each device");
        assert!(made.text.contains("target=/d/disk0\""));
        assert!(made.text.contains("kernel = \"/k\\nl\"\n"));
        assert_eq!(made.links, [("/d/disk0".into(), "/a\nb".into())]);
    }

    #[test]
    fn a_paravirtual_guest() {
        let mut guest = Guest::new(Machine::Pc);
        guest.virtualization = Virtualization::Pv;
        guest.bootloader_arguments = Some("--append \"a b\"".into());
        guest.serial.push(Chardev::Pty);
        guest.nics.push(Nic::new("e1000"));
        let mut disk = Disk::new(Bus::Virtio, Path::new("/d"));
        disk.name = Some("xvda1".into());
        guest.disks.push(disk);
        let common = "memory = 256\nvcpus = 1\nlocaltime = 0\n";
        let rest = "disk = [\n    \"vdev=xvda1,format=raw,access=rw,backendtype=qdisk,target=/d\",\n]\n\
                    vif = [\n    \"type=vif\",\n]\n";
        let picks = "bootloader = \"/b\"\nbootloader_args = [\n    \"--append \\\"a b\\\"\",\n]\n";
        assert_eq!(
            text(&guest),
            format!("name = \"guest\"\ntype = \"pv\"\n{common}{picks}{rest}")
        );
        guest.virtualization = Virtualization::Pvh;
        guest.kernel = Some(Kernel {
            file: "/k".into(),
            initrd: Some("/i".into()),
            command_line: Some("x=y".into()),
        });
        let kernel = "acpi = 1\nkernel = \"/k\"\nramdisk = \"/i\"\ncmdline = \"x=y\"\n";
        assert_eq!(
            text(&guest),
            format!("name = \"guest\"\ntype = \"pvh\"\n{common}{kernel}{rest}")
        );
    }

    #[test]
    fn what_xl_cannot_say_is_a_setting() {
        let mut guest = Guest::new(Machine::Pc);
        guest.setting("menu-timeout", "7");
        guest.boot.menu = Some(true);
        guest.boot.menu_timeout = Some(3000);
        guest.boot.reboot_timeout = Some(-1);
        guest.serial_console = true;
        guest
            .disks
            .push(Disk::new(Bus::Ide, Path::new("x")).boot_index(3));
        guest.disks.push(Disk::cdrom(Bus::Ide, None).boot_index(1));
        let mut nic = Nic::new("e1000");
        nic.boot_index = Some(2);
        guest.nics.push(nic);
        let settings = settings(&guest);
        let lines: Vec<String> = settings
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            lines,
            [
                "menu-timeout=7",
                "order=/pci@i0cf8/ide@1,1/drive@0/disk@1,network,/pci@i0cf8/ide@1,1/drive@0/disk@0",
                "menu=yes",
                "fail-timeout=-1",
                "serial-console=yes"
            ]
        );
        assert_eq!(boot_letters(&guest), ['d', 'n', 'c']);
    }
}
