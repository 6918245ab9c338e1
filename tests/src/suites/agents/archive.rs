//! The archive of sessions and the examples. `archive.py` replays the transcript; this module runs it.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::clients;
use crate::harness::cluster::ClusterSpec;
use crate::harness::external;
use crate::harness::fixtures;
use crate::harness::process::Program;
use crate::harness::python;
use crate::harness::quantity::Quantity;

/// Package with which the script calls the tools.
const MCP: &str = "mcp==2.3.0";
/// Packages with the schema of `server.json`, and its validator.
const SCHEMAS: [&str; 2] = ["skillsaw", "jsonschema"];
/// Maximum time by which a hook may delay a turn, in milliseconds.
const DELAY_MS_MAX: f64 = 300.0;
/// Maximum bytes compressed per byte of the transcript.
const RATIO_MAX: f64 = 1.1;
/// Maximum calls of tools to recall one fact.
const CALLS_MAX: f64 = 2.0;

/// Replays a transcript turn by turn, recalls each `each`th fact that it holds, and archives what was recalled.
pub(super) async fn archive(each: usize) -> Result<Vec<Quantity>> {
    let values = measure("session", &["--each", &each.to_string()]).await?;
    let number = |key: &str| values[key].as_f64().with_context(|| format!("no {key} in {values}"));
    let same = |name: &str, key: &str, expected: Value| Quantity::equal(name, values[key].clone(), expected);
    Ok(vec![
        Quantity::at_least("archive-transcript-bytes", number("transcript_bytes")?, 300_000.0),
        Quantity::reported("archive-facts", &values["facts"]),
        Quantity::at_least("archive-facts-recalled", number("recalled_share")?, 1.0),
        Quantity::at_most("archive-calls-for-a-fact", number("tool_calls_max")?, CALLS_MAX),
        same("archive-tools", "tools", json!("mcp")),
        same("archive-turns-identical", "identical", json!(true)),
        same("archive-turns", "turns_archived", values["turns"].clone()),
        Quantity::reported("archive-hook-delay-ms-median", &values["hook_delay_ms_median"]),
        Quantity::at_most("archive-hook-delay-ms", number("hook_delay_ms_max")?, DELAY_MS_MAX),
        Quantity::at_most("archive-bytes-compressed", number("ratio_after_50")?, RATIO_MAX),
        same("archive-second-copies", "second_copies", json!(0)),
        same("archive-recalled-turns-identical", "recalled_turns_identical", json!(true)),
    ])
}

/// Replays the transcript while gateway, nodes and worker are killed.
pub(super) async fn kills() -> Result<Vec<Quantity>> {
    let values = measure("kills", &[]).await?;
    let number = |key: &str| values[key].as_f64().with_context(|| format!("no {key} in {values}"));
    let same = |name: &str, key: &str, expected: Value| Quantity::equal(name, values[key].clone(), expected);
    Ok(vec![
        Quantity::at_least("archive-kills", number("kills_of_servers")?, 20.0),
        Quantity::reported("archive-kills-by-program", &values["kills_by_program"]),
        Quantity::reported("archive-kills-turns-archived", &values["turns_archived"]),
        same("archive-kills-turns-wrong", "turns_lost_or_wrong", json!(0)),
        same("archive-kills-missing-not-said", "not_said_to_be_missing", json!(0)),
        same("archive-kills-missing-told", "missing_told_to_the_model", json!(true)),
        same("archive-kills-caught-up", "caught_up", json!(true)),
        same("archive-kills-documents-without-turn", "documents_without_entry", json!(0)),
        Quantity::at_most("archive-kills-hook-delay-ms", number("hook_delay_ms_max")?, DELAY_MS_MAX),
    ])
}

/// Runs the tests of the archive, of the hooks of Claude Code, and of the examples, which have scripted models.
pub(super) async fn examples() -> Result<Vec<Quantity>> {
    let program = python::with_client()?;
    let requirements = fixtures::root().join("clients/examples/requirements-agents.txt");
    python::pip(&program, &[&["--requirement", &requirements.display().to_string()], &SCHEMAS[..]].concat())?;
    external::install_packages(&fixtures::root().join("clients/examples"))?;
    let claude = clients::claude_code()?;
    let cluster = ClusterSpec::default().start().await?;
    let mut quantities = Vec::new();
    for file in ["test_archive", "test_claude_code", "test_examples", "test_server_json"] {
        let environment = [
            ("C3_GATEWAY", OsString::from(cluster.gateway.url())),
            ("C3_BIN", Program::C3.path()?.into()),
            ("C3_CLAUDE", claude.clone().into()),
        ];
        quantities
            .push(python::run_tests(&program, file, environment).await?.renamed(|file| format!("examples-{file}")));
    }
    Ok(quantities)
}

/// Runs a measurement of the script and returns its values.
async fn measure(name: &str, args: &[&str]) -> Result<Value> {
    let program = python::with_client()?;
    python::pip(&program, &[MCP])?;
    let c3 = Program::C3.path()?;
    let programs = c3.parent().map(Path::to_owned).context("the program has no folder")?;
    let mut command = Command::new(program);
    command
        .arg(fixtures::root().join("tests/src/suites/agents/archive.py"))
        .arg(name)
        .arg("--programs")
        .arg(programs)
        .args(args);
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = external::output(command).await?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "archive.py {name} failed: {printed}");
    serde_json::from_str(printed.trim()).with_context(|| printed.clone())
}
