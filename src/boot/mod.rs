//! What is booted: candidates, order, hand-off.
//!
//! [`find`] makes the list of candidates, [`order`] arranges it, and [`bootstrap`] serves INT 19h and INT 18h, which go through
//! it. [`dialog`] is where the user comes in. Each kind of hand-off is a file of its own.

pub mod bootstrap;
pub mod candidate;
pub mod canvas;
pub mod dialog;
pub mod direct;
pub mod display;
pub mod find;
pub mod information;
pub mod label;
pub mod medium;
pub mod menu;
pub mod order;
mod report;
