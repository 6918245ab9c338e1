//! Scenarios in a browser. `clients/console/test/run.mjs` drives the browser; this module runs the programs.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use c3_server::access::Scope;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::build::folder;
use crate::harness::access::Access;
use crate::harness::browser::browser;
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::external;
use crate::harness::fixtures;
use crate::harness::quantity::Quantity;

/// Tenant of the keys.
const TENANT: &str = "acme";
/// Maximum time of a scenario.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs a scenario against a gateway with a node of each stage; in the scenario `access`, the gateway has keys. The
/// screenshots go to `target/console`. Does what the script asks for: kills and starts the gateway
/// and the decoder node.
pub(super) async fn scenario(name: &str) -> Result<Vec<Quantity>> {
    if browser().is_none() {
        return Ok(vec![Quantity::skipped(name, "browser (apt-get install chromium)", "as the script says")]);
    }
    external::install_packages(&folder())?;
    let mut command = Command::new("node");
    command.arg("test/run.mjs").args(["--scenario", name]);
    let access = Access::with_tenants(&[TENANT])?;
    let spec = match name {
        "access" => {
            let all = access.key(TENANT, &[Scope::Read, Scope::Write, Scope::Delete, Scope::Admin])?;
            command.args(["--key", &all, "--read-key", &access.key(TENANT, &[Scope::Read])?]);
            let args = ["--access", &access.path().display().to_string()];
            ClusterSpec { api_key: Some(all), ..ClusterSpec::with_gateway_args(&args) }
        }
        _ => ClusterSpec::default(),
    };
    let mut cluster = spec.start().await?;
    command.args(["--url", &cluster.gateway.url()]);
    command.arg("--out").arg(fixtures::root().join("target/console")).current_dir(folder());
    let mut script = Script(command.stdout(Stdio::piped()).spawn().context("node is missing: install Node.js")?);
    let mut lines = script.lines()?;
    let mut quantities = Vec::new();
    let run = async {
        while let Some(line) = lines.recv().await {
            let line: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
            match line["event"].as_str() {
                Some(event) => act(event, &mut cluster).await?,
                None => quantities.push(quantity(&line)?),
            }
        }
        anyhow::Ok(())
    };
    timeout(LIMIT, run).await.context("the scenario takes too long")??;
    let status = script.0.wait()?;
    // Otherwise the exit code is that of the quantities, which are judged one by one.
    ensure!(!quantities.is_empty(), "the scenario reports nothing: {status}");
    Ok(quantities)
}

/// The running script, which is killed on drop.
struct Script(Child);

impl Script {
    /// Returns the lines that the script prints, as they come.
    fn lines(&mut self) -> Result<mpsc::Receiver<String>> {
        let output = self.0.stdout.take().context("no output")?;
        let (sender, lines) = mpsc::channel(64);
        thread::spawn(move || {
            let _ =
                BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.blocking_send(line));
        });
        Ok(lines)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Does what an event of the script asks for.
async fn act(event: &str, cluster: &mut Cluster) -> Result<()> {
    match event {
        "kill gateway" => cluster.gateway.kill(),
        "start gateway" => {
            let address = cluster.gateway.address().to_owned();
            cluster.gateway = cluster.start_gateway_at(&address).await?;
            Ok(())
        }
        "kill node" => cluster.decoders[0].kill(),
        "start node" => cluster.restart_node(cluster.compressors.len()).await,
        other => bail!("the script asks for `{other}`"),
    }
}

/// Reads a quantity that the script has measured.
fn quantity(line: &Value) -> Result<Quantity> {
    let name = line["row"].as_str().with_context(|| format!("a line without a row: {line}"))?;
    let (ok, bound) = (line["ok"].as_bool(), line["bound"].as_str().unwrap_or_default());
    Ok(Quantity::observed(name, line["value"].clone(), ok == Some(true), bound))
}
