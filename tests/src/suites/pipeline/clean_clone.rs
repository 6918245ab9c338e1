//! Commands of README and CI, run in a clean clone with an empty target folder.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::harness::fixtures;
use crate::harness::quantity::Quantity;

/// Maximum duration of CI in minutes.
const CI_MINUTES_MAX: f64 = 25.0;

/// Command of README that runs the tests.
const TESTS: &str = "cargo test --workspace";

/// Runs README's first command and [`TESTS`] in a clean clone; both must succeed.
pub fn readme() -> Result<Vec<Quantity>> {
    let clone = bare_clone()?;
    let readme = std::fs::read_to_string(clone.path().join("README.md"))?;
    let first = readme.split("```").nth(1).and_then(|block| block.lines().nth(1));
    let output = run(first.context("README has no command")?, clone.path())?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let last = printed.lines().last().unwrap_or_default().trim();
    let ok = output.status.success() && last == "identical: yes";
    let listed = readme.lines().any(|line| line.starts_with(TESTS));
    let passes = listed && run(TESTS, clone.path())?.status.success();
    Ok(vec![
        Quantity::observed("bare-clone-first-command", last, ok, "ends with `identical: yes`"),
        Quantity::holds("bare-clone-tests", passes, format!("`{TESTS}` is in README and passes")),
    ])
}

/// Runs CI in a clean clone; it must pass within [`CI_MINUTES_MAX`] minutes.
pub fn ci() -> Result<Vec<Quantity>> {
    let clone = bare_clone()?;
    let started = Instant::now();
    let output = run("bash .ci/run", clone.path())?;
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    let printed = String::from_utf8_lossy(&output.stdout);
    let last = printed.lines().last().unwrap_or_default();
    Ok(vec![
        Quantity::observed("ci-passes", last, output.status.success(), "exit 0"),
        Quantity::at_most("ci-minutes", minutes, CI_MINUTES_MAX),
    ])
}

fn bare_clone() -> Result<TempDir> {
    let folder = TempDir::with_prefix("c3-clone-")?;
    let cloned = Command::new("git").args(["clone", "--quiet"]).arg(fixtures::root()).arg(folder.path()).status()?;
    ensure!(cloned.success(), "git clone failed");
    Ok(folder)
}

fn run(line: &str, folder: &Path) -> Result<Output> {
    let mut command = Command::new("sh");
    command.args(["-ec", line]).current_dir(folder).env_remove("CARGO_TARGET_DIR");
    Ok(command.stderr(std::process::Stdio::inherit()).output()?)
}
