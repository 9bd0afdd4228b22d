//! Drivers, one a file, and what a driver looks like from outside.

pub mod ata;
pub mod block;
pub mod dma;
pub mod pic;
pub mod pit;
pub mod poll;
pub mod ps2;
pub mod rtc;
