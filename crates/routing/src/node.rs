//! One node: its connections, what it said of itself, its breaker, and this gateway's calls on it.

mod lease;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use c3_proto::{CascadeName, Description, Stage, limits, pb};
use c3_server::caller::InFlight;
use c3_server::propagation::Propagate;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tonic::codegen::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use super::balance::Load;
use super::breaker::Breaker;
use super::pace::Pace;
use crate::error::Error;

pub(crate) use lease::Lease;

/// How long a connection may take: nodes are near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often, and for how long at most, a silent connection is asked whether the other side still lives: one that died
/// is made anew before the next call needs it.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// A channel that carries the trace along.
pub(crate) type NodeChannel = InterceptedService<Channel, Propagate>;

/// A node of one stage.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) stage: Stage,
    /// As configured, or as it announced itself.
    pub(crate) address: String,
    endpoint: Endpoint,
    /// For work. Probes have a connection of their own.
    channel: Channel,
    state: Mutex<State>,
    /// Whether it is lost: calls in flight on it are given up then.
    lost: watch::Sender<bool>,
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
    /// Calls on which it failed as one that takes none.
    calls_failed: u64,
    /// Since when it is ready, where it was not when this gateway first saw it.
    ready_since: Option<Instant>,
    /// What it last said of itself.
    known: Option<Known>,
    load: Load,
    /// Calls in flight, by caller.
    by_caller: InFlight,
    breaker: Breaker,
    pace: Pace,
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
        let endpoint = endpoint
            .user_agent(concat!("c3-gateway/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| wrong(error.to_string()))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        let state = State {
            condition: Condition::Unreachable("it was not asked yet".to_owned()),
            calls_failed: 0,
            ready_since: None,
            known: None,
            load: Load::default(),
            by_caller: InFlight::default(),
            breaker: Breaker::default(),
            pace: Pace::default(),
        };
        Ok(Self {
            stage,
            address: address.to_owned(),
            channel: endpoint.connect_lazy(),
            endpoint,
            state: Mutex::new(state),
            lost: watch::Sender::new(false),
            changed,
        })
    }

    /// A connection beside the one for work, made when first used.
    pub(crate) fn connection_for_probes(&self) -> Channel {
        self.endpoint.connect_lazy()
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

    /// Whether its breaker is open.
    pub(crate) fn is_ejected(&self) -> bool {
        self.state().breaker.is_open()
    }

    /// Whether its breaker admits a call.
    pub(crate) fn admits(&self) -> bool {
        self.state().breaker.admits(Instant::now())
    }

    /// Its load, for the balancer.
    pub(crate) fn load(&self) -> Load {
        let state = self.state();
        Load { ready_for: state.ready_since.map(|since| since.elapsed()), ..state.load }
    }

    /// How fast it is.
    pub(crate) fn pace(&self) -> Pace {
        self.state().pace
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
        self.lost.send_replace(false);
        self.set(condition);
    }

    /// Takes note of whether the node takes calls.
    pub(crate) fn set(&self, condition: Condition) {
        let before = {
            let mut state = self.state();
            let before = std::mem::replace(&mut state.condition, condition.clone());
            if condition == Condition::Ready && before != Condition::Ready && state.ready_since.is_some() {
                // Another program, for all that is known here.
                state.breaker.reset();
                state.pace = Pace::default();
            }
            if condition == Condition::Ready && before != Condition::Ready {
                state.ready_since = Some(Instant::now());
            }
            before
        };
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

    /// A call failed on it, in a way that says that it takes none.
    pub(crate) fn call_failed(&self, condition: Condition) {
        self.state().calls_failed += 1;
        self.set(condition);
    }

    /// On how many calls it has failed so.
    pub(crate) fn calls_failed(&self) -> u64 {
        self.state().calls_failed
    }

    /// It has not answered for so long that calls in flight on it are given up.
    pub(crate) fn lose(&self, why: &str) {
        self.set(Condition::Unreachable(why.to_owned()));
        self.lost.send_replace(true);
    }

    /// Waits until it is lost.
    pub(crate) async fn lost(&self) {
        // The sender lives as long as the node.
        let _ = self.lost.subscribe().wait_for(|&lost| lost).await;
    }

    /// It was proven wrong, or is far slower than others: only probes come through for a while.
    pub(crate) fn eject(&self, why: &str) {
        self.state().breaker.eject(Instant::now());
        self.left_out(why);
    }

    /// Its breaker opened: how fast it was before says nothing of when it comes back.
    fn left_out(&self, why: &str) {
        self.state().pace = Pace::default();
        tracing::warn!(stage = %self.stage, address = self.address, why, "node is left out for a while");
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

#[cfg(test)]
mod tests {
    use super::super::breaker::Outcome;
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
    async fn calls_are_given_up_where_the_node_is_lost() {
        let node = Arc::new(node("127.0.0.1:7302").unwrap());
        let waiting = tokio::spawn({
            let node = Arc::clone(&node);
            async move { node.lost().await }
        });
        tokio::task::yield_now().await;
        node.set(Condition::Unreachable("one call failed".to_owned()));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        node.lose("it does not answer");
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn a_node_that_fails_its_calls_is_left_out_until_it_comes_back() {
        let node = Arc::new(node("127.0.0.1:7302").unwrap());
        node.set(Condition::Ready);
        for _ in 0..5 {
            node.lease(1, 9, &[]).unwrap().end(Outcome::Failed);
        }
        assert!(node.is_ejected() && !node.admits());
        node.set(Condition::NotServing("draining".to_owned()));
        node.set(Condition::Ready);
        assert!(!node.is_ejected());
    }
}
