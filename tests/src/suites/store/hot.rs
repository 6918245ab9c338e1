//! Latents of a window that the gateway has in memory, by gRPC, against the same bytes from Redis.
//!
//! One program asks both, in turn, on the same cores, from as many tasks as calls are in flight; each waits for its answer
//! before it asks again. gRPC has some connections, as a busy client's pool; Redis has one for each task, since on a shared
//! one the questions of several tasks would go as a pipeline. Each answer is compared with what was stored.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use c3_proto::LatentCodec;
use c3_proto::pb::{self, get_latents_response};
use futures::future::try_join_all;
use prost::Message;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use crate::calls::{Calls, id_of};
use crate::cluster::Plan;
use crate::fixtures::stretch;
use crate::process::free_address;
use crate::row::Row;
use crate::tool::{self, Tool};

/// Calls in flight.
const IN_FLIGHT: usize = 16;
/// Connections to the gateway.
const CONNECTIONS: usize = 4;
/// Rounds of both; the middle one counts.
const ROUNDS: usize = 9;
/// Latents of a full window.
const LATENTS: u64 = 32;
/// Text tokens of a full window, and of the shortest that has as many latents.
const TOKENS: std::ops::RangeInclusive<u64> = 621..=640;
const RATE_SHARE: f64 = 0.3;
const KEY: &str = "window";
/// What the gateway waits until it trusts that a folder does not change.
const SETTLE: Duration = Duration::from_secs(4);

/// Asks for `seconds` a round.
pub async fn hot_latents(text: &str, seconds: usize) -> Result<Vec<Row>> {
    let program = tool::path_of("redis-server", "apt-get install redis-server")?;
    let folder = TempDir::with_prefix("c3-redis-")?;
    let address = free_address()?;
    let port = address.rsplit(':').next().context("no port")?;
    let dir = folder.path().display().to_string();
    let args = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", &dir];
    let redis_server = Tool::start(&program, args, address.clone()).await?;
    let cluster = Plan::default().start().await?;
    let calls = cluster.calls()?;
    let (id, window) = full_window(&calls, text).await?;
    tokio::time::sleep(SETTLE).await;

    let pool = (0..CONNECTIONS).map(|_| cluster.calls()).collect::<Result<Vec<_>>>()?;
    let client = redis::Client::open(format!("redis://{}", redis_server.address))?;
    let mut connections = Vec::new();
    for _ in 0..IN_FLIGHT {
        connections.push(client.get_multiplexed_async_connection().await?);
    }
    let bytes = Bytes::from(window.encode_to_vec());
    connections[0].set::<_, _, ()>(KEY, &bytes[..]).await?;
    let length = Duration::from_secs(seconds as u64);
    let (mut calls_a_second, mut gets_a_second, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let asked = try_join_all(
            (0..IN_FLIGHT)
                .map(|task| pool[task % CONNECTIONS].clone())
                .map(|calls| tokio::spawn(ask_gateway(calls, id.clone(), window.clone(), length))),
        );
        let ours = rate(asked.await?, length)?;
        let asked = try_join_all(
            connections
                .iter()
                .map(|connection| tokio::spawn(ask_redis(connection.clone(), bytes.clone(), length))),
        );
        let theirs = rate(asked.await?, length)?;
        calls_a_second.push(ours);
        gets_a_second.push(theirs);
        shares.push(ours / theirs);
    }
    Ok(vec![
        Row::seen("hot-latents-bytes", bytes.len(), true, "told"),
        Row::seen("hot-latents-calls-a-second", middle(calls_a_second), true, "told"),
        Row::seen("hot-redis-gets-a-second", middle(gets_a_second), true, "told"),
        Row::at_least("hot-latents-over-redis", middle(shares), RATE_SHARE),
    ])
}

/// Stores a text that is one full window; gives its id and the window.
async fn full_window(calls: &Calls, text: &str) -> Result<(String, pb::WindowLatents)> {
    let options = pb::WriteOptions { ratio: 20, codec: LatentCodec::Q4_0.to_wire(), ..Default::default() };
    let mut bytes = 2_400;
    for number in 0..20 {
        let text = stretch(text, number, bytes);
        let put = calls.put(text.as_bytes(), options.clone()).await?;
        let document = put.document.context("no document")?;
        if document.windows == 1 && document.latents == LATENTS {
            let id = id_of(&document);
            let window = calls.windows(&id).await?.pop().context("no window")?;
            return Ok((id, window));
        }
        // Near the middle of what has as many latents.
        let wanted = (TOKENS.start() + TOKENS.end()) / 2;
        bytes = (text.len() as u64 * wanted / document.tokens.max(1)) as usize;
    }
    anyhow::bail!("no stretch of the text is one full window")
}

async fn ask_gateway(calls: Calls, id: String, window: pb::WindowLatents, length: Duration) -> Result<u64> {
    let (mut client, begun, mut asked) = (calls.raw(), Instant::now(), 0);
    while begun.elapsed() < length {
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
    let (begun, mut asked) = (Instant::now(), 0);
    while begun.elapsed() < length {
        let read: Vec<u8> = connection.get(KEY).await?;
        ensure!(read == bytes, "another value came");
        asked += 1;
    }
    Ok(asked)
}

/// Answers a second of all tasks together.
fn rate(asked: Vec<Result<u64>>, length: Duration) -> Result<f64> {
    let asked = asked.into_iter().sum::<Result<u64>>()?;
    Ok(asked as f64 / length.as_secs_f64())
}

/// The middle one.
fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
