//! Gateways that are restarted and killed.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use c3_client::Client;
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

use super::load::{Caller, Load};
use super::nodes::{prepare, verdict};
use crate::cluster::Plan;
use crate::fixtures::stretch;
use crate::process::{Launch, Program};
use crate::row::Row;
use crate::wait::until;

/// Callers.
const CALLERS: usize = 8;
/// Longest time until the callers have got something done.
const PROGRESS_LIMIT: Duration = Duration::from_secs(60);
/// Bytes of a file: a put of it takes longer than a restart, and not so long that none ever ends between two.
const FILE_BYTES: usize = 4_500;

/// Two gateways over one store, restarted by turns under load; callers by the public client, which knows
/// both.
pub async fn rolling(text: &str, rounds: usize) -> Result<Vec<Row>> {
    // Too short for many calls to end: they are cut.
    let gateway_args = ["--drain-ms", "300"].map(str::to_owned).to_vec();
    let mut cluster = Plan { compressors: 2, decoders: 2, gateway_args, ..Plan::default() }.start().await?;
    let mut second = cluster.another_gateway().await?;
    let work = prepare(&cluster.calls()?, text).await?;
    let urls = format!("{},{}", cluster.gateway.url(), second.url());
    let load = work.start(&Caller::Client(Client::connect(&urls).await?), CALLERS);
    let over = CancellationToken::new();
    let puts = tokio::spawn(put_files(text.to_owned(), urls, over.clone()));
    for _ in 0..rounds {
        let address = cluster.gateway.address().to_owned();
        cluster.gateway.terminate().await?;
        cluster.gateway = cluster.gateway_at(&address).await?;
        cluster.becomes_whole().await?;
        progress(&load).await?;
        let address = second.address().to_owned();
        second.terminate().await?;
        second = cluster.gateway_at(&address).await?;
        progress(&load).await?;
    }
    over.cancel();
    let (tally, puts) = (load.end().await?, puts.await??);
    let calls = cluster.calls()?;
    let idle = until("the calls to end", Duration::from_secs(10), async || {
        let nodes = calls.nodes().await.ok()?;
        nodes.iter().all(|node| node.calls_in_flight == 0).then_some(())
    });
    idle.await?;
    let mut rows = verdict("rolling-gateways", &calls, &tally).await;
    rows.extend(puts);
    Ok(rows)
}

/// Waits until as many calls have ended as there are callers: where each gateway is restarted again before a call can end,
/// none ever does.
async fn progress(load: &Load) -> Result<()> {
    let before = load.ended();
    let done = async || (load.ended() >= before + CALLERS).then_some(());
    until("calls to end between restarts", PROGRESS_LIMIT, done).await
}

/// Puts one file after another by `c3 put` until `over`.
async fn put_files(text: String, urls: String, over: CancellationToken) -> Result<Vec<Row>> {
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
        Row::equal("rolling-gateways-files-failed", failed, Vec::new()),
        Row::seen("rolling-gateways-files-put", stored, stored > 0, "some"),
    ])
}
