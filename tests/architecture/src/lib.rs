//! Checks the structure of the workspace from its sources alone: dependencies between crates, import cycles between
//! modules, and crate sizes.
//!
//! This crate depends on no other crate of the workspace, so that the checks build in seconds and run even if other
//! crates do not compile.

pub mod cycles;
pub mod edges;
pub mod size;
mod source;

use std::path::{Path, PathBuf};

/// Returns the root of the repository.
pub fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("the crate lies two folders below the root").to_path_buf()
}
