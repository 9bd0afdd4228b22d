//! Where things are: the source tree and the build output.

use std::path::{Path, PathBuf};

/// The root of the source tree and the directory of the workspace's Cargo.toml.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a directory in the workspace")
}

/// Cargo's output directory: `CARGO_TARGET_DIR` when that is set, `target` in the source tree otherwise.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => root().join(directory),
        None => root().join("target"),
    }
}
