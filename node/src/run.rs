//! A node's life: the thread loads and warms the model, the server takes calls, and both end together.

use c3_service::{Readiness, Server, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{Error, Node, queue::Job, worker::Worker};

/// What the two nodes are called.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// The node, in logs, metrics and traces.
    pub name: &'static str,
    /// The model's thread.
    pub thread: &'static str,
    /// The gRPC service.
    pub service: &'static str,
}

/// Serves `routes` until `shutdown` is cancelled and the calls in flight have ended, or their time to drain is over.
/// `work` runs on the model's thread: it loads the model, calls [`Node::serve`] and `ready`, and computes until the
/// queue closes. Connections are accepted at once, calls when the model is ready.
pub async fn run<J: Job, M: Send + Sync + 'static>(
    role: Role,
    node: Node<J, M>,
    routes: Routes,
    listener: TcpListener,
    shutdown: CancellationToken,
    work: impl FnOnce(&Node<J, M>, &dyn Fn()) -> Result<(), Error> + Send + 'static,
) -> Result<(), Error> {
    let (readiness, settings, queue) = (Readiness::default(), node.settings().clone(), node.queue().clone());
    // Cancelled when the model's thread ends as well: without it there is nothing to serve.
    let stop = shutdown.child_token();
    let worker = Worker::start(role.thread, settings.threads, stop.clone(), {
        let readiness = readiness.clone();
        move || work(&node, &|| readiness.set_ready())
    })?;
    let server = Server {
        role: role.name,
        service: role.service,
        routes,
        readiness,
        call_timeout: Some(settings.call_timeout()),
        args: settings.server,
    };
    let served = serve(server, listener, stop).await;
    queue.close();
    worker.end().await??;
    Ok(served?)
}
