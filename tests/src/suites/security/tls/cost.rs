//! Cost of mTLS and encryption at rest on cached latents.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::harness::certificates::Certificates;
use crate::harness::cluster::ClusterSpec;
use crate::harness::gateway_api::GatewayApi;
use crate::harness::process::{Launch, Process, Program};
use crate::harness::quantity::{Quantity, median};
use crate::harness::window_load::{Measured, measured, read_latents};
use crate::suites::security::encryption::{master_key, with_keys};
use crate::suites::store::hot_latents::full_window;

/// Calls in flight.
const IN_FLIGHT: usize = 16;
/// Connections that the calls share.
const CONNECTIONS: usize = 4;
/// Rounds; each measures both gateways.
const ROUNDS: usize = 7;
/// Duration of a round for each gateway.
const ROUND: Duration = Duration::from_secs(1);
/// Wait after the last write. The gateway serves documents from its cache only once their folder has been unchanged for
/// about this long.
const SETTLE: Duration = Duration::from_secs(4);
/// Minimum throughput with mTLS and encryption at rest, as a fraction of that without.
const SHARE_MIN: f64 = 0.8;

/// Reads the cached latents of one window from two gateways alternately: one is plain, the other has mTLS and an
/// encrypted store.
pub(super) async fn cost(text: &str, full: bool) -> Result<Vec<Quantity>> {
    let certificates = Certificates::init().await?;
    let cluster = ClusterSpec::default().start().await?;
    let folder = TempDir::with_prefix("c3-tls-cost-")?;
    let key = master_key(folder.path(), 1)?;
    let secure = Launch::new(Program::Gateway).arg("--data").arg(folder.path().join("data")).args(with_keys(&[&key]));
    let secure = secure.args(["--compressor", cluster.address(0), "--decoder", cluster.address(1)]);
    let secure = secure.args(certificates.flags("gateway")).args(["--tls-client", "required"]);
    let secure = secure.over_tls(certificates.credentials("client")?).serve(folder.path()).await?;
    let (id, window) = full_window(&cluster.api()?, text).await?;
    let (sealed_id, _) = full_window(&GatewayApi::to(&secure)?, text).await?;
    ensure!(sealed_id == id, "the gateways give one text two ids");
    let bytes = window.group.as_ref().map_or(0, |group| group.data.len());
    sleep(SETTLE).await;
    let (plain, secure) = (&cluster.gateway, &secure);
    let (mut plain_rates, mut secure_rates, mut shares, mut cpu) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..if full { 3 * ROUNDS } else { ROUNDS } {
        // The order alternates, so that a drift of the machine's speed favours neither.
        let (first, second) = if round % 2 == 0 { (plain, secure) } else { (secure, plain) };
        let measured = [measure(first, &id, bytes).await?, measure(second, &id, bytes).await?];
        let [in_plain, with_tls] = if round % 2 == 0 { measured } else { [measured[1], measured[0]] };
        plain_rates.push(in_plain.per_second);
        secure_rates.push(with_tls.per_second);
        shares.push(with_tls.per_second / in_plain.per_second);
        cpu.push(with_tls.cpu_seconds / in_plain.cpu_seconds);
    }
    Ok(vec![
        Quantity::reported("tls-cost-bytes", bytes),
        Quantity::reported("tls-cost-plain-per-second", median(plain_rates)),
        Quantity::reported("tls-cost-secure-per-second", median(secure_rates)),
        Quantity::reported("tls-cost-cpu-over-plain", median(cpu)),
        Quantity::at_least("tls-cost-share", median(shares), SHARE_MIN),
    ])
}

async fn measure(gateway: &Process, id: &str, bytes: usize) -> Result<Measured> {
    let pool = (0..CONNECTIONS).map(|_| GatewayApi::to(gateway)).collect::<Result<Vec<_>>>()?;
    measured(gateway, async || {
        let read = |task: usize| read_latents(pool[task % pool.len()].clone(), id.to_owned(), bytes, ROUND);
        try_join_all((0..IN_FLIGHT).map(|task| tokio::spawn(read(task)))).await?.into_iter().sum()
    })
    .await
}
