//! The services that a guest calls, one file an interrupt.

use crate::arch::{Frame, Hardware, Outcome};
use crate::devices::block::BlockDevice;
use crate::platform::Machine;
use crate::settings::Settings;
use alloc::boxed::Box;
use alloc::vec::Vec;
use spin::Mutex;

/// What the services remember between two calls.
pub struct Bios<H: Hardware> {
    /// What the platform told us.
    pub machine: Machine,
    /// What the user set.
    pub settings: Settings,
    /// Hard disks, in the order of their drive numbers from 80h.
    pub hard_disks: Vec<Box<dyn BlockDevice<H>>>,
}

/// Serves one call, or one hardware interrupt that Rust handles.
///
/// The lock is taken by each service for as long as it needs the state, and never over a call into real mode, since that code
/// can raise any interrupt and so come back here.
pub fn dispatch<H: Hardware>(bios: &Mutex<Bios<H>>, hw: &H, frame: &mut Frame) -> Outcome {
    let _ = (bios, hw);
    #[allow(clippy::match_single_binding)]
    match frame.vector {
        _ => {
            frame.fail(0x86);
            Outcome::Return
        }
    }
}
