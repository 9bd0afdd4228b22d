//! Finds what could be booted, and gives the hard disks their drive numbers.

use super::candidate::{Candidate, Kind, Reason, Target};
use super::order::{CMOS_FIRST, CMOS_THIRD, Order};
use crate::arch::Handle;
use crate::bios::int13::{Drives, Geometries};
use crate::bios::option_roms::Connected;
use crate::devices::name::Name;
use crate::devices::pci::PciDevice;
use crate::devices::place::Place;
use crate::devices::rtc;
use crate::platform::Machine;
use crate::rom::{BootVector, VectorKind};
use crate::settings::Settings;
use crate::storage::drivers::{self, Around};
use crate::storage::{self, BlockDevice, Bounce, Disk, Found};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// PCI class and subclass of Ethernet cards.
const ETHERNET: u16 = 0x0200;
/// The longest `bootorder` and `bios-geometry` files that are taken.
const LIST_LIMIT: u32 = 64 * 1024;

/// What there is to boot.
pub struct Bootable {
    /// All drives, with their numbers.
    pub drives: Drives,
    /// All other candidates than option ROMs in the order in which they are tried.
    pub candidates: Vec<Candidate>,
    /// The order that the platform wants.
    pub order: Order,
}

/// Looks for drives and network cards.
pub fn devices<H: Handle>(hw: &H, machine: &Machine, settings: &Settings) -> Bootable {
    let list = |name: &[u8]| {
        let fw_cfg = machine.fw_cfg.as_ref()?;
        fw_cfg.read_file(hw, name, LIST_LIMIT)
    };
    let bootorder = list(b"bootorder");
    let geometries = Geometries::parse(&list(b"bios-geometry").unwrap_or_default());
    let (first, third) = (rtc::read(hw, CMOS_FIRST), rtc::read(hw, CMOS_THIRD));
    let order = Order::new(bootorder.as_deref(), first, third).with_setting(&settings.order);
    let around = Around {
        hw: hw.clone(),
        pci: &machine.pci,
        config: machine.config,
        wanted: order.only(),
    };
    let found = drivers::probe(&around);
    #[cfg(feature = "xen")]
    let found = match settings.no_pv_disk {
        false => storage::xen_blk::join(hw, found),
        true => found,
    };
    let mut devices = Vec::new();
    let mut candidates = Vec::new();
    for found in found {
        match found {
            Found::Device(device) => devices.push(device),
            Found::Unusable {
                kind,
                name,
                place,
                why,
            } => candidates.push(Candidate {
                kind: kind.into(),
                name,
                place: Some(place.into()),
                target: Target::Nothing(Reason::Unusable(why)),
            }),
        }
    }
    // Numbered so that the one to boot first is 80h, which many boot programs take for granted.
    firstlight_tables::sort::by_key(&mut devices, |device| {
        let info = device.info();
        order.rank(info.kind.into(), &info.name, Some(&info.place))
    });
    let (drives, of_drives) = number(hw, devices, &geometries, settings);
    candidates.extend(of_drives);
    candidates.extend(network_cards(&machine.pci));
    Bootable {
        drives,
        candidates: order.arrange(candidates),
        order,
    }
}

/// Gives drives their numbers in this order, and makes candidates of them.
fn number<H: Handle>(
    hw: &H,
    devices: Vec<Box<dyn BlockDevice>>,
    geometries: &Geometries,
    settings: &Settings,
) -> (Drives, Vec<Candidate>) {
    let mut drives = Drives::default();
    let mut candidates = Vec::new();
    let mut bounce = None;
    for device in devices {
        let bounce = *bounce.get_or_insert_with(|| Bounce::new(hw));
        let info = device.info();
        let (kind, name, place) = (info.kind, info.name.clone(), info.place.clone());
        let mut disk = Disk::new(device, bounce);
        if kind == storage::Kind::HardDisk && !settings.native_sectors {
            disk = disk.in_sectors_of_512();
        }
        let Some(number) = drives.add(hw, disk, geometries.of(&place)) else {
            log::warn!("{name}: no drive number is left");
            continue;
        };
        candidates.push(Candidate {
            kind: kind.into(),
            name,
            place: Some(place),
            target: match kind {
                storage::Kind::CdRom => Target::Cd(number),
                _ => Target::Drive(number),
            },
        });
    }
    (drives, candidates)
}

