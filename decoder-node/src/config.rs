//! The node's settings.

use std::net::{Ipv4Addr, SocketAddr};

use c3_cascade::{DeviceChoice, Options, Precision};
use c3_service::node::NodeArgs;

/// The decoder node's settings.
#[derive(clap::Args, Clone, Debug)]
pub struct Config {
    /// Address to listen on
    #[arg(long, env = "C3_LISTEN", value_name = "ADDRESS", default_value_t = Self::default().listen)]
    pub listen: SocketAddr,
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, env = "C3_DEVICE", value_name = "DEVICE", default_value_t)]
    pub device: DeviceChoice,
    /// How precisely to compute: auto, f32 or bf16
    #[arg(long, env = "C3_PRECISION", value_name = "PRECISION", default_value_t)]
    pub precision: Precision,
    /// Rows of keys and values that windows being decoded may hold; others wait
    #[arg(long, env = "C3_KV_ROWS_MAX", value_name = "ROWS", default_value_t = Self::default().kv_rows_max)]
    pub kv_rows_max: usize,
    /// Settings that both nodes have
    #[command(flatten)]
    pub node: NodeArgs,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 7302).into(),
            device: DeviceChoice::default(),
            precision: Precision::default(),
            // 300 MB for the default model, which is 23 windows at 20x or 6 at 80x.
            kv_rows_max: 16_384,
            node: NodeArgs::default(),
        }
    }
}

impl Config {
    pub(crate) fn options(&self) -> Options {
        Options { device: self.device, precision: self.precision }
    }
}
