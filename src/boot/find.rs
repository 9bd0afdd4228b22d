//! Finds what could be booted, and gives the hard disks their drive numbers.

use super::bootstrap::Boot;
use super::candidate::{Candidate, Kind, Reason, Target};
use super::order::{CMOS_FIRST, CMOS_THIRD, Order};
use crate::arch::Handle;
use crate::bios::Bios;
use crate::bios::int13::{Drives, FIRST_DISK, Geometries, HardDisk};
use crate::bios::option_roms::{self, Connected, Connection};
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
use spin::Mutex;

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

/// Takes what option ROMs can boot into the boot, and their hard disks, which get their numbers in the order among ours, but for the
/// `first` ones, which have theirs.
pub fn join_roms<H: Handle>(boot: &Mutex<Boot>, bios: &Mutex<Bios>, hw: &H, first: u8) {
    let connections = {
        let bios = bios.lock();
        let vectors = &bios.services.option_roms.vectors;
        let drives = bios.drives.lock();
        connections(
            boot.lock().order(),
            &bios.machine.pci,
            drives.disks(),
            vectors,
        )
    };
    let connected = option_roms::connect(bios, hw, first, &connections);
    let (bios, mut boot) = (bios.lock(), boot.lock());
    let own = roms(&bios.services.option_roms.vectors);
    if connected.is_empty() {
        return boot.add([], own);
    }
    let drives = bios.drives.lock();
    boot.renumber(|drive| match drive {
        FIRST_DISK.. => drives.disk_number((drive - FIRST_DISK).into()),
        _ => Some(drive),
    });
    let pci = &bios.machine.pci;
    let mut connected = connected.iter().map(|Connected { drive, rom }| Candidate {
        kind: Kind::HardDisk,
        name: Name::new(format!("{} (drive {drive:02X}h)", rom_name(rom.as_ref()))),
        place: rom
            .as_ref()
            .and_then(|rom| rom_place(pci, rom))
            .map(Arc::new),
        target: Target::Drive(*drive),
    });
    let before: Vec<_> = connected.by_ref().take(first.into()).collect();
    boot.add(before, own.chain(connected));
}

/// The ROMs that have hard disks, in their order, among our `disks`, which are in theirs. Ours come before what the order does not
/// tell from them.
fn connections(
    order: &Order,
    pci: &[PciDevice],
    disks: &[HardDisk],
    vectors: &[BootVector],
) -> Vec<Connection> {
    let rank = |vector: &BootVector| {
        let place = rom_place(pci, vector);
        order.rank(Kind::HardDisk, &rom_name(Some(vector)), place.as_ref())
    };
    let connections = vectors
        .iter()
        .filter(|vector| vector.kind == VectorKind::Connection);
    let mut connections: Vec<_> = connections.cloned().collect();
    firstlight_tables::sort::by_key(&mut connections, rank);
    let connection = |vector: BootVector| {
        let rank = rank(&vector);
        let before = disks.iter().filter(|disk| {
            let info = disk.info();
            order.rank(Kind::HardDisk, &info.name, Some(&info.place)) <= rank
        });
        Connection {
            behind: before.count(),
            vector,
        }
    };
    connections.into_iter().map(connection).collect()
}

fn rom_name(rom: Option<&BootVector>) -> Name {
    match rom.map(|rom| rom.name.clone()) {
        Some(name) if !name.is_empty() => Name::new(name),
        _ => "Option ROM".into(),
    }
}

/// The place of the ROM's card, or of its file.
fn rom_place(pci: &[PciDevice], rom: &BootVector) -> Option<Place> {
    let index = pci.iter().position(|card| Some(card.bdf) == rom.bdf);
    index
        .map(|index| Place::of_pci(pci, index, String::new()))
        .or_else(|| Some(Place::of_rom(rom.file.as_ref()?)))
}

