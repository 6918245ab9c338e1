//! Gateways without a master key, with a wrong one, and with one that others can read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use super::content::Content;
use super::{master_key, with_keys};
use crate::harness::cluster::ClusterSpec;
use crate::harness::process::{Launch, Program};
use crate::harness::quantity::Quantity;

/// Starts gateways that must refuse to start. Each must say why in one line, without any part of a key.
pub(super) async fn refusals() -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-wrong-key-")?;
    let [right, wrong, open] = [1, 2, 3].map(|byte| master_key(folder.path(), byte));
    let (right, wrong, open) = (right?, wrong?, open?);
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644))?;
    let cluster = ClusterSpec { gateway_args: with_keys(&[&right]), ..ClusterSpec::default() }.start().await?;
    let content = Content::put(&cluster.api()?, 4000).await?;
    let by_mistake = ["--master-key".to_owned(), "01".repeat(32)].to_vec();
    let cases = [
        ("without", Vec::new(), "give its master key with --master-key"),
        ("wrong", with_keys(&[&wrong]), "are wrapped by master key"),
        ("readable", with_keys(&[&open]), "chmod 600"),
        ("missing", with_keys(&[&folder.path().join("none")]), "No such file"),
        ("key-as-argument", by_mistake, "file:PATH"),
    ];
    let mut quantities = Vec::new();
    for (name, args, expected) in cases {
        let message = refusal(&cluster.data(), &args).await?;
        let is_clear = message.contains(expected) && !message.contains("0101") && message.lines().count() == 1;
        quantities.push(Quantity::observed(format!("wrong-key-{name}"), message, is_clear, expected));
    }
    quantities.push(Quantity::equal("wrong-key-lost", content.lost(&cluster.api()?).await, 0));
    Ok(quantities)
}

/// Starts a gateway that must refuse to start, and returns what it prints.
pub(super) async fn refusal(data: &Path, args: &[String]) -> Result<String> {
    let launch = Launch::new(Program::Gateway).arg("--listen").arg("127.0.0.1:0").arg("--data").arg(data).args(args);
    let output = launch.arg("--log").arg("error").output().await?;
    ensure!(!output.status.success(), "the gateway started");
    Ok(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
