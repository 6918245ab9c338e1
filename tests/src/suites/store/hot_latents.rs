//! Throughput of cached latents over gRPC, relative to that of the same bytes from Redis.
//!
//! One process measures the gateway and Redis alternately on the same cores. Each task sends one request after another.
//! The tasks share a few gRPC connections, as in a busy client. Each task has its own connection to Redis, because a
//! shared one would pipeline the requests. Every answer is compared with the stored window, a part of a text with its
//! latents.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use c3_proto::ToWire;
use c3_proto::pb::{self, get_latents_response};
use c3_types::LatentCodec;
use futures::future::try_join_all;
use prost::Message;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use crate::harness::cluster::ClusterSpec;
use crate::harness::external::ExternalServer;
use crate::harness::fixtures::stretch;
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::quantity::{Quantity, median};

/// Number of tasks, and thus of concurrent requests.
const IN_FLIGHT: usize = 16;
/// Number of connections to the gateway.
const CONNECTIONS: usize = 4;
/// Number of rounds, of which the median is reported.
const ROUNDS: usize = 9;
/// Number of latents of a full window.
const LATENTS: u64 = 32;
/// Numbers of tokens for which a window has [`LATENTS`] latents at 20 tokens per latent.
const TOKENS: std::ops::RangeInclusive<u64> = 621..=640;
/// Minimum throughput relative to Redis.
const RATE_SHARE: f64 = 0.25;
const KEY: &str = "window";
/// Wait after the last write. The gateway serves documents from its cache only once their folder has been unchanged for
/// about this long.
const SETTLE: Duration = Duration::from_secs(4);

/// Reads the latents of one window from the gateway, and the same bytes from Redis; the gateway must reach
/// [`RATE_SHARE`] of the rate of Redis. Measures each server for `seconds` seconds per round.
pub async fn hot_latents(text: &str, seconds: usize) -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-redis-")?;
    let redis_server = ExternalServer::redis(folder.path(), None).await?;
    let cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    let (id, window) = full_window(&api, text).await?;
    tokio::time::sleep(SETTLE).await;

    let pool = (0..CONNECTIONS).map(|_| cluster.api()).collect::<Result<Vec<_>>>()?;
    let client = redis::Client::open(format!("redis://{}", redis_server.address))?;
    let mut connections = Vec::new();
    for _ in 0..IN_FLIGHT {
        connections.push(client.get_multiplexed_async_connection().await?);
    }
    let bytes = Bytes::from(window.encode_to_vec());
    connections[0].set::<_, _, ()>(KEY, &bytes[..]).await?;
    let length = Duration::from_secs(seconds as u64);
    let (mut calls_per_second, mut gets_per_second, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let asked = try_join_all(
            (0..IN_FLIGHT)
                .map(|task| pool[task % CONNECTIONS].clone())
                .map(|api| tokio::spawn(ask_gateway(api, id.clone(), window.clone(), length))),
        );
        let ours = rate(asked.await?, length)?;
        let asked = try_join_all(
            connections.iter().map(|connection| tokio::spawn(ask_redis(connection.clone(), bytes.clone(), length))),
        );
        let theirs = rate(asked.await?, length)?;
        calls_per_second.push(ours);
        gets_per_second.push(theirs);
        shares.push(ours / theirs);
    }
    Ok(vec![
        Quantity::reported("hot-latents-bytes", bytes.len()),
        Quantity::reported("hot-latents-calls-per-second", median(calls_per_second)),
        Quantity::reported("hot-redis-gets-per-second", median(gets_per_second)),
        Quantity::at_least("hot-latents-over-redis", median(shares), RATE_SHARE),
    ])
}

/// Stores a part of `text` that fills exactly one window. Returns the document's id and the window.
pub(crate) async fn full_window(api: &GatewayApi, text: &str) -> Result<(String, pb::WindowLatents)> {
    let options = pb::WriteOptions { ratio: 20, codec: LatentCodec::Q4_0.to_wire(), ..Default::default() };
    let mut bytes = 2_400;
    for number in 0..20 {
        let text = stretch(text, number, bytes);
        let put = api.put(text.as_bytes(), options.clone()).await?;
        let document = put.document.context("no document")?;
        if document.windows == 1 && document.latents == LATENTS {
            let id = id_of(&document);
            let window = api.windows(&id).await?.pop().context("no window")?;
            return Ok((id, window));
        }
        // The next attempt aims at the middle of `TOKENS`.
        let wanted = (TOKENS.start() + TOKENS.end()) / 2;
        bytes = (text.len() as u64 * wanted / document.tokens.max(1)) as usize;
    }
    anyhow::bail!("no stretch of the text is one full window")
}

async fn ask_gateway(api: GatewayApi, id: String, window: pb::WindowLatents, length: Duration) -> Result<u64> {
    let (mut client, started, mut asked) = (api.stub(), Instant::now(), 0);
    while started.elapsed() < length {
        let mut parts = client.get_latents(pb::GetLatentsRequest { id: id.clone() }).await?.into_inner();
        let mut windows = 0;
        while let Some(message) = parts.message().await? {
            if let Some(get_latents_response::Part::Window(read)) = message.part {
                ensure!(read == window, "another window came");
                windows += 1;
            }
        }
        ensure!(windows == 1, "{windows} windows came");
        asked += 1;
    }
    Ok(asked)
}

async fn ask_redis(mut connection: MultiplexedConnection, bytes: Bytes, length: Duration) -> Result<u64> {
    let (started, mut asked) = (Instant::now(), 0);
    while started.elapsed() < length {
        let read: Vec<u8> = connection.get(KEY).await?;
        ensure!(read == bytes, "another value came");
        asked += 1;
    }
    Ok(asked)
}

/// Returns answers per second of all tasks together.
fn rate(asked: Vec<Result<u64>>, length: Duration) -> Result<f64> {
    let asked = asked.into_iter().sum::<Result<u64>>()?;
    Ok(asked as f64 / length.as_secs_f64())
}
