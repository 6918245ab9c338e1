//! The model on its own thread: takes what waits, computes it side by side, answers.

use std::{sync::Arc, time::Instant};

use c3_cascade::{Compressor, Source, StageInfo, TokenWindow};
use c3_proto::{CascadeName, Fingerprint, RatioRange};
use c3_service::{
    metrics::Metrics,
    node::{ModelFacts, count},
    queue::{Job, Room, Taken},
};
use tokio::sync::oneshot;
use tonic::Status;

use crate::{Config, Error, error::status, node::Node};

/// Warms the model; any text would do.
const WARM_UP: &str = "The first batch pays for what later ones find ready.";

/// A window that waits for its latents.
pub(crate) struct CompressJob {
    pub(crate) window: TokenWindow,
    pub(crate) reply: oneshot::Sender<Result<Compressed, Status>>,
}

/// A window and its latents: a tensor of rows of the model's width.
pub(crate) struct Compressed {
    pub(crate) window: TokenWindow,
    pub(crate) latents: Vec<f32>,
}

impl Job for CompressJob {
    fn tokens(&self) -> usize {
        self.window.tokens.len()
    }

    fn is_gone(&self) -> bool {
        self.reply.is_closed()
    }
}

/// The loaded model.
pub(crate) struct Model {
    pub(crate) compressor: Arc<Compressor>,
    pub(crate) facts: ModelFacts,
    batch_tokens_max: usize,
}

impl Model {
    /// Loads and warms the model.
    pub(crate) fn load(config: &Config) -> Result<Self, Error> {
        let began = Instant::now();
        let source = match &config.node.model {
            Some(folder) => Source::Folder(folder),
            None => embedded().ok_or(Error::NoModel)?,
        };
        let compressor = Compressor::load(source, &config.options())?;
        let facts = facts(compressor.info())?;
        let warm_up = compressor.windows(WARM_UP, compressor.info().ratio_default)?;
        compressor.compress(&warm_up.iter().collect::<Vec<_>>())?;
        let (cascade, device, arithmetic) = (&facts.cascade.name, &facts.device, &facts.arithmetic);
        let seconds = began.elapsed().as_secs_f64();
        tracing::info!(%cascade, %device, %arithmetic, seconds, "compressor is loaded and warm");
        Ok(Self { compressor: Arc::new(compressor), facts, batch_tokens_max: config.node.batch_tokens_max })
    }

    /// Computes until the queue closes.
    pub(crate) fn work(&self, node: &Node, metrics: &Metrics) {
        while node.queue().wait() {
            let mut room = Room::new(self.batch_tokens_max, 0);
            let batch = node.queue().take(|job| if room.fits(job.tokens()) { Ok(job) } else { Err(job) });
            self.compress(batch, node, metrics);
        }
    }

    fn compress(&self, batch: Vec<Taken<CompressJob>>, node: &Node, metrics: &Metrics) {
        let windows: Vec<&TokenWindow> = batch.iter().map(|taken| &taken.job.window).collect();
        let (began, tokens) = (Instant::now(), windows.iter().map(|window| window.tokens.len()).sum());
        match self.compressor.compress(&windows) {
            Ok(latents) => {
                node.counters().compressed.add(batch.len(), tokens);
                metrics.batch("compress", batch.len(), tokens, began.elapsed());
                for (Taken { job, place: _place }, latents) in batch.into_iter().zip(latents) {
                    let CompressJob { window, reply } = job;
                    // A caller that left meanwhile misses nothing.
                    let _ = reply.send(Ok(Compressed { window, latents }));
                }
            }
            // One bad window must not fail those that happened to come with it.
            Err(_) if batch.len() > 1 => {
                batch.into_iter().for_each(|taken| self.compress(vec![taken], node, metrics));
            }
            Err(error) => {
                for taken in batch {
                    let _ = taken.job.reply.send(Err(status(&error)));
                }
            }
        }
    }
}

#[cfg(feature = "embedded-model")]
fn embedded() -> Option<Source<'static>> {
    Some(Source::Embedded(c3_models::compressor_files()))
}

#[cfg(not(feature = "embedded-model"))]
fn embedded() -> Option<Source<'static>> {
    None
}

fn facts(info: &StageInfo) -> Result<ModelFacts, Error> {
    Ok(ModelFacts {
        cascade: CascadeName {
            name: info.cascade.clone(),
            compressor: Fingerprint::try_from(info.compressor_fingerprint.as_slice())?,
            decoder: Fingerprint::try_from(info.decoder_fingerprint.as_slice())?,
        },
        arithmetic: info.arithmetic.clone(),
        device: info.device.clone(),
        latent_width: info.latent_width,
        latent_token_len: info.latent_token_len,
        fixed_latents: info.fixed_latents,
        ratio: RatioRange {
            min: count(info.ratio_min),
            max: count(info.ratio_max),
            default: count(info.ratio_default),
        },
        ratios: info.ratios.clone(),
        codec: info.latent_codec.parse()?,
        takes_prompt: info.takes_prompt,
        vocabulary: info.vocabulary,
    })
}
