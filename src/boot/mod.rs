//! What is booted: candidates, order, hand-off.
//!
//! [`find`] makes the list of candidates, [`order`] arranges it, and [`bootstrap`] serves INT 19h and INT 18h, which go through
//! it. Each kind of hand-off is a file of its own.

pub mod bootstrap;
pub mod candidate;
pub mod direct;
pub mod find;
pub mod order;
mod report;
