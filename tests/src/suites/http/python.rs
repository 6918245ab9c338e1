//! The Python client, its adapters, and schemathesis.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::harness::cluster::ClusterSpec;
use crate::harness::external;
use crate::harness::fixtures;
use crate::harness::process::{Launch, Program};
use crate::harness::python;
use crate::harness::quantity::Quantity;
use crate::harness::raw_http1::RawHttp1;

/// Script of the measurement `python-kills`.
const KILLS: &str = include_str!("kills.py");
/// Operations in the OpenAPI description, among which the cases of schemathesis are divided.
const OPERATIONS: usize = 28;

/// Sends generated requests that follow the served OpenAPI description, and some that do not. Every response must be
/// one that the description has, and none may be a server error.
pub async fn schemathesis(cases: usize) -> Result<Vec<Quantity>> {
    let python = python::with_client()?;
    let cluster = ClusterSpec::default().start().await?;
    let mut connection = RawHttp1::connect(cluster.gateway.address()).await?;
    let page = fixtures::text("page.txt")?;
    let stored = connection.send("PUT", "/v1/documents?name=page", &[], page.as_bytes()).await?;
    ensure!(stored.status == 201, "{}", stored.text());
    let folder = TempDir::with_prefix("c3-schemathesis-")?;
    let config = fixtures::root().join("tests/src/suites/http/schemathesis.toml");
    let report = folder.path().join("report.xml");
    let each = cases.div_ceil(OPERATIONS).to_string();
    let mut command = Command::new(python.with_file_name("schemathesis"));
    command
        .arg("--config-file")
        .arg(&config)
        .args(["run", &format!("{}/openapi.json", cluster.gateway.url()), "--checks", "all", "--mode", "all"])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", &each, "--seed", "7", "--workers", "2"])
        .args(["--continue-on-failure", "--report", "junit", "--report-junit-path"])
        .arg(&report)
        .current_dir(folder.path());
    let output = external::output(command).await?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let generated = generated(&printed).unwrap_or(0);
    // After a success, the end of the output has the summary.
    let from = ["= FAILURES =", "= ERRORS =", "= SUMMARY ="].into_iter().filter_map(|head| printed.find(head)).min();
    let summary = Vec::from_iter(printed[from.unwrap_or(0)..].lines().map(str::to_owned));
    let errors = cluster.gateway.log().lines().filter(|line| line.contains("ERROR")).count();
    Ok(vec![
        Quantity::at_least("schemathesis-cases", generated as f64, cases as f64),
        Quantity::observed("schemathesis-failures", summary, output.status.success(), "none"),
        Quantity::equal("schemathesis-logged-errors", errors, 0),
    ])
}

/// Returns the number of generated cases in the summary of schemathesis: `3041 generated, 3041 passed`.
fn generated(printed: &str) -> Option<usize> {
    printed.lines().find_map(|line| line.trim().split_once(" generated")?.0.replace(',', "").parse().ok())
}

/// Runs the tests of the Python client: those of the adapters are the libraries' own, or run against their in-memory
/// implementation too.
pub async fn adapters() -> Result<Vec<Quantity>> {
    let python = python::with_client()?;
    let cluster = ClusterSpec::default().start().await?;
    let mut quantities = Vec::new();
    for file in [
        "test_client",
        "test_readme",
        "test_langchain",
        "test_langgraph",
        "test_anthropic_memory",
        "test_openai_session",
    ] {
        let environment = [("C3_GATEWAY", cluster.gateway.url())];
        quantities
            .push(python::run_tests(&python, file, environment).await?.renamed(|file| format!("adapters-{file}")));
    }
    Ok(quantities)
}

/// Kills a decoder node, then one of two gateways, while a Python client puts and gets; no call may fail.
pub async fn kills(calls: usize) -> Result<Vec<Quantity>> {
    let python = python::with_client()?;
    let mut cluster = ClusterSpec { decoders: 2, ..ClusterSpec::default() }.start().await?;
    let mut second = cluster.start_second_gateway().await?;
    let urls = format!("{},{}", second.url(), cluster.gateway.url());
    let mut client = Command::new(&python);
    client.args(["-c", KILLS, &urls, &calls.to_string()]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let client = tokio::spawn(external::output(client));
    sleep(Duration::from_secs(2)).await;
    cluster.node(1).kill()?;
    sleep(Duration::from_secs(3)).await;
    second.kill()?;
    let output = client.await??;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let counts: serde_json::Value = serde_json::from_str(printed.trim())?;
    Ok(vec![
        Quantity::at_least("python-kills-calls", counts["calls"].as_f64().context("no count")?, calls as f64),
        Quantity::holds(
            "python-kills-during-calls",
            counts["seconds"].as_f64() > Some(5.0),
            "calls last until the kills",
        ),
        Quantity::equal("python-kills-failed", counts["failed"].clone(), serde_json::json!([])),
        Quantity::equal("python-kills-wrong", counts["wrong"].clone(), serde_json::json!(0)),
    ])
}

/// Installs the client in a fresh environment, starts `c3 serve` and runs the Python example of README.
pub async fn newcomer() -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-newcomer-")?;
    let environment = folder.path().join("venv");
    python::create(&environment)?;
    let python = environment.join("bin/python");
    python::pip(&python, &[&python::client().display().to_string()])?;
    let server = Launch::new(Program::C3).arg("serve").arg("--data").arg(folder.path().join("data"));
    let server = server.serve(folder.path()).await?;
    let readme = fs::read_to_string(fixtures::root().join("README.md"))?;
    let code = readme.split("```python\n").nth(1).and_then(|block| block.split("```").next()).context("no example")?;
    let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
    let code = code.replace("http://127.0.0.1:7300", &server.url());
    let output = run(&python, &code).await?;
    Ok(vec![
        Quantity::at_most("newcomer-lines", lines as f64, 6.0),
        Quantity::holds("newcomer-text", output.contains("Nothing in the world is as soft as water."), "comes back"),
    ])
}

/// Waits for a command without blocking the runtime.
async fn run(python: &Path, code: &str) -> Result<String> {
    let mut command = Command::new(python);
    command.args(["-c", code]);
    let output = external::output(command).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
