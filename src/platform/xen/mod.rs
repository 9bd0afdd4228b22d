//! Xen HVM: what the hypervisor and the toolstack tell us, and what they expect of a loader.
//!
//! When this code first runs, the domain builder has put our ELF image, its modules and `hvm_start_info` into low memory,
//! `hvm_info_table` at 0x9f800, and its ring pages into the last pages below 4 GiB. Xenstore holds the configuration.

pub mod chips;
pub mod config;
pub mod guest;
pub mod hvm_info;
pub mod memory;
pub mod payload;
pub mod pci;
pub mod start_info;
pub mod tables;

use crate::arch::Hardware;
use crate::arch::hypercalls::Hypercalls;
use crate::platform::qemu::fw_cfg::FwCfg;
use crate::platform::{Machine, Platform};
use crate::settings::Settings;
use alloc::boxed::Box;
use core::ops::Range;

/// Learns what guest this is, and sets up its memory, its PCI functions and its chips.
///
/// `start_info` is EBX at our entry, `resident` our own place, `phys_bits` how many bits a physical address has.
pub fn start<H: Hardware, X: Hypercalls>(
    hw: &H,
    xen: &X,
    start_info: u64,
    resident: Range<u64>,
    phys_bits: u8,
) -> (Machine, Settings) {
    let (mut guest, mut machine, mut settings) = guest::discover(hw, xen, start_info, resident);
    tables::blob_settings(hw, &guest, &mut settings);
    let told = guest.info.low_ram_end;
    pci::set_up(hw, xen, &mut guest, &mut machine, phys_bits);
    chips::set_up(hw, &guest, told);
    machine.pm_timer = chips::pm_timer(&guest);
    // The toolstack's device model has one only where the domain has a kernel to start.
    machine.fw_cfg = FwCfg::open(hw).ok();
    machine.platform = Platform::Xen(Box::new(guest));
    (machine, settings)
}
