//! Gateways that restart under load.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use c3_client::Client;
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

use super::load::{Load, LoadClient};
use super::nodes::{prepare, verdict};
use crate::harness::cluster::ClusterSpec;
use crate::harness::fixtures::stretch;
use crate::harness::process::{Launch, Program};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;

/// Number of concurrent clients.
const CLIENTS: usize = 8;
/// Maximum time until [`CLIENTS`] more calls have ended.
const PROGRESS_LIMIT: Duration = Duration::from_secs(60);
/// Bytes of each file. The put of a file takes longer than a restart of a gateway, but less than the time between two
/// restarts.
const FILE_BYTES: usize = 4_500;

/// Restarts two gateways of one store alternately, `rounds` times each, under load; no call may fail and no
/// acknowledged document may be lost. The clients use the public client library and `c3`, and know the addresses of
/// both gateways.
pub async fn rolling(text: &str, rounds: usize) -> Result<Vec<Quantity>> {
    // Most calls last longer than this drain timeout, so a restart interrupts them.
    let gateway_args = ["--drain-timeout", "300ms"].map(str::to_owned).to_vec();
    let mut cluster =
        ClusterSpec { compressors: 2, decoders: 2, gateway_args, ..ClusterSpec::default() }.start().await?;
    let mut second = cluster.start_second_gateway().await?;
    let work = prepare(&cluster.api()?, text).await?;
    let urls = format!("{},{}", cluster.gateway.url(), second.url());
    let load = work.start(&LoadClient::Public(Client::connect(&urls).await?), CLIENTS);
    let over = CancellationToken::new();
    let puts = tokio::spawn(put_files(text.to_owned(), urls, over.clone()));
    for _ in 0..rounds {
        let address = cluster.gateway.address().to_owned();
        cluster.gateway.terminate().await?;
        cluster.gateway = cluster.start_gateway_at(&address).await?;
        cluster.wait_until_ready().await?;
        progress(&load).await?;
        let address = second.address().to_owned();
        second.terminate().await?;
        second = cluster.start_gateway_at(&address).await?;
        progress(&load).await?;
    }
    over.cancel();
    let (report, puts) = (load.end().await?, puts.await??);
    let api = cluster.api()?;
    let idle = until("the calls to end", Duration::from_secs(10), async || {
        let nodes = api.nodes().await.ok()?;
        nodes.iter().all(|node| node.calls_in_flight == 0).then_some(())
    });
    idle.await?;
    let mut quantities = verdict("rolling-gateways", &api, &report).await;
    quantities.extend(puts);
    Ok(quantities)
}

/// Waits until [`CLIENTS`] more calls have ended. Without this wait, restarts could follow each other so fast that no
/// call ends.
async fn progress(load: &Load) -> Result<()> {
    let before = load.ended();
    let done = async || (load.ended() >= before + CLIENTS).then_some(());
    until("calls to end between restarts", PROGRESS_LIMIT, done).await
}

/// Puts different files one after another with `c3 put` until `over` is cancelled.
async fn put_files(text: String, urls: String, over: CancellationToken) -> Result<Vec<Quantity>> {
    let file = NamedTempFile::new()?;
    let (mut failed, mut stored) = (Vec::new(), 0);
    while !over.is_cancelled() {
        let number = stored + failed.len();
        fs::write(file.path(), format!("{number}: {}", stretch(&text, number, FILE_BYTES)))?;
        let put = Launch::new(Program::C3).arg("put").arg(file.path()).args(["--gateway", &urls]);
        let put = put.output().await?;
        if put.status.success() {
            stored += 1;
        } else {
            failed.push(String::from_utf8_lossy(&put.stderr).into_owned());
        }
    }
    Ok(vec![
        Quantity::equal("rolling-gateways-files-failed", failed, Vec::new()),
        Quantity::observed("rolling-gateways-files-put", stored, stored > 0, "at least 1"),
    ])
}
