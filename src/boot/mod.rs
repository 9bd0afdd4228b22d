//! What is booted: candidates, order, hand-off.
//!
//! [`find`] makes the list of candidates, [`order`] arranges it, and [`bootstrap`] serves INT 19h and INT 18h, which go through
//! it. [`dialog`] is where the user comes in. Each kind of hand-off is a file of its own.

mod bbs;
pub mod bootstrap;
pub mod candidate;
pub mod canvas;
pub mod cd;
pub mod dialog;
pub mod direct;
pub mod display;
pub mod find;
pub mod information;
pub mod label;
pub mod medium;
pub mod menu;
pub mod network;
pub mod order;
mod report;
mod sector;

use crate::arch::{Frame, Handle, Outcome, abi};
use crate::bios::{self, Bios, int10, ivt};
use bootstrap::Boot;
use spin::Mutex;

/// Serves one call or interrupt: the boot's own two, or one of the services'.
pub fn dispatch<H: Handle>(
    boot: &Mutex<Boot>,
    bios: &Mutex<Bios>,
    hw: &H,
    frame: &mut Frame,
) -> Outcome {
    match frame.vector {
        0x18 => bootstrap::next(boot, bios, hw, frame),
        0x19 => bootstrap::start(boot, bios, hw, frame),
        abi::PNP => {
            bbs::serve(boot, bios, hw, frame);
            Outcome::Return
        }
        vector => {
            let of_guest = || boot.try_lock().is_some_and(|boot| boot.has_booted());
            if SERVICES.contains(&vector) && of_guest() {
                int10::show_text_to_guest(bios, hw);
            }
            bios::dispatch(bios, hw, frame)
        }
    }
}

/// Serves INT 19h for the firmware itself, where no option ROM has put itself in front. Gives how the boot program starts; `None`
/// where the machine has to go on by way of real mode, since an option ROM serves the interrupt or the user is being waited for.
///
/// The way through real mode would be some ten exits to a hypervisor.
pub fn at_once<H: Handle>(boot: &Mutex<Boot>, bios: &Mutex<Bios>, hw: &H) -> Option<Frame> {
    const BOOTSTRAP: u16 = 0x19;
    if !ivt::is_ours(hw, BOOTSTRAP as u8, ivt::entry::INT_19) {
        return None;
    }
    let mut frame = Frame {
        vector: BOOTSTRAP,
        ..Frame::default()
    };
    let outcome = dispatch(boot, bios, hw, &mut frame);
    (outcome == Outcome::Return).then_some(frame)
}

/// The services that a program calls which may draw on the screen next, without INT 10h.
const SERVICES: [u16; 9] = [0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x1a, 0x40];
