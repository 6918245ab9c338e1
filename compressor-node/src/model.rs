//! Main loop of the model's thread: takes waiting windows (parts of a shard) from the queue, compresses them in batches
//! and sends the latents.

use std::sync::Arc;
use std::time::Instant;

use c3_cascade::{Compressor, Options, Source, StageInfo, TokenWindow};
use c3_node::batch::{self, BatchBudget};
use c3_node::queue::Job;
use c3_node::{CallError, Error, ModelInfo, Operation, saturating_u32};
use c3_server::principal::Principal;
use c3_types::{Cascade, Fingerprint, Invalid, RatioRange};
use tokio::sync::oneshot;

/// Text that is compressed once to warm the model up. Its content does not matter.
const WARM_UP_TEXT: &str = "The first batch allocates what later ones reuse.";

/// Handle on the node, shared by its calls and the model's thread.
pub(crate) type Node = c3_node::Node<CompressJob, Arc<Compressor>>;

/// Job that compresses one window.
pub(crate) struct CompressJob {
    pub(crate) window: TokenWindow,
    pub(crate) principal: Principal,
    pub(crate) reply: oneshot::Sender<Result<Compressed, CallError>>,
}

/// A window and its latents, `[count, width]` in row-major order.
pub(crate) struct Compressed {
    pub(crate) window: TokenWindow,
    pub(crate) latents: Vec<f32>,
}

impl Job for CompressJob {
    fn tokens(&self) -> usize {
        self.window.tokens.len()
    }

    fn operation(&self) -> Operation {
        Operation::Compress
    }

    fn principal(&self) -> Principal {
        self.principal
    }

    fn is_cancelled(&self) -> bool {
        self.reply.is_closed()
    }
}

/// Loads the model, runs it once as a warm-up, calls `ready`, then computes until the queue closes.
pub(crate) fn run(node: &Node, options: &Options, ready: &dyn Fn()) -> Result<(), Error> {
    let (compressor, info) = load(node, options)?;
    let tokens_max = node.args().batch_tokens_max(&info.device);
    node.set_loaded(compressor.clone(), info);
    ready();
    while node.queue().wait() {
        let mut budget = BatchBudget::new(tokens_max, 0);
        let batch = node.queue().take(|job| if budget.take(job.tokens()) { Ok(job) } else { Err(job) });
        let compress = |jobs: &[&CompressJob]| {
            let windows: Vec<&TokenWindow> = jobs.iter().map(|job| &job.window).collect();
            compressor.compress(&windows).map_err(call_error)
        };
        batch::compute(
            batch,
            node,
            Operation::Compress,
            tokens_max,
            &compress,
            &|CompressJob { window, reply, .. }, latents| {
                // `send` fails only if the call was cancelled. Then no one needs the result.
                let _ = reply.send(latents.map(|latents| Compressed { window, latents }));
            },
        );
        // A failed device refuses all further work. The node ends, and whatever supervises it starts it again.
        compressor.check_device().map_err(Error::model)?;
    }
    Ok(())
}

/// Converts a model error to a call error.
pub(crate) fn call_error(error: c3_cascade::Error) -> CallError {
    match error {
        c3_cascade::Error::InvalidInput(problem) => CallError::Input(problem),
        error @ c3_cascade::Error::OutOfDeviceMemory => CallError::OutOfMemory(error.to_string()),
        c3_cascade::Error::Gpu(problem) => CallError::Device(problem),
        error => CallError::Internal(error.to_string()),
    }
}

fn load(node: &Node, options: &Options) -> Result<(Arc<Compressor>, ModelInfo), Error> {
    let started = Instant::now();
    let source = node.args().model.as_deref().map(Source::Folder).or(embedded()).ok_or(Error::NoModel)?;
    let compressor = Compressor::load(source, options).map_err(Error::model)?;
    let info = model_info(compressor.info())?;
    warm_up(&compressor).map_err(Error::model)?;
    let (cascade, device, arithmetic) = (&info.cascade.name, &info.device, &info.arithmetic);
    let accelerator = info.accelerator.as_deref();
    let seconds = started.elapsed().as_secs_f64();
    tracing::info!(%cascade, %device, accelerator, %arithmetic, seconds, "compressor is loaded and warm");
    Ok((Arc::new(compressor), info))
}

fn warm_up(compressor: &Compressor) -> Result<(), c3_cascade::Error> {
    let windows = compressor.windows(WARM_UP_TEXT, compressor.info().ratio_default)?;
    compressor.compress(&windows.iter().collect::<Vec<_>>()).map(drop)
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
    Some(Source::Embedded(c3_model::compressor_files()))
}

#[cfg(not(feature = "embedded-model"))]
fn embedded() -> Option<Source<'static>> {
    None
}
