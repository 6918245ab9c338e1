//! What both nodes have: settings, counters, and what they say of themselves.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use c3_proto::{CascadeName, LatentCodec, RatioRange, Stage, limits, pb};

use crate::ServerArgs;

/// Settings that both nodes have.
#[derive(clap::Args, Clone, Debug)]
pub struct NodeArgs {
    /// Folder of the model's files; without it, the model inside this program is served
    #[arg(long, env = "C3_MODEL", value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Threads that compute; without it, one for each core
    #[arg(long, env = "C3_THREADS", value_name = "THREADS", value_parser = positive)]
    pub threads: Option<usize>,
    /// Text tokens that may wait; more are refused with RESOURCE_EXHAUSTED
    #[arg(long, env = "C3_QUEUE_TOKENS_MAX", value_name = "TOKENS", value_parser = positive,
        default_value_t = Self::default().queue_tokens_max)]
    pub queue_tokens_max: usize,
    /// Text tokens that compute side by side
    #[arg(long, env = "C3_BATCH_TOKENS_MAX", value_name = "TOKENS", value_parser = positive,
        default_value_t = Self::default().batch_tokens_max)]
    pub batch_tokens_max: usize,
    /// Longest time that a call may take, in milliseconds
    #[arg(long, env = "C3_CALL_TIMEOUT_MS", value_name = "MS",
        default_value_t = Self::default().call_timeout_ms)]
    pub call_timeout_ms: u64,
    /// Settings that every server has
    #[command(flatten)]
    pub server: ServerArgs,
}

impl Default for NodeArgs {
    fn default() -> Self {
        Self {
            model: None,
            threads: None,
            // About a megabyte of English: seconds of work for a card, a minute or two for a small CPU.
            queue_tokens_max: 262_144,
            // Enough to fill a CPU's caches with weights once; a card gains little beyond it either.
            batch_tokens_max: 4096,
            call_timeout_ms: 600_000,
            server: ServerArgs::default(),
        }
    }
}

impl NodeArgs {
    /// Longest time that a call may take.
    pub fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_ms)
    }

    /// The limits as the node tells them.
    fn limits(&self) -> pb::NodeLimits {
        pb::NodeLimits {
            shard_bytes_max: limits::SHARD_BYTES_MAX as u64,
            message_bytes_max: limits::MESSAGE_BYTES_MAX as u64,
            queue_tokens_max: self.queue_tokens_max as u64,
            batch_tokens_max: self.batch_tokens_max as u64,
        }
    }
}

/// What a node's model says of itself, in the protocol's types.
#[derive(Clone, Debug)]
pub struct ModelFacts {
    /// The cascade that it belongs to.
    pub cascade: CascadeName,
    /// Name of the order and precision in which it computes.
    pub arithmetic: String,
    /// Where it computes.
    pub device: String,
    /// Width of a latent, d₁.
    pub latent_width: usize,
    /// Latents of a full window.
    pub latent_token_len: usize,
    /// Whether every window has that many, however short.
    pub fixed_latents: bool,
    /// Ratios that it accepts.
    pub ratio: RatioRange,
    /// Ratios that it was made for.
    pub ratios: Vec<usize>,
    /// Codec of latents at rest.
    pub codec: LatentCodec,
    /// Whether one-shot Decompress may carry a prompt.
    pub takes_prompt: bool,
    /// Number of token ids.
    pub vocabulary: usize,
}

impl ModelFacts {
    /// The part of a node's description that does not change while it runs.
    pub fn describe(&self, stage: Stage, args: &NodeArgs) -> pb::DescribeResponse {
        pb::DescribeResponse {
            stage: stage.to_wire(),
            cascade: Some(self.cascade.to_wire()),
            arithmetic: self.arithmetic.clone(),
            device: self.device.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            shape: Some(pb::ModelShape {
                latent_width: count(self.latent_width),
                latent_token_len: count(self.latent_token_len),
                fixed_latents: self.fixed_latents,
                ratio_min: self.ratio.min,
                ratio_max: self.ratio.max,
                ratio_default: self.ratio.default,
                ratios: self.ratios.iter().copied().map(count).collect(),
                codec: self.codec.to_wire(),
                takes_prompt: self.takes_prompt,
                vocabulary: count(self.vocabulary),
            }),
            limits: Some(args.limits()),
            load: None,
            counters: None,
        }
    }
}

/// A size as it travels. Sizes of models are far below the bound.
pub fn count(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// Windows and text tokens that a node computed since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Compressed.
    pub compressed: Counter,
    /// Verified.
    pub verified: Counter,
    /// Decoded.
    pub decoded: Counter,
}

/// Windows and text tokens of one kind of work.
#[derive(Debug, Default)]
pub struct Counter {
    windows: AtomicU64,
    tokens: AtomicU64,
}

impl Counter {
    /// So many windows were computed, which have so many text tokens.
    pub fn add(&self, windows: usize, tokens: usize) {
        self.windows.fetch_add(windows as u64, Ordering::Relaxed);
        self.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
    }

    fn read(&self) -> (u64, u64) {
        (self.windows.load(Ordering::Relaxed), self.tokens.load(Ordering::Relaxed))
    }
}

impl Counters {
    /// The counters as they travel.
    pub fn to_wire(&self) -> pb::NodeCounters {
        let (windows_compressed, tokens_compressed) = self.compressed.read();
        let (windows_verified, tokens_verified) = self.verified.read();
        let (windows_decoded, tokens_decoded) = self.decoded.read();
        pb::NodeCounters {
            windows_compressed,
            windows_verified,
            windows_decoded,
            tokens_compressed,
            tokens_verified,
            tokens_decoded,
        }
    }
}

fn positive(typed: &str) -> Result<usize, String> {
    match typed.parse() {
        Ok(0) | Err(_) => Err("give a whole number of 1 or more".to_owned()),
        Ok(number) => Ok(number),
    }
}
