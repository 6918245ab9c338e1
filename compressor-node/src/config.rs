//! The node's settings.

use std::net::{Ipv4Addr, SocketAddr};

use c3_node::Settings;

/// The compressor node's settings.
#[derive(clap::Args, Clone, Debug)]
pub struct Config {
    /// Address to listen on
    #[arg(long, env = "C3_LISTEN", value_name = "ADDRESS", default_value_t = Self::default().listen)]
    pub listen: SocketAddr,
    /// Settings that both nodes have
    #[command(flatten)]
    pub node: Settings,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::LOCALHOST, 7301).into(), node: Settings::default() }
    }
}
