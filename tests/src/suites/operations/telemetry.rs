//! Cost of traces: every span is exported, and its price is throughput.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;

use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::otlp::Receiver;
use crate::harness::quantity::{Quantity, median};
use crate::harness::wait::until;

/// Rounds, in each of which both clusters work for the same number of calls.
const ROUNDS: usize = 7;
/// Callers of a round, and calls of each, one after another. A call is a put of a text and a get of it.
const IN_FLIGHT: usize = 4;
const SEQUENCE: usize = 1;
/// Maximum time until the last spans are exported.
const EXPORT_LIMIT: Duration = Duration::from_secs(20);
/// Minimum throughput with telemetry over that without.
const SHARE_MIN: f64 = 0.97;

/// Stores and reads texts on a cluster that exports all spans and on one that exports none, alternately.
pub(super) async fn cost(text: &str) -> Result<Vec<Quantity>> {
    let receiver = Receiver::start().await?;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), receiver.url().to_owned());
    let plain = ClusterSpec::default().start().await?;
    let traced = ClusterSpec { env: vec![endpoint], ..ClusterSpec::default() }.start().await?;
    // The first calls of a cluster fill caches and buffers.
    let (mut number, mut rates, mut shares) = (0, [Vec::new(), Vec::new()], Vec::new());
    for cluster in [&plain, &traced] {
        number = work(cluster, text, number).await?.0;
    }
    for round in 0..ROUNDS {
        let mut measured = [0.0, 0.0];
        // The order alternates, so that a drift of the machine's speed favours neither.
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let (next, rate) = work([&plain, &traced][side], text, number).await?;
            (number, measured[side]) = (next, rate);
            rates[side].push(rate);
        }
        shares.push(measured[1] / measured[0]);
    }
    let calls = (ROUNDS + 1) * IN_FLIGHT * SEQUENCE;
    // A put and a get make spans in the gateway, and for each window in the nodes. If they do not come in time, their
    // number is out of bounds.
    let exported = async || (receiver.spans().len() >= 4 * calls).then_some(());
    let _ = until("the spans to be exported", EXPORT_LIMIT, exported).await;
    let spans = receiver.spans().len();
    let [without, with] = rates.map(median);
    Ok(vec![
        Quantity::reported("telemetry-calls-per-second", [without, with]),
        Quantity::observed("telemetry-spans", spans, spans >= 4 * calls, format!(">= 4 x {calls} calls")),
        Quantity::at_least("telemetry-share-of-throughput", median(shares), SHARE_MIN),
    ])
}

/// Stores and reads new texts. Returns the number of the next text, and calls per second.
async fn work(cluster: &Cluster, text: &str, number: usize) -> Result<(usize, f64)> {
    let (api, begun) = (cluster.api()?, Instant::now());
    try_join_all((0..IN_FLIGHT).map(|caller| sequence(&api, text, number + caller * SEQUENCE))).await?;
    let calls = IN_FLIGHT * SEQUENCE;
    Ok((number + calls, calls as f64 / begun.elapsed().as_secs_f64()))
}

async fn sequence(api: &GatewayApi, text: &str, number: usize) -> Result<()> {
    for number in number..number + SEQUENCE {
        let text = format!("{number} {text}");
        let document = api.put_at(text.as_bytes(), 20).await?.document.context("no document")?;
        ensure!(api.get(&id_of(&document)).await?.text == text.as_bytes(), "a wrong text");
    }
    Ok(())
}
