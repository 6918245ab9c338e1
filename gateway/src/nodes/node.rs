//! One node: its channel, what it said of itself, and this gateway's calls on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use c3_proto::{CascadeName, Description, Stage, limits, pb};
use c3_service::propagation::Propagate;
use tokio::sync::Notify;
use tonic::codegen::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use super::balance::Load;
use crate::error::Error;

/// How long a connection may take: nodes are near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often, and for how long at most, a silent connection is asked whether the other side still lives. Without it a
/// node that hangs would hold its calls until their time-out.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A channel that carries the trace along.
pub(crate) type NodeChannel = InterceptedService<Channel, Propagate>;

/// A node of one stage.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) stage: Stage,
    /// As configured.
    pub(crate) address: String,
    channel: Channel,
    state: Mutex<State>,
    /// Told when the state changes or a call ends.
    changed: Arc<Notify>,
}

/// Whether a node takes calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Ready,
    /// It does not answer.
    Unreachable(String),
    /// It answers that it is loading or draining.
    NotServing(String),
    /// It contradicts its place or another node.
    Refused(String),
}

#[derive(Debug)]
struct State {
    condition: Condition,
    /// What it last said of itself.
    known: Option<Known>,
    load: Load,
}

/// What a node said of itself.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) description: Arc<Description>,
    pub(crate) wire: Arc<pb::DescribeResponse>,
}

impl Node {
    /// A node at an address, `http://host:port` or `host:port`. Connects when it is first needed.
    pub(crate) fn new(stage: Stage, address: &str, changed: Arc<Notify>) -> Result<Self, Error> {
        let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let wrong = |problem: String| Error::Setting {
            setting: match stage {
                Stage::Compressor => "--compressor",
                Stage::Decoder => "--decoder",
            },
            problem: format!("`{address}` is not http://HOST:PORT ({problem})"),
        };
        let endpoint = Endpoint::from_shared(url).map_err(|error| wrong(error.to_string()))?;
        if endpoint.uri().scheme_str() != Some("http") || endpoint.uri().port().is_none() {
            return Err(wrong("TLS is not spoken yet, and the port must be given".to_owned()));
        }
        let channel = endpoint
            .user_agent(concat!("c3-gateway/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| wrong(error.to_string()))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
            .connect_lazy();
        let state = State {
            condition: Condition::Unreachable("it was not asked yet".to_owned()),
            known: None,
            load: Load::default(),
        };
        Ok(Self { stage, address: address.to_owned(), channel, state: Mutex::new(state), changed })
    }

    /// A client of the node as a compressor.
    pub(crate) fn compressor(&self) -> pb::compressor_client::CompressorClient<NodeChannel> {
        pb::compressor_client::CompressorClient::with_interceptor(self.channel.clone(), Propagate)
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
    }

    /// A client of the node as a decoder.
    pub(crate) fn decoder(&self) -> pb::decoder_client::DecoderClient<NodeChannel> {
        pb::decoder_client::DecoderClient::with_interceptor(self.channel.clone(), Propagate)
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
    }

    /// What the node last said of itself, whether or not it takes calls now.
    pub(crate) fn known(&self) -> Option<Known> {
        self.state().known.clone()
    }

    /// What the node said of itself, if it takes calls.
    pub(crate) fn ready(&self) -> Option<Known> {
        let state = self.state();
        state.known.clone().filter(|_| state.condition == Condition::Ready)
    }

    /// Whether it takes calls.
    pub(crate) fn condition(&self) -> Condition {
        self.state().condition.clone()
    }

    /// Its load, for the balancer.
    pub(crate) fn load(&self) -> Load {
        self.state().load
    }

    /// Takes what the node says of itself, with the condition that follows from it.
    pub(crate) fn described(&self, known: Known, condition: Condition) {
        {
            let mut state = self.state();
            let load = known.wire.load.unwrap_or_default();
            state.load.reported_tokens = load.queued_tokens.saturating_add(load.running_tokens);
            state.load.own_tokens_then = state.load.own_tokens;
            state.known = Some(known);
        }
        self.set(condition);
    }

    /// Takes note of whether the node takes calls.
    pub(crate) fn set(&self, condition: Condition) {
        let before = std::mem::replace(&mut self.state().condition, condition.clone());
        if std::mem::discriminant(&before) == std::mem::discriminant(&condition) {
            return;
        }
        match condition {
            Condition::Ready => tracing::info!(stage = %self.stage, address = self.address, "node is ready"),
            problem => {
                tracing::warn!(stage = %self.stage, address = self.address, ?problem, "node is not ready")
            }
        }
        self.changed.notify_waiters();
    }

    /// A place for a call that costs so many text tokens, if fewer than `calls_max` are in flight.
    pub(crate) fn lease(self: &Arc<Self>, tokens: u64, calls_max: usize) -> Option<Lease> {
        let mut state = self.state();
        if state.load.calls >= calls_max {
            return None;
        }
        state.load.calls += 1;
        state.load.own_tokens += tokens;
        Some(Lease { node: Arc::clone(self), tokens })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if something did, numbers and names are whole all the same.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// The cascade that it serves a stage of.
    pub(crate) fn cascade(&self) -> &CascadeName {
        &self.description.cascade
    }
}

/// A call in flight on a node, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    node: Arc<Node>,
    tokens: u64,
}

impl Lease {
    /// The node.
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        {
            let mut state = self.node.state();
            state.load.calls -= 1;
            state.load.own_tokens -= self.tokens;
        }
        self.node.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(address: &str) -> Result<Node, Error> {
        Node::new(Stage::Decoder, address, Arc::default())
    }

    #[tokio::test]
    async fn addresses_are_checked() {
        for right in ["127.0.0.1:7302", "http://decoder-0.decoders:7302", "http://[::1]:7302"] {
            assert!(node(right).is_ok(), "{right}");
        }
        for wrong in ["", "decoder", "http://decoder", "https://decoder:7302", "http://a b:1"] {
            let error = node(wrong).unwrap_err().to_string();
            assert!(error.starts_with("--decoder: ") && !error.contains('\n'), "{error}");
        }
    }

    #[tokio::test]
    async fn a_lease_counts_until_it_is_dropped() {
        let node = Arc::new(node("127.0.0.1:7302").unwrap());
        let leases = [node.lease(100, 2).unwrap(), node.lease(50, 2).unwrap()];
        assert!(node.lease(1, 2).is_none());
        assert_eq!((node.load().calls, node.load().own_tokens), (2, 150));
        drop(leases);
        assert_eq!(node.load(), Load::default());
    }
}
