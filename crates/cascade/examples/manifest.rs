//! Writes a checkpoint's `cascade.json`: `cargo run -p c3-cascade --example manifest -- FOLDER [NAME]`.

use std::path::PathBuf;

use c3_cascade::{Error, Manifest};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = || Error::InvalidInput("usage: manifest FOLDER [NAME]".into());
    let folder = PathBuf::from(arguments.next().ok_or_else(usage)?);
    let manifest = Manifest::derive(&folder, arguments.next())?;
    std::fs::write(folder.join("cascade.json"), serde_json::to_string_pretty(&manifest)? + "\n")?;
    Ok(())
}
