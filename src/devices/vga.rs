//! VGA cards in text mode 3, without their ROM: what a program finds that draws on the screen before it calls INT 10h.
//!
//! A VGA ROM's own start is some 38,000 register accesses, nearly all of them the font, a byte at a time. The cards of virtual
//! machines show their memory in a BAR as well, and there the font and the blank screen are plain memory. Of the registers only those are
//! written that a reset leaves different, and only the colours that text mode shows.
//!
//! Sources: IBM VGA technical reference (Personal System/2 Hardware Interface Technical Reference, Video Subsystem), for the
//! registers and the values of mode 3; QEMU docs/specs/standard-vga for the BAR, in which the four planes take turns byte by
//! byte.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::pci::PciDevice;
use crate::arch::{PhysMem, Ports, room_for};

/// Ports of the card in its colour setting: each index register is followed by its data register.
mod port {
    pub const ATTRIBUTE: u16 = 0x3c0;
    pub const ATTRIBUTE_READ: u16 = 0x3c1;
    pub const MISC_WRITE: u16 = 0x3c2;
    pub const SEQUENCER: u16 = 0x3c4;
    pub const DAC_MASK: u16 = 0x3c6;
    pub const DAC_READ_INDEX: u16 = 0x3c7;
    pub const DAC_WRITE_INDEX: u16 = 0x3c8;
    pub const DAC_DATA: u16 = 0x3c9;
    pub const MISC_READ: u16 = 0x3cc;
    pub const GRAPHICS: u16 = 0x3ce;
    pub const CRTC: u16 = 0x3d4;
    /// Reading it makes the next write to `ATTRIBUTE` an index.
    pub const STATUS: u16 = 0x3da;
}

/// In the attribute controller's index: the palette is the screen's again.
const SHOW: u8 = 0x20;
/// CRTC 11h: registers 0 to 7 are locked.
const CRTC_LOCK: u8 = 0x80;

/// The cards that are known to work so: vendor, device, BAR of the video memory.
const KNOWN: [(u16, u16, usize); 5] = [
    // QEMU's standard VGA, Cirrus Logic GD5446, QXL, virtio-vga, VMware SVGA II.
    (0x1234, 0x1111, 0),
    (0x1013, 0x00b8, 0),
    (0x1b36, 0x0100, 0),
    (0x1af4, 0x1050, 0),
    (0x15ad, 0x0405, 1),
];

/// PCI class and subclass of a VGA card.
const CLASS_VGA: u32 = 0x0300;

/// Video memory that text mode uses, in bytes over all planes: 32 KiB of screen, a plane of fonts beside it.
const TEXT_MEMORY: usize = 64 << 10;
/// What of that has a font at the beginning: the rest of the screen's memory is nowhere to be seen.
const FONT_MEMORY: usize = 32 << 10;
/// Bytes of one character in an 8 × 16 font, and between two in the card's memory.
const GLYPH: usize = 16;
const GLYPH_STRIDE: usize = 32;
/// Bytes of the font in a ROM.
pub const FONT: usize = 256 * GLYPH;
/// A blank cell: a space, light grey on black, in planes 0 and 1.
const BLANK: u32 = 0x0720;

/// Values of the registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers {
    misc: u8,
    sequencer: [u8; 5],
    graphics: [u8; 9],
    crtc: [u8; 25],
    attribute: [u8; 21],
    dac_mask: u8,
    /// Red, green and blue, six bits each, of all colours.
    dac: Vec<u8>,
}

/// The attribute controller's registers in mode 3. The first 16 say which colours are shown.
const TEXT_ATTRIBUTE: [u8; 21] = [
    0, 1, 2, 3, 4, 5, 0x14, 7, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x0c, 0, 0x0f, 8, 0,
];

/// The colours that are shown, but for black.
const TEXT_COLOURS: [Range<u8>; 4] = [1..6, 7..8, 0x14..0x15, 0x38..0x40];

impl Registers {
    /// Mode 3: 80 × 25 characters of 9 × 16 dots, cursor at the top left.
    fn text_mode() -> Self {
        Self {
            misc: 0x67,
            sequencer: [3, 0, 3, 0, 2],
            graphics: [0, 0, 0, 0, 0, 0x10, 0x0e, 0x0f, 0xff],
            crtc: [
                0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0, 0x4f, 0x0d, 0x0e, 0, 0, 0, 0,
                0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
            ],
            attribute: TEXT_ATTRIBUTE,
            dac_mask: 0xff,
            dac: Vec::new(),
        }
    }

