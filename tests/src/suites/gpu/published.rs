//! Speed of checkpoints with the published sizes on a GPU: Qwen2.5-1.5B compresses, Qwen2.5-3B decodes.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use c3_cascade::{DecodeSession, DecodeWindow, Latents, Source, Task, TokenWindow};
use serde_json::Value;

use super::{RATIO, options};
use crate::harness::fixtures::Corpus;
use crate::harness::quantity::{Quantity, median};
use crate::harness::random_checkpoint::{self, QWEN_1_5B, QWEN_3B};
use crate::suites::speed::stages::{Stages, tokens};

/// Rounds, of which the median is reported.
const ROUNDS: usize = 5;
/// Latents per window.
const LATENTS: usize = 32;
/// Windows that are compressed or decoded together.
const WINDOWS: usize = 32;
/// The peer in transformers.
const PEER: &str = include_str!("published.py");

/// Measures a checkpoint with random weights of the published sizes in bf16, compared with transformers in the same
/// run: compression of 32 windows and of one, decoding of one stream and of 32.
pub fn speed(corpus: Corpus) -> Result<Vec<Quantity>> {
    let Some(options) = options() else {
        return Ok(vec![Quantity::skipped("published", "NVIDIA GPU", "near the card's limit")]);
    };
    let folder = random_checkpoint::write(corpus, QWEN_1_5B, QWEN_3B, LATENTS)?;
    let stages = Stages::of(Source::Folder(folder.path()), &options)?;
    let windows = stages.windows(&corpus.whole_book("critical-and-historical-essays")?, RATIO, WINDOWS)?;
    ensure!(windows.len() == WINDOWS, "the text has only {} windows", windows.len());
    let batch = median_seconds(|| stages.compress(&windows).map(drop))?;
    let one = median_seconds(|| stages.compress(&windows[..1]).map(drop))?;
    let latents = stages.compress(&windows)?;
    let step = median_step_seconds(&stages, &windows[..1], &latents)?;
    let steps = median_step_seconds(&stages, &windows, &latents)?;
    drop(stages);

    let peer = transformers()?;
    let peer_rates = peer["tokens_per_second"].as_object().context("the peer measured nothing")?;
    let peer_rate = peer_rates.values().filter_map(Value::as_f64).fold(0.0, f64::max);
    ensure!(peer_rate > 0.0, "transformers cannot run here: {peer}");
    let copy = peer["copy_bytes_per_second"].as_f64().context("the peer measured no bandwidth")?;
    let rate = tokens(&windows) as f64 / batch;
    let read = 2.0 * QWEN_3B.weights() as f64 / step;
    Ok(vec![
        Quantity::reported("published-compress-32-rate", rate),
        Quantity::reported("published-compress-32-transformers", peer_rate),
        Quantity::at_least("published-compress-32", rate / peer_rate, 1.15),
        Quantity::reported(
            "published-compress-1-transformers-ms",
            1e3 * peer["one_window_seconds"].as_f64().unwrap_or(0.0),
        ),
        Quantity::at_most("published-compress-1-ms", 1e3 * one, 15.0),
        Quantity::reported("published-decode-1-step-ms", 1e3 * step),
        Quantity::reported("published-copy-bandwidth", copy),
        Quantity::at_least("published-decode-1-bandwidth", read / copy, 0.60),
        Quantity::at_least("published-decode-32-rate", WINDOWS as f64 / steps, 7000.0),
    ])
}

fn median_seconds(work: impl Fn() -> Result<()>) -> Result<f64> {
    work()?;
    let round = |_| {
        let started = Instant::now();
        work().map(|()| started.elapsed().as_secs_f64())
    };
    Ok(median((0..ROUNDS).map(round).collect::<Result<_>>()?))
}

/// Decodes windows as one batch and returns the median time of a step. Random weights predict no text, so every token
/// is forced.
fn median_step_seconds(stages: &Stages, windows: &[TokenWindow], latents: &[Latents]) -> Result<f64> {
    let mut sessions: Vec<DecodeSession> = Vec::with_capacity(windows.len());
    for (window, latents) in windows.iter().zip(latents) {
        let corrections = window.tokens.iter().enumerate().map(|(i, &token)| (i as u32, token)).collect();
        let task = Task::Reconstruct { tokens: window.tokens.len(), ratio: window.ratio, corrections };
        sessions.push(stages.decoder.start(DecodeWindow { latents: latents.clone(), task })?);
    }
    let mut seconds = Vec::new();
    while sessions.iter().any(|session| !session.done()) {
        let started = Instant::now();
        stages.decoder.step(&mut sessions.iter_mut().collect::<Vec<_>>())?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    let identical = sessions.iter().zip(windows).all(|(session, window)| session.token_ids() == window.tokens);
    ensure!(identical, "forced tokens were not kept");
    Ok(median(seconds))
}

/// Runs the peer and returns what it prints.
fn transformers() -> Result<Value> {
    let shape = Value::Object(QWEN_1_5B.config()).to_string();
    let output = Command::new("python3").args(["-c", PEER, &shape]).output().context("python3 cannot be started")?;
    ensure!(output.status.success(), "the peer failed: {}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8_lossy(&output.stdout);
    Ok(serde_json::from_str(printed.lines().last().context("the peer printed nothing")?)?)
}
