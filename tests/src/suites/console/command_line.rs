//! The command line: golden transcripts, and completions in shells. The tests of `c3` check both; this module runs them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::harness::fixtures;
use crate::harness::quantity::Quantity;

/// Shells whose completions are checked.
const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// Compares the help of every command, and calls that succeed and fail, with their transcripts.
pub(super) fn transcripts() -> Result<Vec<Quantity>> {
    let folder = fixtures::root().join("cli/tests/transcripts");
    let count = |kind: &str| Ok::<_, anyhow::Error>(std::fs::read_dir(folder.join(kind))?.count());
    let (helps, calls) = (count("help")?, count("calls")?);
    let failed = failed_tests("transcripts")?;
    Ok(vec![
        Quantity::reported("transcripts-of-help", helps),
        Quantity::reported("transcripts-of-calls", calls),
        Quantity::equal("transcripts-failed-tests", failed, Vec::new()),
    ])
}

/// Completes ids, names and commands in each shell.
pub(super) fn completions() -> Result<Vec<Quantity>> {
    for shell in SHELLS {
        let started = Command::new(shell).arg("--version").output();
        started.with_context(|| format!("{shell} is missing: apt-get install {shell}"))?;
    }
    Ok(vec![Quantity::equal("completions-failed-tests", failed_tests("completions")?, Vec::new())])
}

/// Runs a test target of `c3` and returns the names of the tests that failed.
fn failed_tests(target: &str) -> Result<Vec<String>> {
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--package", "c3-cli", "--test", target, "--locked", "--no-fail-fast"]);
    let output = run_in(&mut cargo, &fixtures::root())?;
    let result = output.lines().find(|line| line.starts_with("test result:"));
    let result = result.with_context(|| format!("the tests did not run: {output}"))?;
    ensure!(!result.contains(" 0 passed; 0 failed"), "the target {target} has no tests");
    let failed = output.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    Ok(failed.map(str::to_owned).collect())
}

/// Returns what the command prints to standard output. What it prints to standard error is shown.
fn run_in(command: &mut Command, folder: &Path) -> Result<String> {
    let output = command.current_dir(folder).stderr(std::process::Stdio::inherit()).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
