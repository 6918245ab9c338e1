//! The decoder node: latent groups in, text or corrections out, over gRPC.
//!
//! ```text
//! grpc (converts) -> node (checks, hashes) -> service::queue -> model (the thread "c3-decode": continuous batching)
//! ```
//!
//! What both nodes share, the queue, the thread and the settings among it, is in [`c3_service`].

mod config;
mod error;
mod grpc;
mod job;
mod live;
mod model;
mod node;

use c3_proto::{limits::MESSAGE_BYTES_MAX, pb::decoder_server::DecoderServer};
use c3_service::{Readiness, Server, metrics::Metrics, serve, worker::Worker};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{server::NamedService, service::Routes};

pub use config::Config;
pub use error::Error;

use crate::{grpc::Grpc, model::Model, node::Node};

/// The node's name in logs, metrics and traces.
pub const ROLE: &str = "decoder";

/// Serves until `shutdown` is cancelled and the calls in flight have ended, or their time to drain is over. Accepts
/// connections at once, calls when the model is loaded and warm.
pub async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
    let (readiness, metrics) = (Readiness::default(), Metrics::new(ROLE));
    let node = Node::new(&config, metrics.clone());
    let queue = node.queue().clone();
    // Cancelled when the model's thread ends as well: without it there is nothing to serve.
    let stop = shutdown.child_token();
    let worker = Worker::start("c3-decode", config.node.threads, stop.clone(), {
        let (config, node, readiness) = (config.clone(), node.clone(), readiness.clone());
        move || {
            let model = Model::load(&config)?;
            node.set_model(&model);
            readiness.set_ready();
            model.work(&node, &metrics);
            Ok::<_, Error>(())
        }
    })?;
    let server = Server {
        role: ROLE,
        service: DecoderServer::<Grpc>::NAME,
        routes: Routes::new(
            DecoderServer::new(Grpc::new(node))
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
        ),
        readiness,
        call_timeout: Some(config.node.call_timeout()),
        args: config.node.server,
    };
    let served = serve(server, listener, stop).await;
    queue.close();
    worker.end().await??;
    Ok(served?)
}
