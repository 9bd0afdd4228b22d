//! Xen HVM: what the hypervisor and the toolstack tell us, and what they expect of a loader.
//!
//! When this code first runs, the domain builder has put our ELF image, its modules and `hvm_start_info` into low memory,
//! `hvm_info_table` at 0x9f800, and its ring pages into the last pages below 4 GiB. Xenstore holds the configuration.

pub mod config;
#[cfg(test)]
mod fake;
pub mod guest;
pub mod hvm_info;
pub mod hypercalls;
pub mod leaves;
pub mod memory;
pub mod payload;
pub mod start_info;
pub mod xenstore;
