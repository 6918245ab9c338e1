//! The gateway's settings.

use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use c3_proto::LatentCodec;
use c3_server::ServerArgs;

use crate::cache::Redis;
use crate::error::Error;
use crate::nodes::CallSettings;
use crate::store::backend::BackendSettings;

/// Where a compressor listens by default.
const COMPRESSOR: &str = "http://127.0.0.1:7301";
/// Where a decoder listens by default.
const DECODER: &str = "http://127.0.0.1:7302";

/// What the variables of object stores begin with.
const CLOUDS: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// The gateway's settings.
#[derive(clap::Args, Clone, Debug)]
pub struct Config {
    /// Address of a compressor node, or dns://HOST:PORT for all that a name stands for, once for each [default: http://127.0.0.1:7301]
    #[arg(long = "compressor", env = "C3_COMPRESSORS", value_name = "URL", value_delimiter = ',')]
    pub compressors: Vec<String>,
    /// Address of a decoder node, or dns://HOST:PORT, once for each [default: http://127.0.0.1:7302]
    #[arg(long = "decoder", env = "C3_DECODERS", value_name = "URL", value_delimiter = ',')]
    pub decoders: Vec<String>,
    /// Takes in nodes that announce themselves; whoever reaches this gateway can then be sent texts
    #[arg(long, env = "C3_ACCEPT_NODES")]
    pub accept_nodes: bool,
    /// Folder where documents are kept, or the URL of an object store: s3://, gs:// or az://
    #[arg(long, env = "C3_DATA", value_name = "FOLDER", default_value_t = Self::default().data)]
    pub data: String,
    /// Longest time that one request to an object store may take, in milliseconds
    #[arg(long, env = "C3_STORE_TIMEOUT_MS", value_name = "MS",
        default_value_t = Self::default().store_timeout_ms)]
    pub store_timeout_ms: u64,
    /// How long a failing request to an object store is repeated, in milliseconds
    #[arg(long, env = "C3_STORE_PATIENCE_MS", value_name = "MS",
        default_value_t = Self::default().store_patience_ms)]
    pub store_patience_ms: u64,
    /// Requests to an object store at once
    #[arg(long, env = "C3_STORE_REQUESTS_MAX", value_name = "REQUESTS",
        default_value_t = Self::default().store_requests_max)]
    pub store_requests_max: usize,
    /// The object store's own variables, credentials among them: [`Config::with_cloud`].
    #[arg(skip)]
    pub cloud: CloudSettings,
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
    /// Redis or Valkey that gateways share as a cache: redis://HOST:PORT [default: none]
    #[arg(long, env = "C3_REDIS", value_name = "URL", hide_env_values = true)]
    pub redis: Option<String>,
    /// How long a shard stays in Redis, in seconds
    #[arg(long, env = "C3_REDIS_TTL_S", value_name = "SECONDS", default_value_t = Self::default().redis_ttl_s)]
    pub redis_ttl_s: u64,
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
    /// Text tokens that may wait here for nodes; with more new reads are refused with RESOURCE_EXHAUSTED, with half as many
    /// new writes
    #[arg(long, env = "C3_WAITING_TOKENS_MAX", value_name = "TOKENS",
        default_value_t = Self::default().waiting_tokens_max)]
    pub waiting_tokens_max: u64,
    /// How long to wait for a node where none takes calls, in milliseconds
    #[arg(long, env = "C3_NODE_WAIT_MS", value_name = "MS", default_value_t = Self::default().node_wait_ms)]
    pub node_wait_ms: u64,
    /// Longest time that one call on a node may take, in milliseconds
    #[arg(long, env = "C3_NODE_TIMEOUT_MS", value_name = "MS",
        default_value_t = Self::default().node_timeout_ms)]
    pub node_timeout_ms: u64,
    /// On how many nodes a call is tried where they die; 1 is for tests, which must see what fails then
    #[arg(long, hide = true, value_name = "TRIES", default_value_t = Self::default().tries_max)]
    pub tries_max: usize,
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

