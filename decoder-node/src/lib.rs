//! The decoder node: decodes latent groups to text, or verifies them and returns corrections, over gRPC.
//!
//! ```text
//! grpc (converts) -> window (checks, hashes) -> queue -> model (continuous batching on its own thread)
//! ```
//!
//! [`c3_node`] contains the code that both kinds of nodes share: queue, model thread and common settings.

mod config;
mod fair_queue;
mod grpc;
mod job;
mod model;
mod running_batch;
mod time_slicer;
mod window;

use c3_node::{Error, NodeServer, Role};
use c3_proto::pb::decoder_server::{DecoderServer, SERVICE_NAME};
use c3_server::metrics::Metrics;
use c3_types::Stage;
use c3_types::limits::MESSAGE_BYTES_MAX;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use config::Config;

use crate::grpc::Grpc;
use crate::model::Node;

/// Name of the node's role in logs, metrics and traces.
pub const ROLE: &str = "decoder";

/// Serves until `shutdown` is cancelled or the model's thread fails, then waits for calls in flight, at most for the
/// drain timeout. Accepts connections immediately; refuses calls with UNAVAILABLE until the model is loaded and warm.
pub async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
    let node = Node::new(Stage::Decoder, config.node.clone(), Metrics::new(ROLE));
    let service = DecoderServer::new(Grpc::new(node.clone(), config.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let role =
        Role { name: ROLE, thread: "c3-decode", service: SERVICE_NAME, probe_paths: &["/c3.v1.Decoder/Describe"] };
    let server = NodeServer { role, node, routes: Routes::new(service) };
    server.run(listener, shutdown, move |node, ready| model::run(node, &config, ready)).await
}
