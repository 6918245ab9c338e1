//! Settings of the decoder node.

use std::net::{Ipv4Addr, SocketAddr};

use c3_cascade::{Options, StageInfo};
use c3_node::{Error, NodeArgs};
use c3_server::program::ListenAddress;
use c3_server::units::Size;

/// Settings of the decoder node.
#[derive(clap::Args, Clone, Debug)]
pub struct Config {
    /// Address to listen on
    #[arg(long, env = "C3_LISTEN", value_name = "ADDRESS", default_value_t = Self::default().listen)]
    pub listen: ListenAddress,
    /// Maximum memory for the KV cache; a window waits for room, and a window larger than the cache is decoded alone
    /// [default: 256MiB on a CPU, an eighth of the memory of a GPU]
    #[arg(long, env = "C3_KV_CACHE_SIZE", value_name = "SIZE")]
    pub kv_cache_size: Option<Size>,
    /// Maximum number of blocks in a decode step, over all windows; a block is the text of one latent [default: 128 on
    /// a CPU, 16384 on a GPU]
    #[arg(long, env = "C3_STEP_BLOCKS_MAX", value_name = "BLOCKS")]
    pub step_blocks_max: Option<usize>,
    /// Percentage of the device's time for decoding while windows also wait for verification
    #[arg(long, env = "C3_DECODE_SHARE", value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=99),
        default_value_t = Self::default().decode_share)]
    pub decode_share: u8,
    /// Device, data type and instruction set
    #[command(flatten)]
    pub options: Options,
    /// Settings that compressor and decoder nodes share
    #[command(flatten)]
    pub node: NodeArgs,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7302)).into(),
            kv_cache_size: None,
            step_blocks_max: None,
            // Equal shares, so that reads cannot starve the verification of writes, or the reverse.
            decode_share: 50,
            options: Options::default(),
            node: NodeArgs::default(),
        }
    }
}

impl Config {
    /// Returns the limits of the running batch of a decoder.
    pub(crate) fn decode_limits(&self, decoder: &StageInfo) -> DecodeLimits {
        let device = decoder.device.as_str();
        // A step computes one row per block. About 100 rows saturate a CPU. More rows would only make the step longer,
        // for every window in it.
        let step_rows = self.step_blocks_max.unwrap_or(if device == "cpu" { 128 } else { 16_384 });
        // If several principals (callers) share the batch, a step on a CPU has half the rows. It is thus shorter, and
        // principals alternate sooner. On a GPU, fewer rows hardly shorten a step.
        let shared_rows = if device == "cpu" { step_rows.div_ceil(2) } else { step_rows };
        DecodeLimits { kv_bytes: self.kv_cache_bytes(decoder), step_rows, shared_rows }
    }

    /// Fails if `--kv-cache-size` is larger than a GPU's `memory` (`None` for a CPU). Without this check, the node
    /// would take on more windows than fit, and they would all fail for want of memory.
    pub(crate) fn check_kv_cache(&self, device: &str, memory: Option<u64>) -> Result<(), Error> {
        match (self.kv_cache_size, memory) {
            (Some(size), Some(memory)) if size.0 > memory => {
                let memory = Size::mib(memory >> 20);
                let problem = format!("--kv-cache-size {size} exceeds the memory of {device} ({memory}): lower it");
                Err(Error::Model(problem.into()))
            }
            _ => Ok(()),
        }
    }

    /// Returns the maximum bytes of a decoder's KV cache.
    pub(crate) fn kv_cache_bytes(&self, decoder: &StageInfo) -> u64 {
        // On a CPU, 256 MiB have room for 40 windows of the default model at ratio 20 (text tokens per latent), or for
        // 11 at ratio 80. On a GPU, the rest of the memory is for weights and intermediate values,
        // including those of a compressor on the same card.
        let default = decoder.accelerator_memory.map_or(256 << 20, |memory| memory / 8);
        self.kv_cache_size.map_or(default, |size| size.0)
    }
}

/// Limits of the running batch. A step computes one row per block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecodeLimits {
    pub(crate) kv_bytes: u64,
    pub(crate) step_rows: usize,
    /// Maximum rows of a step while several principals have windows in the batch.
    pub(crate) shared_rows: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kv_cache_larger_than_the_gpu_is_refused() {
        let config = Config { kv_cache_size: Some(Size::mib(2048)), ..Config::default() };
        let refused = config.check_kv_cache("cuda:0", Some(1 << 30)).unwrap_err().to_string();
        assert!(refused.contains("--kv-cache-size 2GiB") && refused.contains("1GiB"), "{refused}");
        assert!(config.check_kv_cache("cuda:0", Some(4 << 30)).is_ok());
        assert!(config.check_kv_cache("cpu", None).is_ok());
        assert!(Config::default().check_kv_cache("cuda:0", Some(0)).is_ok());
    }
}
