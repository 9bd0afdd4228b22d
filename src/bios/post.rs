//! What the services need set up before the first guest instruction. Each function stands alone, so that a boot that has no use
//! for a device leaves it out.

use super::{bda, ebda, int1a, ivt};
use crate::arch::{Entries, Hardware, PhysMem};
use crate::devices::{pic, pit, ps2, rtc};

/// Lines that are let through from the start: those whose handlers we have.
const ENABLED_IRQS: u16 = 1 << pic::irq::TIMER
    | 1 << pic::irq::KEYBOARD
    | 1 << pic::irq::FLOPPY
    | 1 << pic::irq::RTC
    | 1 << pic::irq::MOUSE
    | 1 << pic::irq::FPU
    | 1 << pic::irq::IDE_PRIMARY;

/// Writes the vector table and both data areas. Option ROMs and drivers add to them afterwards.
pub fn low_memory(hw: &impl PhysMem, entries: &Entries) {
    let memory_kb = 640 - u16::from(ebda::SIZE_KB);
    ivt::init(hw, entries);
    ebda::init(hw);
    bda::init(hw, ebda::SEGMENT, memory_kb);
}

/// Sets up the interrupt controllers, the timer and the clock, and takes the time of day over.
pub fn interrupts_and_time(hw: &impl Hardware) {
    pic::init(hw, ENABLED_IRQS);
    pit::init(hw);
    rtc::init(hw);
    int1a::init_ticks(hw);
}

/// Sets up the keyboard controller and the keyboard.
pub fn keyboard(hw: &impl Hardware) {
    match ps2::init(hw) {
        Ok(()) => {}
        Err(ps2::Error::Absent) => log::info!("no keyboard controller"),
        Err(error) => log::warn!("the keyboard does not work: {error:?}"),
    }
}
