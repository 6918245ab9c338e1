//! A Redis cache that is killed and restarted under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::harness::cluster::ClusterSpec;
use crate::harness::external::ExternalServer;
use crate::harness::fixtures::stretch;
use crate::harness::gateway_api::id_of;
use crate::harness::process::{Process, free_address};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;

const READERS: usize = 8;
const KILLS: usize = 3;
/// Time before and after each kill. Longer than the time for which the gateway avoids Redis after an error.
const SPELL: Duration = Duration::from_secs(1);
const HIT_LIMIT: Duration = Duration::from_secs(20);

/// Reads latents while Redis, the gateway's only cache, is killed and restarted; no read may fail or be wrong, and
/// Redis must be used again afterwards.
pub async fn killed_redis(text: &str, documents: usize) -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-redis-")?;
    let address = free_address()?;
    let start = async || ExternalServer::redis(folder.path(), Some(&address)).await;
    let mut redis = start().await?;
    let url = format!("redis://{address}");
    let cluster = ClusterSpec::with_gateway_args(&["--redis", &url, "--cache-size", "0"]).start().await?;
    let api = cluster.api()?;
    let mut stored = Vec::new();
    for number in 0..documents {
        let put = api.put_at(stretch(text, number, 4_000).as_bytes(), 20).await?;
        let id = id_of(&put.document.context("no document")?);
        let windows = api.windows(&id).await?;
        stored.push((id, windows));
    }
    let stored = Arc::new(stored);
    let (stop, right, failed) =
        (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let readers = Vec::from_iter((0..READERS).map(|reader| {
        let (stored, stop) = (Arc::clone(&stored), Arc::clone(&stop));
        let (right, failed, api) = (Arc::clone(&right), Arc::clone(&failed), api.clone());
        tokio::spawn(async move {
            for number in reader.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (id, windows) = &stored[number % stored.len()];
                let same = api.windows(id).await.is_ok_and(|read| read == *windows);
                if same { &right } else { &failed }.fetch_add(1, Ordering::Relaxed);
            }
        })
    }));
    for _ in 0..KILLS {
        sleep(SPELL).await;
        redis.kill()?;
        sleep(SPELL).await;
        redis = start().await?;
    }
    let hits_before = redis_hits(&cluster.gateway).await?;
    let again = until("hits after the last restart", HIT_LIMIT, async || {
        (redis_hits(&cluster.gateway).await.ok()? > hits_before).then_some(())
    });
    let again = again.await.is_ok();
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await?;
    }
    ensure!(right.load(Ordering::Relaxed) > 0, "no read succeeded");
    Ok(vec![
        Quantity::reported("redis-reads", right.load(Ordering::Relaxed)),
        Quantity::equal("redis-reads-failed", failed.load(Ordering::Relaxed), 0),
        Quantity::holds(
            "redis-hits-before-and-after",
            again && hits_before > 0.0,
            "hits before and after the restarts",
        ),
    ])
}

/// Returns the number of Redis hits from the gateway's metrics.
pub(crate) async fn redis_hits(gateway: &Process) -> Result<f64> {
    let page = gateway.metrics().await?;
    let line = page.lines().find(|line| {
        line.starts_with("c3_cache_lookup_duration_seconds_count")
            && line.contains(r#"outcome="hit""#)
            && line.contains(r#"tier="redis""#)
    });
    Ok(line.and_then(|line| line.rsplit(' ').next()).and_then(|count| count.parse().ok()).unwrap_or(0.0))
}
