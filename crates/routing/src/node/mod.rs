//! One node: its connections, health, self-description, circuit breaker, latency and this gateway's calls in flight.

mod in_flight;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use c3_proto::{ToWire, pb};
use c3_server::principal::InFlightCounts;
use c3_server::propagation::Propagate;
use c3_server::throttle::Throttle;
use c3_tls::{Credentials, Target};
use c3_types::{Cascade, Description, Fingerprint, Stage, limits};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tonic::codegen::InterceptedService;
use tonic::transport::Channel;

use crate::balance::Load;
use crate::breaker::{Breaker, BreakerState};
use crate::error::StartError;
use crate::outlier::LatencyTracker;

use in_flight::CallCounts;
pub(crate) use in_flight::InFlightGuard;

/// Maximum time to connect. It is short because nodes are expected to be on the same network.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval and timeout of HTTP/2 keep-alive pings, which detect a dead connection before the next call uses it.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Batches above this size are not believed: a wrong description must not flood the node.
const BATCH_TOKENS_MAX: u64 = 1 << 20;
/// Text tokens of a small call: one window of the default model at ratio 20 (text tokens per latent).
const CALL_TOKENS: u64 = 640;
/// Minimum calls in flight on a node, however small its batches are.
const CALLS_MIN: usize = 32;

/// Channel that propagates the trace context, deadline and principal of the current call.
pub(crate) type NodeChannel = InterceptedService<Channel, Propagate>;

/// A node of one stage.
#[derive(Debug)]
pub struct Node {
    pub(crate) stage: Stage,
    /// Address from the configuration, from DNS or from the node's announcement.
    pub address: String,
    target: Target,
    /// Connection for calls. Health checks use a separate connection.
    channel: Channel,
    state: Mutex<NodeRecord>,
    /// `true` from [`Node::set_lost`] until [`Node::set_info`]. Calls in flight are cancelled when it becomes `true`.
    lost: watch::Sender<bool>,
    /// Limit on the log lines of failed calls.
    pub(crate) failure_lines: Throttle<&'static str>,
    /// Notified when the health changes or a call ends. All nodes of a registry share this `Notify`.
    changed: Arc<Notify>,
}

/// Address of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeAddress<'a> {
    /// `http://HOST:PORT`, `https://HOST:PORT` or, for plain text, `HOST:PORT`.
    pub(crate) url: &'a str,
    /// Name that the certificate of an `https://` node must have; `None` for the host of the URL.
    pub(crate) name: Option<&'a str>,
}

impl<'a> From<&'a str> for NodeAddress<'a> {
    fn from(url: &'a str) -> Self {
        Self { url, name: None }
    }
}

/// Health of a node. The strings are reasons, which appear in error messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// The node takes calls.
    Ready,
    /// The node does not answer, or answers with an unexpected error.
    Unreachable(String),
    /// The node answers UNAVAILABLE: it is loading, stalled or shutting down.
    NotServing(String),
    /// The node's description is invalid, has changed, or contradicts the configuration or another node.
    Refused(String),
}

#[derive(Debug)]
struct NodeRecord {
    health: Health,
    /// Number of calls that failed because the node was unavailable.
    unavailable_calls: u64,
    /// Time when the node last became ready; `None` if it never was.
    ready_since: Option<Instant>,
    info: Option<NodeInfo>,
    load: Load,
    /// Calls in flight by principal.
    by_principal: InFlightCounts,
    ended_calls: CallCounts,
    breaker: Breaker,
    latency: LatencyTracker,
}

/// A node's last self-description: `description` is its checked form, `wire` the message as received.
#[derive(Clone, Debug)]
pub(crate) struct NodeInfo {
    pub(crate) description: Arc<Description>,
    pub(crate) wire: Arc<pb::DescribeResponse>,
}

