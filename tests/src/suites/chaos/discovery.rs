//! Node discovery by announcement and by DNS.

use std::time::Duration;

use anyhow::{Context, Result};
use c3_proto::pb::NodeState;

use crate::harness::fixtures;
use crate::harness::gateway_api::GatewayApi;
use crate::harness::process::{Launch, Process, Program, free_address};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;

/// Maximum time until an announcement, a refusal or an expired lease takes effect. A lease, the time for which an
/// announcement is valid, is shorter than this limit.
const LIMIT: Duration = Duration::from_secs(40);

/// Runs a gateway without configured nodes, to which two nodes announce themselves; a put and a get must work. The
/// gateway must also refuse the announcement of an unreachable address, and remove a node that dies.
pub async fn announced(text: &str) -> Result<Vec<Quantity>> {
    let folder = tempfile::TempDir::with_prefix("c3-announced-")?;
    let data = folder.path().join("data");
    let gateway = Launch::new(Program::Gateway).arg("--accept-nodes").arg("--data").arg(data);
    let gateway = gateway.serve(folder.path()).await?;
    let start = async |program: Program, at: &str, as_address: &str| -> Result<Process> {
        let node = Launch::new(program).arg("--model").arg(fixtures::default_model());
        let announces = ["--announce-to", &gateway.url(), "--advertise-as", &format!("http://{as_address}")];
        let mut node = node.args(announces).arg("--listen").arg(at).spawn(folder.path(), at.to_owned()).await?;
        node.ready().await?;
        Ok(node)
    };
    let api = GatewayApi::to(&gateway)?;
    let ready = async |count: usize| {
        until("nodes to be known", LIMIT, async || {
            let nodes = api.nodes().await.ok()?;
            let ready = nodes.iter().filter(|node| node.state() == NodeState::Ready).count();
            (ready == count && nodes.len() == count).then_some(())
        })
        .await
    };
    let addresses = [free_address()?, free_address()?, free_address()?];
    let _compressor = start(Program::CompressorNode, &addresses[0], &addresses[0]).await?;
    let mut decoder = start(Program::DecoderNode, &addresses[1], &addresses[1]).await?;
    ready(2).await?;
    let put = api.put_at(text.as_bytes(), 20).await?.document.context("no document")?;
    let same = api.get(&crate::harness::gateway_api::id_of(&put)).await?.text == text.as_bytes();

    // A third node advertises an address on which nothing listens.
    let unreachable = free_address()?;
    let lost = start(Program::DecoderNode, &addresses[2], &unreachable).await?;
    let refused = |process: &Process, what: &str| {
        let log = process.log();
        log.lines().any(|line| line.contains(&unreachable) && line.contains(what))
    };
    let logged = until("the refusal to be logged", LIMIT, async || {
        (refused(&gateway, "refused") && refused(&lost, "cannot announce")).then_some(())
    });
    let logged = logged.await.is_ok();
    let taken = api.nodes().await?.iter().any(|node| node.address.contains(&unreachable));

    decoder.kill()?;
    let removed = until("the lease to expire", LIMIT, async || {
        let nodes = api.nodes().await.ok()?;
        (nodes.len() == 1).then_some(())
    });
    Ok(vec![
        Quantity::holds("announced-nodes-work", same, "identical"),
        Quantity::holds("announced-unreachable-refused", logged && !taken, "refused, with the reason in both logs"),
        Quantity::holds("announced-dead-removed", removed.await.is_ok(), "removed when its lease expires"),
    ])
}

/// Runs a gateway that finds its nodes by DNS names; a put and a get must work.
pub async fn resolved(text: &str) -> Result<Vec<Quantity>> {
    let folder = tempfile::TempDir::with_prefix("c3-resolved-")?;
    let node = |program| Launch::new(program).arg("--model").arg(fixtures::default_model());
    let compressor = node(Program::CompressorNode).serve(folder.path()).await?;
    let decoder = node(Program::DecoderNode).serve(folder.path()).await?;
    let name = |node: &Process| format!("dns://localhost:{}", node.address().rsplit(':').next().unwrap_or_default());
    let gateway = Launch::new(Program::Gateway).arg("--data").arg(folder.path().join("data"));
    let gateway = gateway.args(["--compressor", &name(&compressor), "--decoder", &name(&decoder)]);
    let gateway = gateway.serve(folder.path()).await?;
    let api = GatewayApi::to(&gateway)?;
    let put = api.put_at(text.as_bytes(), 20).await?.document.context("no document")?;
    let same = api.get(&crate::harness::gateway_api::id_of(&put)).await?.text == text.as_bytes();
    Ok(vec![Quantity::holds("resolved-nodes-work", same, "identical")])
}
