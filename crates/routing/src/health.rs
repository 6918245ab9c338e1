//! What a node says of itself, asked again and again on a connection and a thread of its own, so that the question
//! never queues behind work: a node that hangs delays nobody, a dead one is left out of balancing, and one that comes
//! back is found. It is also the probe of a node whose call failed.

use std::sync::{Arc, Weak};
use std::time::Duration;

use c3_proto::pb::compressor_client::CompressorClient;
use c3_proto::pb::decoder_client::DecoderClient;
use c3_proto::{Description, Stage, pb};
use tokio::runtime;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::node::{Condition, Known, Node};
use super::registry::Registry;
use crate::error::Error;

/// How often a node is asked what it serves and how busy it is.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long it may take to answer: it answers from memory, whatever its model does.
const TIMEOUT: Duration = Duration::from_millis(1500);
/// Questions without an answer after which calls in flight on a node are given up: no more than 4 seconds after it last
/// answered.
const MISSES_MAX: usize = 2;

/// The thread that asks.
#[derive(Debug)]
pub(crate) struct Prober(runtime::Handle);

impl Prober {
    /// Starts the thread. It ends at `shutdown`.
    pub(crate) fn start(shutdown: CancellationToken) -> Result<Self, Error> {
        let failed =
            |error: std::io::Error| Error::Serve(format!("cannot start the probes' thread ({error})"));
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let thread = std::thread::Builder::new().name("c3-probes".to_owned());
        thread.spawn(move || runtime.block_on(shutdown.cancelled())).map_err(failed)?;
        Ok(Self(handle))
    }

    /// Runs something on the thread, until the program ends.
    pub(crate) fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(work);
    }

    /// Keeps asking a node until the handle is dropped.
    pub(crate) fn watch(&self, registry: Weak<Registry>, node: Arc<Node>) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(self.0.spawn(keep_asking(registry, node)))
    }
}

async fn keep_asking(registry: Weak<Registry>, node: Arc<Node>) {
    let (mut connection, mut misses) = (node.connection_for_probes(), 0);
    let mut doubted = None;
    loop {
        let calls_failed = node.calls_failed();
        let answer = timeout(TIMEOUT, describe(node.stage, &connection)).await;
        let Some(registry) = registry.upgrade() else { return };
        misses = if answer.is_err() { misses + 1 } else { 0 };
        match answer {
            // A call that failed meanwhile knows more: what the node said may be from before it died.
            Ok(Ok(_)) if node.calls_failed() != calls_failed => {}
            // A description that differs from the one before counts once it is repeated: what came may have been harmed
            // on its way, and would look like another model.
            Ok(Ok(known)) if is_new(&node, &known) && doubted.as_ref() != Some(&known.description) => {
                node.set(Condition::Refused("it describes itself otherwise than before".to_owned()));
                doubted = Some(known.description);
            }
            Ok(Ok(known)) => {
                let condition = registry.judge(&node, &known.description);
                node.described(known, condition);
                doubted = None;
            }
            Ok(Err(condition)) => node.set(condition),
            Err(_) if misses < MISSES_MAX => node.set(silent()),
            Err(_) => {
                node.lose(SILENT);
                connection = node.connection_for_probes();
            }
        }
        drop(registry);
        if misses == 0 {
            sleep(INTERVAL).await;
        }
    }
}

/// Whether a node says something else than it last said.
fn is_new(node: &Node, known: &Known) -> bool {
    node.known().is_some_and(|before| before.description != known.description)
}

const SILENT: &str = "it does not answer";

fn silent() -> Condition {
    Condition::Unreachable(SILENT.to_owned())
}

/// What a node says of itself.
pub(crate) async fn describe(stage: Stage, connection: &Channel) -> Result<Known, Condition> {
    let answer = match stage {
        Stage::Compressor => CompressorClient::new(connection.clone()).describe(pb::DescribeRequest {}).await,
        Stage::Decoder => DecoderClient::new(connection.clone()).describe(pb::DescribeRequest {}).await,
    };
    let wire = answer.map_err(|status| condition_of(&status))?.into_inner();
    let description = Description::from_wire(wire.clone());
    let description = description
        .map_err(|invalid| Condition::Refused(format!("it describes itself wrongly: {invalid}")))?;
    Ok(Known { description: Arc::new(description), wire: Arc::new(wire) })
}

/// What a call that failed says of its node.
pub(crate) fn condition_of(status: &Status) -> Condition {
    // Where the transport fails, it is the source.
    let answered = std::error::Error::source(status).is_none();
    match status.code() {
        Code::Unavailable if answered => Condition::NotServing(status.message().to_owned()),
        Code::Unimplemented => {
            Condition::Refused("it offers another service: check the list it is in".to_owned())
        }
        _ => Condition::Unreachable(reason(status)),
    }
}

/// The innermost reason of a status: "connection refused" and not the four layers above it.
pub(crate) fn reason(status: &Status) -> String {
    let outermost = std::error::Error::source(status);
    let causes = std::iter::successors(outermost, |error| error.source());
    causes.last().map_or_else(|| status.message().to_owned(), ToString::to_string)
}
