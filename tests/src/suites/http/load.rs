//! Memory, throughput and many connections over HTTP.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use tokio::time::sleep;

use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::quantity::{Quantity, median};
use crate::harness::raw_http1::RawHttp1;
use crate::harness::window_load::{measured, read_latents};
use crate::suites::store::hot_latents::full_window;

/// Size of the text with whose memory that of the long text is compared.
const SHORT_BYTES: usize = 1 << 20;
const CHUNK_BYTES: usize = 16 << 10;
/// Bytes of a part with a number, less than a shard.
const PART_BYTES: usize = 2000;
/// Requests in flight, each on a connection of its own. HTTP/1.1 has no other choice, so gRPC gets as many connections.
const IN_FLIGHT: usize = 16;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
/// Wait after the last write, until the gateway serves documents from its cache.
const SETTLE: Duration = Duration::from_secs(4);
/// Connections that a gateway may accept in addition to those of the measurement.
const SPARE_CONNECTIONS: usize = 300;
/// Maximum resident memory of an idle connection.
const IDLE_BYTES_MAX: f64 = (32 << 10) as f64;

/// Puts a short and a long text in chunks, unverified, each to a fresh gateway; compares the gateways' peak memory.
pub async fn memory(text: &str, bytes: usize) -> Result<Vec<Quantity>> {
    let (short, short_bytes) = peak(text, SHORT_BYTES).await?;
    let (long, long_bytes) = peak(text, bytes).await?;
    Ok(vec![
        Quantity::reported("memory-short-mib", short as f64 / f64::from(1 << 20)),
        Quantity::reported("memory-long-mib", long as f64 / f64::from(1 << 20)),
        Quantity::equal("memory-bytes", (short_bytes, long_bytes), (SHORT_BYTES as u64, bytes as u64)),
        Quantity::at_most("memory-long-over-short", long as f64 / short as f64, 1.2),
    ])
}

/// Returns the peak memory of a gateway, and the size of the document that it stored.
async fn peak(text: &str, bytes: usize) -> Result<(u64, u64)> {
    let cluster = ClusterSpec::default().start().await?;
    let mut connection = RawHttp1::connect(cluster.gateway.address()).await?;
    let headers = [("transfer-encoding", "chunked")];
    connection.begin("PUT", "/v1/documents?verify=false", &headers, b"").await?;
    // Each part has a number, so that no shard occurs twice.
    let ascii: Vec<u8> = text.bytes().filter(u8::is_ascii).collect();
    let parts = ascii.chunks(PART_BYTES).cycle().zip(0..);
    let numbered =
        parts.flat_map(|(part, number)| format!("[{number}] ").into_bytes().into_iter().chain(part.to_vec()));
    let long: Vec<u8> = numbered.take(bytes).collect();
    for chunk in long.chunks(CHUNK_BYTES) {
        connection.write_chunk(chunk).await?;
    }
    connection.write_chunk(b"").await?;
    let response = connection.response("PUT").await?;
    ensure!(response.status == 201, "{}: {}", response.status, response.text());
    let stored = response.json()["bytes"].as_u64().context("no size")?;
    Ok((cluster.gateway.peak_bytes()?, stored))
}

/// Reads the cached latents of one window over gRPC and over HTTP alternately; HTTP must be about as fast, and take
/// about as little of the gateway's CPU time.
pub async fn cached_latents(text: &str) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let (id, window) = full_window(&cluster.api()?, &text.repeat(20)).await?;
    let bytes = window.group.as_ref().map_or(0, |group| group.data.len());
    sleep(SETTLE).await;
    let pool = (0..IN_FLIGHT).map(|_| cluster.api()).collect::<Result<Vec<_>>>()?;
    let (mut grpc_rates, mut http_rates, mut rates, mut cpu) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let grpc = measured(&cluster.gateway, async || {
            let tasks =
                (0..IN_FLIGHT).map(|task| tokio::spawn(read_latents(pool[task].clone(), id.clone(), bytes, ROUND)));
            try_join_all(tasks).await?.into_iter().sum()
        });
        let grpc = grpc.await?;
        let http = measured(&cluster.gateway, async || {
            let address = cluster.gateway.address();
            let tasks = (0..IN_FLIGHT).map(|_| tokio::spawn(ask_http(address.to_owned(), id.clone(), bytes)));
            try_join_all(tasks).await?.into_iter().sum()
        });
        let http = http.await?;
        grpc_rates.push(grpc.per_second);
        http_rates.push(http.per_second);
        rates.push(http.per_second / grpc.per_second);
        cpu.push(http.cpu_seconds / grpc.cpu_seconds);
    }
    Ok(vec![
        Quantity::reported("cached-latents-bytes", bytes),
        Quantity::reported("cached-latents-grpc-per-second", median(grpc_rates)),
        Quantity::reported("cached-latents-http-per-second", median(http_rates)),
        Quantity::at_least("cached-latents-rate-http-over-grpc", median(rates), 0.9),
        Quantity::at_most("cached-latents-cpu-http-over-grpc", median(cpu), 1.1),
    ])
}

