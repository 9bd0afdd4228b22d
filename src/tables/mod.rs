//! The tables a guest reads about its machine: pure functions from plain inputs to bytes.

pub mod acpi;
pub mod e820;
pub mod loader;
pub mod mp;
pub mod pir;
pub mod place;
pub mod routing;
pub mod smbios;
