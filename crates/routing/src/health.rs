//! Health checks: each node is asked for its self-description at an interval.
//!
//! The checks run on a thread and on connections of their own, so that they never queue behind calls. A node that hangs
//! therefore delays no call, a dead node leaves the rotation, and one that comes back is found again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use c3_proto::pb::compressor_client::CompressorClient;
use c3_proto::pb::decoder_client::DecoderClient;
use c3_proto::{FromWire, pb};
use c3_types::{Description, Stage};
use tokio::runtime;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::node::{Health, Node, NodeInfo};

/// Pause between two checks of a node.
const INTERVAL: Duration = Duration::from_millis(500);
/// Timeout of a check. A node answers from memory, regardless of its model's work.
const TIMEOUT: Duration = Duration::from_millis(1500);
/// Consecutive timeouts after which the calls in flight on a node are cancelled: at most 4 seconds after its last
/// answer.
const TIMEOUTS_MAX: usize = 2;
const NO_ANSWER: &str = "it does not answer";

/// The thread that runs the health checks.
#[derive(Debug)]
pub(crate) struct HealthThread(runtime::Handle);

impl HealthThread {
    /// Starts the thread. It ends at `shutdown`.
    pub(crate) fn start(shutdown: CancellationToken) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let thread = std::thread::Builder::new().name("c3-health".to_owned());
        thread.spawn(move || runtime.block_on(shutdown.cancelled()))?;
        Ok(Self(handle))
    }

    /// Runs a task on the thread until the thread ends.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }

    /// Checks a node until the handle is dropped. `judge` returns the health that follows from a description, or `None`
    /// to end the checks.
    pub(crate) fn check(
        &self,
        node: Arc<Node>,
        judge: impl Fn(&Node, &Description) -> Option<Health> + Send + 'static,
    ) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(self.0.spawn(check_repeatedly(node, judge)))
    }
}

async fn check_repeatedly(node: Arc<Node>, judge: impl Fn(&Node, &Description) -> Option<Health>) {
    let (mut channel, mut timeouts) = (node.health_channel(), 0);
    let mut doubted = None;
    loop {
        let unavailable_calls = node.unavailable_calls();
        let answer = timeout(TIMEOUT, describe(node.stage, &channel)).await;
        timeouts = if answer.is_err() { timeouts + 1 } else { 0 };
        match answer {
            // A call that failed during the check is newer: the node may have died after its answer.
            Ok(Ok(_)) if node.unavailable_calls() != unavailable_calls => {}
            // A changed description takes effect once it is repeated: one that was corrupted on the wire would look
            // like another model.
            Ok(Ok(info)) if differs(&node, &info) && doubted.as_ref() != Some(&info.description) => {
                node.set_health(Health::Refused("its description changed".to_owned()));
                doubted = Some(info.description);
            }
            Ok(Ok(info)) => {
                let Some(health) = judge(&node, &info.description) else { return };
                node.set_info(info, health);
                doubted = None;
            }
            Ok(Err(health)) => node.set_health(health),
            Err(_) if timeouts < TIMEOUTS_MAX => node.set_health(Health::Unreachable(NO_ANSWER.to_owned())),
            Err(_) => {
                node.set_lost(NO_ANSWER);
                channel = node.health_channel();
            }
        }
        if timeouts == 0 {
            sleep(INTERVAL).await;
        }
    }
}

fn differs(node: &Node, info: &NodeInfo) -> bool {
    node.info().is_some_and(|before| before.description != info.description)
}

/// Asks a node for its self-description. Errors: the health that follows from the failure.
pub(crate) async fn describe(stage: Stage, channel: &Channel) -> Result<NodeInfo, Health> {
    let answer = match stage {
        Stage::Compressor => CompressorClient::new(channel.clone()).describe(pb::DescribeRequest {}).await,
        Stage::Decoder => DecoderClient::new(channel.clone()).describe(pb::DescribeRequest {}).await,
    };
    let wire = answer.map_err(|status| from_status(&status))?.into_inner();
    let description = Description::from_wire(wire.clone())
        .map_err(|invalid| Health::Refused(format!("its description is invalid: {invalid}")))?;
    Ok(NodeInfo { description: Arc::new(description), wire: Arc::new(wire) })
}

/// Returns the health of a node that failed a call with this status.
pub(crate) fn from_status(status: &Status) -> Health {
    // Only errors of the transport have a source.
    let answered = std::error::Error::source(status).is_none();
    match status.code() {
        Code::Unavailable if answered => Health::NotServing(status.message().to_owned()),
        Code::Unimplemented => Health::Refused("it offers another service: check the flag that lists it".to_owned()),
        _ => Health::Unreachable(root_cause(status)),
    }
}

/// Returns the innermost cause of a status: "connection refused" rather than the four errors that wrap it.
pub(crate) fn root_cause(status: &Status) -> String {
    let outermost = std::error::Error::source(status);
    let causes = std::iter::successors(outermost, |error| error.source());
    causes.last().map_or_else(|| status.message().to_owned(), ToString::to_string)
}