/// The option ROMs that boot by themselves and belong to no card, from what all ROMs offer.
fn roms(vectors: &[BootVector]) -> impl Iterator<Item = Candidate> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::bios::bda::{self, Bda};
    use crate::bios::ebda;
    use crate::bios::int13::MOST_DISKS;
    use crate::bios::tests::bios;
    use crate::storage::ata::fake::{FakeDrive, disk};

    /// The candidates, their numbers, and the number of hard disks, with two disks of ours, as many as `first` that came with the
    /// initialisation of ROMs, and a ROM that brings `more`.
    fn joined(order: &str, first: u8, more: u8) -> (Vec<(String, Target)>, u8) {
        let hw = Fake::default();
        bda::init(&hw, ebda::SEGMENT, 639);
        hw.on_rom(move |hw| {
            let count = Bda::disk_count();
            count.set(hw, count.get(hw).wrapping_add(more));
        });
        let bios = bios();
        let own = [("A", 0x80), ("B", 0x81)].map(|(name, drive)| {
            let disk = disk(&hw, FakeDrive::disk(100)).0;
            bios.lock().drives.lock().add(&hw, disk, None);
            Candidate {
                kind: Kind::HardDisk,
                name: name.into(),
                place: None,
                target: Target::Drive(drive),
            }
        });
        for index in 0..first {
            bios.lock().drives.lock().leave_number(FIRST_DISK + index);
        }
        bios.lock().drives.lock().announce(&hw);
        bios.lock().services.option_roms.vectors = vec![BootVector {
            kind: VectorKind::Connection,
            segment: 0xc800,
            offset: 0x40,
            name: "Card".into(),
            bdf: None,
            file: Some("bcv.rom".into()),
        }];
        let order = Order::new(None, 0, 0).with_setting(order);
        let boot = Mutex::new(Boot::new(own.into(), order));
        join_roms(&boot, &bios, &hw, first);
        let boot = boot.lock();
        let candidates = boot.candidates().iter();
        let named =
            candidates.map(|candidate| (candidate.name.to_string(), candidate.target.clone()));
        (named.collect(), Bda::disk_count().get(&hw))
    }

    #[test]
    fn disks_of_roms_are_numbered_in_the_order() {
        for (order, first, more, expected) in [
            ("", 0, 0, vec![("A", 0x80), ("B", 0x81)]),
            (
                "",
                1,
                1,
                vec![
                    ("Option ROM (drive 80h)", 0x80),
                    ("A", 0x81),
                    ("B", 0x82),
                    ("Card (drive 83h)", 0x83),
                ],
            ),
            (
                "b",
                1,
                0,
                vec![("B", 0x82), ("Option ROM (drive 80h)", 0x80), ("A", 0x81)],
            ),
            (
                "",
                0,
                1,
                vec![("A", 0x80), ("B", 0x81), ("Card (drive 82h)", 0x82)],
            ),
            (
                "card",
                0,
                1,
                vec![("Card (drive 80h)", 0x80), ("A", 0x81), ("B", 0x82)],
            ),
            (
                "/rom@genroms/bcv.rom",
                0,
                2,
                vec![
                    ("Card (drive 80h)", 0x80),
                    ("Card (drive 81h)", 0x81),
                    ("A", 0x82),
                    ("B", 0x83),
                ],
            ),
        ] {
            let (candidates, count) = joined(order, first, more);
            let expected = expected.into_iter();
            let expected: Vec<_> = expected
                .map(|(name, drive)| (name.to_owned(), Target::Drive(drive)))
                .collect();
            assert_eq!(candidates, expected, "{order} {first} {more}");
            assert_eq!(count, 2 + first + more);
        }
    }

    /// A ROM that counts more disks than there are numbers, or fewer than it found.
    #[test]
    fn a_rom_that_takes_all_numbers() {
        let (candidates, count) = joined("card", 0, 0xfe);
        assert_eq!(count, MOST_DISKS);
        let without = |name: &str| {
            candidates.iter().any(|(candidate, target)| {
                candidate == name && matches!(target, Target::Nothing(_))
            })
        };
        assert!(without("A") && without("B"));
        let (candidates, count) = joined("", 0, 0xff);
        assert_eq!((candidates.len(), count), (2, 2));
    }
}
