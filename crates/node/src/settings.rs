//! The settings that both nodes have.

use std::{path::PathBuf, time::Duration};

use c3_cascade::{DeviceChoice, Kernels, Options, Precision};
use c3_proto::{limits, pb};
use c3_server::ServerArgs;

/// Settings that both nodes have.
#[derive(clap::Args, Clone, Debug)]
pub struct Settings {
    /// Folder of the model's files; without it, the model inside this program is served
    #[arg(long, env = "C3_MODEL", value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, env = "C3_DEVICE", value_name = "DEVICE", default_value_t)]
    pub device: DeviceChoice,
    /// How precisely to compute: auto, f32 or bf16
    #[arg(long, env = "C3_PRECISION", value_name = "PRECISION", default_value_t)]
    pub precision: Precision,
    /// Instructions to use on a CPU: auto, avx512, avxvnni, avx2 or portable; all compute the same
    #[arg(long, env = "C3_KERNELS", value_name = "KERNELS", default_value_t)]
    pub kernels: Kernels,
    /// Threads that compute; without it, one for each core
    #[arg(long, env = "C3_THREADS", value_name = "THREADS", value_parser = positive)]
    pub threads: Option<usize>,
    /// Text tokens that may wait; more are refused with RESOURCE_EXHAUSTED
    #[arg(long, env = "C3_QUEUE_TOKENS_MAX", value_name = "TOKENS", value_parser = positive,
        default_value_t = Self::default().queue_tokens_max)]
    pub queue_tokens_max: usize,
    /// Text tokens that compute side by side; without it, 1024 on a CPU and 8192 on a card
    #[arg(long, env = "C3_BATCH_TOKENS_MAX", value_name = "TOKENS", value_parser = positive)]
    pub batch_tokens_max: Option<usize>,
    /// Longest time that a call may take, in milliseconds
    #[arg(long, env = "C3_CALL_TIMEOUT_MS", value_name = "MS",
        default_value_t = Self::default().call_timeout_ms)]
    pub call_timeout_ms: u64,
    /// Milliseconds without a finished batch after which the device counts as hanging and calls go elsewhere; without it,
    /// 600000 on a CPU and 30000 on a card
    #[arg(long, env = "C3_STALL_MS", value_name = "MS")]
    pub stall_ms: Option<u64>,
    /// Gateway to announce this node to, once for each: http://HOST:PORT
    #[arg(
        long = "announce-to",
        env = "C3_ANNOUNCE_TO",
        value_name = "URL",
        value_delimiter = ',',
        requires = "announce_as"
    )]
    pub announce_to: Vec<String>,
    /// Address at which gateways reach this node: http://HOST:PORT
    #[arg(long, env = "C3_ANNOUNCE_AS", value_name = "URL")]
    pub announce_as: Option<String>,
    /// Settings that every server has
    #[command(flatten)]
    pub server: ServerArgs,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: None,
            device: DeviceChoice::default(),
            precision: Precision::default(),
            kernels: Kernels::default(),
            threads: None,
            // About a megabyte of English: seconds of work for a card, a minute or two for a small CPU.
            queue_tokens_max: 262_144,
            batch_tokens_max: None,
            call_timeout_ms: 600_000,
            stall_ms: None,
            announce_to: Vec::new(),
            announce_as: None,
            server: ServerArgs::default(),
        }
    }
}

impl Settings {
    /// Longest time that a call may take.
    pub fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_ms)
    }

    /// How the model is loaded.
    pub fn options(&self) -> Options {
        Options { device: self.device, precision: self.precision, kernels: self.kernels }
    }

    /// Text tokens that compute side by side on `device`. A CPU is full at a few hundred, and what comes next waits the
    /// less the smaller a batch is.
    pub fn batch_tokens_max(&self, device: &str) -> usize {
        self.batch_tokens_max.unwrap_or(if device == "cpu" { 1024 } else { 8192 })
    }

    /// How long a batch may take before the device counts as hanging. A large model on a CPU takes minutes for a window.
    pub(crate) fn stall(&self, device: &str) -> Duration {
        Duration::from_millis(self.stall_ms.unwrap_or(if device == "cpu" { 600_000 } else { 30_000 }))
    }

    /// The limits as the node tells them.
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

fn positive(typed: &str) -> Result<usize, String> {
    match typed.parse() {
        Ok(0) | Err(_) => Err("give a whole number of 1 or more".to_owned()),
        Ok(number) => Ok(number),
    }
}
