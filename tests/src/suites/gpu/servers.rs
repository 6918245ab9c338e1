//! Throughput of a gateway with nodes on GPUs: relative to the slower stage alone, and of two GPUs relative to one.

use std::io::Cursor;
use std::time::Instant;

use anyhow::{Result, ensure};
use c3_cascade::{DeviceChoice, Options, TokenWindow};
use c3_client::{ByteRange, Client, Stored, WriteOptions};
use futures::TryStreamExt;
use futures::future::try_join_all;

use super::RATIO;
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::fixtures;
use crate::harness::process::Process;
use crate::harness::quantity::Quantity;
use crate::suites::speed::stages::{Stages, tokens};

/// Windows (parts of a text) that the stages alone compute together, and number of such batches.
const BATCH: usize = 256;
const BATCHES: usize = 8;
/// Length of the text that is put and got before the measurement, so that kernels are loaded and memory is allocated.
const WARM_UP_BYTES: usize = 200_000;
/// Minimum quotient of the throughput through the gateway and that of the slower stage alone.
const SHARE_MIN: f64 = 0.5;
/// Minimum quotient of the throughput with two devices and that with one.
const TWO_DEVICES_MIN: f64 = 1.7;

/// Puts a text through a gateway and a node of each stage, all with default settings and both nodes on `device`, and
/// gets it from a new gateway process over the same store. Each must reach half of the text tokens per second of the
/// slower stage alone: compress or verify for the put, decode for the get. The text must come back.
pub async fn one_device(device: DeviceChoice, text: &str) -> Result<Vec<Quantity>> {
    let alone = stages_alone(device, text)?;
    let whole = put_and_get(vec![device], &[text]).await?;
    let (put, get) = (alone.compress.min(alone.verify), alone.decode);
    Ok(vec![
        Quantity::reported("servers-compress-alone-rate", alone.compress),
        Quantity::reported("servers-verify-alone-rate", alone.verify),
        Quantity::reported("servers-decode-alone-rate", alone.decode),
        Quantity::reported("servers-put-rate", whole.put),
        Quantity::reported("servers-get-rate", whole.get),
        Quantity::equal("servers-shards-reused", whole.shards_reused, 0),
        Quantity::at_least("servers-put-over-stage", whole.put / put, SHARE_MIN),
        Quantity::at_least("servers-get-over-stage", whole.get / get, SHARE_MIN),
        Quantity::holds("servers-identical", whole.identical, "identical"),
    ])
}

/// Puts and gets several texts concurrently, first with one node of each stage on the first device, then with one of
/// each stage on both devices. With two devices, text tokens per second must be at least 1.7 times as many.
pub async fn two_devices(devices: [DeviceChoice; 2], texts: &[&str]) -> Result<Vec<Quantity>> {
    let one = put_and_get(vec![devices[0]], texts).await?;
    let two = put_and_get(devices.to_vec(), texts).await?;
    Ok(vec![
        Quantity::reported("two-cards-put-rates", [one.put, two.put]),
        Quantity::reported("two-cards-get-rates", [one.get, two.get]),
        Quantity::equal("two-cards-shards-reused", one.shards_reused + two.shards_reused, 0),
        Quantity::at_least("two-cards-put-over-one", two.put / one.put, TWO_DEVICES_MIN),
        Quantity::at_least("two-cards-get-over-one", two.get / one.get, TWO_DEVICES_MIN),
        Quantity::holds("two-cards-identical", one.identical && two.identical, "identical"),
    ])
}

/// Text tokens per second of each stage alone.
struct StageRates {
    compress: f64,
    verify: f64,
    decode: f64,
}

