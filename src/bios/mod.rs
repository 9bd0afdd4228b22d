//! The services that a guest calls, one file an interrupt.

pub mod apm;
pub mod bda;
pub mod bios32;
pub mod buffer;
pub mod console;
pub mod ebda;
pub mod fault;
pub mod int05;
pub mod int09;
pub mod int10;
pub mod int13;
pub mod int14;
pub mod int15;
pub mod int16;
pub mod int17;
pub mod int1a;
pub mod ivt;
pub mod keyboard;
mod layout;
pub mod option_roms;
pub mod pcibios;
pub mod pmm;
pub mod pnp;
pub mod post;

use crate::arch::{Entries, Frame, Handle, Outcome, abi};
use crate::platform::Machine;
use crate::rom::OptionRoms;
use crate::settings::Settings;
use alloc::sync::Arc;
use bda::Bda;
use int13::Drives;
use spin::Mutex;

/// What the services remember between two calls.
pub struct Bios {
    /// What the platform told us.
    pub machine: Machine,
    /// What the user set.
    pub settings: Settings,
    /// All drives, behind a lock of their own, which is held while one works and [`Bios`] is not.
    pub drives: Arc<Mutex<Drives>>,
    /// What the services other than the disk's keep.
    pub services: Services,
}

impl Bios {
    /// The services of a machine in which nothing has been looked for yet.
    pub fn new(machine: Machine, settings: Settings) -> Self {
        Self {
            machine,
            settings,
            drives: Arc::default(),
            services: Services::default(),
        }
    }
}

/// What the services other than the disk's keep out of the guest's reach.
#[derive(Clone, Debug, Default)]
pub struct Services {
    /// Physical address of the PCI interrupt routing table.
    pub routing_table: Option<u64>,
    /// The option ROMs that are in memory.
    pub option_roms: OptionRoms,
    /// Memory lent to option ROMs.
    pub pmm: pmm::Pmm,
    /// Address of the names that boot programs were shown.
    pub boot_names: Option<u64>,
    /// Exceptions in real mode that the log has.
    pub faults: fault::Reported,
    /// Who waits in INT 15h AH=86h.
    pub waiter: Option<int15::wait::Waiter>,
    /// Who waits in INT 15h AX=5305h for an interrupt.
    pub idler: Option<int15::wait::Waiter>,
    /// Who waits for a serial or parallel port.
    pub deadline: Option<int15::wait::Deadline>,
    /// The keyboard interrupt that the Pause key holds up.
    pub paused: Option<int15::wait::Waiter>,
    /// Who serves INT 10h.
    pub video: int10::Video,
    /// The video card's ROM, if there is one.
    pub video_rom: Option<int10::VideoRom>,
    /// The serial console.
    pub console: console::Console,
    /// Entry points that callers are told.
    pub entries: Entries,
}

/// Serves one call, or one hardware interrupt that Rust handles. INT 18h and INT 19h are the boot's, which calls this for the others.
///
/// The lock is taken by each service for as long as it needs the state, and never over a call into real mode, since that code
/// can raise any interrupt and so come back here.
pub fn dispatch<H: Handle>(bios: &Mutex<Bios>, hw: &H, frame: &mut Frame) -> Outcome {
    match frame.vector {
        0x05 => int05::serve(hw),
        0x08 => return console::tick(bios, hw),
        0x09 => return int09::serve(bios, hw, frame),
        0x10 => return int10::serve(bios, hw, frame),
        0x11 => frame.set_ax(Bda::equipment().get(hw)),
        0x12 => frame.set_ax(Bda::memory_kb().get(hw)),
        0x13 | 0x40 => return int13::serve(bios, hw, frame),
        0x14 => return int14::serve(bios, hw, frame),
        0x15 => return int15::serve(bios, hw, frame),
        0x16 => return int16::serve(bios, hw, frame),
        0x17 => return int17::serve(bios, hw, frame),
        0x1a => return int1a::serve(bios, hw, frame),
        0x70 => int1a::interrupt(hw),
        0x74 => int15::mouse::interrupt(hw),
        abi::PMM => {
            let bios = &mut *bios.lock();
            bios.services.pmm.serve(hw, &mut bios.machine.e820, frame);
        }
        abi::NO_INTERRUPT.. => fault::report(bios, frame),
        _ => frame.fail(0x86),
    }
    Outcome::Return
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::arch::fake::Fake;

    /// Services of a machine with nothing in it.
    pub fn bios() -> Mutex<Bios> {
        Mutex::new(Bios::new(Machine::default(), Settings::default()))
    }

    #[test]
    fn equipment_and_memory_size() {
        let hw = Fake::default();
        bda::init(&hw, ebda::SEGMENT, 639);
        let mut frame = Frame {
            vector: 0x12,
            ..Frame::default()
        };
        dispatch(&bios(), &hw, &mut frame);
        assert_eq!(frame.ax(), 639);
        frame.vector = 0x11;
        dispatch(&bios(), &hw, &mut frame);
        assert_eq!(frame.ax(), 0x26);
    }
}
