//! What could be booted.

use crate::devices::option_rom::BootVector;
use crate::devices::pci::PciDevice;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// What a candidate is, as far as the boot order distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A diskette drive.
    Floppy,
    /// A hard disk of any bus.
    HardDisk,
    /// A CD or DVD drive.
    CdRom,
    /// A network card.
    Network,
    /// An option ROM that belongs to no card.
    OptionRom,
}

/// How the firmware hands over to a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// By the boot sector of this INT 13h drive.
    Drive(u8),
    /// By the bootstrap entry of this option ROM.
    Rom(BootVector),
    /// Not at all, for the reason that the boot report gives.
    Nothing(Reason),
}

/// Why a candidate was not booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// This firmware has no hand-off for its kind.
    NotSupported,
    /// The device cannot be used, and why.
    Unusable(String),
    /// INT 13h could not read the boot sector and gave this status.
    Unreadable(u8),
    /// The boot sector does not end in 55AAh.
    NoSignature,
    /// It was booted and asked for the next one by INT 18h.
    GaveUp,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSupported => f.write_str("booting from it is not supported yet"),
            Self::Unusable(why) => f.write_str(why),
            Self::Unreadable(status) => {
                let meaning = match status {
                    0x01 => "no such sector or drive",
                    0x04 => "sector not found",
                    0x10 => "bad sector",
                    0x20 => "controller failure",
                    0x80 => "no answer in time",
                    0xaa => "drive not ready",
                    _ => "read error",
                };
                write!(
                    f,
                    "its boot sector cannot be read: {meaning} (status {status:02X}h)"
                )
            }
            Self::NoSignature => f.write_str("not bootable: no 55AAh at the end of sector 0"),
            Self::GaveUp => f.write_str("its boot program found nothing to start (INT 18h)"),
        }
    }
}

/// Where a device is, in the terms of QEMU's `bootorder` file: OpenFirmware device paths.
///
/// Example: `/pci@i0cf8/ide@1,1/drive@0/disk@0` is function 1 of PCI device 1, then `drive@0/disk@0`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// PCI device and function, for each bridge from the root bus on, then for the device itself.
    pub pci: Vec<(u8, u8)>,
    /// The rest of the path.
    pub unit: String,
}

impl Place {
    /// The place of a unit of function `index` in the list of all PCI functions.
    pub fn of_pci(devices: &[PciDevice], index: usize, unit: String) -> Self {
        let mut pci = Vec::new();
        let mut at = Some(index);
        while let Some(device) = at.and_then(|index| devices.get(index)) {
            pci.push((device.bdf.device(), device.bdf.function()));
            // A bridge precedes what is behind it, so this ends.
            at = device.parent.filter(|&parent| Some(parent) < at);
        }
        pci.reverse();
        Self { pci, unit }
    }

    /// The place of the option ROM in QEMU's file `genroms/name`.
    pub fn of_rom(name: &str) -> Self {
        Self {
            pci: Vec::new(),
            unit: format!("rom@genroms/{name}"),
        }
    }

    /// Whether `path`, a line of `bootorder`, names this place.
    pub fn is(&self, path: &str) -> bool {
        let path = path.trim().trim_start_matches('/');
        if self.pci.is_empty() {
            return path == self.unit;
        }
        let mut nodes = path.split('/');
        if !nodes.next().is_some_and(|root| root.starts_with("pci")) {
            return false;
        }
        for &hop in &self.pci {
            if nodes.next().and_then(pci_address) != Some(hop) {
                return false;
            }
        }
        nodes.eq(self.unit.split('/').filter(|node| !node.is_empty()))
    }
}

/// Device and function of a node such as `ide@1,1` or `scsi@4`.
fn pci_address(node: &str) -> Option<(u8, u8)> {
    let (_, address) = node.split_once('@')?;
    let (device, function) = address.split_once(',').unwrap_or((address, "0"));
    let number = |text| u8::from_str_radix(text, 16).ok();
    Some((number(device)?, number(function)?))
}

/// Something that could be booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its kind.
    pub kind: Kind,
    /// What a person knows it by.
    pub name: String,
    /// Where it is, if it has a place in the device tree.
    pub place: Option<Place>,
    /// How it is booted.
    pub target: Target,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(pci: &[(u8, u8)], unit: &str) -> Place {
        Place {
            pci: pci.into(),
            unit: unit.into(),
        }
    }

    #[test]
    fn paths_as_qemu_writes_them() {
        let ide = place(&[(1, 1)], "drive@0/disk@1");
        assert!(ide.is("/pci@i0cf8/ide@1,1/drive@0/disk@1"));
        assert!(!ide.is("/pci@i0cf8/ide@1,1/drive@0/disk@0"));
        assert!(!ide.is("/pci@i0cf8/ide@1/drive@0/disk@1"));
        assert!(!ide.is("/pci@i0cf8/ide@1,1/drive@0/disk@1/more@0"));
        assert!(!ide.is("/rom@genroms/linuxboot_dma.bin"));
        assert!(!ide.is(""));
        let behind = place(&[(0x1e, 0), (3, 0)], "drive@0/disk@0");
        assert!(behind.is("/pci@i0cf8/pci-bridge@1e/pci8086,2922@3/drive@0/disk@0\n"));
        let card = place(&[(3, 0)], "ethernet-phy@0");
        assert!(card.is("/pci@i0cf8/ethernet@3/ethernet-phy@0"));
        let rom = Place::of_rom("a.rom");
        assert!(rom.is("/rom@genroms/a.rom"));
        assert!(!rom.is("/rom@genroms/b.rom") && !rom.is(""));
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_answered(path in ".*") {
            place(&[(1, 1)], "drive@0/disk@1").is(&path);
        }
    }
}
