//! A GPU without free memory: a node that starts says so, a node that runs refuses calls.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use c3_cascade::DeviceChoice;
use tempfile::TempDir;

use super::callers::{Callers, put_and_get};
use crate::harness::cluster::ClusterSpec;
use crate::harness::fixtures::{self, stretch};
use crate::harness::process::{Launch, Program, free_address};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;

/// Free memory, in MiB, with which a process cannot use a GPU: the driver alone needs more.
const TOO_LITTLE_MIB: usize = 64;
/// Callers while the memory is full. Their texts fit into a node's queue, so that nodes refuse calls only for want of
/// memory.
const CALLERS: usize = 2;
/// Maximum time until a node has refused a call.
const LIMIT: Duration = Duration::from_secs(120);
/// Message of a node that refuses a call for want of memory.
const REFUSAL: &str = "the GPU has no memory left";

/// Starts a node on a GPU without free memory, and one with a KV cache larger than the GPU: each must exit with code 1
/// and print one line about the memory. Then fills the memory while nodes run, puts and gets texts of `bytes` bytes,
/// and frees the memory after a refusal: nodes must keep running and return no wrong text, calls may fail only with
/// RESOURCE_EXHAUSTED, and texts must come back once there is memory.
pub async fn out_of_memory(card: usize, books: &str, bytes: usize) -> Result<Vec<Quantity>> {
    let full = MemoryFiller::start(card, TOO_LITTLE_MIB)?;
    let mut quantities = vec![refused_start("faults-memory-start", card, &[]).await?];
    drop(full);
    quantities.push(refused_start("faults-memory-start-kv-cache", card, &["--kv-cache-size", "10TiB"]).await?);

    let mut cluster = ClusterSpec { devices: vec![DeviceChoice::Cuda(card)], ..ClusterSpec::default() }.start().await?;
    let full = MemoryFiller::start(card, 0)?;
    let callers = Callers::start(&cluster, books, bytes, CALLERS)?;
    let refused = || async { cluster.gateway.log().contains(REFUSAL).then_some(()) };
    let refused = until("a node to refuse a call", LIMIT, refused).await;
    drop(full);
    // The texts that are being put or read come back, or the gateway has refused them.
    let outcomes = callers.end().await?;
    let api = cluster.api()?;
    let text: String = stretch(books, 1, bytes).lines().map(|line| format!("after {line}\n")).collect();
    let after = put_and_get(&api, &text).await;
    let ended = [cluster.node(0).has_exited()?, cluster.node(1).has_exited()?];
    quantities.extend([
        Quantity::holds("faults-memory-refused", refused.is_ok(), "a node refuses a call"),
        Quantity::reported("faults-memory-texts", outcomes.right),
        Quantity::reported("faults-memory-refused-callers", outcomes.refused),
        Quantity::equal("faults-memory-failed-otherwise", outcomes.failed, Vec::new()),
        Quantity::equal("faults-memory-wrong-texts", outcomes.wrong, 0),
        Quantity::equal("faults-memory-nodes-ended", ended, [false; 2]),
        Quantity::equal("faults-memory-after", after.map_err(|status| status.to_string()), Ok(true)),
    ]);
    Ok(quantities)
}

/// Starts a decoder node that must exit with code 1 and one line about the memory.
async fn refused_start(name: &str, card: usize, args: &[&str]) -> Result<Quantity> {
    let (folder, address) = (TempDir::with_prefix("c3-memory-")?, free_address()?);
    let node = Launch::new(Program::DecoderNode).arg("--model").arg(fixtures::default_model()).args(args);
    let node = node.args(["--listen", &address, "--device", &DeviceChoice::Cuda(card).to_string()]);
    let mut node = node.spawn(folder.path(), address).await?;
    let code = node.exit().await.ok().and_then(|status| status.code());
    let log = node.log();
    let lines = Vec::from_iter(log.lines().filter(|line| line.starts_with("error: ")));
    let says_so = code == Some(1) && matches!(lines[..], [line] if line.contains("memory"));
    Ok(Quantity::observed(name, &lines, says_so, "exit code 1, and one line about the memory"))
}

/// A process that holds a GPU's memory until the value is dropped.
struct MemoryFiller(Child);

impl MemoryFiller {
    /// Allocates memory of a GPU until at most `free_mib` MiB are free.
    fn start(card: usize, free_mib: usize) -> Result<Self> {
        let mut python = Command::new("python3");
        python.args(["-c", include_str!("fill_memory.py"), &card.to_string(), &free_mib.to_string()]);
        let child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("python3 cannot be started")?;
        let mut filler = Self(child);
        let mut line = String::new();
        BufReader::new(filler.0.stdout.take().context("no output")?).read_line(&mut line)?;
        ensure!(line == "full\n", "python3 did not fill the GPU's memory");
        Ok(filler)
    }
}

impl Drop for MemoryFiller {
    fn drop(&mut self) {
        // The process ends with its input, and the driver frees its memory. Errors mean that it has ended already.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
