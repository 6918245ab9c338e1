//! Throughput and latency of the whole system.

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use c3_cascade::{Kernels, TokenWindow};
use c3_client::Client;
use c3_types::{ByteRange, Document, Stored, Window, WriteOptions};
use futures::TryStreamExt;
use serde_json::Value;
use tempfile::NamedTempFile;

use super::stages::Stages;
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::process::{Launch, Program};
use crate::harness::quantity::{Quantity, median};

/// Number of rounds, of which the median is reported.
const ROUNDS: usize = 7;

/// Text tokens per latent of the documents that are put.
const RATIO: usize = 20;
/// Maximum number of blocks that a decoder node on a CPU decodes in one step: the default of `--step-blocks-max`. A
/// block is the run of text tokens that one latent stands for.
const STEP_BLOCKS: usize = 128;

/// Measures the throughput of put and get through the gateway; each must reach 85 % of the throughput of the stages
/// alone on the same cores. The programs may spend at most 5 % of their CPU time outside the model threads.
///
/// In each round, the stages compute exactly the windows (parts of the text) of the document that the round puts. They
/// compute one stage after the other, in batches of the size that nodes form. The result is the median over all rounds.
pub async fn put_get(text: &str) -> Result<Vec<Quantity>> {
    let stages = Stages::served(Kernels::Auto)?;
    let cluster = ClusterSpec::default().start().await?;
    let limits = cluster.describe_decoder().await?.limits.context("no limits")?;
    let client = Client::connect(&cluster.gateway.url()).await?;
    let [mut put, mut get, mut in_store] = [(); 3].map(|()| Vec::new());
    let before = cpu(&cluster)?;
    for round in 0..ROUNDS {
        // Puts a different text in each round, because the gateway would reuse stored shards.
        let text: String = text.split_inclusive('\n').map(|line| format!("{round} {line}")).collect();
        let (stored, whole) = through_gateway(&client, &text).await?;
        let windows = windows_of(&client, &stages, &stored.document, &text).await?;
        let alone = stages_alone(&stages, &windows, limits.batch_tokens_max as usize)?;
        put.push(alone.put / whole.put);
        get.push(alone.get / whole.get);
        in_store.push(stored.times.store.as_secs_f64() / whole.put);
    }
    let after = cpu(&cluster)?;
    let (models, all) = (after.models - before.models, after.all - before.all);
    Ok(vec![
        Quantity::at_least("put-over-stages", median(put), 0.85),
        Quantity::at_least("get-over-stages", median(get), 0.85),
        Quantity::reported("put-seconds-in-store-over-all", median(in_store)),
        Quantity::at_most("gateway-and-transport-cpu-share", 1.0 - models / all, 0.05),
    ])
}

/// Time to put a text and to get it, in seconds.
struct Seconds {
    put: f64,
    get: f64,
}

/// Puts a text and gets it back.
async fn through_gateway(client: &Client, text: &str) -> Result<(Stored, Seconds)> {
    let options = WriteOptions { ratio: Some(RATIO as u32), ..Default::default() };
    let started = Instant::now();
    let stored = client.put(std::io::Cursor::new(text.to_owned()), &options).await?.finish().await?;
    let put = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let got = client.get(&stored.document.id.to_string(), ByteRange::default()).await?;
    let back: Vec<_> = got.try_collect().await?;
    let get = started.elapsed().as_secs_f64();
    ensure!(back.concat() == text.as_bytes(), "the text did not come back");
    Ok((stored, Seconds { put, get }))
}

/// Returns the windows of a stored document, with their tokens. Each shard (part of a text that is compressed on its
/// own) is divided into windows.
async fn windows_of(client: &Client, stages: &Stages, document: &Document, text: &str) -> Result<Vec<TokenWindow>> {
    let stored: Vec<Window> = client.latents(&document.id.to_string()).await?.try_collect().await?;
    let mut windows = Vec::new();
    for shard in stored.chunk_by(|one, next| one.shard == next.shard) {
        let (first, last) = (&shard[0], &shard[shard.len() - 1]);
        let bytes = first.bytes.start as usize..last.bytes.end as usize;
        windows.extend(stages.windows(&text[bytes], RATIO, usize::MAX)?);
    }
    let tokens = stored.iter().map(|window| window.group.tokens() as usize);
    ensure!(tokens.eq(windows.iter().map(|window| window.tokens.len())), "the put made other windows");
    Ok(windows)
}

/// Computes all stages for these windows, one after the other, in batches of up to `tokens_max` text tokens.
fn stages_alone(stages: &Stages, windows: &[TokenWindow], tokens_max: usize) -> Result<Seconds> {
    let latents = stages.stored(windows)?;
    let by_tokens = batches(windows, tokens_max, |window| window.tokens.len());
    let by_blocks = batches(windows, STEP_BLOCKS, |window| window.tokens.len().div_ceil(window.ratio));
    let started = Instant::now();
    by_tokens.iter().try_for_each(|batch| stages.compress(&windows[batch.clone()]).map(drop))?;
    by_tokens.iter().try_for_each(|batch| stages.verify(&windows[batch.clone()], &latents[batch.clone()]).map(drop))?;
    let put = started.elapsed().as_secs_f64();
    let started = Instant::now();
    by_blocks
        .iter()
        .try_for_each(|batch| stages.decode(&windows[batch.clone()], &latents[batch.clone()], 0).map(drop))?;
    Ok(Seconds { put, get: started.elapsed().as_secs_f64() })
}

