//! Measurements of encryption at rest.

mod content;
mod in_place;
mod kms;
mod refusals;
mod rotation;
mod sealed;
mod shred;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use crate::harness::fixtures::Corpus;
use crate::harness::process::{Launch, Program};
use crate::harness::quantity::Quantity;

/// Names of the measurements.
pub const ROWS: &[&str] = &["sealed", "shred", "master-key-rotation", "encrypt-in-place", "wrong-key", "kms"];

/// Runs the measurement called `row` and returns its quantities.
pub async fn measure(row: &str, corpus: Corpus) -> Result<Vec<Quantity>> {
    match row {
        "sealed" => sealed::sealed().await,
        "shred" => shred::shred().await,
        "master-key-rotation" => rotation::rotation(corpus).await,
        "encrypt-in-place" => in_place::in_place().await,
        "wrong-key" => refusals::refusals().await,
        "kms" => kms::kms().await,
        row => bail!("no measurement is named `{row}`"),
    }
}

/// Writes a master key made of equal bytes. Returns the path of the file.
pub(super) fn master_key(folder: &Path, byte: u8) -> Result<PathBuf> {
    let path = folder.join(format!("master-{byte}.key"));
    fs::write(&path, format!("{byte:02x}").repeat(32))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path)
}

/// Returns the arguments that give these master keys.
pub(super) fn with_keys(keys: &[&Path]) -> Vec<String> {
    keys.iter().flat_map(|key| ["--master-key".to_owned(), format!("file:{}", key.display())]).collect()
}

/// Returns a command of `c3` that works on a store without a gateway.
fn c3(command: &[&str], data: &Path, keys: &[&Path]) -> Launch {
    Launch::new(Program::C3).args(command).arg("--data").arg(data).args(with_keys(keys))
}

/// Runs a command to its end. Fails unless it succeeds. Returns what it printed.
async fn succeed(launch: Launch) -> Result<String> {
    let output = launch.output().await?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{launch:?} failed: {out}{err}");
    Ok(out.into_owned())
}
