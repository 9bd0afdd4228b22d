//! Option ROMs: the 16-bit programs that cards carry for themselves.
//!
//! A ROM is copied to the next free 2 KiB boundary from C0000h up, checked, and initialised by a far call, after which it
//! may be shorter. What it can boot (BEV) or connect as a disk (BCV) is recorded. The VGA card's comes first and is only
//! copied: INT 10h starts it when it is needed. A network card's takes as long to start as all the rest of a boot, and comes
//! only when the boot order comes to that card.
//!
//! Sources: PCI Firmware Specification 3.1, chapter 5; Plug and Play BIOS Specification 1.0A, section 3; BIOS Boot
//! Specification 1.01, chapter 3.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use crate::arch::frame::INTERRUPT;
use crate::arch::frame::STARTED_BY_A_BIOS;
use crate::arch::{Hardware, PhysMem, Ports, RealMode, RealRegs, linear, room_for};
use crate::devices::pci::{Bdf, ConfigAccess, PciDevice, ROM_BAR, reg};
use crate::low_memory::{F_SEGMENT, OPTION_ROMS};
use crate::platform::Machine;
use crate::units::segment;
use firstlight_tables::loader::File;
use firstlight_tables::place::sum;

/// What each starts at a multiple of.
const ALIGN: u64 = 2048;
const BLOCK: u64 = 512;
const SIGNATURE: u16 = 0xaa55;
/// Offset of the entry point for initialisation.
pub const INIT: u16 = 3;

const CLASS_NETWORK: u32 = 0x02;
const CLASS_DISPLAY: u32 = 0x03;
const SUBCLASS_VGA: u16 = 0x0300;

/// More images than any ROM has.
const MAX_IMAGES: u32 = 16;
/// More expansion headers than any ROM has.
const MAX_HEADERS: u32 = 16;
const NAME_MAX: usize = 64;

/// Why a ROM is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RomError {
    /// There is none.
    None,
    /// The user wants no such ROM to run.
    Unwanted,
    /// Its base address register got no address.
    NoAddress,
    /// It does not start with 55h AAh.
    NoSignature,
    /// None of its images is for a PC's BIOS.
    NoPcImage,
    /// It is longer than what holds it.
    TooLong,
    /// Its bytes do not add up to zero.
    BadChecksum,
    /// No room is left below the F segment.
    NoRoom,
    /// fw_cfg did not give it.
    Unreadable,
}

impl fmt::Display for RomError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "there is none",
            Self::Unwanted => "etc/pci-optionrom-exec forbids it",
            Self::NoAddress => "it has no address",
            Self::NoSignature => "it does not start with 55 AA",
            Self::NoPcImage => "it has no image for a PC's BIOS",
            Self::TooLong => "its length is more than what is there",
            Self::BadChecksum => "its checksum is wrong",
            Self::NoRoom => "there is no room for it below 1 MiB",
            Self::Unreadable => "it cannot be read",
        })
    }
}

/// Where a ROM comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The ROM BAR of a card.
    Card(Box<PciDevice>),
    /// A file that QEMU gives.
    File {
        /// The file.
        file: File,
        /// Its name without the folder.
        name: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Card(card) => card.bdf.fmt(f),
            Self::File { name, .. } => f.write_str(name),
        }
    }
}

/// A ROM in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedRom {
    /// Segment of its first byte.
    pub segment: u16,
    /// Bytes.
    pub size: u64,
    /// The card it belongs to; `None` for one that QEMU gave as a file.
    pub bdf: Option<Bdf>,
}

/// What a ROM can do for the boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorKind {
    /// Boots by itself (bootstrap entry vector).
    Bootstrap,
    /// Adds disks to INT 13h (boot connection vector).
    Connection,
}

/// An entry point that a ROM offers to the boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootVector {
    /// What it does.
    pub kind: VectorKind,
    /// Its segment.
    pub segment: u16,
    /// Its offset.
    pub offset: u16,
    /// What the ROM calls itself; may be empty.
    pub name: String,
    /// The card; `None` for a ROM that QEMU gave as a file.
    pub bdf: Option<Bdf>,
    /// The fw_cfg file that it came from, without `genroms/`.
    pub file: Option<String>,
}

impl BootVector {
    /// What it is called with. A bootstrap entry only returns when it could not boot. `pnp_header` is the offset in segment F000h
    /// of the Plug and Play header.
    pub fn entry(&self, pnp_header: u16) -> RealRegs {
        let entry = [self.offset, self.segment];
        let mut regs = entry_registers(entry, self.bdf, pnp_header);
        if self.kind == VectorKind::Bootstrap {
            regs.eax = STARTED_BY_A_BIOS;
        }
        regs
    }
}

