//! Health checks, which ask each node for its self-description at a fixed interval.
//!
//! The checks have their own thread and connections, so that they never queue behind calls. A dead or hanging node gets
//! no calls until it answers a check again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use c3_proto::pb::compressor_client::CompressorClient;
use c3_proto::pb::decoder_client::DecoderClient;
use c3_proto::{FromWire, pb};
use c3_server::propagation::Unsampled;
use c3_tls::explain_status;
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
/// Timeout of a check. A node answers from memory, even while its model computes.
const TIMEOUT: Duration = Duration::from_millis(1500);
/// Number of consecutive timeouts after which the calls in flight on a node are cancelled. This happens at most 4
/// seconds after the node's last answer.
const TIMEOUTS_MAX: usize = 2;
const NO_ANSWER: &str = "it does not answer";

/// The thread that runs health checks and discovery.
#[derive(Debug)]
pub(crate) struct HealthThread(runtime::Handle);

impl HealthThread {
    /// Starts the thread, which ends when `shutdown` is cancelled.
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

    /// Checks a node repeatedly until the returned handle is dropped. `judge` maps a description to the node's health,
    /// or returns `None` to end the checks.
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
            // A call failed during the check, so the answer may be outdated: the node may have died after it answered.
            Ok(Ok(_)) if node.unavailable_calls() != unavailable_calls => {}
            // A changed description takes effect only if the next check repeats it, because a description corrupted in
            // transit would look like another model.
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

/// Asks a node for its self-description. On failure, returns the resulting health as the error.
pub(crate) async fn describe(stage: Stage, channel: &Channel) -> Result<NodeInfo, Health> {
    let (channel, request) = (channel.clone(), pb::DescribeRequest {});
    let answer = match stage {
        Stage::Compressor => CompressorClient::with_interceptor(channel, Unsampled).describe(request).await,
        Stage::Decoder => DecoderClient::with_interceptor(channel, Unsampled).describe(request).await,
    };
    let wire = answer.map_err(|status| from_status(&status))?.into_inner();
    let description = Description::from_wire(wire.clone())
        .map_err(|invalid| Health::Refused(format!("its description is invalid: {invalid}")))?;
    Ok(NodeInfo { description: Arc::new(description), wire: Arc::new(wire) })
}

/// Returns the health of a node that failed a call with this status.
pub(crate) fn from_status(status: &Status) -> Health {
    // Only a status made by the transport has a source. A status sent by the node has none.
    let answered = std::error::Error::source(status).is_none();
    match status.code() {
        Code::Unavailable if answered => Health::NotServing(status.message().to_owned()),
        Code::Unimplemented => Health::Refused("it does not serve this stage: list it under another flag".to_owned()),
        _ => Health::Unreachable(explain_status(status)),
    }
}
