//! Starting option ROMs: with the services up, and with no lock held, since a ROM calls them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use spin::Mutex;

use super::bda::Bda;
use super::int10::{self, TextCard, Video, VideoRom};
use super::int13::{FIRST_DISK, MOST_DISKS};
use super::pmm::Lends;
use super::{Bios, Services, bda, ivt};
use crate::arch::{Hardware, linear};
use crate::devices::pci::Bdf;
use crate::devices::vga::{self, Vga};
use crate::platform::Machine;
use crate::platform::qemu::fw_cfg::{FwCfg, key};
use crate::platform::qemu::wishes::{self, CardRoms};
use crate::rom::{self, BootVector, OptionRoms, PlacedRom, RomError, Source};

/// QEMU's own ROMs that start a given kernel, which this firmware does itself.
const KERNEL_STARTERS: [&str; 5] = [
    "linuxboot.bin",
    "linuxboot_dma.bin",
    "multiboot.bin",
    "multiboot_dma.bin",
    "pvh.bin",
];

/// Interrupt vector that points at the font in use.
const FONT_VECTOR: u8 = 0x43;

impl Services {
    /// Puts the VGA card's ROM to C0000h, for the first INT 10h to start it. `pnp_header` is
    /// the offset in segment F000h of the Plug and Play header, zero without one. Comes before all other ROMs.
    pub fn place_video_rom(&mut self, hw: &impl Hardware, machine: &Machine, pnp_header: u16) {
        self.option_roms = OptionRoms::new(pnp_header);
        self.option_roms.check_sums = machine
            .fw_cfg
            .as_ref()
            .is_none_or(|fw_cfg| wishes::rom_checksums(hw, fw_cfg));
        if card_roms(hw, machine) == CardRoms::None {
            return;
        }
        let mut font = None;
        let mut look = |code: &[u8]| font = vga::font_in(code).map(|(offset, _)| offset);
        if let Some(rom) = self.option_roms.place_vga(hw, machine, &mut look) {
            let card = font.and_then(|offset| text_card(hw, machine, rom, offset));
            self.console.set_card(card.map(|card| card.vga));
            let rom = VideoRom {
                segment: rom.segment,
                bdf: rom.bdf,
                pnp_header,
                card,
            };
            self.video = Video::Waiting(rom);
            self.video_rom = Some(rom);
        }
    }
}

/// The card of a ROM that has its font at `offset`, if it is one that needs no ROM for text mode. The data area says so already.
fn text_card(
    hw: &impl Hardware,
    machine: &Machine,
    rom: PlacedRom,
    offset: usize,
) -> Option<TextCard> {
    let card = machine.pci.iter().find(|card| Some(card.bdf) == rom.bdf)?;
    let vga = Vga::new(card)?;
    bda::video_at_start(hw);
    ivt::set(hw, FONT_VECTOR, rom.segment, offset as u16);
    Some(TextCard {
        vga,
        font: linear(rom.segment, offset as u16),
        shown: false,
    })
}

/// Runs all ROMs that have to run before the boot. Returns how many hard disks came with that: a ROM that puts one into INT 13h here and
/// now finds none before it at 40:75, so these have the first numbers, as under SeaBIOS.
pub fn at_post<H: Hardware>(bios: &Mutex<Bios>, hw: &H) -> u8 {
    let cannot_wait = matches!(
        bios.lock().services.video,
        Video::Waiting(VideoRom { card: None, .. })
    );
    if cannot_wait {
        bios.lock().services.pmm.lends = Lends::All;
        int10::start(bios, hw);
        bios.lock().services.pmm.lends = Lends::Nothing;
    }
    let sources = {
        let machine = &bios.lock().machine;
        let mut sources = OptionRoms::at_post(machine);
        sources.retain(|source| !starts_given_kernel(hw, machine, source));
        // Other cards' ROMs take more memory for granted than a small machine has.
        if machine.is_small() || card_roms(hw, machine) < CardRoms::All {
            sources.retain(|source| !matches!(source, Source::Card(_)));
        }
        sources
    };
    if sources.is_empty() {
        return 0;
    }
    let ours = Bda::disk_count().get(hw);
    Bda::disk_count().set(hw, 0);
    run(bios, hw, &sources);
    let came = Bda::disk_count().get(hw).min(MOST_DISKS);
    if came == 0 {
        Bda::disk_count().set(hw, ours);
        return 0;
    }
    let drives = bios.lock().drives.clone();
    let mut drives = drives.lock();
    for index in 0..came {
        drives.leave_number(FIRST_DISK + index);
    }
    drives.announce(hw);
    came
}

