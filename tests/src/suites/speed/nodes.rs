//! Peak memory and start time of nodes.

use std::time::{Duration, Instant};

use anyhow::Result;
use c3_cascade::Kernels;
use c3_proto::pb::decode_request::Task;
use c3_proto::pb::decoder_client::DecoderClient;
use c3_proto::{ToWire, pb};
use c3_types::{Fingerprint, LatentCodec, LatentGroup, Provenance};
use futures::future::try_join_all;
use futures::{TryStreamExt, stream};
use tempfile::TempDir;

use super::stages::{Stages, tokens};
use crate::harness::fixtures;
use crate::harness::process::{Launch, Program};
use crate::harness::quantity::{Quantity, median};
use crate::harness::wait::until;

/// Number of windows decoded concurrently.
const LIVE: usize = 32;
/// Maximum time until all windows are being decoded.
const LIVE_LIMIT: Duration = Duration::from_secs(30);
/// Number of starts, of which the median is reported.
const STARTS: usize = 7;

/// Measures the peak resident memory of a decoder node that decodes 32 windows (parts of a text) concurrently; it may
/// be at most 400 MiB.
pub async fn memory(text: &str) -> Result<Vec<Quantity>> {
    let stages = Stages::served(Kernels::Auto)?;
    let windows = stages.windows(text, 20, LIVE)?;
    let info = stages.compressor.info();
    let (compressor, codec): (_, LatentCodec) =
        (Fingerprint::try_from(info.compressor_fingerprint.as_slice())?, info.latent_codec.parse()?);
    let mut requests = Vec::new();
    for (number, (window, latents)) in (0..).zip(windows.iter().zip(stages.stored(&windows)?)) {
        let of = Provenance { compressor, tokens: window.tokens.len() as u32, ratio: 20 };
        let group = LatentGroup::encode(&latents.values, latents.width as u32, codec, of)?;
        let task = Some(Task::Reconstruct(pb::Reconstruct { corrections: None }));
        requests.push(pb::DecodeRequest { window: number, group: Some(group.to_wire()), task });
    }
    let folder = TempDir::with_prefix("c3-memory-")?;
    let node = Launch::new(Program::DecoderNode).arg("--model").arg(fixtures::default_model());
    // Raises the limit on blocks per step. With the default, which is chosen for speed, some windows would have to
    // wait.
    let node = node.args(["--step-blocks-max", "100000"]).serve(folder.path()).await?;
    let live = until("all windows to be decoded at once", LIVE_LIMIT, async || {
        let described = DecoderClient::new(node.channel().ok()?).describe(pb::DescribeRequest {}).await.ok()?;
        let running = described.into_inner().load?.running_tokens;
        (running == tokens(&windows) as u64).then_some(())
    });
    // A node limits the windows in flight of each call, so two calls are needed to decode all windows concurrently.
    let decodes = try_join_all(requests.chunks(LIVE / 2).map(async |requests| {
        let requests = stream::iter(requests.to_vec());
        let answers = DecoderClient::new(node.channel()?).decode(requests).await?.into_inner();
        Ok::<_, anyhow::Error>(answers.try_collect::<Vec<_>>().await?.len())
    }));
    let (answered, ()) = tokio::try_join!(decodes, live)?;
    let mib = node.peak_bytes()? as f64 / f64::from(1 << 20);
    Ok(vec![
        Quantity::equal("memory-windows-live", answered.into_iter().sum::<usize>(), LIVE),
        Quantity::at_most("memory-decoder-peak-mib", mib, 400.0),
    ])
}

/// Measures the time from the start of a node with the embedded model until the node is ready; it may be at most 1.5
/// seconds.
pub async fn start() -> Result<Vec<Quantity>> {
    let mut quantities = Vec::new();
    for program in [Program::CompressorNode, Program::DecoderNode] {
        let mut seconds = Vec::new();
        for _ in 0..STARTS {
            let folder = TempDir::with_prefix("c3-start-")?;
            let started = Instant::now();
            let node = Launch::new(program).serve(folder.path()).await?;
            seconds.push(started.elapsed().as_secs_f64());
            drop(node);
        }
        quantities.push(Quantity::at_most(format!("start-{}-seconds", program.name()), median(seconds), 1.5));
    }
    Ok(quantities)
}
