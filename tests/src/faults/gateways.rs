//! Gateways that are restarted and killed.

use anyhow::Result;
use c3_client::Client;

use super::load::Caller;
use super::nodes::{prepare, verdict};
use crate::cluster::Plan;
use crate::row::Row;
use crate::wait::until;

/// Callers.
const CALLERS: usize = 8;

/// Two gateways over one store, restarted in good order by turns under load; callers by the public client, which knows
/// both.
pub async fn rolling(text: &str, rounds: usize) -> Result<Vec<Row>> {
    let mut cluster = Plan { compressors: 2, decoders: 2, ..Plan::default() }.start().await?;
    let mut second = cluster.another_gateway().await?;
    let work = prepare(&cluster.calls()?, text).await?;
    let client = Client::connect(&format!("{},{}", cluster.gateway.url(), second.url())).await?;
    let load = work.start(&Caller::Client(client), CALLERS);
    for _ in 0..rounds {
        let address = cluster.gateway.address().to_owned();
        cluster.gateway.terminate().await?;
        cluster.gateway = cluster.gateway_at(&address).await?;
        cluster.becomes_whole().await?;
        let address = second.address().to_owned();
        second.terminate().await?;
        second = cluster.gateway_at(&address).await?;
    }
    let tally = load.end().await?;
    let calls = cluster.calls()?;
    let idle = until("the calls to end", std::time::Duration::from_secs(10), async || {
        let nodes = calls.nodes().await.ok()?;
        nodes.iter().all(|node| node.calls_in_flight == 0).then_some(())
    });
    idle.await?;
    Ok(verdict("rolling-gateways", &calls, &tally).await)
}
