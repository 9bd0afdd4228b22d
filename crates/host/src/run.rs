//! `firstlight run`: a domain under QEMU.

use crate::domain::{Domain, Kind, SmbiosMode};
use crate::smbios;
use anyhow::{Context, Result, bail, ensure};
use firstlight_vm::{
    Accelerator, BootDevice, Chardev, Guest, Nic, NicBackend, Rom, Tpm, TpmBackend, Virtualization,
    qemu,
};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a domain is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The firmware's ROM.
    pub rom: PathBuf,
    /// Open a window with the guest's screen.
    pub display: bool,
    /// What runs the guest's instructions; what the domain says, as far as the host can, where nothing is given.
    pub accelerator: Option<Accelerator>,
    /// The socket of a swtpm, for a domain whose TPM has to be emulated.
    pub tpm: Option<PathBuf>,
    /// More arguments for QEMU.
    pub arguments: Vec<String>,
}

/// The guest for QEMU that a domain describes, and what a user should know about it.
///
/// # Errors
/// The guest is a paravirtual one, the host's SMBIOS table is asked for and cannot be read, or a TPM is asked for without a program that emulates it.
pub fn guest(domain: &Domain, options: &Options) -> Result<(Guest, Vec<String>)> {
    ensure!(
        domain.guest.virtualization == Virtualization::Hvm,
        "QEMU has no paravirtual guests (PV, PVH), which only Xen runs: firstlight xl makes its configuration"
    );
    let mut notes: Vec<String> = Vec::new();
    let boots_by_network = domain.guest.boot.order.contains(&BootDevice::Network);
    let mut guest = domain.for_qemu();
    guest.bios = Some(options.rom.clone());
    guest.window = options.display;
    if options.display && guest.video.is_none() {
        guest.video = Some("VGA".into());
    }
    guest.accelerator = accelerator(options.accelerator, domain.kind, &mut notes);
    if guest.accelerator == Accelerator::Tcg
        && let Some(model) = &mut guest.cpus.model
        && let Some(features) = model.strip_prefix("host")
    {
        *model = format!("max{features}");
    }
    if domain.smbios == Some(SmbiosMode::Host) {
        guest.sysinfo = smbios::host_values(&smbios::host_table(smbios::HOST_TABLE.as_ref())?);
    }
    if let Some(model) = &domain.tpm_emulator {
        let Some(socket) = &options.tpm else {
            bail!(
                "the domain has a TPM that has to be emulated. Start `swtpm socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=SOCKET` \
                 and give this command --tpm SOCKET"
            );
        };
        guest.tpm = Some(Tpm {
            model: model.clone(),
            backend: TpmBackend::Socket(socket.clone()),
        });
    }
    for (index, nic) in guest.nics.iter_mut().enumerate() {
        if nic.boot_index.is_some() || boots_by_network && index == 0 {
            make_bootable(nic, &mut notes);
        }
    }
    // The first port that a person could read is this terminal.
    if let Some(first) = guest.serial.iter_mut().find(|port| **port == Chardev::Pty) {
        *first = Chardev::Terminal;
    } else if !options.display {
        notes.push(
            "the domain has no serial port to show here; --display opens a window with its screen"
                .into(),
        );
    }
    guest.arguments(&options.arguments);
    Ok((guest, notes))
}

/// What runs the guest: what the user chose, or the next best to what the domain asks for.
fn accelerator(chosen: Option<Accelerator>, kind: Kind, notes: &mut Vec<String>) -> Accelerator {
    match (chosen, kind) {
        (Some(chosen), _) => chosen,
        (None, Kind::Kvm) if !kvm_works() => {
            notes.push("there is no KVM that this user may use: QEMU translates the guest's instructions, which is slower".into());
            Accelerator::Tcg
        }
        (None, Kind::Kvm) => Accelerator::Kvm,
        (None, Kind::Qemu | Kind::Xen) => Accelerator::Tcg,
    }
}

/// Gives a network card what a BIOS boots from it with.
fn make_bootable(nic: &mut Nic, notes: &mut Vec<String>) {
    if nic.rom == Rom::Default {
        nic.rom = boot_rom(&nic.model, notes);
    }
    if let NicBackend::User(options) = &nic.backend
        && options.is_empty()
    {
        notes.push("QEMU's user network has no server to boot from; give one with -- -set netdev.net0.tftp=DIRECTORY -set netdev.net0.bootfile=FILE".into());
    }
}

