//! Settings of the compressor node.

use std::net::{Ipv4Addr, SocketAddr};

use c3_cascade::Options;
use c3_node::NodeArgs;
use c3_server::program::ListenAddress;

/// Settings of the compressor node.
#[derive(clap::Args, Clone, Debug)]
pub struct Config {
    /// Address to listen on
    #[arg(long, env = "C3_LISTEN", value_name = "ADDRESS", default_value_t = Self::default().listen)]
    pub listen: ListenAddress,
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
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7301)).into(),
            options: Options::default(),
            node: NodeArgs::default(),
        }
    }
}