    /// What the card has now.
    fn read(hw: &impl Ports) -> Self {
        let mut now = Self::text_mode();
        now.misc = hw.in8(port::MISC_READ);
        read_indexed(hw, port::SEQUENCER, &mut now.sequencer);
        read_indexed(hw, port::GRAPHICS, &mut now.graphics);
        read_indexed(hw, port::CRTC, &mut now.crtc);
        for (index, value) in now.attribute.iter_mut().enumerate() {
            hw.in8(port::STATUS);
            hw.out8(port::ATTRIBUTE, index as u8 | SHOW);
            *value = hw.in8(port::ATTRIBUTE_READ);
        }
        hw.in8(port::STATUS);
        now.dac_mask = hw.in8(port::DAC_MASK);
        hw.out8(port::DAC_READ_INDEX, 0);
        now.dac = vec![0; 256 * 3];
        hw.in8_repeated(port::DAC_DATA, &mut now.dac);
        now
    }

    /// Gives the colours of the EGA that [`Registers::write_to_fresh`] left black their values, as a mode set by the ROM does.
    fn complete_palette(&mut self) {
        for (number, colour) in (0..64).zip(self.dac.as_chunks_mut::<3>().0) {
            if *colour == [0, 0, 0] {
                *colour = ega_colour(number);
            }
        }
    }

    /// Sets those registers of a card that a reset has left at zero, and the 16 colours that text mode shows. What goes to one port goes
    /// there in one instruction, which is one request where Xen hands it on.
    fn write_to_fresh(&self, hw: &impl Ports) {
        hw.out8(port::MISC_WRITE, self.misc);
        write_differing(hw, port::SEQUENCER, &self.sequencer);
        write_differing(hw, port::GRAPHICS, &self.graphics);
        write_differing(hw, port::CRTC, &self.crtc);
        let differing = (0..).zip(self.attribute).filter(|(_, value)| *value != 0);
        let mut attribute: Vec<u8> = differing.flat_map(<[u8; 2]>::from).collect();
        attribute.push(SHOW);
        hw.out8_repeated(port::ATTRIBUTE, &attribute);
        hw.out8(port::DAC_MASK, self.dac_mask);
        for colours in TEXT_COLOURS {
            let first = colours.start;
            let values: Vec<u8> = colours.flat_map(ega_colour).collect();
            hw.out16(
                port::DAC_WRITE_INDEX,
                u16::from_le_bytes([first, values[0]]),
            );
            hw.out8_repeated(port::DAC_DATA, &values[1..]);
        }
    }

    fn write(&self, hw: &impl Ports) {
        hw.out8(port::MISC_WRITE, self.misc);
        write_indexed(hw, port::SEQUENCER, &self.sequencer);
        write_indexed(hw, port::GRAPHICS, &self.graphics);
        hw.out16(
            port::CRTC,
            u16::from(self.crtc[0x11] & !CRTC_LOCK) << 8 | 0x11,
        );
        write_indexed(hw, port::CRTC, &self.crtc);
        hw.in8(port::STATUS);
        let indexed = (0..).zip(self.attribute);
        let mut attribute: Vec<u8> = indexed.flat_map(<[u8; 2]>::from).collect();
        attribute.push(SHOW);
        hw.out8_repeated(port::ATTRIBUTE, &attribute);
        hw.out8(port::DAC_MASK, self.dac_mask);
        hw.out8(port::DAC_WRITE_INDEX, 0);
        hw.out8_repeated(port::DAC_DATA, &self.dac);
    }
}

/// Writes the registers that are not zero.
fn write_differing(hw: &impl Ports, port: u16, values: &[u8]) {
    let differing = (0..).zip(values).filter(|(_, value)| **value != 0);
    write_words(hw, port, differing);
}

/// Red, green and blue of one of the 64 colours of the EGA: bits 2 to 0 are two thirds of each, bits 5 to 3 one third.
fn ega_colour(number: u8) -> [u8; 3] {
    [2, 1, 0].map(|bit| (number >> bit & 1) * 0x2a + (number >> (bit + 3) & 1) * 0x15)
}

fn read_indexed(hw: &impl Ports, port: u16, values: &mut [u8]) {
    for (index, value) in values.iter_mut().enumerate() {
        hw.out8(port, index as u8);
        *value = hw.in8(port + 1);
    }
}

