//! INT 10h: video. The services are the VGA option ROM's; this starts it at the first call, so that a boot that never draws
//! anything pays nothing for it.
//!
//! A program that draws without INT 10h finds the card in text mode, which [`show_text`] sets when such a program could come to
//! run; where it did, the ROM's start leaves the screen as the guest had it. Most boot sectors write by INT 10h before they do
//! anything else, and then the ROM sets the mode once.
//!
//! The ROM hooks INT 10h itself. A guest that had hooked the vector before is left in front, and with a serial console we stay
//! in front of the ROM, to see what is written.

use super::Bios;
use super::bda::VideoState;
use super::console;
use super::ivt::{self, entry};
use crate::arch::{Frame, Hardware, Outcome, RealRegs};
use crate::devices::pci::Bdf;
use crate::devices::vga::{self, Vga};
use crate::platform::qemu::wishes;
use crate::rom;
use alloc::boxed::Box;
use alloc::vec;
use spin::Mutex;

/// A VGA option ROM in memory that has not been started yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoRom {
    /// Segment of its first byte.
    pub segment: u16,
    /// PCI address of its card.
    pub bdf: Option<Bdf>,
    /// Offset in segment F000h of the Plug and Play header, zero without one.
    pub pnp_header: u16,
    /// Its card, where that can be in text mode without the ROM; a ROM whose card cannot does not wait for the first call.
    pub card: Option<TextCard>,
}

/// A card that needs no ROM for text mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextCard {
    /// The card.
    pub vga: Vga,
    /// Physical address of its font, [`vga::FONT`] bytes in the ROM.
    pub font: u64,
    /// Whether it is in text mode.
    pub shown: bool,
}

/// Puts a card that waits for its ROM's start into text mode, unless it is.
pub fn show_text(bios: &Mutex<Bios>, hw: &impl Hardware) {
    show(bios, hw, |_| true);
}

/// The same for a guest that runs: one that has set the card up by itself keeps what it shows.
pub fn show_text_to_guest(bios: &Mutex<Bios>, hw: &impl Hardware) {
    show(bios, hw, |vga| vga.is_fresh(hw));
}

fn show(bios: &Mutex<Bios>, hw: &impl Hardware, wanted: impl FnOnce(Vga) -> bool) {
    let Video::Waiting(VideoRom {
        card: Some(card), ..
    }) = &mut bios.lock().services.video
    else {
        return;
    };
    let shown = core::mem::replace(&mut card.shown, true);
    if !shown && wanted(card.vga) {
        let mut font = Box::new([0; vga::FONT]);
        hw.read(card.font, &mut *font);
        card.vga.set_text_mode(hw, &font);
    }
}

impl VideoRom {
    /// The call of its initialisation.
    fn start(&self) -> RealRegs {
        rom::entry_registers([rom::INIT, self.segment], self.bdf, self.pnp_header)
    }
}

/// Who serves INT 10h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Video {
    /// There is no ROM, or it runs its initialisation.
    #[default]
    Nobody,
    /// A ROM that the first call starts.
    Waiting(VideoRom),
    /// A ROM's handler (offset, segment).
    Ready([u16; 2]),
}

impl Video {
    /// Whether there is a screen with something on it.
    pub fn shows(&self) -> bool {
        match self {
            Self::Nobody => false,
            Self::Waiting(rom) => rom.card.is_none_or(|card| card.shown),
            Self::Ready(_) => true,
        }
    }
}

/// Vectors that a VGA ROM takes: video, its parameter and font pointers, the former video handler.
const ROM_VECTORS: [u8; 5] = [0x10, 0x1d, 0x1f, 0x42, 0x43];

/// Serves one call.
pub fn serve<H: Hardware>(bios: &Mutex<Bios>, hw: &H, frame: &mut Frame) -> Outcome {
    let handler = start(bios, hw);
    if bios.lock().settings.console_port().is_some() {
        console::mirror(bios, hw, frame, handler.is_some());
    }
    match handler {
        Some([offset, segment]) => Outcome::Chain { segment, offset },
        None => Outcome::Return,
    }
}

