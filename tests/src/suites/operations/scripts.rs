//! Checks that are programs of their own: the chart, the alerts with the dashboards, the containers, and the simulation
//! of scaling.

use std::process::Command;

use anyhow::{Context, Result};

use crate::harness::fixtures;
use crate::harness::quantity::Quantity;

/// Last lines of a failed script's output in a quantity.
const LINES: usize = 12;

/// Lints the Helm chart, renders all examples, validates the result, and checks that contradictory values are refused.
pub(super) fn chart() -> Result<Vec<Quantity>> {
    Ok(vec![passes("chart", &mut Command::new(fixtures::root().join(".ci/helm")))?])
}

/// Checks and tests the alerts, and compares the dashboards with their source.
pub(super) fn alerts() -> Result<Vec<Quantity>> {
    Ok(vec![passes("alerts", &mut Command::new(fixtures::root().join(".ci/observability")))?])
}

/// Builds the images of all roles, runs the compose file with them, and stores and reads a text.
pub(super) fn containers() -> Result<Vec<Quantity>> {
    Ok(vec![passes("containers", &mut Command::new(fixtures::root().join(".ci/containers")))?])
}

/// Simulates the scaling of both stages for a number of days.
pub(super) fn simulation(days: u32) -> Result<Vec<Quantity>> {
    let program = std::env::current_exe()?.with_file_name("c3-sim");
    let mut command = Command::new(program);
    command.args(["--days", &days.to_string()]).arg(fixtures::root().join("deploy/sim/scaled-object.yaml"));
    Ok(vec![passes("simulation", &mut command)?])
}

/// Runs a program in the repository. Its exit code must be 0.
fn passes(row: &str, command: &mut Command) -> Result<Quantity> {
    let output = command.current_dir(fixtures::root()).output();
    let output = output.with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    let lines = Vec::from_iter(printed.lines());
    let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
    Ok(Quantity::observed(row, last, output.status.success(), "exit code 0"))
}
