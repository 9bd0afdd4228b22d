//! Builds, runs, tests and measures Firstlight: `cargo xtask --help`.

fn main() {}