/// What is to see a ROM's bytes.
pub type Look<'a> = &'a mut dyn FnMut(&[u8]);

/// The ROMs below 1 MiB.
#[derive(Clone, Debug)]
pub struct OptionRoms {
    /// First free address.
    next: u64,
    /// Offset in segment F000h of the Plug and Play header, zero without one.
    pnp_header: u16,
    /// What the ROMs that ran so far offer.
    pub vectors: Vec<BootVector>,
    /// A ROM whose bytes do not add up to zero is left out.
    pub check_sums: bool,
    /// Cards whose ROM has run.
    ran: Vec<Bdf>,
}

impl Default for OptionRoms {
    fn default() -> Self {
        Self::new(0)
    }
}

impl OptionRoms {
    /// No ROM yet. `pnp_header` is the offset in segment F000h of the Plug and Play header, zero without one.
    pub fn new(pnp_header: u16) -> Self {
        Self {
            next: OPTION_ROMS.start,
            pnp_header,
            vectors: Vec::new(),
            check_sums: true,
            ran: Vec::new(),
        }
    }

    /// Offset in segment F000h of the Plug and Play header, zero without one.
    pub fn pnp_header(&self) -> u16 {
        self.pnp_header
    }

    /// First address that no ROM occupies.
    pub fn end(&self) -> u64 {
        self.next
    }

    /// Copies the ROM of [`video`] to its place and leaves it to INT 10h to start. Must come first: programs look for it at
    /// C000:0000. `look` sees the ROM of a card, while the card still shows it: when it stops, KVM forgets which pages the guest has,
    /// and each costs an exit again.
    pub fn place_vga(
        &mut self,
        hw: &impl Hardware,
        machine: &Machine,
        look: Look,
    ) -> Option<PlacedRom> {
        let source = video(machine)?;
        let placed = self.place_and_look(hw, machine, &source, Some(look));
        if let Ok(rom) = placed {
            self.next = linear(rom.segment, 0) + rom.size.next_multiple_of(ALIGN);
        }
        placed.inspect_err(|error| warn(&source, *error)).ok()
    }

    /// The ROMs that have to run before the boot: those of cards that are neither for networks nor displays, and QEMU's
    /// `genroms/`.
    pub fn at_post(machine: &Machine) -> Vec<Source> {
        let early = |card: &&PciDevice| {
            let class = card.class >> 16;
            card.bars[ROM_BAR].size != 0 && !matches!(class, CLASS_NETWORK | CLASS_DISPLAY)
        };
        let cards = machine
            .pci
            .iter()
            .filter(early)
            .copied()
            .map(Box::new)
            .map(Source::Card);
        let files = files(machine, "genroms/").map(|(file, name)| Source::File { file, name });
        cards.chain(files).collect()
    }

    /// Whether the ROM of the card at `bdf` was placed before.
    pub fn has_run(&self, bdf: Bdf) -> bool {
        self.ran.contains(&bdf)
    }

