//! Lifecycle of a node: the model's thread loads and warms the model, the server serves calls, and both end together.

use std::time::Duration;

use c3_server::principal::PrincipalSource;
use c3_server::{ClientAuth, Readiness, Server, WebAccess, serve, server};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;

use crate::announce::announce;
use crate::model_thread::ModelThread;
use crate::queue::Job;
use crate::{Error, Node};

/// Interval at which the watchdog checks the model's thread.
const WATCHDOG_INTERVAL: Duration = Duration::from_secs(1);

/// Names that differ between the nodes of the two stages.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// Name of the node in logs, metrics and traces.
    pub name: &'static str,
    /// Name of the model's thread.
    pub thread: &'static str,
    /// The gRPC service.
    pub service: &'static str,
    /// Paths of the calls that probe the node. They are not refused under load.
    pub probe_paths: &'static [&'static str],
}

/// A node with its gRPC service, before it serves.
pub struct NodeServer<J, M> {
    /// Names of the node.
    pub role: Role,
    /// The node.
    pub node: Node<J, M>,
    /// The gRPC service.
    pub routes: Routes,
}

impl<J: Job, M: Send + Sync + 'static> NodeServer<J, M> {
    /// Serves until `shutdown` is cancelled or the model's thread ends. Then drains and waits for the thread.
    ///
    /// `work` runs on the model's thread. It must load the model, call [`Node::set_loaded`], call its second argument
    /// to make the server ready, and compute until the queue closes. The server accepts connections immediately, but
    /// refuses calls until it is ready.
    pub async fn run(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
        work: impl FnOnce(&Node<J, M>, &dyn Fn()) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let Self { role, node, routes } = self;
        let (readiness, args, queue) = (Readiness::default(), node.args().clone(), node.queue().clone());
        let credentials = args.server.tls.load(ClientAuth::Required).map_err(server::Error::from)?;
        // Calls on a node are text. Callers prove by their certificates that they are gateways.
        let has_mtls = credentials.has_certificate() && credentials.has_ca();
        let watchdog = {
            let (readiness, node) = (readiness.clone(), node.clone());
            tokio::spawn(async move { watch(&node, &readiness).await })
        };
        let _watchdog = AbortOnDropHandle::new(watchdog);
        let mut announcements = tokio::task::JoinSet::new();
        for gateway in args.announce_to.clone() {
            let address = args.advertise_as.clone().unwrap_or_default();
            announcements.spawn(announce(node.clone(), credentials.clone(), gateway, address));
        }
        let (stop, ended) = (shutdown.child_token(), CancellationToken::new());
        let thread = ModelThread::start(role.thread, args.threads, ended.clone(), {
            let readiness = readiness.clone();
            move || work(&node, &|| readiness.set_ready())
        })?;
        let end = {
            let (stop, queue) = (stop.clone(), queue.clone());
            tokio::spawn(async move {
                ended.cancelled().await;
                // Without the thread, the node cannot serve calls. Those that wait for it end now, so that gateways
                // retry them on other nodes and the drain does not wait for them.
                queue.close();
                stop.cancel();
            })
        };
        let _end = AbortOnDropHandle::new(end);
        let server = Server {
            role: role.name,
            service_name: role.service,
            other_services: &[],
            routes: routes.into_axum_router(),
            probe_paths: role.probe_paths,
            readiness,
            stages: None,
            principal_source: PrincipalSource::Header,
            in_process: None,
            web_access: WebAccess::default(),
            access: None,
            credentials,
            peers: has_mtls.then_some(args.tls_peer),
            authenticates: has_mtls,
            call_timeout: Some(args.call_timeout.0),
            args: args.server,
        };
        let served = serve(server, listener, stop).await;
        queue.close();
        thread.join().await??;
        Ok(served?)
    }
}

/// While the device hangs, refuses new calls and ends the calls in flight, so that gateways use other nodes.
async fn watch<J: Job, M>(node: &Node<J, M>, readiness: &Readiness) {
    let mut stalled = false;
    loop {
        tokio::time::sleep(WATCHDOG_INTERVAL).await;
        let Ok(loaded) = node.loaded() else { continue };
        let busy = node.queue().busy_for();
        let stalls = busy > node.args().stall_timeout(&loaded.info.device);
        if stalls && !stalled {
            tracing::error!(seconds = busy.as_secs_f64(), "the device hangs: refusing calls");
            readiness.set_stalled();
        } else if stalled && !stalls {
            tracing::info!("the device answers again: serving calls");
            readiness.set_recovered();
        }
        stalled = stalls;
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as StdError;

    use c3_server::metrics::Metrics;
    use c3_server::principal::Principal;
    use c3_server::units::TimeSpan;
    use c3_types::Stage;
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;
    use crate::{NodeArgs, Operation};

    struct TestJob(oneshot::Sender<()>);

    impl Job for TestJob {
        fn tokens(&self) -> usize {
            1
        }

        fn operation(&self) -> Operation {
            Operation::Decode
        }

        fn principal(&self) -> Principal {
            Principal::default()
        }

        fn is_cancelled(&self) -> bool {
            self.0.is_closed()
        }
    }

    #[tokio::test]
    async fn queued_jobs_do_not_wait_for_the_drain_once_the_model_has_failed() -> Result<(), Box<dyn StdError>> {
        let mut args = NodeArgs::default();
        args.server.shutdown_delay = TimeSpan::from_secs(600);
        let node = Node::<TestJob, ()>::new(Stage::Decoder, args, Metrics::new("test"));
        let role = Role {
            name: "test",
            thread: "test",
            service: c3_proto::pb::decoder_server::SERVICE_NAME,
            probe_paths: &[],
        };
        let server = NodeServer { role, node: node.clone(), routes: Routes::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let running = tokio::spawn(server.run(listener, CancellationToken::new(), |node, ready| {
            ready();
            node.queue().wait();
            Err(Error::NoModel)
        }));
        let (reply, answer) = oneshot::channel();
        node.queue().push(vec![TestJob(reply)])?;
        assert!(timeout(Duration::from_secs(10), answer).await?.is_err());
        running.abort();
        Ok(())
    }
}
