//! The MCP server with real clients: the scripts in `tests/agents` call it, and this module runs the programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::external;
use crate::harness::fixtures;
use crate::harness::process::Program;
use crate::harness::python;
use crate::harness::quantity::Quantity;

/// Versions of the Python SDK, by the name of the file with its requirements.
const PYTHON_SDKS: [&str; 2] = ["new", "old"];

/// A gateway with a node of each stage, and a folder whose files `c3 mcp` may read.
struct Servers {
    cluster: Cluster,
    files: TempDir,
}

impl Servers {
    async fn start() -> Result<Self> {
        let files = TempDir::with_prefix("c3-files-")?;
        std::fs::write(files.path().join("file.txt"), fixtures::text("page.txt")?)?;
        Ok(Self { cluster: ClusterSpec::default().start().await?, files })
    }

    fn http(&self) -> String {
        format!("{}/mcp", self.cluster.gateway.url())
    }

    /// Returns the command line of `c3 mcp`.
    fn stdio(&self) -> Result<String> {
        let (program, files) = (Program::C3.path()?, self.files.path());
        Ok(format!("{} mcp --gateway {} --files {}", program.display(), self.cluster.gateway.url(), files.display()))
    }
}

/// Both versions of the official Python SDK.
pub(super) async fn python_sdk() -> Result<Vec<Quantity>> {
    let servers = Servers::start().await?;
    let mut quantities = Vec::new();
    for version in PYTHON_SDKS {
        let environment = fixtures::root().join(format!("target/agents-python-{version}"));
        let program = environment.join("bin/python");
        if !program.is_file() {
            python::create(&environment)?;
            let requirements = folder().join(format!("requirements-{version}.txt"));
            python::pip(&program, &["--requirement", &requirements.display().to_string()])?;
        }
        let mut command = Command::new(program);
        command.arg("python_client.py").arg("--files").arg(servers.files.path());
        quantities.extend(checks(with_both_transports(command, &servers)?, &folder()).await?);
    }
    Ok(quantities)
}

/// Both versions of the official TypeScript SDK.
pub(super) async fn typescript_sdk() -> Result<Vec<Quantity>> {
    let servers = Servers::start().await?;
    let mut command = node("typescript_client.mjs")?;
    command.arg("--files").arg(servers.files.path());
    checks(with_both_transports(command, &servers)?, &folder()).await
}

/// The command line of MCP inspector.
pub(super) async fn inspector() -> Result<Vec<Quantity>> {
    let servers = Servers::start().await?;
    checks(with_both_transports(node("inspector.mjs")?, &servers)?, &folder()).await
}

/// The conformance suite of the MCP project.
pub(super) async fn conformance() -> Result<Vec<Quantity>> {
    let servers = Servers::start().await?;
    let mut command = node("conformance.mjs")?;
    command.args(["--http", &servers.http()]);
    checks(command, &folder()).await
}

/// The set-up in the guide, with Claude Code, Codex and a scripted model.
pub(super) async fn setup() -> Result<Vec<Quantity>> {
    let servers = Servers::start().await?;
    claude_code()?;
    let mut command = node("setup/check.mjs")?;
    command.args(["--http", &servers.http(), "--c3", &Program::C3.path()?.display().to_string()]);
    checks(command, &folder()).await
}

/// Returns the program of Claude Code. Installs it on first use, with Codex.
pub(super) fn claude_code() -> Result<PathBuf> {
    let setup = folder().join("setup");
    external::install_packages(&setup)?;
    Ok(setup.join("node_modules/.bin/claude"))
}

fn folder() -> PathBuf {
    fixtures::root().join("tests/agents")
}

fn with_both_transports(mut command: Command, servers: &Servers) -> Result<Command> {
    command.args(["--stdio", &servers.stdio()?, "--http", &servers.http()]);
    Ok(command)
}

/// Returns the command that runs a script with the version of Node.js that its packages need.
fn node(script: &str) -> Result<Command> {
    external::install_packages(&folder())?;
    let mut command = Command::new(folder().join("node_modules/.bin/node"));
    command.arg(script);
    Ok(command)
}

/// Runs a script that prints a line of JSON for each client and transport, and returns a quantity for each.
async fn checks(mut command: Command, folder: &Path) -> Result<Vec<Quantity>> {
    command.current_dir(folder).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = external::output(command).await?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<Value> = printed.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    ensure!(!lines.is_empty(), "the script printed no result: {printed}");
    let mut quantities = Vec::new();
    for line in &lines {
        let part = |key: &str| line[key].as_str().map(str::to_owned);
        let name = ["client", "transport", "era"].into_iter().filter_map(part).collect::<Vec<_>>().join("-");
        quantities.push(Quantity::at_least(format!("{name}-checks"), line["checks"].as_f64().unwrap_or_default(), 1.0));
        quantities.push(Quantity::equal(format!("{name}-failures"), line["failures"].clone(), serde_json::json!([])));
    }
    let is_consistent = output.status.success() == lines.iter().all(|line| line["failures"] == serde_json::json!([]));
    ensure!(is_consistent, "the script ended with {}: {printed}", output.status);
    Ok(quantities)
}
