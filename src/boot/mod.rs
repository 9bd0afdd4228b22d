//! What is booted: candidates, order, hand-off.
