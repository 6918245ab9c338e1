//! The compressor node: shards of text in, latent groups out, over gRPC.
//!
//! ```text
//! grpc (converts) -> shard (tokenizes, windows) -> the queue -> model (the thread "c3-compress": batches, computes)
//! ```
//!
//! What both nodes share, the queue, the thread and the settings among it, is in [`c3_node`].

mod config;
mod grpc;
mod model;
mod shard;

use c3_node::{Error, Role};
use c3_proto::{Stage, limits::MESSAGE_BYTES_MAX, pb::compressor_server::CompressorServer};
use c3_server::metrics::Metrics;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use config::Config;

use crate::{
    grpc::Grpc,
    model::{Node, work},
};

/// The node's name in logs, metrics and traces.
pub const ROLE: &str = "compressor";

/// Serves until `shutdown` is cancelled and the calls in flight have ended, or their time to drain is over. Accepts
/// connections at once, calls when the model is loaded and warm.
pub async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
    let role = Role { name: ROLE, thread: "c3-compress" };
    let node = Node::new(Stage::Compressor, config.node, Metrics::new(ROLE));
    let service = CompressorServer::new(Grpc::new(node.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    c3_node::run(role, node, service, listener, shutdown, work).await
}
