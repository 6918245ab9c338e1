//! Virtual environments of Python in `target`, with packages from PyPI.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::harness::external;
use crate::harness::fixtures;
use crate::harness::quantity::Quantity;

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

/// Runs a file of tests of the client, without `.py`, with more environment variables. Returns a quantity with the name of
/// the file: the tests pass.
pub async fn run_tests(
    python: &Path,
    file: &str,
    environment: impl IntoIterator<Item = (&'static str, impl AsRef<OsStr>)>,
) -> Result<Quantity> {
    let mut command = Command::new(python);
    command.args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider", &format!("tests/{file}.py")]);
    command.current_dir(client()).envs(environment).stdin(Stdio::null());
    let output = external::output(command).await?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = printed.lines().last().unwrap_or_default().to_owned();
    let shown = if output.status.success() { last } else { printed };
    Ok(Quantity::observed(file, shown, output.status.success(), "passes"))
}

/// Returns the folder of the client.
pub fn client() -> PathBuf {
    fixtures::root().join("clients/python")
}
