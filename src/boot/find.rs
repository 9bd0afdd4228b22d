//! Finds what could be booted, and gives the hard disks their drive numbers.

use super::candidate::{Candidate, Kind, Place, Reason, Target};
use super::order::{CMOS_FIRST, CMOS_THIRD, Order};
use crate::arch::Hardware;
use crate::bios::int13::{self, FIRST_DISK, HardDisk, Translation};
use crate::devices::ahci;
use crate::devices::ata::{self, DmaArea, Drive};
use crate::devices::dma::DmaPool;
use crate::devices::option_rom::{BootVector, VectorKind};
use crate::devices::pci::{ConfigAccess, PciDevice};
use crate::devices::rtc;
use crate::platform::Machine;
use crate::settings::Settings;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// PCI class and subclass of Ethernet cards.
const ETHERNET: u16 = 0x0200;
/// The longest `bootorder` file that is taken.
const BOOTORDER_LIMIT: u32 = 64 * 1024;
/// CMOS register with the types of the diskette drives A (7:4) and B (3:0).
const CMOS_FLOPPIES: u8 = 0x10;

/// What there is to boot.
pub struct Found<H: Hardware> {
    /// The hard disks in the order of their drive numbers.
    pub hard_disks: Vec<HardDisk<H>>,
    /// All other candidates than option ROMs in the order in which they are tried.
    pub candidates: Vec<Candidate>,
    /// The order that the platform wants.
    pub order: Order,
}

struct Search<'a, H: Hardware> {
    hw: &'a H,
    pci: &'a [PciDevice],
    config: ConfigAccess,
    disks: Vec<(HardDisk<H>, Place)>,
    others: Vec<Candidate>,
    /// ATA drives passed, present or not, over all channels: QEMU counts its words on translation so.
    ata_units: usize,
}

/// Looks at every controller that a driver of ours knows.
pub fn devices<H: Hardware>(hw: &H, machine: &Machine, settings: &Settings) -> Found<H> {
    let bootorder = machine
        .fw_cfg
        .as_ref()
        .and_then(|fw_cfg| fw_cfg.read_file(hw, b"bootorder", BOOTORDER_LIMIT));
    let (first, third) = (rtc::read(hw, CMOS_FIRST), rtc::read(hw, CMOS_THIRD));
    let order = Order::new(bootorder.as_deref(), first, third).with_setting(&settings.order);
    let mut search = Search {
        hw,
        pci: &machine.pci,
        config: machine.config,
        disks: Vec::new(),
        others: Vec::new(),
        ata_units: 0,
    };
    search.floppies();
    search.ide();
    search.ahci();
    search.network_cards();
    search.finish(order)
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
            name: format!("Option ROM {file}"),
            place: Some(Place::of_rom(file)),
            target: Target::Rom(vector.clone()),
        })
    })
}

impl<H: Hardware> Search<'_, H> {
    fn class(&self, subclass: u16) -> Vec<usize> {
        let indices = 0..self.pci.len();
        indices
            .filter(|&index| self.pci[index].subclass() == subclass)
            .collect()
    }

    fn floppies(&mut self) {
        let types = rtc::read(self.hw, CMOS_FLOPPIES);
        for (unit, kind) in [types >> 4, types & 15].into_iter().enumerate() {
            if kind == 0 {
                continue;
            }
            self.others.push(Candidate {
                kind: Kind::Floppy,
                name: format!("Diskette drive {}", char::from(b'A' + unit as u8)),
                place: Some(Place {
                    // The ISA bridge of PIIX3; other chipsets have no diskette controller of their own.
                    pci: [(1, 0)].into(),
                    unit: format!("fdc@03f0/floppy@{unit}"),
                    ..Place::default()
                }),
                target: Target::Nothing(Reason::NotSupported),
            });
        }
    }

    fn ide(&mut self) {
        let controllers = self.class(ata::PCI_CLASS);
        if controllers.is_empty() {
            return;
        }
        let area = DmaArea::new(&mut DmaPool::from_heap(DmaArea::LEN));
        for index in controllers {
            self.pci[index].enable_bus_master(self.hw, self.config);
            for ports in ata::channels(&self.pci[index]) {
                for drive in ata::probe(self.hw, ports, area) {
                    self.drive(
                        index,
                        drive,
                        |unit| format!("drive@{}/disk@{}", unit / 2, unit % 2),
                        |search, unit| {
                            let number = search.ata_units + usize::from(unit % 2);
                            int13::cmos_translation(search.hw, number)
                        },
                    );
                }
                self.ata_units += 2;
            }
        }
    }

    fn ahci(&mut self) {
        for index in self.class(ahci::PCI_CLASS) {
            let device = &self.pci[index];
            let Some(base) = device.memory(ahci::BAR) else {
                continue;
            };
            device.enable_bus_master(self.hw, self.config);
            for drive in ahci::probe(self.hw, base, device.bdf.0, DmaPool::from_heap) {
                self.drive(
                    index,
                    drive,
                    |port| format!("drive@{port:x}/disk@0"),
                    |_, _| None,
                );
            }
        }
    }

    /// Takes a drive of PCI function `index` in; `path` and `translation` answer for its unit number.
    fn drive(
        &mut self,
        index: usize,
        drive: Drive<H>,
        path: impl Fn(u8) -> String,
        translation: impl Fn(&Self, u8) -> Option<Translation>,
    ) {
        let place = |unit| Place::of_pci(self.pci, index, path(unit));
        match drive {
            Drive::Disk(disk) => {
                let unit = disk.info().unit;
                let disk = HardDisk::new(disk, translation(self, unit));
                let place = place(unit);
                self.disks.push((disk, place));
            }
            Drive::CdRom(info) => self.others.push(Candidate {
                kind: Kind::CdRom,
                place: Some(place(info.unit)),
                name: info.name,
                target: Target::Nothing(Reason::NotSupported),
            }),
            Drive::Unusable { unit, name, why } => self.others.push(Candidate {
                kind: Kind::HardDisk,
                place: Some(place(unit)),
                name,
                target: Target::Nothing(Reason::Unusable(format!("{why}"))),
            }),
        }
    }

    fn network_cards(&mut self) {
        for index in self.class(ETHERNET) {
            self.others.push(Candidate {
                kind: Kind::Network,
                name: format!("Network card at PCI {}", self.pci[index].bdf),
                place: Some(Place::of_pci(self.pci, index, "ethernet-phy@0".into())),
                target: Target::Nothing(Reason::NotSupported),
            });
        }
    }

    /// Numbers the disks so that the one to boot first is 80h, which many boot programs take for granted.
    fn finish(self, order: Order) -> Found<H> {
        let (mut disks, mut candidates) = (self.disks, self.others);
        firstlight_tables::sort::by_key(&mut disks, |(disk, place)| {
            order.rank(Kind::HardDisk, &disk.info().name, Some(place))
        });
        // Drive numbers end at FFh.
        disks.truncate(usize::from(u8::MAX - FIRST_DISK) + 1);
        let mut hard_disks = Vec::new();
        let mut drive = FIRST_DISK;
        for (disk, place) in disks {
            candidates.push(Candidate {
                kind: Kind::HardDisk,
                name: disk.info().name.clone(),
                place: Some(place),
                target: Target::Drive(drive),
            });
            hard_disks.push(disk);
            drive = drive.wrapping_add(1);
        }
        Found {
            hard_disks,
            candidates: order.arrange(candidates),
            order,
        }
    }
}
