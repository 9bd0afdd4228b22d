//! The boot path of a virtual machine: firmware for Xen HVM guests and for QEMU.
//!
//! The library is the whole firmware but for its machine code entry points, which `main.rs` links in. It is `no_std`, and
//! everything that does not touch the processor runs on the host under `cargo test`, with fakes behind the traits of
//! [`arch::hw`].
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod arch;
pub mod bios;
pub mod boot;
pub mod devices;
#[cfg(test)]
mod imports;
pub mod log_tail;
#[cfg(not(test))]
pub mod logger;
pub mod low_memory;
pub mod platform;
pub mod rom;
pub mod settings;
pub mod steps;
pub mod storage;
pub mod units;
