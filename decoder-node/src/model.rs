//! Main loop of the model's thread: decodes windows with continuous batching, and verifies batches of windows between
//! decode steps.

use std::sync::Arc;
use std::time::Instant;

use c3_cascade::{DecodeWindow, Decoder, Latents, Source, StageInfo, Task, VerifyWindow};
use c3_node::batch::{self, BatchBudget};
use c3_node::{Error, ModelInfo, Operation, saturating_u32};
use c3_types::{Cascade, Fingerprint, Invalid, RatioRange};

use crate::Config;
use crate::config::DecodeLimits;
use crate::job::{Job, Verified, VerifyJob, call_error};
use crate::running_batch::RunningBatch;
use crate::time_slicer::{Slice, TimeSlicer};

/// Handle on the node, shared by its calls and the model's thread.
pub(crate) type Node = c3_node::Node<Job, Arc<Decoder>>;

/// Loads the model, runs it once as a warm-up, calls `ready`, then computes until the queue closes.
pub(crate) fn run(node: &Node, config: &Config, ready: &dyn Fn()) -> Result<(), Error> {
    let (decoder, info) = load(node, config)?;
    let (tokens_max, limits) = (config.node.batch_tokens_max(&info.device), config.decode_limits(decoder.info()));
    let mut slicer = TimeSlicer::new(config.decode_share);
    node.device_load().set_kv_cache_max(limits.kv_bytes);
    node.set_loaded(decoder.clone(), info);
    ready();
    let (mut running, queue) = (RunningBatch::default(), node.queue());
    while (!running.is_empty() || queue.wait()) && !queue.is_closed() {
        running.drop_cancelled();
        admit(&mut running, node, &decoder, limits);
        let verifying = queue.any(|job| matches!(job, Job::Verify(_)));
        let Some(slice) = slicer.next(!running.is_empty(), verifying) else { continue };
        let started = Instant::now();
        match slice {
            Slice::Verify => verify(node, &decoder, tokens_max),
            Slice::Decode => step(&mut running, node, &decoder, limits),
        }
        slicer.record(slice, started.elapsed().as_secs_f64());
        // A failed device refuses all further work. The node ends, and whatever supervises it starts it again.
        decoder.check_device().map_err(Error::model)?;
    }
    Ok(())
}

/// Moves waiting windows into the running batch while the KV cache and a decode step have room. A step computes one row
/// for each block of its windows. The first window of a principal (caller) is admitted even if the step has no room for
/// its rows, because principals take turns in the steps. Such windows may add up to `shared_rows` rows in all.
fn admit(running: &mut RunningBatch, node: &Node, decoder: &Decoder, limits: DecodeLimits) {
    let kv_rows_max = limits.kv_bytes / decoder.kv_row_bytes() as u64;
    let mut kv_rows = BatchBudget::new(usize::try_from(kv_rows_max).unwrap_or(usize::MAX), running.kv_rows());
    let mut step_rows = BatchBudget::new(limits.step_rows, running.step_rows());
    let mut all_rows = BatchBudget::new(limits.step_rows + limits.shared_rows, running.step_rows());
    let mut principals = running.principals();
    let admitted = node.queue().take(|job| match job {
        Job::Decode(job) => {
            let rows = decoder.step_rows(&job.window.task);
            let (fits, is_first) = (step_rows.take(rows), !principals.contains(&job.principal));
            if !((fits || is_first) && all_rows.take(rows) && kv_rows.take(job.kv_rows())) {
                return Err(Job::Decode(job));
            }
            principals.insert(job.principal);
            Ok(job)
        }
        other => Err(other),
    });
    admitted.into_iter().for_each(|dequeued| running.admit(dequeued, decoder, node.device_load()));
}

