//! Who started us, and what they told us: QEMU's fw_cfg or Xen's start_info, one [`Machine`] out.

pub mod xen;

use crate::tables::e820::E820Map;
use alloc::vec::Vec;

/// The hypervisor's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlatformKind {
    /// QEMU, by its ROM's reset vector.
    Qemu,
    /// Xen's domain builder, by the ELF entry.
    Xen,
}

/// The virtual CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus {
    /// CPUs present at start.
    pub present: u32,
    /// CPUs that may ever be present (hotplug).
    pub possible: u32,
    /// APIC IDs by CPU number, `possible` long where the platform tells them.
    pub apic_ids: Vec<u32>,
}

/// Everything the platform told us that the later steps use.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Who started us.
    pub platform: PlatformKind,
    /// RAM below 4 GiB ends here, in bytes.
    pub low_ram_end: u64,
    /// Bytes of RAM from 4 GiB up.
    pub high_ram: u64,
    /// The CPUs.
    pub cpus: Cpus,
    /// The guest's memory map.
    pub e820: E820Map,
}
