//! Drivers, one a file, and what a driver looks like from outside.

pub mod ahci;
pub mod apic;
pub mod ata;
pub mod block;
pub mod chipset;
pub mod dma;
pub mod mtrr;
pub mod option_rom;
pub mod parallel;
pub mod pci;
pub mod pic;
pub mod pit;
pub mod poll;
pub mod ps2;
pub mod reset;
pub mod rtc;
pub mod serial;
pub mod vga;