/// Whether this process may use KVM.
pub fn kvm_works() -> bool {
    let device = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm");
    device.is_ok()
}

/// The ROM with which a BIOS boots from a card: newer ROMs of QEMU have a part for UEFI only.
fn boot_rom(model: &str, notes: &mut Vec<String>) -> Rom {
    let name = match model {
        model if model.starts_with("virtio-net") => "virtio",
        model => model,
    };
    let own = [
        "/usr/share/qemu",
        "/usr/lib/ipxe/qemu",
        "/usr/share/qemu-kvm",
    ];
    let find = |kind: &str| {
        let files = own.map(|directory| Path::new(directory).join(format!("{kind}-{name}.rom")));
        files.into_iter().find(|file| file.is_file())
    };
    let has_bios = |file: &Path| std::fs::read(file).is_ok_and(|rom| has_bios_image(&rom));
    match (find("efi"), find("pxe")) {
        (Some(own), _) if has_bios(&own) => Rom::Default,
        (_, Some(pxe)) if has_bios(&pxe) => Rom::File(pxe),
        _ => {
            notes.push(format!(
                "there is no option ROM for a BIOS to boot from the network card {model}: install ipxe-qemu, or name one by <rom file='…'/>"
            ));
            Rom::Default
        }
    }
}

/// Whether an option ROM has an image for a BIOS (PCI Firmware Specification 3.3, section 5.1.2: code type 0).
pub fn has_bios_image(rom: &[u8]) -> bool {
    let mut rest = rom;
    let word = |bytes: &[u8], at: usize| {
        let bytes = bytes.get(at..at + 2)?;
        Some(usize::from(u16::from_le_bytes([bytes[0], bytes[1]])))
    };
    while rest.starts_with(&[0x55, 0xaa]) {
        let Some(structure) = word(rest, 0x18).and_then(|at| rest.get(at..)) else {
            // An old ROM without a PCI data structure is one for a BIOS.
            return true;
        };
        if !structure.starts_with(b"PCIR") {
            return true;
        }
        match structure.get(0x14) {
            Some(0) => return true,
            Some(_) => {}
            None => return false,
        }
        let last = structure
            .get(0x15)
            .is_none_or(|indicator| indicator & 0x80 != 0);
        let size = word(structure, 0x10).unwrap_or(0) * 512;
        if last || size == 0 {
            return false;
        }
        rest = rest.get(size..).unwrap_or_default();
    }
    false
}

/// Runs a guest in the foreground.
///
/// # Errors
/// QEMU is not installed, or fails.
pub fn foreground(guest: &Guest) -> Result<()> {
    let status = qemu::command(guest)?.stdin(Stdio::inherit()).status();
    let status =
        status.with_context(|| format!("cannot start {}: is QEMU installed?", qemu::PROGRAM))?;
    ensure!(status.success(), "QEMU failed ({status})");
    Ok(())
}

/// A command as a shell would take it, a line for each option.
pub fn shell(command: &Command) -> String {
    let mut text = quoted(&command.get_program().to_string_lossy());
    for argument in command.get_args() {
        let argument = argument.to_string_lossy();
        let option = argument.starts_with('-') && argument.len() > 1;
        text += if option { " \\\n  " } else { " " };
        text += &quoted(&argument);
    }
    text
}

fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+.,:/@%".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_one_for_a_shell() {
        let mut command = Command::new("qemu");
        command.args(["-m", "1M", "-name", "it's, a\nname", ""]);
        assert_eq!(
            shell(&command),
            "qemu \\\n  -m 1M \\\n  -name 'it'\\''s, a\nname' ''"
        );
    }

    #[test]
    fn a_rom_for_a_bios_is_told_from_one_for_uefi() {
        let image = |kind: u8, last: bool| {
            let mut image = vec![0; 512];
            image[..2].copy_from_slice(&[0x55, 0xaa]);
            image[0x18] = 0x1c;
            image[0x1c..0x20].copy_from_slice(b"PCIR");
            image[0x1c + 0x10] = 1;
            image[0x1c + 0x14] = kind;
            image[0x1c + 0x15] = u8::from(last) << 7;
            image
        };
        assert!(has_bios_image(&image(0, true)));
        assert!(!has_bios_image(&image(3, true)));
        assert!(has_bios_image(&[image(3, false), image(0, true)].concat()));
        assert!(!has_bios_image(
            &[image(3, false), image(3, false)].concat()
        ));
        assert!(!has_bios_image(b""));
        assert!(!has_bios_image(b"no ROM"));
    }
}
