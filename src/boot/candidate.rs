//! What could be booted.

use crate::devices::name::Name;
use crate::devices::pci::Bdf;
use crate::devices::place::Place;
use crate::rom::BootVector;
use alloc::string::String;
use alloc::sync::Arc;
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

impl Kind {
    /// The kind that a user's word means, in QEMU's, libvirt's and everyday's terms.
    pub fn parse(word: &str) -> Option<Self> {
        const WORDS: [(&str, Kind); 10] = [
            ("floppy", Kind::Floppy),
            ("fd", Kind::Floppy),
            ("hd", Kind::HardDisk),
            ("disk", Kind::HardDisk),
            ("cdrom", Kind::CdRom),
            ("cd", Kind::CdRom),
            ("dvd", Kind::CdRom),
            ("network", Kind::Network),
            ("net", Kind::Network),
            ("rom", Kind::OptionRom),
        ];
        let found = WORDS
            .iter()
            .find(|(known, _)| word.eq_ignore_ascii_case(known));
        found.map(|(_, kind)| *kind)
    }
}

/// How the firmware hands over to a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// By the boot sector of this INT 13h drive.
    Drive(u8),
    /// By the boot catalogue of the CD in this INT 13h drive.
    Cd(u8),
    /// By the bootstrap entry of this option ROM.
    Rom(BootVector),
    /// By the option ROM of this network card.
    Network(Bdf),
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
    /// There is no medium in the drive.
    NoMedium,
    /// INT 13h could not read the boot sector and gave this status.
    Unreadable(u8),
    /// The boot sector does not end in 55AAh.
    NoSignature,
    /// The network card's ROM found nothing to boot.
    NoNetworkBoot,
    /// It was booted and asked for the next one by INT 18h.
    GaveUp,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSupported => f.write_str("booting from it is not supported yet"),
            Self::Unusable(why) => f.write_str(why),
            Self::NoMedium => f.write_str("no medium in the drive"),
            Self::Unreadable(status) => {
                let meaning = match status {
                    0x01 => "no such sector or drive",
                    0x04 => "sector not found",
                    0x10 => "bad sector",
                    0x20 => "controller failure",
                    0x31 => "no medium in the drive",
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
            Self::NoNetworkBoot => f.write_str("nothing could be loaded from the network"),
            Self::GaveUp => f.write_str("its boot program found nothing to start (INT 18h)"),
        }
    }
}

/// Something that could be booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its kind.
    pub kind: Kind,
    /// What a person knows it by.
    pub name: Name,
    /// Where it is, if it has a place in the device tree.
    pub place: Option<Arc<Place>>,
    /// How it is booted.
    pub target: Target,
}