/// Verifies one batch of waiting windows. Further batches would delay the windows that are being decoded.
fn verify(node: &Node, decoder: &Decoder, tokens_max: usize) {
    let mut budget = BatchBudget::new(tokens_max, 0);
    let batch = node.queue().take(|job| match job {
        Job::Verify(job) if budget.take(job.window.tokens.len()) => Ok(job),
        other => Err(other),
    });
    let verify = |jobs: &[&VerifyJob]| {
        let windows: Vec<VerifyWindow<'_>> = jobs.iter().map(|job| job.window.borrow()).collect();
        decoder.verify(&windows).map_err(call_error)
    };
    if !batch.is_empty() {
        batch::compute(
            batch,
            node,
            Operation::Verify,
            tokens_max,
            &verify,
            &|VerifyJob { window, reply, .. }, verdicts| {
                // `send` fails only if the call was cancelled. Then no one needs the result.
                let _ = reply.send(verdicts.map(|verdicts| Verified { tokens: window.tokens, verdicts }));
            },
        );
    }
}

/// Runs one decode step and answers the calls of the windows that it completes.
fn step(running: &mut RunningBatch, node: &Node, decoder: &Decoder, limits: DecodeLimits) {
    let (computing, fill) = (node.device_load().computing(), running.step_rows() as f64 / limits.step_rows as f64);
    if let Some(step) = running.step(decoder, limits.shared_rows) {
        let duration = computing.finish(Operation::Decode, step.tokens, fill);
        node.metrics().batch(Operation::Decode.as_str(), step.windows, step.tokens, duration);
    }
    running.finish(&node.counters().decoded);
}

fn load(node: &Node, config: &Config) -> Result<(Arc<Decoder>, ModelInfo), Error> {
    let started = Instant::now();
    let source = node.args().model.as_deref().map(Source::Folder).or(embedded()).ok_or(Error::NoModel)?;
    let decoder = Decoder::load(source, &config.options).map_err(Error::model)?;
    config.check_kv_cache(&decoder.info().device, decoder.info().accelerator_memory)?;
    let info = model_info(decoder.info())?;
    warm_up(&decoder).map_err(Error::model)?;
    let (cascade, device, arithmetic) = (&info.cascade.name, &info.device, &info.arithmetic);
    let accelerator = info.accelerator.as_deref();
    let seconds = started.elapsed().as_secs_f64();
    tracing::info!(%cascade, %device, accelerator, %arithmetic, seconds, "decoder is loaded and warm");
    Ok((Arc::new(decoder), info))
}

/// Decodes one token from all-zero latents, so that lazy allocations do not slow down the first call.
fn warm_up(decoder: &Decoder) -> Result<(), c3_cascade::Error> {
    let info = decoder.info();
    let (count, width) = (if info.fixed_latents { info.latent_token_len } else { 1 }, info.latent_width);
    let latents = Latents { values: vec![0.0; count * width], count, width };
    let task = Task::Reconstruct { tokens: 1, ratio: info.ratio_default, corrections: Vec::new() };
    let mut session = decoder.start(DecodeWindow { latents, task })?;
    decoder.step(&mut [&mut session])
}

fn model_info(info: &StageInfo) -> Result<ModelInfo, Invalid> {
    Ok(ModelInfo {
        cascade: Cascade::new(
            info.cascade.clone(),
            Fingerprint::try_from(info.compressor_fingerprint.as_slice())?,
            Fingerprint::try_from(info.decoder_fingerprint.as_slice())?,
        )?,
        arithmetic: info.arithmetic.clone(),
        device: info.device.clone(),
        accelerator: info.accelerator.clone(),
        latent_width: info.latent_width,
        latent_token_len: info.latent_token_len,
        fixed_latents: info.fixed_latents,
        ratio: RatioRange {
            min: saturating_u32(info.ratio_min),
            max: saturating_u32(info.ratio_max),
            default: saturating_u32(info.ratio_default),
        },
        ratios: info.ratios.clone(),
        codec: info.latent_codec.parse()?,
        takes_prompt: info.takes_prompt,
        vocabulary: info.vocabulary,
    })
}

#[cfg(feature = "embedded-model")]
fn embedded() -> Option<Source<'static>> {
    Some(Source::Embedded(c3_model::decoder_files()))
}

#[cfg(not(feature = "embedded-model"))]
fn embedded() -> Option<Source<'static>> {
    None
}