fn write_indexed(hw: &impl Ports, port: u16, values: &[u8]) {
    write_words(hw, port, (0..).zip(values));
}

/// Writes registers, each an index and a value.
fn write_words<'a>(hw: &impl Ports, port: u16, indexed: impl Iterator<Item = (u8, &'a u8)>) {
    let words: Vec<u16> = indexed
        .map(|(index, value)| u16::from_le_bytes([index, *value]))
        .collect();
    hw.out16_repeated(port, &words);
}

/// A card that needs no ROM for text mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vga {
    /// Physical address of the video memory.
    memory: u64,
}

/// What a guest has made of a card.
pub struct Saved {
    registers: Registers,
    memory: Vec<u8>,
}

impl Vga {
    /// The card, if it is one of those that work so.
    pub fn new(card: &PciDevice) -> Option<Self> {
        let known = |(vendor, device, _): &&(u16, u16, usize)| card.is(*vendor, *device);
        let (_, _, bar) = KNOWN.iter().find(known)?;
        // QEMU's bochs-display has the standard VGA's name, and none of its registers.
        if card.class >> 8 != CLASS_VGA {
            return None;
        }
        card.memory(*bar).map(|memory| Self { memory })
    }

    /// A card whose video memory is at `memory`.
    #[cfg(test)]
    pub fn at(memory: u64) -> Self {
        Self { memory }
    }

    /// Writes cells of the text screen from number `first` on, colours in the high byte.
    pub fn draw(self, hw: &impl PhysMem, first: usize, cells: &[u16]) {
        // A character and its colours are in planes 0 and 1; plane 3 is empty, and the font in plane 2 must stay.
        let at = self.memory + (first * size_of::<u32>()) as u64;
        for (cell, at) in cells.iter().zip((at..).step_by(size_of::<u32>())) {
            hw.write16(at, *cell);
        }
    }

    /// `count` cells of the text screen from number `first` on.
    pub fn cells(self, hw: &impl PhysMem, first: usize, count: usize) -> Vec<u16> {
        let mut bytes = vec![0; count * size_of::<u32>()];
        hw.read(self.memory + (first * size_of::<u32>()) as u64, &mut bytes);
        let cells = bytes.chunks_exact(size_of::<u32>());
        cells
            .map(|cell| u16::from_le_bytes([cell[0], cell[1]]))
            .collect()
    }

    /// Shows or hides the text cursor.
    pub fn show_cursor(self, hw: &impl Ports, on: bool) {
        hw.out16(port::CRTC, if on { 0x0d0a } else { 0x200a });
    }

    /// Whether nobody has set the card up since its reset.
    pub fn is_fresh(self, hw: &impl Ports) -> bool {
        hw.in8(port::MISC_READ) == 0
    }

    /// Sets text mode 3 with an empty screen. `font` has 16 bytes for each of 256 characters.
    pub fn set_text_mode(self, hw: &(impl Ports + PhysMem), font: &[u8; FONT]) {
        let registers = Registers::text_mode();
        if self.is_fresh(hw) {
            registers.write_to_fresh(hw);
        } else {
            let dac = (0..64).flat_map(ega_colour).collect();
            Registers { dac, ..registers }.write(hw);
        }
        hw.write_as(self.memory, &BLANK);
        let mut done = size_of_val(&BLANK);
        while done < FONT_MEMORY {
            hw.copy(self.memory + done as u64, self.memory, done as u64);
            done *= 2;
        }
        let places = (self.memory..).step_by(GLYPH_STRIDE * size_of::<u32>());
        for (glyph, at) in font.as_chunks::<GLYPH>().0.iter().zip(places) {
            // Two rows at a time.
            let mut cells = [0u64; GLYPH / 2];
            for (pair, [upper, lower]) in cells.iter_mut().zip(glyph.as_chunks().0) {
                let rows = u64::from(*upper) << 16 | u64::from(*lower) << 48;
                *pair = rows | u64::from(BLANK) << 32 | u64::from(BLANK);
            }
            hw.write_as(at, &cells);
        }
    }

    /// Takes a copy of what the start of a ROM changes; without the text where there is no memory for it.
    pub fn save(self, hw: &(impl Ports + PhysMem)) -> Saved {
        let mut memory = match room_for(TEXT_MEMORY) {
            true => vec![0; TEXT_MEMORY],
            false => Vec::new(),
        };
        hw.read(self.memory, &mut memory);
        let mut registers = Registers::read(hw);
        registers.complete_palette();
        Saved { registers, memory }
    }