/// Measures each stage alone on the first windows of a text, in batches. One batch before the measurement loads kernels
/// and allocates memory.
fn stages_alone(device: DeviceChoice, text: &str) -> Result<StageRates> {
    let stages = Stages::load(Options { device, ..Default::default() })?;
    let windows = stages.windows(text, RATIO, BATCH * BATCHES)?;
    let warm_up = &windows[..windows.len().min(BATCH)];
    let latents = stages.stored(warm_up)?;
    stages.verify(warm_up, &latents)?;
    stages.decode(warm_up, &latents, 0)?;

    let mut latents = Vec::with_capacity(windows.len());
    for batch in windows.chunks(BATCH) {
        latents.extend(stages.stored(batch)?);
    }
    let batches = || windows.chunks(BATCH).zip(latents.chunks(BATCH));
    Ok(StageRates {
        compress: rate(&windows, || batches().try_for_each(|(batch, _)| stages.compress(batch).map(drop)))?,
        verify: rate(&windows, || batches().try_for_each(|(batch, latents)| stages.verify(batch, latents).map(drop)))?,
        decode: rate(&windows, || {
            batches().try_for_each(|(batch, latents)| stages.decode(batch, latents, 0).map(drop))
        })?,
    })
}

fn rate(windows: &[TokenWindow], work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    work()?;
    Ok(tokens(windows) as f64 / started.elapsed().as_secs_f64())
}

/// Result of putting and getting texts.
struct Throughput {
    /// Text tokens per second of all puts together, until the last is acknowledged.
    put: f64,
    /// Text tokens per second of all gets together.
    get: f64,
    /// Shards (parts of a text) that were not computed, because the store had them.
    shards_reused: u64,
    /// True if all texts came back.
    identical: bool,
}

/// Puts all texts concurrently, each over its own connection, restarts the gateway and gets all texts. There is a node
/// of each stage on each device.
async fn put_and_get(devices: Vec<DeviceChoice>, texts: &[&str]) -> Result<Throughput> {
    let (compressors, decoders) = (devices.len(), devices.len());
    let mut cluster = ClusterSpec { compressors, decoders, devices, ..ClusterSpec::default() }.start().await?;
    warm_up(&cluster, compressors).await?;
    let clients = connections(&cluster.gateway, texts.len()).await?;
    let started = Instant::now();
    let stored = try_join_all(clients.iter().zip(texts).map(|(client, text)| put(client, text))).await?;
    let put_seconds = started.elapsed().as_secs_f64();

    // The new gateway has empty caches.
    cluster.restart_gateway().await?;
    let clients = connections(&cluster.gateway, texts.len()).await?;
    let started = Instant::now();
    let got = try_join_all(clients.iter().zip(&stored).map(|(client, stored)| get(client, stored))).await?;
    let get_seconds = started.elapsed().as_secs_f64();
    let tokens = stored.iter().map(|stored| stored.document.tokens).sum::<u64>() as f64;
    Ok(Throughput {
        put: tokens / put_seconds,
        get: tokens / get_seconds,
        shards_reused: stored.iter().map(|stored| stored.shards_reused).sum(),
        identical: got.iter().zip(texts).all(|(got, text)| got == text.as_bytes()),
    })
}

/// Puts and gets a text that is long enough for the `nodes` nodes of each stage.
async fn warm_up(cluster: &Cluster, nodes: usize) -> Result<()> {
    // The measured texts must not have these lines, because their shards (parts of a text) would not be computed.
    let unique = fixtures::text("chapter.txt")?.replace('\n', "\nwarm-up: ");
    let text = fixtures::repeated(&unique, nodes * WARM_UP_BYTES);
    let client = Client::connect(&cluster.gateway.url()).await?;
    let stored = put(&client, &text).await?;
    get(&client, &stored).await.map(drop)
}

async fn connections(gateway: &Process, count: usize) -> Result<Vec<Client>> {
    let url = gateway.url();
    Ok(try_join_all((0..count).map(|_| Client::connect(&url))).await?)
}

async fn put(client: &Client, text: &str) -> Result<Stored> {
    let options = WriteOptions { ratio: Some(RATIO as u32), ..WriteOptions::default() };
    let stored = client.put(Cursor::new(text.to_owned()), &options).await?.finish().await?;
    ensure!(stored.document.verification.is_some(), "the text was not verified");
    Ok(stored)
}

async fn get(client: &Client, stored: &Stored) -> Result<Vec<u8>> {
    let got = client.get(&stored.document.id.to_string(), ByteRange::default()).await?;
    Ok(got.try_collect::<Vec<_>>().await?.concat())
}
