//! The model on its own thread: continuous batching of what is to be decoded, and batches of what is to be verified
//! between its steps.

use std::{sync::Arc, time::Instant};

use c3_cascade::{DecodeWindow, Decoder, Latents, Source, StageInfo, Task, VerifyWindow};
use c3_proto::{CascadeName, Fingerprint, RatioRange};
use c3_service::{
    metrics::Metrics,
    node::{ModelFacts, count},
    queue::{Room, Taken},
};

use crate::{
    Config, Error,
    error::status,
    job::{Job, Truth, Verified, VerifyJob},
    live::Live,
    node::Node,
};

/// The loaded model.
pub(crate) struct Model {
    pub(crate) decoder: Arc<Decoder>,
    pub(crate) facts: ModelFacts,
    batch_tokens_max: usize,
    kv_rows_max: usize,
}

impl Model {
    /// Loads and warms the model.
    pub(crate) fn load(config: &Config) -> Result<Self, Error> {
        let began = Instant::now();
        let source = match &config.node.model {
            Some(folder) => Source::Folder(folder),
            None => embedded().ok_or(Error::NoModel)?,
        };
        let decoder = Decoder::load(source, &config.options())?;
        let facts = facts(decoder.info())?;
        warm_up(&decoder)?;
        let (cascade, device, arithmetic) = (&facts.cascade.name, &facts.device, &facts.arithmetic);
        let seconds = began.elapsed().as_secs_f64();
        tracing::info!(%cascade, %device, %arithmetic, seconds, "decoder is loaded and warm");
        Ok(Self {
            decoder: Arc::new(decoder),
            facts,
            batch_tokens_max: config.node.batch_tokens_max,
            kv_rows_max: config.kv_rows_max,
        })
    }

    /// Computes until the queue closes.
    pub(crate) fn work(&self, node: &Node, metrics: &Metrics) {
        let mut live = Live::default();
        while !live.is_empty() || node.queue().wait() {
            if node.queue().is_closed() {
                return;
            }
            live.drop_gone();
            self.admit(&mut live, node);
            self.verify_waiting(node, metrics);
            self.step(&mut live, node, metrics);
        }
    }

    /// Lets waiting windows in, as many as there is room for their keys and values.
    fn admit(&self, live: &mut Live, node: &Node) {
        let mut room = Room::new(self.kv_rows_max, live.kv_rows());
        let joining = node.queue().take(|job| match job {
            Job::Decode(job) if room.fits(job.kv_rows()) => Ok(job),
            stays => Err(stays),
        });
        joining.into_iter().for_each(|taken| live.join(taken, &self.decoder));
    }

    /// One token in every block of every live window.
    fn step(&self, live: &mut Live, node: &Node, metrics: &Metrics) {
        if live.is_empty() {
            return;
        }
        let began = Instant::now();
        if let Some(step) = live.step(&self.decoder) {
            metrics.batch("decode", step.windows, step.tokens, began.elapsed());
        }
        live.finish().into_iter().for_each(|tokens| node.counters().decoded.add(1, tokens));
    }

    /// One batch of the windows that wait to be verified; more would hold up those being decoded.
    fn verify_waiting(&self, node: &Node, metrics: &Metrics) {
        let mut room = Room::new(self.batch_tokens_max, 0);
        let batch = node.queue().take(|job| match job {
            Job::Verify(job) if room.fits(job.window.tokens.len()) => Ok(job),
            stays => Err(stays),
        });
        if !batch.is_empty() {
            self.verify(batch, node, metrics);
        }
    }

    fn verify(&self, batch: Vec<Taken<VerifyJob>>, node: &Node, metrics: &Metrics) {
        let began = Instant::now();
        let windows: Vec<VerifyWindow<'_>> = batch.iter().map(|taken| taken.job.window.borrow()).collect();
        let tokens = windows.iter().map(|window| window.tokens.len()).sum();
        match self.decoder.verify(&windows) {
            Ok(verdicts) => {
                node.counters().verified.add(batch.len(), tokens);
                metrics.batch("verify", batch.len(), tokens, began.elapsed());
                for (Taken { job, place: _place }, verdicts) in batch.into_iter().zip(verdicts) {
                    let VerifyJob { window, reply } = job;
                    // A caller that left meanwhile misses nothing.
                    let _ = reply.send(Ok(Verified { tokens: window.tokens, verdicts }));
                }
            }
            // One bad window must not fail those that happened to come with it.
            Err(_) if batch.len() > 1 => {
                batch.into_iter().for_each(|taken| self.verify(vec![taken], node, metrics));
            }
            Err(error) => {
                for taken in batch {
                    let _ = taken.job.reply.send(Err(status(&error)));
                }
            }
        }
    }
}

impl Truth {
    fn borrow(&self) -> VerifyWindow<'_> {
        VerifyWindow { latents: &self.latents, tokens: &self.tokens, ratio: self.ratio }
    }
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
    Some(Source::Embedded(c3_models::decoder_files()))
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