    /// Undoes what changed since [`Vga::save`].
    pub fn restore(self, hw: &(impl Ports + PhysMem), saved: &Saved) {
        saved.registers.write(hw);
        hw.write(self.memory, &saved.memory);
    }
}

/// Where in a VGA ROM the 8 × 16 font lies, by its second character, the smiling face, after a blank first one.
pub fn font_in(rom: &[u8]) -> Option<(usize, &[u8; FONT])> {
    /// Rows 3 to 11 of the face. The 8 × 14 font has a row less between the mouth and the chin.
    const FACE: [u8; 9] = [0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99, 0x81, 0x81, 0x7e];
    const FACE_AT: usize = GLYPH + 3;
    /// One of so many neighbours is at a multiple of their number, so there is no need to look at every byte.
    const STEP: usize = 8;
    for (index, chunk) in rom.as_chunks::<STEP>().0.iter().enumerate() {
        if !matches!(chunk[0], 0x81 | 0xa5 | 0xbd | 0x99) {
            continue;
        }
        let at = index * STEP;
        for start in (0..STEP).filter_map(|shift| at.checked_sub(shift + FACE_AT)) {
            let Some(font) = rom.get(start..).and_then(|rest| rest.first_chunk::<FONT>()) else {
                continue;
            };
            if font[FACE_AT..].starts_with(&FACE) && font[..GLYPH] == [0; GLYPH] {
                return Some((start, font));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;

    fn rom(font_at: usize) -> Vec<u8> {
        let mut rom = vec![0x81; font_at + FONT];
        rom[font_at..].fill(0);
        rom[font_at + GLYPH + 2..][..10]
            .copy_from_slice(&[0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99, 0x81, 0x81, 0x7e]);
        rom[font_at + FONT - 1] = 0x55;
        rom
    }

    #[test]
    fn a_font_is_found_wherever_it_lies() {
        for at in 0..40 {
            assert_eq!(font_in(&rom(at)).map(|found| found.0), Some(at));
        }
        assert!(font_in(&rom(40)[..FONT + 39]).is_none());
        assert!(font_in(&[]).is_none());
    }

    #[test]
    fn text_mode_has_the_font_beside_a_blank_screen() {
        let hw = Fake::default();
        hw.script_port(port::MISC_READ, &[0]);
        let rom = rom(0);
        let Some((_, font)) = font_in(&rom) else {
            panic!("no font")
        };
        Vga {
            memory: 0xe000_0000,
        }
        .set_text_mode(&hw, font);
        assert_eq!(hw.read32(0xe000_0000), 0x0720);
        assert_eq!(hw.read32(0xe000_0000 + 4 * (32 + 3)), 0x81_0720);
        assert_eq!(hw.read32(0xe000_0000 + 4 * (255 * 32 + 15)), 0x55_0720);
        assert_eq!(hw.read32(0xe000_7ffc), 0x0720);
        let writes = hw.port_writes.borrow();
        assert!(writes.contains(&(0x3c2, 0x67)));
        assert!(writes.len() < 120, "{} writes", writes.len());
    }

    #[test]
    fn colours_that_were_left_out_come_with_the_rom() {
        let mut registers = Registers {
            dac: vec![0; 256 * 3],
            ..Registers::text_mode()
        };
        registers.dac[3..6].fill(7);
        registers.complete_palette();
        assert_eq!(registers.dac[3..9], [7, 7, 7, 0, 0x2a, 0]);
        assert_eq!(registers.dac[64 * 3..], [0; 192 * 3]);
    }

    #[test]
    fn the_colours_are_those_that_the_attributes_name() {
        let mut named = TEXT_ATTRIBUTE[..16].to_vec();
        named.retain(|number| *number != 0);
        named.sort_unstable();
        let given: Vec<u8> = TEXT_COLOURS.into_iter().flatten().collect();
        assert_eq!(given, named);
    }

    #[test]
    fn the_colours_are_the_egas() {
        assert_eq!(ega_colour(0x14), [0x2a, 0x15, 0]);
        assert_eq!(ega_colour(0x3f), [0x3f, 0x3f, 0x3f]);
        assert_eq!(ega_colour(0x38), [0x15, 0x15, 0x15]);
    }
}
