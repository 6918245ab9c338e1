//! The decoder node: latent groups in, text or corrections out, over gRPC.
//!
//! ```text
//! grpc (converts) -> window (checks, hashes) -> the queue -> model (the thread "c3-decode": continuous batching)
//! ```
//!
//! What both nodes share, the queue, the thread and the settings among it, is in [`c3_node`].

mod config;
mod grpc;
mod job;
mod live;
mod model;
mod share;
mod turns;
mod window;

use c3_node::{Error, Role};
use c3_proto::{Stage, limits::MESSAGE_BYTES_MAX, pb::decoder_server::DecoderServer};
use c3_server::metrics::Metrics;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use config::Config;

use crate::{
    grpc::Grpc,
    model::{Node, work},
};

/// The node's name in logs, metrics and traces.
pub const ROLE: &str = "decoder";

/// Serves until `shutdown` is cancelled and the calls in flight have ended, or their time to drain is over. Accepts
/// connections at once, calls when the model is loaded and warm.
pub async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
    let role = Role { name: ROLE, thread: "c3-decode" };
    let node = Node::new(Stage::Decoder, config.node.clone(), Metrics::new(ROLE));
    let service = DecoderServer::new(Grpc::new(node.clone(), config.kv_bytes_max()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    c3_node::run(role, node, service, listener, shutdown, move |node, ready| work(node, ready, &config)).await
}