/// Whether there is a display that INT 10h will serve.
pub fn has_screen(hw: &impl Hardware, machine: &Machine) -> bool {
    rom::video(machine).is_some() && card_roms(hw, machine) != CardRoms::None
}

/// A ROM that has hard disks, and when its turn is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its entry point.
    pub vector: BootVector,
    /// How many of our own hard disks come before its.
    pub behind: usize,
}

/// A hard disk that an option ROM serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Its number.
    pub drive: u8,
    /// By what; `None` where the ROM did it when it was initialised.
    pub rom: Option<BootVector>,
}

/// Lets the ROMs that have hard disks take INT 13h over for them, one after the other, and says which have come. A ROM takes the next
/// number and counts it at 40:75, and finds there those that come before it alone: ours that come later have their numbers after it
/// (BIOS Boot Specification 1.01, sections 5.3 and 6.5). The `first` ones have come before.
pub fn connect(
    bios: &Mutex<Bios>,
    hw: &impl Hardware,
    first: u8,
    connections: &[Connection],
) -> Vec<Connected> {
    let (drives, pnp_header) = {
        let bios = &mut *bios.lock();
        bios.services.pmm.lends = Lends::All;
        (bios.drives.clone(), bios.services.option_roms.pnp_header())
    };
    let connected = |index, rom| Connected {
        drive: FIRST_DISK + index,
        rom,
    };
    let mut found: Vec<_> = (0..first).map(|index| connected(index, None)).collect();
    for Connection { vector, behind } in connections {
        let later = drives.lock().hold_back(hw, *behind);
        let before = Bda::disk_count().get(hw);
        hw.call_rom(&mut vector.entry(pnp_header));
        let count = Bda::disk_count().get(hw).min(MOST_DISKS);
        for index in before..count {
            drives.lock().leave_number(FIRST_DISK + index);
            found.push(connected(index, Some(vector.clone())));
        }
        drives.lock().bring_back(hw, later);
    }
    bios.lock().services.pmm.lends = Lends::Nothing;
    found
}

/// Which cards' ROMs the user wants to run.
fn card_roms(hw: &impl Hardware, machine: &Machine) -> CardRoms {
    let fw_cfg = machine.fw_cfg.as_ref();
    fw_cfg.map_or(CardRoms::All, |fw_cfg| wishes::card_roms(hw, fw_cfg))
}

/// Whether the ROM has nothing to do, since the kernel that it would start was this firmware's to start or to refuse.
fn starts_given_kernel(hw: &impl Hardware, machine: &Machine, source: &Source) -> bool {
    let named =
        matches!(source, Source::File { name, .. } if KERNEL_STARTERS.contains(&name.as_str()));
    let given = |fw_cfg: &FwCfg| fw_cfg.number::<4>(hw, key::KERNEL_SIZE) != 0;
    named && machine.fw_cfg.as_ref().is_some_and(given)
}

/// Runs the ROM of the card at `bdf`, unless it has run; what it offers is then in `services.option_roms`.
///
/// # Errors
/// Why it cannot be used.
pub fn of_card(bios: &Mutex<Bios>, hw: &impl Hardware, bdf: Bdf) -> Result<(), RomError> {
    let card = {
        let bios = bios.lock();
        if bios.services.option_roms.has_run(bdf) {
            return Ok(());
        }
        if card_roms(hw, &bios.machine) < CardRoms::All {
            return Err(RomError::Unwanted);
        }
        if bios.machine.is_small() {
            return Err(RomError::NoRoom);
        }
        let mut cards = bios.machine.pci.iter();
        cards.find(|card| card.bdf == bdf).copied()
    };
    run_one(
        bios,
        hw,
        &Source::Card(Box::new(card.ok_or(RomError::None)?)),
    )
}

/// Runs the ROMs from `sources`; what they offer is then in `services.option_roms`.
pub fn run(bios: &Mutex<Bios>, hw: &impl Hardware, sources: &[Source]) {
    for source in sources {
        if let Err(error) = run_one(bios, hw, source) {
            rom::warn(source, error);
        }
    }
}

fn run_one(bios: &Mutex<Bios>, hw: &impl Hardware, source: &Source) -> Result<(), RomError> {
    let (mut roms, placed) = {
        let bios = &mut *bios.lock();
        bios.machine.open_shadow(hw);
        let mut roms = core::mem::take(&mut bios.services.option_roms);
        let placed = roms.place(hw, &bios.machine, source);
        bios.services.pmm.lends = Lends::All;
        (roms, placed)
    };
    if let Ok(rom) = placed {
        roms.run(hw, rom, source);
    }
    let services = &mut bios.lock().services;
    services.option_roms = roms;
    services.pmm.lends = Lends::Nothing;
    placed.map(|_| ())
}
