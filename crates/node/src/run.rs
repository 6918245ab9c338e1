//! A node's life: the thread loads and warms the model, the server takes calls, and both end together.

use std::time::Duration;

use c3_server::{GrpcServer, Readiness, Server, caller::Callers, serve};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::service::Routes;

use crate::{Error, Node, announce::announce, queue::Job, worker::Worker};

/// What the two nodes are called.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// The node, in logs, metrics and traces.
    pub name: &'static str,
    /// The model's thread.
    pub thread: &'static str,
}

/// Serves `service` until `shutdown` is cancelled and the calls in flight have ended, or their time to drain is over.
/// `work` runs on the model's thread: it loads the model, calls [`Node::serve`] and `ready`, and computes until the
/// queue closes. Connections are accepted at once, calls when the model is ready.
pub async fn run<J: Job, M: Send + Sync + 'static, S: GrpcServer>(
    role: Role,
    node: Node<J, M>,
    service: S,
    listener: TcpListener,
    shutdown: CancellationToken,
    work: impl FnOnce(&Node<J, M>, &dyn Fn()) -> Result<(), Error> + Send + 'static,
) -> Result<(), Error> {
    let (readiness, settings, queue) = (Readiness::default(), node.settings().clone(), node.queue().clone());
    let watchdog = {
        let (readiness, node) = (readiness.clone(), node.clone());
        tokio::spawn(async move { watch(&node, &readiness).await })
    };
    let _watchdog = AbortOnDropHandle::new(watchdog);
    let mut announcing = tokio::task::JoinSet::new();
    for gateway in settings.announce_to.clone() {
        let address = settings.announce_as.clone().unwrap_or_default();
        announcing.spawn(announce(node.clone(), gateway, address));
    }
    // Cancelled when the model's thread ends as well: without it there is nothing to serve.
    let stop = shutdown.child_token();
    let worker = Worker::start(role.thread, settings.threads, stop.clone(), {
        let readiness = readiness.clone();
        move || work(&node, &|| readiness.set_ready())
    })?;
    let server = Server {
        role: role.name,
        service,
        more: Routes::default(),
        readiness,
        callers: Callers::Named,
        call_timeout: Some(settings.call_timeout()),
        args: settings.server,
    };
    let served = serve(server, listener, stop).await;
    queue.close();
    worker.end().await??;
    Ok(served?)
}

/// How often the model's thread is looked after.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Calls go elsewhere while the model's thread does not come back from the device.
async fn watch<J: Job, M>(node: &Node<J, M>, readiness: &Readiness) {
    let mut hung = false;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Ok(served) = node.served() else { continue };
        let busy = node.queue().busy_for();
        let hangs = busy > node.settings().stall(&served.facts.device);
        if hangs != hung {
            tracing::error!(hangs, seconds = busy.as_secs_f64(), "whether the device hangs");
            readiness.set_stalled(hangs);
            hung = hangs;
        }
    }
}
