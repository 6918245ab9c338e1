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

/// Of each kind `most` texts of about `bytes` bytes that follow one another, or as many as there are.
pub fn several(prose: &str, bytes: usize, most: usize) -> Result<Vec<Kind>> {
    let kinds = all(prose, most * bytes)?;
    Ok(kinds.iter().flat_map(|(kind, text)| parts(text, bytes).map(move |part| (*kind, part))).collect())
}

/// A text in equal parts of about `bytes` bytes.
fn parts(text: &str, bytes: usize) -> impl Iterator<Item = String> {
    let count = ((text.len() + bytes / 2) / bytes).max(1);
    let begin = move |number| text.floor_char_boundary(text.len() * number / count);
    (0..count).map(move |number| text[begin(number)..begin(number + 1)].to_owned())
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
