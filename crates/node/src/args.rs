//! Settings that the compressor node and the decoder node share.

use std::path::PathBuf;
use std::time::Duration;

use c3_proto::pb;
use c3_server::ServerArgs;
use c3_server::units::TimeSpan;
use c3_types::limits;

/// Name that `c3 certs` writes into the certificates of gateways.
const GATEWAY_IDENTITY: &str = "c3-gateway";

/// Settings that the compressor node and the decoder node share.
#[derive(clap::Args, Clone, Debug)]
pub struct NodeArgs {
    /// Folder of the model's files [default: the model embedded in this program]
    #[arg(long, env = "C3_MODEL", value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Threads that compute [default: one per core]
    #[arg(long, env = "C3_THREADS", value_name = "THREADS", value_parser = positive)]
    pub threads: Option<usize>,
    /// Maximum number of text tokens that wait for the model; further calls are refused with RESOURCE_EXHAUSTED
    #[arg(long, env = "C3_QUEUE_TOKENS_MAX", value_name = "TOKENS", value_parser = positive,
        default_value_t = Self::default().queue_tokens_max)]
    pub queue_tokens_max: usize,
    /// Maximum number of text tokens in a batch [default: 1024 on a CPU, 131072 on a GPU]
    #[arg(long, env = "C3_BATCH_TOKENS_MAX", value_name = "TOKENS", value_parser = positive)]
    pub batch_tokens_max: Option<usize>,
    /// Maximum duration of a call
    #[arg(long, env = "C3_CALL_TIMEOUT", value_name = "DURATION", default_value_t = Self::default().call_timeout)]
    pub call_timeout: TimeSpan,
    /// Time without a finished batch after which the device is considered hung and the node refuses calls [default: 10m
    /// on a CPU, 30s on a GPU]
    #[arg(long, env = "C3_STALL_TIMEOUT", value_name = "DURATION")]
    pub stall_timeout: Option<TimeSpan>,
    /// Name in the certificates of the callers that this node accepts; repeatable. Used if --tls-ca is given
    #[arg(long, env = "C3_TLS_PEER", value_name = "NAME", value_delimiter = ',', default_value = GATEWAY_IDENTITY)]
    pub tls_peer: Vec<String>,
    /// Gateway to announce this node to, http://HOST:PORT or https://HOST:PORT; repeat the flag for more gateways
    #[arg(long, env = "C3_ANNOUNCE_TO", value_name = "URL", value_delimiter = ',', requires = "advertise_as")]
    pub announce_to: Vec<String>,
    /// Address at which gateways reach this node, http://HOST:PORT or https://HOST:PORT
    #[arg(long, env = "C3_ADVERTISE_AS", value_name = "URL")]
    pub advertise_as: Option<String>,
    /// Settings that every server has
    #[command(flatten)]
    pub server: ServerArgs,
}

impl Default for NodeArgs {
    fn default() -> Self {
        Self {
            model: None,
            threads: None,
            // About a megabyte of English: seconds of work for a GPU, a minute or two for a small CPU.
            queue_tokens_max: 262_144,
            batch_tokens_max: None,
            call_timeout: TimeSpan::from_secs(600),
            stall_timeout: None,
            tls_peer: vec![GATEWAY_IDENTITY.to_owned()],
            announce_to: Vec::new(),
            advertise_as: None,
            server: ServerArgs::default(),
        }
    }
}

impl NodeArgs {
    /// Returns the maximum number of text tokens in a batch on `device`. A few hundred tokens saturate a CPU, and
    /// smaller batches let new jobs start sooner. A GPU needs a hundred thousand, which take it a tenth of a second.
    pub fn batch_tokens_max(&self, device: &str) -> usize {
        self.batch_tokens_max.unwrap_or(if device == "cpu" { 1024 } else { 131_072 })
    }

    /// Returns the time after which a device that computes one batch is considered hung. A large model on a CPU needs
    /// minutes per window.
    pub(crate) fn stall_timeout(&self, device: &str) -> Duration {
        self.stall_timeout.unwrap_or(TimeSpan::from_secs(if device == "cpu" { 600 } else { 30 })).0
    }

    /// Returns the limits in the node's description.
    pub(crate) fn limits(&self, device: &str) -> pb::NodeLimits {
        pb::NodeLimits {
            shard_bytes_max: limits::SHARD_BYTES_MAX as u64,
            message_bytes_max: limits::MESSAGE_BYTES_MAX as u64,
            queue_tokens_max: self.queue_tokens_max as u64,
            batch_tokens_max: self.batch_tokens_max(device) as u64,
            kv_bytes_max: 0,
        }
    }
}

fn positive(value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(0) | Err(_) => Err("must be a whole number of 1 or more".to_owned()),
        Ok(number) => Ok(number),
    }
}
