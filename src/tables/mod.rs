//! The tables a guest reads about its machine: pure functions from plain inputs to bytes.

pub mod e820;
pub mod loader;
pub mod place;
pub mod smbios;
