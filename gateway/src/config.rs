//! The gateway's settings.

use std::time::Duration;

use c3_proto::LatentCodec;
use c3_service::ServerArgs;

use crate::error::Error;
use crate::nodes::CallSettings;

/// Where a compressor listens by default.
const COMPRESSOR: &str = "http://127.0.0.1:7301";
/// Where a decoder listens by default.
const DECODER: &str = "http://127.0.0.1:7302";

/// The gateway's settings.
#[derive(clap::Args, Clone, Debug)]
pub struct Config {
    /// Address of a compressor node, once for each [default: http://127.0.0.1:7301]
    #[arg(long = "compressor", env = "C3_COMPRESSORS", value_name = "URL", value_delimiter = ',')]
    pub compressors: Vec<String>,
    /// Address of a decoder node, once for each [default: http://127.0.0.1:7302]
    #[arg(long = "decoder", env = "C3_DECODERS", value_name = "URL", value_delimiter = ',')]
    pub decoders: Vec<String>,
    /// Folder where documents are kept, or the URL of an object store
    #[arg(long, env = "C3_DATA", value_name = "FOLDER", default_value_t = Self::default().data)]
    pub data: String,
    /// Largest document, in bytes
    #[arg(long, env = "C3_DOCUMENT_BYTES_MAX", value_name = "BYTES",
        default_value_t = Self::default().document_bytes_max)]
    pub document_bytes_max: u64,
    /// Logits by which a token must win to be stored without a correction
    #[arg(long, env = "C3_MARGIN", value_name = "LOGITS", default_value_t = Self::default().margin)]
    pub margin: f32,
    /// How latents are kept: f32, bf16, q8_0 or q4_0 [default: what the checkpoint asks for]
    #[arg(long, env = "C3_CODEC", value_name = "CODEC")]
    pub codec: Option<LatentCodec>,
    /// Memory for latents that were read, in bytes
    #[arg(long, env = "C3_CACHE_BYTES", value_name = "BYTES", default_value_t = Self::default().cache_bytes)]
    pub cache_bytes: u64,
    /// Shards of one text that are compressed, verified and stored side by side
    #[arg(long, env = "C3_SHARDS_IN_FLIGHT", value_name = "SHARDS",
        default_value_t = Self::default().shards_in_flight)]
    pub shards_in_flight: usize,
    /// Windows of one text that are decoded side by side, ahead of what the caller has read
    #[arg(long, env = "C3_LOOK_AHEAD", value_name = "WINDOWS", default_value_t = Self::default().look_ahead)]
    pub look_ahead: usize,
    /// Calls on one node at once; more wait here for the freest node
    #[arg(long, env = "C3_NODE_CALLS_MAX", value_name = "CALLS",
        default_value_t = Self::default().node_calls_max)]
    pub node_calls_max: usize,
    /// How long to wait for a node where none takes calls, in milliseconds
    #[arg(long, env = "C3_NODE_WAIT_MS", value_name = "MS", default_value_t = Self::default().node_wait_ms)]
    pub node_wait_ms: u64,
    /// Longest time that one call on a node may take, in milliseconds
    #[arg(long, env = "C3_NODE_TIMEOUT_MS", value_name = "MS",
        default_value_t = Self::default().node_timeout_ms)]
    pub node_timeout_ms: u64,
    /// How often the store is swept of what nothing refers to any more, in seconds; 0: only when asked
    #[arg(long, env = "C3_SWEEP_EVERY_S", value_name = "SECONDS", default_value_t = Self::default().sweep_every_s)]
    pub sweep_every_s: u64,
    /// How long what nothing refers to is left alone, in seconds: longer than any put
    #[arg(long, env = "C3_GRACE_S", value_name = "SECONDS", default_value_t = Self::default().grace_s)]
    pub grace_s: u64,
    /// Settings that every server has
    #[command(flatten)]
    pub server: ServerArgs,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            compressors: Vec::new(),
            decoders: Vec::new(),
            data: "./c3-data".to_owned(),
            document_bytes_max: 256 << 20,
            // Kernels and batch shapes move a margin by 1.6 at most, as far as was measured.
            margin: 2.0,
            codec: None,
            // About half a gigabyte of text at 20x and 4 bits.
            cache_bytes: 64 << 20,
            // Two compressors and two decoders have a full batch each, and another that waits.
            shards_in_flight: 32,
            look_ahead: 32,
            node_calls_max: 32,
            // A node that restarts is back sooner.
            node_wait_ms: 5_000,
            // A full queue of a node on a small CPU takes minutes.
            node_timeout_ms: 300_000,
            sweep_every_s: 3600,
            grace_s: 3600,
            server: ServerArgs::default(),
        }
    }
}

impl Config {
    /// Refuses what cannot be.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let counts = [
            ("--shards-in-flight", self.shards_in_flight),
            ("--look-ahead", self.look_ahead),
            ("--node-calls-max", self.node_calls_max),
        ];
        if let Some(&(setting, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(Error::Setting { setting, problem: "must be at least 1".to_owned() });
        }
        if !(self.margin.is_finite() && self.margin >= 0.0) {
            let problem = format!("{} is not a finite number of 0 or more", self.margin);
            return Err(Error::Setting { setting: "--margin", problem });
        }
        Ok(())
    }

    /// How long what nothing refers to is left alone.
    pub(crate) fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_s)
    }

    /// Addresses of the compressors.
    pub(crate) fn compressors(&self) -> Vec<String> {
        given_or(&self.compressors, COMPRESSOR)
    }

    /// Addresses of the decoders.
    pub(crate) fn decoders(&self) -> Vec<String> {
        given_or(&self.decoders, DECODER)
    }

    /// How nodes are called.
    pub(crate) fn calls(&self) -> CallSettings {
        CallSettings {
            calls_max: self.node_calls_max,
            node_wait: Duration::from_millis(self.node_wait_ms),
            call_timeout: Duration::from_millis(self.node_timeout_ms),
        }
    }
}

fn given_or(given: &[String], default: &str) -> Vec<String> {
    if given.is_empty() { vec![default.to_owned()] } else { given.to_vec() }
}