/// An object store's own variables by name. Printed without what they hold: there are secrets among them.
#[derive(Clone, Default)]
pub struct CloudSettings(pub(crate) Vec<(String, String)>);

impl fmt::Debug for CloudSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            compressors: Vec::new(),
            decoders: Vec::new(),
            accept_nodes: false,
            data: "./c3-data".to_owned(),
            store_timeout_ms: 10_000,
            // A client who waits for an acknowledgement has not given up by then.
            store_patience_ms: 30_000,
            store_requests_max: 64,
            cloud: CloudSettings::default(),
            document_bytes_max: 256 << 20,
            // Kernels and batch shapes move a margin by 1.6 at most, as far as was measured.
            margin: 2.0,
            codec: None,
            // About half a gigabyte of text at 20x and 4 bits.
            cache_bytes: 64 << 20,
            redis: None,
            redis_ttl_s: 86_400,
            // Two compressors and two decoders have a full batch each, and another that waits.
            shards_in_flight: 32,
            look_ahead: 32,
            node_calls_max: 32,
            // A hundred puts of long texts at once are served one after another; minutes of work for cards.
            waiting_tokens_max: 32 << 20,
            // A node that restarts is back sooner.
            node_wait_ms: 5_000,
            // A full queue of a node on a small CPU takes minutes.
            node_timeout_ms: 300_000,
            // Nodes die in turns; only a call that kills them needs a bound.
            tries_max: 8,
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
            ("--tries-max", self.tries_max),
            ("--store-requests-max", self.store_requests_max),
        ];
        if let Some(&(setting, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(Error::Setting { setting, problem: "must be at least 1".to_owned() });
        }
        if self.waiting_tokens_max < 2 {
            let problem = "must be at least 2".to_owned();
            return Err(Error::Setting { setting: "--waiting-tokens-max", problem });
        }
        if self.redis_ttl_s == 0 {
            return Err(Error::Setting {
                setting: "--redis-ttl-s",
                problem: "must be at least 1".to_owned(),
            });
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

    /// With those of the environment's variables that object stores are set up by: `AWS_`, `GOOGLE_` and `AZURE_`.
    pub fn with_cloud(self, variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let readable =
            variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let theirs = readable.filter(|(name, _)| CLOUDS.iter().any(|cloud| name.starts_with(cloud)));
        Self { cloud: CloudSettings(theirs.collect()), ..self }
    }

    /// Where documents are kept, and how it is asked.
    pub(crate) fn backend(&self) -> BackendSettings {
        BackendSettings {
            data: self.data.clone(),
            cloud: self.cloud.clone(),
            timeout: Duration::from_millis(self.store_timeout_ms),
            patience: Duration::from_millis(self.store_patience_ms),
            requests_max: self.store_requests_max,
        }
    }

    /// The cache that gateways share, where there is one.
    pub(crate) fn redis(&self) -> Result<Option<Redis>, Error> {
        let ttl = Duration::from_secs(self.redis_ttl_s);
        self.redis.as_deref().map(|url| Redis::new(url, ttl)).transpose()
    }

    /// Addresses of the compressors.
    pub(crate) fn compressors(&self) -> Vec<String> {
        self.given_or(&self.compressors, COMPRESSOR)
    }

    /// Addresses of the decoders.
    pub(crate) fn decoders(&self) -> Vec<String> {
        self.given_or(&self.decoders, DECODER)
    }

    /// What was given; nothing by default where nodes announce themselves.
    fn given_or(&self, given: &[String], default: &str) -> Vec<String> {
        if given.is_empty() && !self.accept_nodes { vec![default.to_owned()] } else { given.to_vec() }
    }

    /// How nodes are called.
    pub(crate) fn calls(&self) -> CallSettings {
        CallSettings {
            calls_max: self.node_calls_max,
            node_wait: Duration::from_millis(self.node_wait_ms),
            call_timeout: Duration::from_millis(self.node_timeout_ms),
            tries_max: self.tries_max,
            waiting_tokens_max: self.waiting_tokens_max,
        }
    }
}
