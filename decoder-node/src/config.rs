//! The node's settings.

use std::net::{Ipv4Addr, SocketAddr};

use c3_node::Settings;

/// The decoder node's settings.
#[derive(clap::Args, Clone, Debug)]
pub struct Config {
    /// Address to listen on
    #[arg(long, env = "C3_LISTEN", value_name = "ADDRESS", default_value_t = Self::default().listen)]
    pub listen: SocketAddr,
    /// Rows of keys and values that windows being decoded may hold; others wait
    #[arg(long, env = "C3_KV_ROWS_MAX", value_name = "ROWS", default_value_t = Self::default().kv_rows_max)]
    pub kv_rows_max: usize,
    /// Settings that both nodes have
    #[command(flatten)]
    pub node: Settings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 7302).into(),
            // 300 MB for the default model, which is 23 windows at 20x or 6 at 80x.
            kv_rows_max: 16_384,
            node: Settings::default(),
        }
    }
}
