//! A tenant that exceeds its quota beside a steady one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use c3_access::TenantRecord;
use c3_server::access::Scope;
use tokio::time::{MissedTickBehavior, interval};
use tonic::Code;

use crate::harness::access::Access;
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::fixtures::{Corpus, stretch};
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::quantity::Quantity;
use crate::suites::store::ops;

/// Calls per minute that the greedy tenant may make.
const QUOTA: u64 = 300;
/// Multiple of its quota that it makes.
const EXCESS: u64 = 10;
/// Calls per second of the steady tenant.
const STEADY_RATE: u64 = 50;
const STEADY_DOCUMENTS: usize = 3;
/// Documents of the greedy tenant: more than its cache holds.
const GREEDY_DOCUMENTS: usize = 6;
/// Size of a document: more than one shard, so that its latents are not in the manifest.
const DOCUMENT_BYTES: usize = 20_000;
/// Weight of the steady tenant's cache, which is large enough for its documents. The greedy tenant has weight 1.
const STEADY_WEIGHT: u32 = 30;
/// Maximum factor by which the steady tenant's 99th percentile may rise.
const FACTOR_MAX: f64 = 1.5;

/// Measures a steady tenant's latency and cache hits alone, and beside a tenant at ten times its quota.
pub(super) async fn quota(corpus: Corpus) -> Result<Vec<Quantity>> {
    let spell = Duration::from_secs(if corpus.full { 120 } else { 30 });
    let access = Access::with_tenants(&["steady", "greedy"])?;
    let (steady, greedy) = (access.key("steady", &Scope::ALL)?, access.key("greedy", &Scope::ALL)?);
    access.set_tenant("steady", TenantRecord { cache_weight: STEADY_WEIGHT, ..TenantRecord::default() })?;
    let path = access.path().display().to_string();
    let args = ["--access", &path, "--cache-size", "1MiB"];
    let spec = ClusterSpec { api_key: Some(steady.clone()), ..ClusterSpec::with_gateway_args(&args) };
    let cluster = spec.start().await?;
    let book = corpus.whole_book("dickens-and-music")?;
    let ids = stored(&cluster, &steady, &book, 0..STEADY_DOCUMENTS).await?;
    let others = stored(&cluster, &greedy, &book, 0..GREEDY_DOCUMENTS).await?;
    access.set_tenant("greedy", TenantRecord { requests_per_minute: Some(QUOTA), ..TenantRecord::default() })?;
    // Warms the cache.
    measure(&cluster, &steady, &ids, Duration::from_secs(2)).await?;
    let (hits_before, misses_before) = (lookups(&cluster, "hit").await?, lookups(&cluster, "miss").await?);
    let alone = measure(&cluster, &steady, &ids, spell).await?;
    let flood = Flood::start(&cluster, &greedy, others)?;
    let beside = measure(&cluster, &steady, &ids, spell).await?;
    let (served, refused, without_time) = flood.end().await?;
    let (hits_after, misses_after) = (lookups(&cluster, "hit").await?, lookups(&cluster, "miss").await?);
    let permitted = QUOTA as f64 * (1.0 + spell.as_secs_f64() / 60.0);
    Ok(vec![
        Quantity::reported("quota-steady-p99-ms-alone", alone * 1e3),
        Quantity::reported("quota-steady-p99-ms-beside", beside * 1e3),
        Quantity::at_most("quota-steady-p99-factor", beside / alone, FACTOR_MAX),
        Quantity::at_least("quota-steady-cache-hits", hits_after - hits_before, 1.0),
        Quantity::equal("quota-steady-cache-misses", misses_after - misses_before, 0.0),
        Quantity::at_most("quota-greedy-served", served as f64, permitted * 1.1),
        Quantity::at_least("quota-greedy-refused", refused as f64, 1.0),
        Quantity::equal("quota-greedy-refused-without-time", without_time, 0),
    ])
}

async fn stored(cluster: &Cluster, key: &str, book: &str, numbers: std::ops::Range<usize>) -> Result<Vec<String>> {
    let api = GatewayApi::with_key(&cluster.gateway, Some(key))?;
    let mut ids = Vec::new();
    for number in numbers {
        let put = api.put(stretch(book, number, DOCUMENT_BYTES).as_bytes(), ops::default_options()).await?;
        ids.push(id_of(&put.document.context("no document")?));
    }
    Ok(ids)
}

/// Reads latents at a constant rate. Returns the 99th percentile of the latency in seconds.
async fn measure(cluster: &Cluster, key: &str, ids: &[String], spell: Duration) -> Result<f64> {
    let api = GatewayApi::with_key(&cluster.gateway, Some(key))?;
    let (mut ticks, start, mut calls) = (ticks(STEADY_RATE), Instant::now(), Vec::new());
    while start.elapsed() < spell {
        ticks.tick().await;
        let (api, id) = (api.clone(), ids[calls.len() % ids.len()].clone());
        calls.push(tokio::spawn(async move {
            let start = Instant::now();
            api.windows(&id).await?;
            Ok::<_, tonic::Status>(start.elapsed().as_secs_f64())
        }));
    }
    let mut times = Vec::new();
    for call in calls {
        times.push(call.await??);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() * 99 / 100])
}

fn ticks(per_second: u64) -> tokio::time::Interval {
    let mut ticks = interval(Duration::from_secs(1) / per_second as u32);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    ticks
}

/// Returns the steady tenant's lookups in its memory cache with this outcome.
async fn lookups(cluster: &Cluster, outcome: &str) -> Result<f64> {
    let labels = format!(r#"outcome="{outcome}",role="gateway",tenant="steady",tier="memory""#);
    cluster.gateway_metric("c3_cache_lookup_duration_seconds_count", &labels).await
}

/// Calls of the greedy tenant.
struct Flood {
    stop: Arc<AtomicBool>,
    /// Calls that were served, refused, and refused without a time to retry.
    counts: Arc<[AtomicU64; 3]>,
    task: tokio::task::JoinHandle<()>,
}

impl Flood {
    fn start(cluster: &Cluster, key: &str, ids: Vec<String>) -> Result<Self> {
        let api = GatewayApi::with_key(&cluster.gateway, Some(key))?;
        let (stop, counts) = (Arc::<AtomicBool>::default(), Arc::<[AtomicU64; 3]>::default());
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&counts));
        let task = tokio::spawn(async move {
            let mut ticks = ticks(EXCESS * QUOTA / 60);
            for number in 0.. {
                ticks.tick().await;
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let (api, id, counts) = (api.clone(), ids[number % ids.len()].clone(), Arc::clone(&counted));
                tokio::spawn(async move {
                    let count = |kind: usize| {
                        counts[kind].fetch_add(1, Ordering::Relaxed);
                    };
                    match api.windows(&id).await {
                        Ok(_) => count(0),
                        Err(status) if status.code() == Code::ResourceExhausted => {
                            count(1);
                            if !status.metadata().contains_key("retry-after-ms") {
                                count(2);
                            }
                        }
                        Err(_) => count(2),
                    }
                });
            }
        });
        Ok(Self { stop, counts, task })
    }

    async fn end(self) -> Result<(u64, u64, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?;
        let [served, refused, without_time] = [0, 1, 2].map(|kind| self.counts[kind].load(Ordering::Relaxed));
        Ok((served, refused, without_time))
    }
}