/// Starts the ROM if it has not been started, and gives its handler.
pub fn start<H: Hardware>(bios: &Mutex<Bios>, hw: &H) -> Option<[u16; 2]> {
    let video = core::mem::take(&mut bios.lock().services.video);
    let (handler, keep_hook) = match video {
        Video::Nobody => return None,
        Video::Ready(handler) => (Some(handler), false),
        Video::Waiting(rom) => {
            let lends = bios.lock().services.pmm.open_late();
            let was_closed = bios.lock().machine.open_shadow(hw);
            let handler = run_rom(hw, rom);
            if was_closed {
                bios.lock().machine.close_shadow(hw);
            }
            bios.lock().services.pmm.lends = lends;
            (handler, bios.lock().settings.console_port().is_some())
        }
    };
    if keep_hook && handler.is_some_and(|handler| ivt::get(hw, 0x10) == handler) {
        ivt::set(hw, 0x10, ivt::SEGMENT, entry::INT_10);
    }
    bios.lock().services.video = handler.map_or(Video::Nobody, Video::Ready);
    handler
}

/// Runs the initialisation of the video card's ROM again, for a guest that wakes up, where the user wants that. All memory of
/// the guest's stays as it was: the ROM finds our vectors in place of those that the guest may have made.
pub fn start_again(bios: &Mutex<Bios>, hw: &impl Hardware) {
    /// Interrupt vectors and data areas.
    const LOW: usize = 0x600;
    let (rom, was_closed) = {
        let bios = &mut *bios.lock();
        let fw_cfg = bios.machine.fw_cfg.as_ref();
        let wanted = fw_cfg.is_some_and(|fw_cfg| wishes::video_rom_at_wake(hw, fw_cfg));
        let Some(rom) = bios.services.video_rom.filter(|_| wanted) else {
            return;
        };
        (rom, bios.machine.open_shadow(hw))
    };
    let mut low = vec![0; LOW];
    hw.read(0, &mut low);
    ivt::init(hw, &bios.lock().services.entries);
    let mut regs = rom.start();
    regs.flags = 0;
    hw.call_rom(&mut regs);
    hw.write(0, &low);
    if was_closed {
        bios.lock().machine.close_shadow(hw);
    }
}

/// Runs a ROM's initialisation and sets text mode. What the guest has made of the screen and of the vectors stays.
fn run_rom(hw: &impl Hardware, rom: VideoRom) -> Option<[u16; 2]> {
    let shown = rom.card.filter(|card| card.shown);
    let saved = shown.map(|card| (card.vga, card.vga.save(hw), VideoState::read(hw)));
    let before = ROM_VECTORS.map(|vector| ivt::get(hw, vector));
    let mut regs = rom.start();
    // Once a guest runs, its interrupts wait: the ROM has memory of the guest's as its stack.
    if rom.card.is_some() {
        regs.flags = 0;
    }
    hw.call_rom(&mut regs);
    let handler = ivt::get(hw, 0x10);
    let hooked = handler != before[0];
    if hooked {
        let mut text_mode = RealRegs {
            eax: 3,
            ..RealRegs::default()
        };
        hw.call_int(0x10, &mut text_mode);
    } else {
        log::warn!("the video ROM does not serve INT 10h");
    }
    for (vector, [offset, segment]) in ROM_VECTORS.into_iter().zip(before) {
        let ours = segment == ivt::SEGMENT || segment == rom.segment;
        let was_guests = !ours && [offset, segment] != [0, 0];
        if was_guests {
            ivt::set(hw, vector, segment, offset);
        }
    }
    if let Some((card, screen, state)) = saved {
        card.restore(hw, &screen);
        state.write(hw);
    }
    hooked.then_some(handler)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::bios::tests::bios;

    const ROM: VideoRom = VideoRom {
        segment: 0xc000,
        bdf: Some(Bdf(0x10)),
        pnp_header: 0,
        card: None,
    };

    #[test]
    fn a_started_rom_is_called_directly() {
        let (hw, bios) = (Fake::default(), bios());
        bios.lock().services.video = Video::Ready([0x578b, 0xc000]);
        let chain = Outcome::Chain {
            segment: 0xc000,
            offset: 0x578b,
        };
        assert_eq!(serve(&bios, &hw, &mut Frame::default()), chain);
    }

    #[test]
    fn a_rom_that_hooks_nothing_is_tried_once() {
        let (hw, bios) = (Fake::default(), bios());
        bios.lock().services.video = Video::Waiting(ROM);
        for _ in 0..2 {
            let outcome = serve(&bios, &hw, &mut Frame::default());
            assert_eq!(outcome, Outcome::Return);
        }
        let calls = hw.real_calls.borrow();
        assert_eq!(calls.len(), 1);
        assert_eq!(
            (calls[0].1.cs, calls[0].1.ip, calls[0].1.eax),
            (0xc000, 3, 0x10)
        );
    }
}
