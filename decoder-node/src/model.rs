//! The model on its own thread: continuous batching of what is to be decoded, and between its steps batches of what is
//! to be verified, as the share of time says.

use std::{sync::Arc, time::Instant};

use c3_cascade::{DecodeWindow, Decoder, Latents, Source, Task, VerifyWindow};
use c3_node::{
    Error, ModelFacts,
    batch::{self, Work},
    queue::Room,
};

use crate::{
    Config,
    config::Bounds,
    job::{Job, Verified, VerifyJob},
    live::Live,
    share::{Share, Turn},
};

/// A handle on the node.
pub(crate) type Node = c3_node::Node<Job, Arc<Decoder>>;

/// Loads and warms the model, and computes until the queue closes.
pub(crate) fn work(node: &Node, ready: &dyn Fn(), config: &Config) -> Result<(), Error> {
    let (decoder, facts) = load(node)?;
    let (tokens_max, bounds) = (config.node.batch_tokens_max(&facts.device), config.bounds(&facts.device));
    let mut share = Share::new(config.decode_share);
    node.serve(decoder.clone(), facts);
    ready();
    let (mut live, queue) = (Live::default(), node.queue());
    while (!live.is_empty() || queue.wait()) && !queue.is_closed() {
        live.drop_gone();
        admit(&mut live, node, &decoder, bounds);
        let verifying = queue.any(|job| matches!(job, Job::Verify(_)));
        let Some(turn) = share.next(!live.is_empty(), verifying) else { continue };
        let began = Instant::now();
        match turn {
            Turn::Verify => verify(node, &decoder, tokens_max),
            Turn::Decode => step(&mut live, node, &decoder, bounds.shared_rows),
        }
        share.spent(turn, began.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Lets waiting windows in, as many as there is room for their keys and values and use for their rows. Callers that have
/// none in yet may go beyond that use: steps are shared by turns.
fn admit(live: &mut Live, node: &Node, decoder: &Decoder, bounds: Bounds) {
    let kv_rows = bounds.kv_bytes / decoder.kv_row_bytes() as u64;
    let mut kv = Room::new(usize::try_from(kv_rows).unwrap_or(usize::MAX), live.kv_rows());
    let mut rows = Room::new(bounds.step_rows, live.step_rows());
    let mut beyond = Room::new(bounds.step_rows + bounds.shared_rows, live.step_rows());
    let mut callers = live.callers();
    let joining = node.queue().take(|job| match job {
        Job::Decode(job) => {
            let size = decoder.step_rows(&job.window.task);
            let (has_use, first) = (rows.fits(size), !callers.contains(&job.caller));
            let joins = (has_use || first) && beyond.fits(size) && kv.fits(job.kv_rows());
            if !joins {
                return Err(Job::Decode(job));
            }
            callers.insert(job.caller);
            Ok(job)
        }
        stays => Err(stays),
    });
    joining.into_iter().for_each(|taken| live.join(taken, decoder));
}

/// One batch of the windows that wait to be verified; more would hold up those being decoded.
fn verify(node: &Node, decoder: &Decoder, tokens_max: usize) {
    let mut room = Room::new(tokens_max, 0);
    let batch = node.queue().take(|job| match job {
        Job::Verify(job) if room.fits(job.window.tokens.len()) => Ok(job),
        stays => Err(stays),
    });
    let work = Work { name: "verify", counter: &node.counters().verified, metrics: node.metrics() };
    let verify = |jobs: &[&VerifyJob]| {
        let windows: Vec<VerifyWindow<'_>> = jobs.iter().map(|job| job.window.borrow()).collect();
        decoder.verify(&windows)
    };
    if !batch.is_empty() {
        batch::compute(batch, &work, &verify, &|VerifyJob { window, reply, .. }, verdicts| {
            // A caller that left meanwhile misses nothing.
            let _ = reply.send(verdicts.map(|verdicts| Verified { tokens: window.tokens, verdicts }));
        });
    }
}

/// One token in every block of the live windows whose turn it is.
fn step(live: &mut Live, node: &Node, decoder: &Decoder, shared_rows: usize) {
    let began = Instant::now();
    if let Some(step) = live.step(decoder, shared_rows) {
        node.metrics().batch("decode", step.windows, step.tokens, began.elapsed());
    }
    live.finish(&node.counters().decoded);
}

fn load(node: &Node) -> Result<(Arc<Decoder>, ModelFacts), Error> {
    let began = Instant::now();
    let decoder = Decoder::load(node.source(embedded())?, &node.settings().options())?;
    let facts = ModelFacts::new(decoder.info())?;
    warm_up(&decoder)?;
    let (cascade, device, arithmetic) = (&facts.cascade.name, &facts.device, &facts.arithmetic);
    let seconds = began.elapsed().as_secs_f64();
    tracing::info!(%cascade, %device, %arithmetic, seconds, "decoder is loaded and warm");
    Ok((Arc::new(decoder), facts))
}

/// Decodes a token from latents of zeros: the first computation pays for what later ones find ready.
fn warm_up(decoder: &Decoder) -> Result<(), Error> {
    let info = decoder.info();
    let (count, width) = (if info.fixed_latents { info.latent_token_len } else { 1 }, info.latent_width);
    let latents = Latents { values: vec![0.0; count * width], count, width };
    let task = Task::Reconstruct { tokens: 1, ratio: info.ratio_default, corrections: Vec::new() };
    let mut decoding = decoder.start(DecodeWindow { latents, task })?;
    Ok(decoder.step(&mut [&mut decoding])?)
}

#[cfg(feature = "embedded-model")]
fn embedded() -> Option<Source<'static>> {
    Some(Source::Embedded(c3_model::decoder_files()))
}

#[cfg(not(feature = "embedded-model"))]
fn embedded() -> Option<Source<'static>> {
    None
}
