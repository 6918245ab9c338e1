//! Virtual environments of Python in `target`, with packages from PyPI.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::harness::fixtures;

/// Packages that the tests of the Python client need, in addition to its own `test` extra.
const TEST_PACKAGES: [&str; 3] = ["pytest-asyncio==1.3.0", "schemathesis==4.32.5", "pytest>=8"];

/// Returns the Python of an environment with the client, its test dependencies and schemathesis. Installs them on first
/// use, and the client again each time.
pub fn with_client() -> Result<PathBuf> {
    let folder = fixtures::root().join("target/python");
    let python = folder.join("bin/python");
    let stamp = folder.join("installed");
    let wanted = TEST_PACKAGES.join(" ");
    if fs::read_to_string(&stamp).ok().as_deref() != Some(&wanted) {
        create(&folder)?;
        let client = format!("{}[test]", client().display());
        pip(&python, &[&[client.as_str()], &TEST_PACKAGES[..]].concat())?;
        fs::write(&stamp, wanted)?;
    }
    pip(&python, &["--force-reinstall", "--no-deps", &client().display().to_string()])?;
    Ok(python)
}

/// Creates an environment.
pub fn create(folder: &Path) -> Result<()> {
    let status = Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder).status()?;
    ensure!(status.success(), "python3 -m venv failed: install Python's venv");
    Ok(())
}

/// Runs `pip install`.
pub fn pip(python: &Path, args: &[&str]) -> Result<()> {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(args);
    let output = command.output().context("pip does not start")?;
    ensure!(output.status.success(), "pip install failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Returns the folder of the client.
pub fn client() -> PathBuf {
    fixtures::root().join("clients/python")
}