async fn ask_http(address: String, id: String, bytes: usize) -> Result<u64> {
    let (mut connection, begun, mut asked) = (RawHttp1::connect(&address).await?, Instant::now(), 0);
    let path = format!("/v1/documents/{id}/latents");
    while begun.elapsed() < ROUND {
        let response = connection.get(&path).await?;
        ensure!(response.status == 200 && response.body.len() > bytes, "status {}", response.status);
        asked += 1;
    }
    Ok(asked)
}

/// Reads latents at 1 KB a second, beside readers at full speed; the others must not slow down, and the gateway's
/// memory must not grow.
pub async fn slow_reader(text: &str) -> Result<Vec<Quantity>> {
    const WATCHED: Duration = Duration::from_secs(8);
    let cluster = ClusterSpec::default().start().await?;
    let long = Vec::from_iter((0..20).map(|number| format!("Part {number}.\n\n{text}"))).concat();
    let mut writer = RawHttp1::connect(cluster.gateway.address()).await?;
    let put = writer.send("PUT", "/v1/documents?verify=false&codec=f32", &[], long.as_bytes()).await?;
    let id = put.json()["id"].as_str().context("no id")?.to_owned();
    let path = format!("/v1/documents/{id}/latents");
    sleep(SETTLE).await;
    let alone = reads_for(&cluster, &path, WATCHED / 4).await?;
    let before = cluster.gateway.resident_bytes()?;
    let mut slow = RawHttp1::connect(cluster.gateway.address()).await?;
    slow.begin("GET", &path, &[], b"").await?;
    let size: u64 = slow.head().await?.header("content-length").parse()?;
    let (begun, mut taken) = (Instant::now(), 0);
    let beside = reads_for(&cluster, &path, WATCHED);
    let dribble = async {
        while begun.elapsed() < WATCHED {
            taken += slow.read_some(1024).await?;
            sleep(Duration::from_secs(1)).await;
        }
        Ok::<_, anyhow::Error>(())
    };
    let (beside, dribbled) = tokio::join!(beside, dribble);
    dribbled?;
    let grown = cluster.gateway.resident_bytes()? as f64 - before as f64;
    Ok(vec![
        Quantity::reported("slow-reader-latents-bytes", size),
        Quantity::at_most("slow-reader-taken", taken as f64, WATCHED.as_secs_f64() * 1024.0 + 1024.0),
        Quantity::at_least("slow-reader-others-speed", beside? / alone, 0.8),
        // Less than one more copy of the latents.
        Quantity::at_most("slow-reader-memory-growth-bytes", grown, (size as f64 / 2.0).max((4 << 20) as f64)),
    ])
}

/// Returns the reads per second of one connection.
async fn reads_for(cluster: &Cluster, path: &str, length: Duration) -> Result<f64> {
    let mut connection = RawHttp1::connect(cluster.gateway.address()).await?;
    let (begun, mut reads) = (Instant::now(), 0);
    while begun.elapsed() < length {
        ensure!(connection.get(path).await?.status == 200, "a read failed");
        reads += 1;
    }
    Ok(f64::from(reads) / begun.elapsed().as_secs_f64())
}

/// Opens many connections, each of which makes one call and is then idle; measures the gateway's memory.
pub async fn idle_connections(count: usize) -> Result<Vec<Quantity>> {
    // The gateway raises its limit of descriptors to the hard limit, and accepts half as many connections.
    let count = count.min(raise_limit()? as usize / 2 - SPARE_CONNECTIONS);
    let cluster = ClusterSpec::default().start().await?;
    // The first connections fill caches and buffers.
    let mut idle = Vec::with_capacity(count + 100);
    for _ in 0..100 {
        idle.push(used_connection(&cluster).await?);
    }
    let before = cluster.gateway.resident_bytes()?;
    for _ in 0..count {
        idle.push(used_connection(&cluster).await?);
    }
    let each = (cluster.gateway.resident_bytes()? as f64 - before as f64) / count as f64;
    let mut answered = 0;
    for connection in idle.iter_mut().rev().take(100) {
        answered += u32::from(connection.get("/v1/nodes").await?.status == 200);
    }
    Ok(vec![
        Quantity::reported("idle-connections", idle.len()),
        Quantity::at_most("idle-connection-bytes", each, IDLE_BYTES_MAX),
        Quantity::equal("idle-connections-answered", answered, 100),
    ])
}

async fn used_connection(cluster: &Cluster) -> Result<RawHttp1> {
    let mut connection = RawHttp1::connect(cluster.gateway.address()).await?;
    let response = connection.get("/v1/documents?limit=1").await?;
    ensure!(response.status == 200, "{}", response.text());
    Ok(connection)
}

/// Raises this process's limit of descriptors to the hard limit, and returns it.
fn raise_limit() -> Result<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(limit.maximum.unwrap_or(1 << 20).min(1 << 20))
}