/// Selects the nodes that may serve a call.
#[derive(Clone, Copy, Debug)]
pub struct NodeSelector<'a> {
    /// Stage of the node.
    pub stage: Stage,
    /// Fingerprint of the stage's model.
    pub fingerprint: Fingerprint,
    /// Name of the required arithmetic, which is the exact order and precision in which a decoder computes; `None`
    /// accepts any.
    pub arithmetic: Option<&'a str>,
    /// Nodes that must not be called.
    pub exclude: &'a [Arc<Node>],
}

impl NodeSelector<'_> {
    /// Returns whether the node is ready and has the model and arithmetic. Ignores `exclude` and the node's stage.
    pub(crate) fn matches(&self, node: &Node) -> bool {
        node.ready_info().is_some_and(|info| {
            let arithmetic = self.arithmetic.is_none_or(|name| name == info.description.arithmetic);
            arithmetic && info.cascade().fingerprint(self.stage) == self.fingerprint
        })
    }

    /// Returns whether `exclude` contains the node.
    pub(crate) fn excludes(&self, node: &Arc<Node>) -> bool {
        self.exclude.iter().any(|excluded| Arc::ptr_eq(excluded, node))
    }
}

impl Node {
    /// Returns a node at this address. It connects on first use. Errors: [`StartError::Address`].
    pub(crate) fn new(
        stage: Stage,
        address: &NodeAddress<'_>,
        credentials: &Credentials,
        changed: Arc<Notify>,
    ) -> Result<Self, StartError> {
        let NodeAddress { url: address, name } = *address;
        let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let malformed = |problem: String| StartError::Address {
            flag: match stage {
                Stage::Compressor => "--compressor",
                Stage::Decoder => "--decoder",
            },
            address: address.to_owned(),
            problem,
        };
        let target = match name {
            Some(name) => Target::named(&url, name, credentials),
            None => Target::new(&url, credentials),
        };
        let target = target.map_err(malformed)?;
        if target.uri().port().is_none() {
            return Err(malformed("a port is required".to_owned()));
        }
        let target = target.with(|endpoint| {
            endpoint
                .user_agent(concat!("c3-gateway/", env!("CARGO_PKG_VERSION")))
                .expect("the name of a crate is a valid header")
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE)
                .keep_alive_while_idle(true)
                .tcp_nodelay(true)
        });
        let state = NodeRecord {
            health: Health::Unreachable("it has not been checked yet".to_owned()),
            unavailable_calls: 0,
            ready_since: None,
            info: None,
            load: Load::default(),
            by_principal: InFlightCounts::default(),
            ended_calls: CallCounts::new(),
            breaker: Breaker::default(),
            latency: LatencyTracker::default(),
        };
        Ok(Self {
            stage,
            address: address.to_owned(),
            channel: target.connect_lazy(),
            target,
            state: Mutex::new(state),
            lost: watch::Sender::new(false),
            failure_lines: Throttle::default(),
            changed,
        })
    }

    /// Returns a decoder at this address.
    #[cfg(test)]
    pub(crate) fn test_decoder(address: &str) -> Self {
        Self::new(Stage::Decoder, &address.into(), &Credentials::default(), Arc::default()).unwrap()
    }

    /// Returns a new connection for health checks. It connects on first use.
    pub(crate) fn health_channel(&self) -> Channel {
        self.target.connect_lazy()
    }

    /// Returns a client of the node's `Compressor` service.
    pub(crate) fn compressor(&self) -> pb::compressor_client::CompressorClient<NodeChannel> {
        pb::compressor_client::CompressorClient::with_interceptor(self.channel.clone(), Propagate)
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
    }

    /// Returns a client of the node's `Decoder` service.
    pub(crate) fn decoder(&self) -> pb::decoder_client::DecoderClient<NodeChannel> {
        pb::decoder_client::DecoderClient::with_interceptor(self.channel.clone(), Propagate)
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
    }

    /// Returns the last self-description, even if the node is not ready; `None` before the first.
    pub(crate) fn info(&self) -> Option<NodeInfo> {
        self.state().info.clone()
    }

    /// Returns the last self-description if the node is ready.
    pub(crate) fn ready_info(&self) -> Option<NodeInfo> {
        let state = self.state();
        state.info.clone().filter(|_| state.health == Health::Ready)
    }

    /// Returns the node's stage.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Returns whether the node takes calls.
    pub fn is_ready(&self) -> bool {
        self.ready_info().is_some()
    }

    /// Returns the text tokens in flight that keep the node busy: its current batch and the next one.
    pub fn tokens_to_saturate(&self) -> u64 {
        let batch = self.info().map_or(0, |info| info.description.batch_tokens_max);
        2 * batch.min(BATCH_TOKENS_MAX)
    }

    /// Returns the calls in flight that keep the node busy.
    pub(crate) fn calls_to_saturate(&self) -> usize {
        CALLS_MIN.max((self.tokens_to_saturate() / CALL_TOKENS) as usize)
    }

    /// Returns the name of the node's arithmetic, if the node has described itself.
    pub fn arithmetic(&self) -> Option<String> {
        self.info().map(|info| info.description.arithmetic.clone())
    }

    pub(crate) fn health(&self) -> Health {
        self.state().health.clone()
    }

    /// Returns whether the circuit breaker is open or half-open.
    pub(crate) fn is_ejected(&self) -> bool {
        self.state().breaker.is_open()
    }

    /// Returns whether the circuit breaker admits a call now.
    pub(crate) fn admits(&self) -> bool {
        self.state().breaker.admits(Instant::now())
    }

    /// Returns the state of the circuit breaker now.
    pub(crate) fn breaker_state(&self) -> BreakerState {
        self.state().breaker.state(Instant::now())
    }

    /// Returns the name of the node's gRPC service.
    pub(crate) fn service(&self) -> &'static str {
        match self.stage {
            Stage::Compressor => pb::compressor_server::SERVICE_NAME,
            Stage::Decoder => pb::decoder_server::SERVICE_NAME,
        }
    }

    /// Returns the host and port of the address.
    pub(crate) fn host_and_port(&self) -> (&str, u16) {
        let uri = self.target.uri();
        (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or_default())
    }

    /// Returns the load that the balancer compares.
    pub(crate) fn load(&self) -> Load {
        let state = self.state();
        Load { ready_for: state.ready_since.map(|since| since.elapsed()), ..state.load }
    }

    /// Returns a copy of the latency tracker, for outlier detection.
    pub(crate) fn latency(&self) -> LatencyTracker {
        self.state().latency
    }

    /// Stores a self-description, the load that it reports, and the health. The node no longer counts as lost.
    pub(crate) fn set_info(&self, info: NodeInfo, health: Health) {
        {
            let mut state = self.state();
            let load = info.wire.load.unwrap_or_default();
            state.load.reported_tokens = load.queued_tokens.saturating_add(load.running_tokens);
            state.load.own_tokens_at_report = state.load.own_tokens;
            state.info = Some(info);
        }
        self.lost.send_replace(false);
        self.set_health(health);
    }

    /// Stores the health. Unless only the reason changed, also logs the change and wakes waiting calls. A node that
    /// becomes ready again starts with a closed breaker and no latency samples.
    pub(crate) fn set_health(&self, health: Health) {
        let (before, was_ready) = {
            let mut state = self.state();
            let was_ready = state.ready_since.is_some();
            let before = std::mem::replace(&mut state.health, health.clone());
            if health == Health::Ready && before != Health::Ready {
                if was_ready {
                    // The process may have restarted, so its history is discarded.
                    state.breaker.reset();
                    state.latency = LatencyTracker::default();
                }
                state.ready_since = Some(Instant::now());
            }
            (before, was_ready)
        };
        if std::mem::discriminant(&before) == std::mem::discriminant(&health) {
            return;
        }
        match health {
            Health::Ready => tracing::info!(stage = %self.stage, address = self.address, "node is ready"),
            Health::NotServing(reason) if !was_ready => {
                tracing::info!(stage = %self.stage, address = self.address, reason, "node is not ready yet");
            }
            Health::Unreachable(reason) | Health::NotServing(reason) | Health::Refused(reason) => {
                tracing::warn!(stage = %self.stage, address = self.address, reason, "node is not ready");
            }
        }
        self.changed.notify_waiters();
    }

    /// Counts a call that failed because the node is unavailable, and stores the resulting health.
    pub(crate) fn record_unavailable(&self, health: Health) {
        self.state().unavailable_calls += 1;
        self.set_health(health);
    }

    /// Returns the number of calls that failed because the node was unavailable.
    pub(crate) fn unavailable_calls(&self) -> u64 {
        self.state().unavailable_calls
    }

    /// Marks the node as unreachable and cancels the calls in flight on it.
    pub(crate) fn set_lost(&self, reason: &str) {
        self.set_health(Health::Unreachable(reason.to_owned()));
        self.lost.send_replace(true);
    }

    /// Waits until the node is lost.
    pub(crate) async fn lost(&self) {
        // Cannot fail: the sender lives as long as the node.
        let _ = self.lost.subscribe().wait_for(|&lost| lost).await;
    }

    /// Opens the circuit breaker, because the node gave a wrong answer. `reason` is logged.
    pub fn eject(&self, reason: &str) {
        self.state().breaker.eject(Instant::now());
        self.on_open(reason);
    }

    /// Logs the ejection and discards the latency samples, which may be outdated when the node returns.
    fn on_open(&self, reason: &str) {
        self.state().latency = LatencyTracker::default();
        tracing::warn!(stage = %self.stage, address = self.address, reason, "node is ejected");
    }

    fn state(&self) -> MutexGuard<'_, NodeRecord> {
        // No code that holds this lock panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ToWire for Node {
    type Wire = pb::Node;

    fn to_wire(&self) -> pb::Node {
        let (state, problem) = match self.health() {
            Health::Ready => (pb::NodeState::Ready, String::new()),
            Health::Unreachable(reason) => (pb::NodeState::Unreachable, reason),
            Health::NotServing(reason) => (pb::NodeState::NotServing, reason),
            Health::Refused(reason) => (pb::NodeState::Refused, reason),
        };
        pb::Node {
            address: self.address.clone(),
            stage: self.stage.to_wire(),
            state: state as i32,
            problem,
            description: self.info().map(|info| pb::DescribeResponse::clone(&info.wire)),
            calls_in_flight: self.load().calls as u32,
        }
    }
}

