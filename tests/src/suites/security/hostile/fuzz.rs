//! Runs all fuzz targets.

use std::process::Command;

use anyhow::Result;

use crate::harness::fixtures::{self, Corpus};
use crate::harness::quantity::Quantity;

/// Executions of all targets together with `--full`; a tenth of them without.
const EXECUTIONS: f64 = 1e7;
/// Minimum number of targets, so that a target cannot silently disappear.
const TARGETS_MIN: f64 = 20.0;
/// Maximum time in which the targets are built and run, as an argument of `timeout`. A target that hangs exceeds it.
const LIMIT: &str = "1h";

/// Runs each fuzz target for some seconds; none may panic, hang or exceed its memory bound.
pub(super) async fn fuzz(corpus: Corpus) -> Result<Vec<Quantity>> {
    let (seconds, executions) = if corpus.full { (60, EXECUTIONS) } else { (6, EXECUTIONS / 10.0) };
    let mut cargo = Command::new("timeout");
    // With packages instead of the workspace, cargo would build their dependencies again, with other features.
    cargo.args([LIMIT, "cargo", "test", "--workspace", "--locked", "--lib", "--no-fail-fast"]);
    cargo.args(["fuzz::", "--", "--nocapture"]).current_dir(fixtures::root());
    cargo.env("BOLERO_RANDOM_SEED", fastrand::u64(..).to_string());
    cargo.env("BOLERO_RANDOM_ITERATIONS", u32::MAX.to_string());
    cargo.env("BOLERO_RANDOM_TEST_TIME_MS", (seconds * 1000).to_string());
    let ran = tokio::task::spawn_blocking(move || cargo.output()).await??;
    let printed = String::from_utf8_lossy(&ran.stdout);
    // Lines of parallel tests may share a line.
    let of_targets: Vec<_> = printed.split("fuzz target ").skip(1).filter_map(executions_of).collect();
    let total: f64 = of_targets.iter().map(|(_, executions)| *executions as f64).sum();
    let fewest = of_targets.iter().map(|(_, executions)| *executions).min().unwrap_or(0);
    let failed: Vec<_> = printed.lines().filter(|line| line.ends_with("... FAILED")).collect();
    Ok(vec![
        Quantity::reported("fuzz-executions-by-target", &of_targets),
        Quantity::at_least("fuzz-targets", of_targets.len() as f64, TARGETS_MIN),
        Quantity::at_least("fuzz-executions", total, executions),
        Quantity::at_least("fuzz-executions-fewest", fewest as f64, 100.0),
        Quantity::equal("fuzz-panics-hangs-and-excessive-allocations", failed, Vec::new()),
        Quantity::holds("fuzz-passes", ran.status.success(), "all targets pass"),
    ])
}

/// Parses `NAME: EXECUTIONS executions, …`.
fn executions_of(line: &str) -> Option<(String, u64)> {
    let (name, rest) = line.split_once(": ")?;
    Some((name.to_owned(), rest.split_once(" executions")?.0.parse().ok()?))
}
