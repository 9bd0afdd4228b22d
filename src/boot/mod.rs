//! What is booted: candidates, order, hand-off.
pub mod direct;
pub mod linux;
