//! Where things are: the source tree, the build output, and the user's cache.

use anyhow::{Context, Result};
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

/// The directory for what takes long to make and outlives `cargo clean`: `~/.cache/firstlight`. It is made when missing.
pub fn cache() -> Result<PathBuf> {
    let directory = dirs::cache_dir()
        .context("no cache directory: HOME is not set")?
        .join("firstlight");
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}
