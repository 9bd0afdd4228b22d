//! Drivers, one a file, and what a driver looks like from outside.

pub mod ata;
pub mod block;
pub mod dma;
pub mod poll;
