//! Drivers of what is no disk, one a file, and what all drivers share.

pub mod apic;
pub mod chipset;
pub mod feature_control;
pub mod isa_dma;
pub mod mtrr;
pub mod name;
pub mod parallel;
pub mod pci;
pub mod pic;
pub mod pit;
pub mod place;
pub mod poll;
pub mod ps2;
pub mod reset;
pub mod rtc;
pub mod serial;
pub mod smm;
pub mod vga;
pub mod virtio;
#[cfg(feature = "xen")]
pub mod xen;
