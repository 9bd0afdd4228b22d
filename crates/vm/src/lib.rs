//! One description of a guest, and what is made of it.
//!
//! - [`Guest`] says what a machine has, whoever starts it;
//! - [`qemu`] makes QEMU's command line of it, and [`xl`] the configuration of a guest of Xen;
//! - [`Running`] is a started QEMU, and [`Monitor`] talks to one;
//! - [`wait`] has the one loop that waits for a guest.
//!
//! The commands of xtask, the tests and the host tool share it.

mod device;
mod disk;
mod guest;
mod monitor;
pub mod qemu;
mod running;
pub mod wait;
pub mod xl;

pub use device::{
    Chardev, FwCfg, FwCfgValue, Nic, NicBackend, Rom, Sysinfo, Tpm, TpmBackend, Values,
};
pub use disk::{Bus, Disk, Format, Medium};
pub use guest::{
    Accelerator, Boot, BootDevice, Cpus, Firmware, Guest, Kernel, Machine, Virtualization,
};
pub use monitor::Monitor;
pub use running::{Outcome, Running};