/// Divides windows into batches whose sizes add up to at most `max`. A window that is larger than `max` is a batch of
/// its own.
fn batches(windows: &[TokenWindow], max: usize, size: impl Fn(&TokenWindow) -> usize) -> Vec<Range<usize>> {
    let (mut batches, mut start, mut sum) = (Vec::new(), 0, 0);
    for (index, window) in windows.iter().enumerate() {
        if index > start && sum + size(window) > max {
            batches.push(start..index);
            (start, sum) = (index, 0);
        }
        sum += size(window);
    }
    batches.push(start..windows.len());
    batches
}

/// CPU time of all programs of a cluster, in clock ticks.
struct CpuTicks {
    /// CPU time of the model threads.
    models: f64,
    all: f64,
}

fn cpu(cluster: &Cluster) -> Result<CpuTicks> {
    let mut cpu = CpuTicks { models: 0.0, all: 0.0 };
    let nodes = cluster.compressors.iter().chain(&cluster.decoders);
    for process in nodes.chain([&cluster.gateway]) {
        for task in fs::read_dir(format!("/proc/{}/task", process.id()))? {
            let stat = fs::read_to_string(task?.path().join("stat"))?;
            // Splits after the thread name, which is in parentheses and may contain spaces.
            let (name, rest) = stat.rsplit_once(") ").context("no stat")?;
            let ticks = |field: usize| rest.split(' ').nth(field).and_then(|x| x.parse::<f64>().ok());
            let ticks = ticks(11).context("no utime")? + ticks(12).context("no stime")?;
            let computes = ["(c3-compress", "(c3-decode"].iter().any(|thread| name.contains(thread));
            cpu.models += if computes { ticks } else { 0.0 };
            cpu.all += ticks;
        }
    }
    Ok(cpu)
}

/// Measures the p99 time to first byte of gets at 80 % of capacity; it may be at most eight times the median without
/// load, and no get may fail. Each run measures its own capacity and median; the result is the median over all runs.
/// Calls are evenly spaced, as in wrk2, vegeta and k6. The result for Poisson arrivals is reported without a bound,
/// because queueing dominates its p99.
pub async fn open_loop(text: &str, seconds: u64, runs: usize) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let bench = Bench::of(&cluster, text)?;
    let [mut even, mut poisson, mut unloaded, mut capacity] = [(); 4].map(|()| Vec::new());
    let mut failed = 0.0;
    for _ in 0..runs {
        let alone = bench.run(&["--clients", "1", "--duration", "10"]).await?;
        let full = bench.run(&["--clients", "16", "--duration", "15"]).await?;
        unloaded.push(number(&alone, "/get/first_byte_ms/p50")?);
        capacity.push(number(&full, "/get/calls_per_second")?);
        let rate = (0.8 * capacity[capacity.len() - 1]).to_string();
        for (arrivals, seen) in [("constant", &mut even), ("poisson", &mut poisson)] {
            let load = ["--rate", &rate, "--arrivals", arrivals, "--duration", &seconds.to_string()];
            let loaded = bench.run(&load).await?;
            failed += number(&loaded, "/get/failed")?;
            seen.push(number(&loaded, "/get/first_byte_ms/p99")? / unloaded[unloaded.len() - 1]);
        }
    }
    Ok(vec![
        Quantity::reported("open-loop-unloaded-ms", median(unloaded)),
        Quantity::reported("open-loop-capacity-calls", median(capacity)),
        Quantity::equal("open-loop-failed", failed, 0.0),
        Quantity::at_most("open-loop-first-byte-p99-over-unloaded", median(even), 8.0),
        Quantity::reported("open-loop-first-byte-p99-over-unloaded (Poisson)", median(poisson)),
    ])
}

/// Measures the throughput of puts and gets that run concurrently; each must reach 35 % of its throughput alone.
pub async fn both(text: &str, seconds: u64) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let bench = Bench::of(&cluster, text)?;
    let seconds = seconds.to_string();
    let common = ["--size", "20000", "--documents", "8", "--clients", "4", "--duration", &seconds];
    let run = async |operations: &[&str]| bench.run(&[operations, &common].concat()).await;
    let (puts, gets) = (run(&["--op", "put"]).await?, run(&["--op", "get"]).await?);
    let both = run(&["--op", "put", "--op", "get"]).await?;
    let over = |side: &str, alone: &Value| -> Result<f64> {
        let path = format!("/{side}/tokens_per_second");
        Ok(number(&both, &path)? / number(alone, &path)?)
    };
    Ok(vec![
        Quantity::at_least("both-put-over-alone", over("put", &puts)?, 0.35),
        Quantity::at_least("both-get-over-alone", over("get", &gets)?, 0.35),
    ])
}

/// Runs `c3 bench` with one gateway and one text.
struct Bench {
    gateway: String,
    file: NamedTempFile,
}

impl Bench {
    fn of(cluster: &Cluster, text: &str) -> Result<Self> {
        let mut file = NamedTempFile::new()?;
        file.write_all(text.as_bytes())?;
        Ok(Self { gateway: cluster.gateway.url(), file })
    }

    async fn run(&self, args: &[&str]) -> Result<Value> {
        let bench = Launch::new(Program::C3).arg("bench").arg(self.file.path());
        let output = bench.args(["--json", "--gateway", &self.gateway]).args(args).output().await?;
        ensure!(output.status.success(), "c3 bench: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

fn number(report: &Value, path: &str) -> Result<f64> {
    report.pointer(path).and_then(Value::as_f64).with_context(|| format!("no {path} in {report}"))
}
