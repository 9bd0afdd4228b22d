//! What is booted: candidates, order, hand-off.
//!
//! [`find`] makes the list of candidates, [`order`] arranges it, and [`bootstrap`] serves INT 19h and INT 18h, which go through
//! it. [`dialog`] is where the user comes in. Each kind of hand-off is a file of its own.

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

use crate::arch::{Frame, Handle, Outcome};
use crate::bios::{self, Bios};
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
        _ => bios::dispatch(bios, hw, frame),
    }
}
