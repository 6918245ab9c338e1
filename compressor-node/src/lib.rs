//! The compressor node: compresses shards of text to latent groups, over gRPC. A shard is the part of a document that
//! one node compresses as a unit. The node splits it into windows, and makes one latent group of each window.
//!
//! ```text
//! grpc (converts) -> shard (tokenizes, splits into windows) -> queue -> model (batches, computes on its own thread)
//! ```
//!
//! [`c3_node`] contains the code that both kinds of nodes share: queue, model thread and common settings.

mod config;
mod grpc;
mod model;
mod shard;

use c3_node::{Error, NodeServer, Role};
use c3_proto::pb::compressor_server::{CompressorServer, SERVICE_NAME};
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
pub const ROLE: &str = "compressor";

/// Serves until `shutdown` is cancelled or the model's thread fails, then waits for calls in flight, at most for the
/// drain timeout. Accepts connections immediately; refuses calls with UNAVAILABLE until the model is loaded and warm.
pub async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
    let Config { options, node, .. } = config;
    let node = Node::new(Stage::Compressor, node, Metrics::new(ROLE));
    let service = CompressorServer::new(Grpc::new(node.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let role =
        Role { name: ROLE, thread: "c3-compress", service: SERVICE_NAME, probe_paths: &["/c3.v1.Compressor/Describe"] };
    let server = NodeServer { role, node, routes: Routes::new(service) };
    server.run(listener, shutdown, move |node, ready| model::run(node, &options, ready)).await
}
