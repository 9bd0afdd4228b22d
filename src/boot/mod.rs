//! What is booted: candidates, order, hand-off.
pub mod linux;
