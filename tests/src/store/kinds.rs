//! Texts of five kinds.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cluster::files_under;
use crate::fixtures::{self, middle, root};

/// A text and what kind it is.
pub type Kind = (&'static str, String);

/// Prose, news, JSON, Rust and Chinese, each of about `bytes` bytes or as long as there is.
pub fn all(prose: &str, bytes: usize) -> Result<[Kind; 5]> {
    Ok([
        ("prose", middle(prose, bytes).to_owned()),
        ("news", middle(&fixtures::text("news.txt")?, bytes).to_owned()),
        ("json", middle(&json()?, bytes).to_owned()),
        ("rust", middle(&rust()?, bytes).to_owned()),
        ("chinese", middle(&fixtures::text("tang.txt")?, bytes).to_owned()),
    ])
}

/// What cargo says of the workspace.
fn json() -> Result<String> {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let said = cargo.current_dir(root()).output().context("cargo does not start")?;
    ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    Ok(String::from_utf8(said.stdout)?)
}

/// The gateway's source.
fn rust() -> Result<String> {
    let files = files_under(&root().join("gateway/src"))?;
    Ok(files.iter().map(fs::read_to_string).collect::<Result<Vec<_>, _>>()?.concat())
}
