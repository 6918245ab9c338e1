//! Throughput of the default model's stages on a GPU relative to PyTorch, compiled and with CUDA graphs, on that GPU.

use std::collections::HashMap;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::{RATIO, stages};
use crate::harness::fixtures::Corpus;
use crate::harness::quantity::{Quantity, median};
use crate::suites::speed::stages::{Stages, tokens};

/// Rounds, of which the median is reported.
const ROUNDS: usize = 5;
/// Numbers of windows, with the least quotient of our rate and that of PyTorch for compress, verify and decode.
const BOUNDS: [(usize, [f64; 3]); 3] = [(1, [0.9, 0.9, 0.9]), (16, [0.9, 0.9, 0.9]), (256, [0.7, 1.0, 1.0])];
const STAGES: [&str; 3] = ["compress", "verify", "decode"];

/// Measures each stage alone at 1, 16 and 256 windows. Its rate in text tokens per second must reach the listed part of
/// the rate that `shared/peers/peer_mini_gpu.py` measures right after.
pub fn relative_to_pytorch(corpus: Corpus) -> Result<Vec<Quantity>> {
    let Some(stages) = stages()? else {
        return Ok(vec![Quantity::skipped("mini", "NVIDIA GPU", "near or above PyTorch")]);
    };
    let mut ours = Vec::new();
    for (count, _) in BOUNDS {
        ours.push(rates(&stages, corpus, count)?);
    }
    let theirs = pytorch(corpus)?;
    let mut quantities = Vec::new();
    for ((count, bounds), rates) in BOUNDS.into_iter().zip(ours) {
        for ((stage, rate), bound) in STAGES.into_iter().zip(rates).zip(bounds) {
            let peer = theirs.get(&(stage.to_owned(), count)).context("the peer did not measure this")?;
            quantities.push(Quantity::reported(format!("mini-{stage}-{count}-rate"), rate));
            quantities.push(Quantity::reported(format!("mini-{stage}-{count}-pytorch"), peer));
            quantities.push(Quantity::at_least(format!("mini-{stage}-{count}"), rate / peer, bound));
        }
    }
    Ok(quantities)
}

/// Reconstructs one window of 640 tokens from its latents, with no other work on the GPU. It must take 25 ms at most.
pub fn one_window(corpus: Corpus) -> Result<Vec<Quantity>> {
    let Some(stages) = stages()? else {
        return Ok(vec![Quantity::skipped("one-window-ms", "NVIDIA GPU", "<= 25")]);
    };
    let windows = stages.windows(&corpus.whole_book("dickens-and-music")?, RATIO, 1)?;
    let latents = stages.stored(&windows)?;
    stages.decode(&windows, &latents, 0)?;
    let milliseconds = (0..ROUNDS).map(|_| {
        let started = Instant::now();
        stages.decode(&windows, &latents, 0).map(|_| started.elapsed().as_secs_f64() * 1e3)
    });
    let milliseconds = median(milliseconds.collect::<Result<_>>()?);
    Ok(vec![Quantity::at_most("one-window-ms", milliseconds, 25.0)])
}

/// Returns our tokens per second for compress, verify and decode.
fn rates(stages: &Stages, corpus: Corpus, count: usize) -> Result<[f64; 3]> {
    let windows = stages.windows(&corpus.whole_book("critical-and-historical-essays")?.repeat(2), RATIO, count)?;
    ensure!(windows.len() == count, "the text has only {} windows", windows.len());
    let latents = stages.stored(&windows)?;
    let [mut compress, mut verify, mut decode] = [(); 3].map(|()| Vec::new());
    // The first round loads kernels and allocates memory.
    for round in 0..=ROUNDS {
        let seconds = |work: &dyn Fn() -> Result<()>| {
            let started = Instant::now();
            work().map(|()| started.elapsed().as_secs_f64())
        };
        let round_seconds = [
            seconds(&|| stages.compress(&windows).map(drop))?,
            seconds(&|| stages.verify(&windows, &latents).map(drop))?,
            seconds(&|| stages.decode(&windows, &latents, 0).map(drop))?,
        ];
        for (all, seconds) in [&mut compress, &mut verify, &mut decode].into_iter().zip(round_seconds) {
            if round > 0 {
                all.push(seconds);
            }
        }
    }
    let tokens = tokens(&windows) as f64;
    Ok([compress, verify, decode].map(|seconds| tokens / median(seconds)))
}

/// Runs the peer and returns its tokens per second by stage and number of windows: compiled, or in a CUDA graph.
fn pytorch(corpus: Corpus) -> Result<HashMap<(String, usize), f64>> {
    let output = Command::new("python3")
        .arg(corpus.path("peers/peer_mini_gpu.py")?)
        .arg(corpus.path("model/tokenizer.json")?)
        .env("PYTHONPATH", corpus.path("training")?)
        .output()
        .context("python3 cannot be started")?;
    ensure!(output.status.success(), "the peer failed: {}", String::from_utf8_lossy(&output.stderr));
    let mut rates = HashMap::new();
    // Lines are `compiled windows 16: compress 2139 k/s (4.79 ms), verify 746 k/s (13.72 ms)` and
    // `graph windows 16: decode 302 k/s, step 1.695 ms`.
    for line in String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.starts_with("eager")) {
        let Some((head, values)) = line.split_once(": ") else { continue };
        let Some(count) = head.rsplit(' ').next().and_then(|count| count.parse().ok()) else { continue };
        for value in values.split(", ") {
            let mut words = value.split(' ');
            if let (Some(stage), Some(Ok(rate)), Some("k/s")) =
                (words.next(), words.next().map(str::parse::<f64>), words.next())
            {
                rates.insert((stage.to_owned(), count), rate * 1e3);
            }
        }
    }
    Ok(rates)
}