impl From<storage::Kind> for Kind {
    fn from(kind: storage::Kind) -> Self {
        match kind {
            storage::Kind::HardDisk => Self::HardDisk,
            storage::Kind::CdRom => Self::CdRom,
            storage::Kind::Floppy => Self::Floppy,
        }
    }
}

fn network_cards(pci: &[PciDevice]) -> impl Iterator<Item = Candidate> {
    let cards = (0..pci.len()).filter(|&index| pci[index].subclass() == ETHERNET);
    cards.map(|index| Candidate {
        kind: Kind::Network,
        name: network_card(&pci[index]),
        place: Some(Place::of_pci(pci, index, "ethernet-phy@0".into()).into()),
        target: Target::Network(pci[index].bdf),
    })
}

fn network_card(card: &PciDevice) -> Name {
    let (model, bdf) = (card_name(card), card.bdf);
    Name::new(fmt::from_fn(move |f| {
        write!(f, "Network card{model} at PCI {bdf}")
    }))
}

/// What a person calls a network card: the cards that QEMU has (its hw/net), by vendor and device number.
fn card_name(card: &PciDevice) -> &'static str {
    match (card.vendor, card.device) {
        (0x1af4, 0x1000 | 0x1041) => " virtio",
        (0x8086, 0x100e) => " Intel e1000",
        (0x8086, 0x1008 | 0x100f) => " Intel e1000 (82544, 82545)",
        (0x8086, 0x10d3) => " Intel e1000e",
        (0x8086, 0x10c9) => " Intel igb",
        (0x8086, 0x1209 | 0x1229) => " Intel PRO/100",
        (0x10ec, 0x8139) => " Realtek RTL8139",
        (0x10ec, 0x8029) => " NE2000",
        (0x1022, 0x2000) => " AMD PCnet",
        (0x15ad, 0x07b0) => " VMware vmxnet3",
        _ => "",
    }
}

/// The hard disks that option ROMs have put behind ours.
pub fn connected(pci: &[PciDevice], disks: Vec<Connected>) -> impl Iterator<Item = Candidate> {
    disks.into_iter().map(|Connected { drive, rom }| {
        let card = rom.as_ref().and_then(|rom| rom.bdf);
        let index = card.and_then(|bdf| pci.iter().position(|card| card.bdf == bdf));
        let file = rom.as_ref().and_then(|rom| rom.file.as_ref());
        let name = rom.as_ref().map_or("", |rom| rom.name.as_str());
        let name = if name.is_empty() { "Option ROM" } else { name };
        Candidate {
            kind: Kind::HardDisk,
            name: Name::new(format!("{name} (drive {drive:02X}h)")),
            place: index
                .map(|index| Place::of_pci(pci, index, String::new()))
                .or_else(|| file.map(|file| Place::of_rom(file)))
                .map(Arc::new),
            target: Target::Drive(drive),
        }
    })
}

/// The option ROMs that boot by themselves and belong to no card, from what all ROMs offer.
pub fn roms(vectors: &[BootVector]) -> impl Iterator<Item = Candidate> {
    let bootstraps = vectors
        .iter()
        .filter(|vector| vector.kind == VectorKind::Bootstrap);
    bootstraps.filter_map(|vector| {
        let file = vector.file.as_ref()?;
        Some(Candidate {
            kind: Kind::OptionRom,
            name: Name::new(format!("Option ROM {file}")),
            place: Some(Place::of_rom(file).into()),
            target: Target::Rom(vector.clone()),
        })
    })
}
