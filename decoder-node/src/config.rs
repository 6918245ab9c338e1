//! The node's settings.

use std::net::{Ipv4Addr, SocketAddr};

use c3_node::Settings;

/// The decoder node's settings.
#[derive(clap::Args, Clone, Debug)]
pub struct Config {
    /// Address to listen on
    #[arg(long, env = "C3_LISTEN", value_name = "ADDRESS", default_value_t = Self::default().listen)]
    pub listen: SocketAddr,
    /// Memory for keys and values of windows being decoded, in MiB; windows for which there is none wait
    #[arg(long, env = "C3_KV_MIB_MAX", value_name = "MIB", default_value_t = Self::default().kv_mib_max)]
    pub kv_mib_max: usize,
    /// Blocks that are decoded at once, of all windows together; without it, 128 on a CPU and 16384 on a card
    #[arg(long, env = "C3_STEP_ROWS_MAX", value_name = "BLOCKS")]
    pub step_rows_max: Option<usize>,
    /// Share of the device's time that decoding gets where windows wait to be verified too, in percent
    #[arg(long, env = "C3_DECODE_SHARE", value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=99),
        default_value_t = Self::default().decode_share)]
    pub decode_share: u8,
    /// Settings that both nodes have
    #[command(flatten)]
    pub node: Settings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 7302).into(),
            // On a CPU 40 windows of the default model at 20x, or 11 at 80x.
            kv_mib_max: 256,
            step_rows_max: None,
            // Readers and writers get the same: neither can starve the other, and a put costs more elsewhere.
            decode_share: 50,
            node: Settings::default(),
        }
    }
}

impl Config {
    /// What bounds the windows that are decoded at once on `device`.
    pub(crate) fn bounds(&self, device: &str) -> Bounds {
        // A CPU is full at about a hundred rows: what joins beyond that finishes no sooner, and delays all others.
        let step_rows = self.step_rows_max.unwrap_or(if device == "cpu" { 128 } else { 16_384 });
        // Who shares a CPU waits the less the shorter its steps are. A card takes as long for few rows as for many.
        let shared_rows = if device == "cpu" { step_rows.div_ceil(2) } else { step_rows };
        Bounds { kv_bytes: self.kv_bytes_max(), step_rows, shared_rows }
    }

    pub(crate) fn kv_bytes_max(&self) -> u64 {
        (self.kv_mib_max as u64) << 20
    }
}

/// What bounds the windows that are decoded at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) kv_bytes: u64,
    pub(crate) step_rows: usize,
    /// Of a step's rows, those that several callers share.
    pub(crate) shared_rows: usize,
}