    /// Copies the ROM to memory; [`OptionRoms::run`] goes on with it.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn place(
        &mut self,
        hw: &impl Hardware,
        machine: &Machine,
        source: &Source,
    ) -> Result<PlacedRom, RomError> {
        self.place_and_look(hw, machine, source, None)
    }

    fn place_and_look(
        &mut self,
        hw: &impl Hardware,
        machine: &Machine,
        source: &Source,
        look: Option<Look>,
    ) -> Result<PlacedRom, RomError> {
        match source {
            Source::Card(card) if card.bars[ROM_BAR].size == 0 => Err(RomError::None),
            Source::Card(card) => {
                self.ran.push(card.bdf);
                self.place_pci(hw, machine.config, card, look)
            }
            Source::File { file, .. } => self.place_file(hw, machine, *file),
        }
    }

    fn place_pci(
        &self,
        hw: &(impl Ports + PhysMem),
        config: ConfigAccess,
        card: &PciDevice,
        look: Option<Look>,
    ) -> Result<PlacedRom, RomError> {
        const ENABLE: u32 = 1;
        let bar = card.bars[ROM_BAR];
        let address = bar.address.ok_or(RomError::NoAddress)?;
        let at = match card.bridge {
            Some(_) => reg::BRIDGE_ROM,
            None => reg::ROM,
        };
        let register = config.select(hw, card.bdf, at);
        register.write32(hw, address as u32 | ENABLE);
        let placed = find_pc_image(hw, address, bar.size).and_then(|(start, size)| {
            let to = self.room(size)?;
            hw.copy(to, start, size);
            let rom = check(hw, to, size, self.check_sums)?;
            if let Some(look) = look
                && room_for(rom.size as usize)
            {
                let mut code = vec![0; rom.size as usize];
                hw.read(to, &mut code);
                look(&code);
            }
            Ok(rom)
        });
        // A ROM may share its decoder with the function's other registers.
        register.write32(hw, address as u32);
        placed.map(|rom| PlacedRom {
            bdf: Some(card.bdf),
            ..rom
        })
    }

    fn place_file(
        &self,
        hw: &impl Hardware,
        machine: &Machine,
        file: File,
    ) -> Result<PlacedRom, RomError> {
        let fw_cfg = machine.fw_cfg.as_ref().ok_or(RomError::Unreadable)?;
        let to = self.room(file.size.into())?;
        fw_cfg
            .read_to(hw, file.handle as u16, 0, to, file.size)
            .map_err(|_| RomError::Unreadable)?;
        check(hw, to, file.size.into(), self.check_sums)
    }

    /// Where `size` bytes go.
    fn room(&self, size: u64) -> Result<u64, RomError> {
        match self.next.checked_add(size) {
            Some(end) if end <= OPTION_ROMS.end => Ok(self.next),
            _ => Err(RomError::NoRoom),
        }
    }

    /// Initialises a ROM that [`OptionRoms::place`] put in its place; what it offers is then in [`OptionRoms::vectors`].
    pub fn run(&mut self, hw: &(impl PhysMem + RealMode), rom: PlacedRom, source: &Source) {
        let start = linear(rom.segment, 0);
        // Should it not say how long it stays, it stays as it is.
        self.next = start + rom.size.next_multiple_of(ALIGN);
        let mut regs = entry_registers([INIT, rom.segment], rom.bdf, self.pnp_header);
        hw.call_rom(&mut regs);

        let left = u64::from(hw.read8(start + 2)) * BLOCK;
        if hw.read16(start) != SIGNATURE || left == 0 {
            hw.fill(start, rom.size, 0);
            self.next = start;
            return;
        }
        let left = left.min(OPTION_ROMS.end - start);
        self.next = start + left.next_multiple_of(ALIGN);
        let found = boot_vectors(hw, rom.segment, left);
        self.vectors
            .extend(found.into_iter().map(|found| BootVector {
                bdf: rom.bdf,
                file: match source {
                    Source::File { name, .. } => Some(name.clone()),
                    Source::Card(_) => None,
                },
                ..found
            }));
    }
}

/// The ROM that serves INT 10h: the VGA adapter's, else QEMU's `vgaroms/`, else that of another display.
pub fn video(machine: &Machine) -> Option<Source> {
    let with_rom = |card: &&PciDevice| card.bars[ROM_BAR].size != 0;
    let card = |card: &PciDevice| Source::Card(Box::new(*card));
    let vga = machine.pci_class(SUBCLASS_VGA).find(with_rom);
    let file = || files(machine, "vgaroms/").next();
    let display = |card: &&PciDevice| card.class >> 16 == CLASS_DISPLAY;
    let other = || machine.pci.iter().filter(display).find(with_rom);
    vga.map(card)
        .or_else(|| file().map(|(file, name)| Source::File { file, name }))
        .or_else(|| other().map(card))
}

/// What a ROM's entry point (offset, segment) is called with (BIOS Boot Specification 1.01, appendix D). `pnp_header` is the
/// offset in segment F000h of the Plug and Play header, zero without one.
pub fn entry_registers([ip, cs]: [u16; 2], bdf: Option<Bdf>, pnp_header: u16) -> RealRegs {
    RealRegs {
        cs,
        ip,
        eax: bdf.map_or(0, |bdf| bdf.0.into()),
        // No card select number, no read data port: these are not ISA Plug and Play cards.
        ebx: 0xffff,
        edx: 0xffff,
        edi: pnp_header.into(),
        es: segment(F_SEGMENT.start),
        flags: INTERRUPT,
        ..RealRegs::default()
    }
}

/// Says on the log that a ROM is not used.
pub fn warn(source: &Source, error: RomError) {
    log::warn!("option ROM of {source} not used: {error}");
}

/// fw_cfg files whose name starts with `folder`, with the rest of the name.
fn files<'a>(
    machine: &'a Machine,
    folder: &'static str,
) -> impl Iterator<Item = (File, String)> + 'a {
    let all = machine.fw_cfg.iter().flat_map(|fw_cfg| fw_cfg.files());
    all.filter_map(move |(file, name)| {
        let name = name.strip_prefix(folder.as_bytes())?;
        Some((file, core::str::from_utf8(name).ok()?.to_string()))
    })
}

