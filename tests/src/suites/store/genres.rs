//! Texts of five genres.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::harness::cluster::files_under;
use crate::harness::fixtures::{self, middle, root};

/// A text and its genre.
pub type GenreText = (&'static str, String);

/// Returns prose, news, JSON, Rust and Chinese: at most `bytes` bytes each, from the middle of the source.
pub fn all(prose: &str, bytes: usize) -> Result<[GenreText; 5]> {
    Ok([
        ("prose", middle(prose, bytes).to_owned()),
        ("news", middle(&fixtures::text("news.txt")?, bytes).to_owned()),
        ("json", middle(&json()?, bytes).to_owned()),
        ("rust", middle(&rust()?, bytes).to_owned()),
        ("chinese", middle(&fixtures::text("tang.txt")?, bytes).to_owned()),
    ])
}

/// Returns up to `most` consecutive texts of about `bytes` bytes for each genre. Returns fewer for a genre with a short
/// source.
pub fn several(prose: &str, bytes: usize, most: usize) -> Result<Vec<GenreText>> {
    let kinds = all(prose, most * bytes)?;
    Ok(kinds.iter().flat_map(|(kind, text)| parts(text, bytes).map(move |part| (*kind, part))).collect())
}

/// Splits a text into parts of equal length, about `bytes` bytes.
fn parts(text: &str, bytes: usize) -> impl Iterator<Item = String> {
    let count = ((text.len() + bytes / 2) / bytes).max(1);
    let begin = move |number| text.floor_char_boundary(text.len() * number / count);
    (0..count).map(move |number| text[begin(number)..begin(number + 1)].to_owned())
}

/// Returns the output of `cargo metadata` for this workspace.
fn json() -> Result<String> {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let output = cargo.current_dir(root()).output().context("cargo does not start")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Returns the source code of the gateway.
fn rust() -> Result<String> {
    let files = files_under(&root().join("gateway/src"))?;
    Ok(files.iter().map(fs::read_to_string).collect::<Result<Vec<_>, _>>()?.concat())
}
