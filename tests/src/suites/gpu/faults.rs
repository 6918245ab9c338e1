//! Callers that disconnect, and kernels that fail. No other caller's work may be lost.

use std::fs;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use c3_cascade::DeviceChoice;
use c3_proto::pb::NodeCounters;
use futures::future::try_join_all;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::RATIO;
use super::callers::Callers;
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::fixtures::{parts, repeated};
use crate::harness::gateway_api::{GatewayApi, first_text, id_of};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;

/// Puts, and gets, of callers that stay; the same numbers of calls are of callers that leave.
const STAYING: usize = 8;
/// Maximum seconds until the nodes have no work left after all callers have left or got their answers.
const IDLE_SECONDS_MAX: f64 = 5.0;
/// Maximum time to wait for work to begin, or for a restarted node to have done some.
const LIMIT: Duration = Duration::from_secs(60);
/// Nodes of each stage, of which one fails.
const NODES: usize = 2;
/// Callers under whose load a node fails.
const CALLERS: usize = 8;

/// Starts puts and gets of texts of `bytes` bytes, each over its own connection, and closes half of the connections
/// while all of them have work in progress. All other puts and gets must succeed with the right texts. Afterwards, the
/// nodes must have no work left.
pub async fn callers_gone(device: DeviceChoice, books: &str, bytes: usize) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec { devices: vec![device], ..ClusterSpec::default() }.start().await?;
    let books = repeated(books, 4 * STAYING * bytes);
    let texts = parts(&books, 4 * STAYING);
    let (get, put) = texts.split_at(2 * STAYING);
    let api = cluster.api()?;
    let ids = try_join_all(get.iter().map(|text| store(&api, text))).await?;

    let before = cluster.counters().await?;
    let (mut leaving, mut staying) = (Vec::new(), Vec::new());
    for number in 0..2 * STAYING {
        let (text, id) = (put[number].to_owned(), ids[number].clone());
        let [putting, getting] = [cluster.api()?, cluster.api()?];
        if number % 2 == 0 {
            leaving.push(tokio::spawn(async move { store(&putting, &text).await.map(drop) }));
            leaving.push(tokio::spawn(begin_to_read(getting, id)));
        } else {
            let expected = get[number].to_owned();
            staying.push(tokio::spawn(async move { is_stored(&putting, &store(&putting, &text).await?, &text).await }));
            staying.push(tokio::spawn(async move { is_stored(&getting, &id, &expected).await }));
        }
    }
    let begun = until("work to begin", LIMIT, async || has_done_all(&cluster, before).await.then_some(()));
    begun.await?;
    let gone = leaving.iter().filter(|caller| !caller.is_finished()).count();
    leaving.iter().for_each(JoinHandle::abort);
    let (mut right, mut failed) = (0, Vec::new());
    for caller in staying {
        match caller.await? {
            Ok(true) => right += 1,
            Ok(false) => failed.push("another text came back".to_owned()),
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    let ended = Instant::now();
    cluster.wait_until_idle().await?;
    let idle_seconds = ended.elapsed().as_secs_f64();
    Ok(vec![
        Quantity::observed("faults-callers-gone", gone, gone > 0, "at least 1"),
        Quantity::equal("faults-callers-failed", failed, Vec::new()),
        Quantity::equal("faults-callers-right", right, 2 * STAYING),
        Quantity::at_most("faults-callers-idle-seconds", idle_seconds, IDLE_SECONDS_MAX),
    ])
}

/// Puts a text and returns its id.
async fn store(api: &GatewayApi, text: &str) -> Result<String> {
    let put = api.put_at(text.as_bytes(), RATIO as u32).await?;
    Ok(id_of(&put.document.context("no document")?))
}

/// Returns whether a document has this text.
async fn is_stored(api: &GatewayApi, id: &str, text: &str) -> Result<bool> {
    Ok(api.get(id).await?.text == text.as_bytes())
}

/// Reads the first piece of a document's text, and then holds the call open.
async fn begin_to_read(api: GatewayApi, id: String) -> Result<()> {
    let mut pieces = api.open(&id).await?;
    ensure!(!first_text(&mut pieces).await?.is_empty(), "no text came");
    pending().await
}

/// Returns whether the first node of each stage has compressed, verified and decoded windows since `before`.
async fn has_done_all(cluster: &Cluster, before: (NodeCounters, NodeCounters)) -> bool {
    let Ok((compressor, decoder)) = cluster.counters().await else { return false };
    compressor.windows_compressed > before.0.windows_compressed
        && decoder.windows_verified > before.1.windows_verified
        && decoder.windows_decoded > before.1.windows_decoded
}

/// Makes all kernels of a decoder, and then of a compressor, fail while callers put and get texts of `bytes` bytes. The
/// node must exit with code 1 and print one line about it. A second node of its stage is on the same GPU; no call may
/// fail, and all texts must be right. A new process at the same address must serve.
pub async fn kernel_error(device: DeviceChoice, books: &str, bytes: usize) -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-faults-")?;
    let library = build_library(folder.path())?;
    let env = [("LD_PRELOAD", &library), ("C3_GPU_FAULTS", &folder.path().to_owned())];
    let env = env.map(|(name, path)| (name.to_owned(), path.display().to_string())).into();
    let spec =
        ClusterSpec { compressors: NODES, decoders: NODES, devices: vec![device], env, ..ClusterSpec::default() };
    let mut cluster = spec.start().await?;
    let callers = Callers::start(&cluster, books, bytes, CALLERS)?;
    let mut quantities = Vec::new();
    for (stage, number) in [("decoder", NODES), ("compressor", 0)] {
        callers.progress(CALLERS).await?;
        let node = cluster.node(number);
        fs::write(folder.path().join(node.id().to_string()), "")?;
        let (failed, status) = (Instant::now(), node.exit().await?);
        let seconds = failed.elapsed().as_secs_f64();
        let log = node.log();
        let lines = Vec::from_iter(log.lines().filter(|line| line.starts_with("error: ")));
        let says_so = status.code() == Some(1) && matches!(lines[..], [line] if line.contains("GPU"));
        let bound = "exit code 1, and one line about the GPU";
        quantities.push(Quantity::observed(format!("faults-kernel-{stage}-says"), &lines, says_so, bound));
        quantities.push(Quantity::at_most(format!("faults-kernel-{stage}-exit-seconds"), seconds, IDLE_SECONDS_MAX));
        cluster.restart_node(number).await?;
        let serves = until("the new process to serve", LIMIT, async || serves(&cluster, stage).await.then_some(()));
        quantities.push(Quantity::holds(
            format!("faults-kernel-{stage}-serves-again"),
            serves.await.is_ok(),
            "a new process serves",
        ));
    }
    let outcomes = callers.end().await?;
    let failed = [outcomes.refused, outcomes.failed].concat();
    quantities.push(Quantity::reported("faults-kernel-texts", outcomes.right));
    quantities.push(Quantity::equal("faults-kernel-failed", failed, Vec::new()));
    quantities.push(Quantity::equal("faults-kernel-wrong-texts", outcomes.wrong, 0));
    Ok(quantities)
}

/// Compiles the library that makes the kernels of a process fail.
fn build_library(folder: &Path) -> Result<PathBuf> {
    let (source, library) = (folder.join("launch_failure.c"), folder.join("launch_failure.so"));
    fs::write(&source, include_str!("launch_failure.c"))?;
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").output();
    let cc = cc.context("cc cannot be started")?;
    ensure!(cc.status.success(), "cc failed: {}", String::from_utf8_lossy(&cc.stderr));
    Ok(library)
}

/// Returns whether the first node of a stage has done work since it started.
async fn serves(cluster: &Cluster, stage: &str) -> bool {
    let described = match stage {
        "compressor" => cluster.describe_compressor().await,
        _ => cluster.describe_decoder().await,
    };
    let counters = described.ok().and_then(|described| described.counters).unwrap_or_default();
    counters.windows_compressed + counters.windows_verified + counters.windows_decoded > 0
}
