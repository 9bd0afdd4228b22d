//! The tables a guest reads about its machine: pure functions from plain inputs to bytes. Those of ACPI are in a crate of
//! their own.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod e820;
pub mod loader;
pub mod mp;
pub mod pir;
pub mod place;
pub mod routing;
pub mod smbios;
pub mod sort;
mod sum;
pub mod units;