impl NodeInfo {
    /// Returns the cascade that the node's model belongs to.
    pub(crate) fn cascade(&self) -> &Cascade {
        &self.description.cascade
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::CallOutcome;

    fn node(address: &str) -> Result<Node, StartError> {
        Node::new(Stage::Decoder, &address.into(), &Credentials::default(), Arc::default())
    }

    #[tokio::test]
    async fn addresses_are_checked() {
        for right in ["127.0.0.1:7302", "https://decoder-0.decoders:7302", "http://[::1]:7302"] {
            assert!(node(right).is_ok(), "{right}");
        }
        for wrong in ["", "decoder", "http://decoder", "https://decoder", "ftp://decoder:7302", "http://a b:1"] {
            let error = node(wrong).unwrap_err().to_string();
            assert!(error.starts_with("--decoder: ") && !error.contains('\n'), "{error}");
        }
    }

    #[tokio::test]
    async fn calls_end_when_the_node_is_lost() {
        let node = Arc::new(node("127.0.0.1:7302").unwrap());
        let waiting = tokio::spawn({
            let node = Arc::clone(&node);
            async move { node.lost().await }
        });
        tokio::task::yield_now().await;
        node.set_health(Health::Unreachable("one call failed".to_owned()));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        node.set_lost("it does not answer");
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn a_node_that_fails_its_calls_is_ejected_until_it_restarts() {
        let node = Arc::new(node("127.0.0.1:7302").unwrap());
        node.set_health(Health::Ready);
        for _ in 0..5 {
            node.acquire(1, 9, &[]).unwrap().finish(CallOutcome::Failed);
        }
        assert!(node.is_ejected() && !node.admits());
        node.set_health(Health::NotServing("draining".to_owned()));
        node.set_health(Health::Ready);
        assert!(!node.is_ejected());
    }
}
