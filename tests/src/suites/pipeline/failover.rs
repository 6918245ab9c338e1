//! Lost nodes and clients that disconnect.

use std::time::Duration;

use anyhow::{Context, Result};
use c3_proto::pb::{self, NodeState};
use futures::stream;
use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::harness::cluster::ClusterSpec;
use crate::harness::gateway_api::{first_text, id_of, put_messages};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;

const RATIO: u32 = 20;
/// Maximum time until a node is at work, or until the gateway reports a lost node.
const FLIGHT_LIMIT: Duration = Duration::from_secs(120);
/// Maximum duration of a call without a node of its stage: the default of `--node-wait`, and a margin for a busy
/// machine.
const UNAVAILABLE_LIMIT: Duration = Duration::from_secs(30);

/// Kills a decoder that has a call in flight in the middle of a get; another decoder must complete the text.
pub async fn failover(text: &str) -> Result<Vec<Quantity>> {
    // With the default look-ahead, all windows (parts of the text) would be in flight before the first text arrives.
    let gateway_args = ["--look-ahead", "2"].map(str::to_owned).into();
    let mut cluster = ClusterSpec { decoders: 2, gateway_args, ..ClusterSpec::default() }.start().await?;
    let api = cluster.api()?;
    let put = api.put_at(text.as_bytes(), RATIO).await?;
    let id = id_of(&put.document.context("no document")?);

    let mut parts = api.open(&id).await?;
    let mut back = first_text(&mut parts).await?;
    let reading = tokio::spawn(async move {
        while let Some(message) = parts.message().await? {
            if let Some(pb::get_text_response::Part::Text(text)) = message.part {
                back.extend(text);
            }
        }
        Ok::<_, tonic::Status>(back)
    });
    let busy = until("a decoder with a call in flight", FLIGHT_LIMIT, async || {
        let nodes = api.nodes().await.ok()?;
        let busy = nodes.into_iter().find(|node| node.stage() == pb::Stage::Decoder && node.calls_in_flight > 0);
        busy.map(|node| node.address).or_else(|| reading.is_finished().then(String::new))
    });
    let busy = busy.await?;
    let victim = cluster.decoders.iter_mut().find(|node| busy.contains(node.address()));
    victim.context("the read was over before a decoder was seen at work")?.kill()?;
    let killed_in_the_middle = !reading.is_finished();
    let back = reading.await??;

    let lost = until("the gateway to miss the node", FLIGHT_LIMIT, async || {
        let nodes = api.nodes().await.ok()?;
        nodes.iter().any(|node| node.address.contains(&busy) && node.state() == NodeState::Unreachable).then_some(())
    });
    lost.await?;
    Ok(vec![
        Quantity::holds("failover-killed-in-the-middle", killed_in_the_middle, "the read was under way"),
        Quantity::holds("failover-identical", back == text.as_bytes(), "identical"),
    ])
}

/// Kills the only node of each stage; calls must fail with UNAVAILABLE within [`UNAVAILABLE_LIMIT`], and the message
/// must name the stage and the address of the node.
pub async fn no_node(text: &str) -> Result<Vec<Quantity>> {
    let mut cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    let put = api.put_at(text.as_bytes(), RATIO).await?;
    let id = id_of(&put.document.context("no document")?);

    cluster.compressors[0].kill()?;
    let started = Instant::now();
    let error = api.put_at(format!("{text} again").as_bytes(), RATIO).await.err();
    let mut quantities = unavailable("compressor", cluster.compressors[0].address(), started, error);
    cluster.decoders[0].kill()?;
    let started = Instant::now();
    let error = api.get(&id).await.err();
    quantities.extend(unavailable("decoder", cluster.decoders[0].address(), started, error));
    Ok(quantities)
}

fn unavailable(stage: &str, address: &str, started: Instant, error: Option<tonic::Status>) -> Vec<Quantity> {
    let seconds = started.elapsed().as_secs_f64();
    let message = error.as_ref().map(|error| format!("{:?}: {}", error.code(), error.message()));
    let ok = error.is_some_and(|error| {
        let message = error.message();
        error.code() == Code::Unavailable && message.contains(stage) && message.contains(address)
    });
    vec![
        Quantity::observed(format!("no-{stage}"), message, ok, format!("UNAVAILABLE with the stage and {address}")),
        Quantity::at_most(format!("no-{stage}-seconds"), seconds, UNAVAILABLE_LIMIT.as_secs_f64()),
    ]
}

/// Cancels a put and a get half-way; the nodes must become idle, and no document of the cancelled put may be visible.
/// `text` must be longer than the largest shard, the part of a text that a node gets as a unit.
pub async fn client_disconnects(text: &str) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    let messages = put_messages(text.as_bytes(), pb::WriteOptions { ratio: RATIO, ..Default::default() });
    // The stream of messages never ends. The put is aborted once a window is compressed.
    let unending = futures::StreamExt::chain(stream::iter(messages), stream::pending());
    let putting = tokio::spawn({
        let api = api.clone();
        async move { api.put_stream(unending).await }
    });
    let at_work = until("a node at work", FLIGHT_LIMIT, async || {
        cluster.counters().await.ok().filter(|(compressor, _)| compressor.windows_compressed > 0).map(drop)
    });
    at_work.await?;
    putting.abort();
    let put_frees = cluster.wait_until_idle().await;
    let visible = api.ids().await?.len();

    let put = api.put_at(text.as_bytes(), RATIO).await?;
    let mut parts = api.open(&id_of(&put.document.context("no document")?)).await?;
    first_text(&mut parts).await?;
    let more = parts.next().await;
    drop((parts, more));
    let get_frees = cluster.wait_until_idle().await;
    let decoded = cluster.counters().await?.1.windows_decoded;
    Ok(vec![
        Quantity::equal("left-put-documents-visible", visible, 0),
        Quantity::holds("left-put-frees-nodes", put_frees.is_ok(), "nodes become idle"),
        Quantity::holds("left-get-frees-nodes", get_frees.is_ok(), "nodes become idle"),
        Quantity::observed("left-get-windows-decoded", decoded, decoded > 0, "the read had started"),
    ])
}
