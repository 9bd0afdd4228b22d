//! Drivers, one a file, and what a driver looks like from outside.

pub mod block;
