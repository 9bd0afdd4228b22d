//! Every call the differential probe makes, with good and with bad arguments, an interrupt family a file.

pub mod disk;
mod input;
mod memory;
mod pci;
mod removable;
mod system;
mod time;
pub mod video;

use crate::script::Script;

/// The whole probe, for a machine with `disks` hard disks (at least one).
pub fn all(disks: u8) -> Script {
    let mut script = Script::new();
    memory::initial_state(&mut script);
    memory::sizes(&mut script);
    system::tables(&mut script);
    system::services(&mut script);
    system::block_move(&mut script);
    system::a20(&mut script);
    system::mouse(&mut script);
    video::services(&mut script);
    time::ticks(&mut script);
    time::clock(&mut script);
    time::waits(&mut script);
    input::buffer(&mut script);
    input::keys(&mut script);
    input::serial(&mut script);
    input::printer(&mut script);
    pci::services(&mut script);
    pci::protected_mode(&mut script);
    for drive in 0..disks {
        disk::present(&mut script, 0x80 + drive);
    }
    disk::absent(&mut script, disks);
    disk::contents(&mut script);
    disk::writes(&mut script);
    memory::final_state(&mut script);
    script
}

/// The probe of INT 13h on a diskette drive and on a CD drive, both empty.
pub fn empty() -> Script {
    let mut script = Script::new();
    removable::empty_floppy(&mut script);
    removable::empty_cd(&mut script);
    script
}

/// The probe of INT 13h on a diskette drive and on a CD drive, each with a medium.
pub fn removable() -> Script {
    let mut script = Script::new();
    removable::floppy(&mut script);
    removable::cd(&mut script);
    script
}