/// Start and length of the first image for a PC's BIOS in the ROM of `size` bytes at `address`.
fn find_pc_image(hw: &impl PhysMem, address: u64, size: u64) -> Result<(u64, u64), RomError> {
    const CODE_TYPE_PC: u8 = 0;
    const LAST_IMAGE: u8 = 0x80;
    let mut offset = 0;
    for _ in 0..MAX_IMAGES {
        if offset + BLOCK > size {
            break;
        }
        // Each as a whole: under Xen a card's ROM is a device, not memory.
        let (mut header, mut data) = ([0; 32], [0; 24]);
        let image = address + offset;
        hw.read(image, &mut header);
        if header[..2] != SIGNATURE.to_le_bytes() {
            break;
        }
        let length = |limit| length(header[2], limit);
        let at = u64::from(u16::from_le_bytes([header[0x18], header[0x19]]));
        if at >= 0x1a && offset + at + data.len() as u64 <= size {
            hw.read(image + at, &mut data);
        }
        if !data.starts_with(b"PCIR") {
            // Without a data structure it is a legacy ROM, and the only image.
            return if offset == 0 {
                Ok((image, length(size)?))
            } else {
                Err(RomError::NoPcImage)
            };
        }
        let image_size = u64::from(u16::from_le_bytes([data[0x10], data[0x11]])) * BLOCK;
        if data[0x14] == CODE_TYPE_PC {
            return Ok((image, length(size - offset)?));
        }
        if data[0x15] & LAST_IMAGE != 0 || image_size == 0 {
            break;
        }
        offset += image_size;
    }
    Err(match offset {
        0 if hw.read16(address) != SIGNATURE => RomError::NoSignature,
        _ => RomError::NoPcImage,
    })
}

/// The length of an image that has `blocks` in its header.
fn length(blocks: u8, limit: u64) -> Result<u64, RomError> {
    match u64::from(blocks) * BLOCK {
        length if length == 0 || length > limit => Err(RomError::TooLong),
        length => Ok(length),
    }
}

/// Accepts the ROM that was put at `start` in at most `size` bytes, or clears it away. `sums`: one with a wrong checksum is not
/// accepted.
fn check(hw: &impl PhysMem, start: u64, size: u64, sums: bool) -> Result<PlacedRom, RomError> {
    let accepted = if hw.read16(start) != SIGNATURE {
        Err(RomError::NoSignature)
    } else {
        length(hw.read8(start + 2), size)
    };
    let accepted = accepted.and_then(|length| match sums && checksum(hw, start, length) != 0 {
        false => Ok(length),
        true => Err(RomError::BadChecksum),
    });
    if accepted.is_err() {
        hw.fill(start, size, 0);
    }
    accepted.map(|size| PlacedRom {
        segment: (start >> 4) as u16,
        size,
        bdf: None,
    })
}

fn checksum(hw: &impl PhysMem, start: u64, length: u64) -> u8 {
    let mut block = [0; BLOCK as usize];
    (0..length / BLOCK).fold(0u8, |total, index| {
        hw.read(start + index * BLOCK, &mut block);
        total.wrapping_add(sum(&block))
    })
}

/// What the Plug and Play expansion headers of an initialised ROM offer.
fn boot_vectors(hw: &impl PhysMem, segment: u16, size: u64) -> Vec<BootVector> {
    const FIRST_HEADER: u64 = 0x1a;
    const HEADER_SIZE: u64 = 0x20;
    let start = linear(segment, 0);
    let mut vectors = Vec::new();
    let mut header = u64::from(hw.read16(start + FIRST_HEADER));
    for _ in 0..MAX_HEADERS {
        let at = start + header;
        if header == 0 || header + HEADER_SIZE > size || hw.read32(at) != PNP {
            break;
        }
        let name = text(hw, start, u64::from(hw.read16(at + 0x10)), size);
        let offered = [
            (VectorKind::Connection, hw.read16(at + 0x16)),
            (VectorKind::Bootstrap, hw.read16(at + 0x1a)),
        ];
        for (kind, offset) in offered {
            if offset != 0 {
                vectors.push(BootVector {
                    kind,
                    segment,
                    offset,
                    name: name.clone(),
                    bdf: None,
                    file: None,
                });
            }
        }
        header = hw.read16(at + 6).into();
    }
    vectors
}

const PNP: u32 = u32::from_le_bytes(*b"$PnP");

/// The printable part of the string at `offset`, or nothing where there is none.
fn text(hw: &impl PhysMem, start: u64, offset: u64, size: u64) -> String {
    if offset == 0 || offset >= size {
        return String::new();
    }
    let mut bytes = [0; NAME_MAX];
    let len = (size - offset).min(NAME_MAX as u64) as usize;
    hw.read(start + offset, &mut bytes[..len]);
    bytes
        .iter()
        .take_while(|byte| **byte != 0)
        .filter(|byte| (0x20..0x7f).contains(*byte))
        .map(|byte| char::from(*byte))
        .collect()
}

#[cfg(test)]
mod tests;
