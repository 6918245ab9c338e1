//! Calls on a node. A guard counts each call while it is in flight, and reports its outcome to the circuit breaker and
//! its latency to outlier detection. Counters keep the number of ended calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use c3_server::ErrorKind;
use c3_server::principal::{self, Principal};
use tokio::time::Instant;

use super::Node;
use crate::breaker::CallOutcome;
use crate::outlier;

/// Number of ended calls on a node, by method and error kind; the kind is `None` for calls that succeeded.
pub(crate) type CallCounts = BTreeMap<(&'static str, Option<&'static str>), u64>;

/// Guard that counts a call as in flight on its node until the guard is dropped.
/// A drop without [`Self::finish`] means that the call was cancelled.
#[derive(Debug)]
pub(crate) struct InFlightGuard {
    node: Arc<Node>,
    principal: Principal,
    tokens: u64,
    /// Estimated text tokens that the node had to process when the call began, this call included.
    tokens_ahead: u64,
    begun: Instant,
    /// True if the call probes a half-open breaker.
    probe: bool,
    /// Nodes with which outlier detection compares this node's latency.
    peers: Vec<Arc<Node>>,
    outcome: Option<CallOutcome>,
}

impl Node {
    /// Returns a guard for a call of `tokens` text tokens, or `None` if `calls_max` calls are in flight on this node.
    /// For a principal (caller) without calls on this node, the limit is `2 * calls_max`, so that it does not have to
    /// wait for the calls of others. `peers` are the nodes that serve the same model; they may include this node.
    pub(crate) fn acquire(
        self: &Arc<Self>,
        tokens: u64,
        calls_max: usize,
        peers: &[Arc<Self>],
    ) -> Option<InFlightGuard> {
        let (mut state, principal) = (self.state(), principal::current());
        let most = if state.by_principal.count(principal) > 0 { calls_max } else { 2 * calls_max };
        if state.load.calls >= most {
            return None;
        }
        state.load.calls += 1;
        state.by_principal.add(principal);
        state.load.own_tokens += tokens;
        let probe = state.breaker.start(Instant::now());
        Some(InFlightGuard {
            node: Arc::clone(self),
            principal,
            tokens,
            tokens_ahead: state.load.tokens(),
            begun: Instant::now(),
            probe,
            peers: peers.to_vec(),
            outcome: None,
        })
    }

    /// Counts a call that ended; `error` is `None` if the call succeeded.
    pub(crate) fn count_call(&self, method: &'static str, error: Option<ErrorKind>) {
        *self.state().ended_calls.entry((method, error.map(ErrorKind::as_str))).or_default() += 1;
    }

    /// Returns the calls that ended.
    pub(crate) fn ended_calls(&self) -> CallCounts {
        self.state().ended_calls.clone()
    }
}

impl InFlightGuard {
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Returns the time since the call began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Ends the call with an outcome.
    pub(crate) fn finish(mut self, outcome: CallOutcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let latency = self.begun.elapsed();
        // Computed before this node is locked: `latency` locks the peers, and holding both locks could deadlock.
        let peers = self.peers.iter().filter(|peer| !Arc::ptr_eq(peer, &self.node));
        let threshold = outlier::outlier_threshold(peers.map(|peer| peer.latency()));
        let (outcome, opened) = {
            let mut state = self.node.state();
            // Calls that arrived later may have run in the same batch, so their tokens count too.
            let tokens = self.tokens_ahead.max(state.load.tokens());
            state.load.calls -= 1;
            state.by_principal.remove(self.principal);
            state.load.own_tokens -= self.tokens;
            let slow = outlier::seconds_per_token(tokens, latency) > threshold;
            // A cancelled call would have taken even longer. It proves something only if it was too slow already.
            let sampled = self.outcome == Some(CallOutcome::Answered) || (self.outcome.is_none() && slow);
            if sampled {
                state.latency.record(tokens, latency);
            }
            // One slow probe of a half-open breaker is enough. A median would take more probes, and a client waits for
            // each.
            let outlier = || state.latency.median().is_some_and(|median| median > threshold);
            let outcome = match self.outcome.unwrap_or(CallOutcome::Ignored) {
                _ if sampled && if self.probe { slow } else { outlier() } => CallOutcome::Outlier,
                outcome => outcome,
            };
            (outcome, state.breaker.finish(self.probe, outcome, Instant::now()))
        };
        if opened {
            self.node.on_open(match outcome {
                CallOutcome::Outlier => "it takes far longer than its peers",
                _ => "it fails its calls",
            });
        }
        self.node.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::Load;

    fn node() -> Arc<Node> {
        Arc::new(Node::test_decoder("127.0.0.1:7302"))
    }

    async fn call(node: &Arc<Node>, peers: &[Arc<Node>], seconds: u64, end: impl FnOnce(InFlightGuard)) {
        let guard = node.acquire(1000, 9, peers).unwrap();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        end(guard);
    }

    fn answered(guard: InFlightGuard) {
        guard.finish(CallOutcome::Answered);
    }

    #[tokio::test]
    async fn a_call_counts_until_its_guard_is_dropped() {
        let node = node();
        let guards = [node.acquire(100, 2, &[]).unwrap(), node.acquire(50, 2, &[]).unwrap()];
        assert!(node.acquire(1, 2, &[]).is_none());
        assert_eq!((node.load().calls, node.load().own_tokens), (2, 150));
        drop(guards);
        assert_eq!(node.load(), Load::default());
    }

    #[tokio::test]
    async fn a_principal_does_not_wait_for_the_calls_of_others() {
        let node = node();
        let acquire = |number| Principal(number).scope(|| node.acquire(1, 2, &[]));
        let mut greedy = Vec::from_iter((0..2).map(|_| acquire(1).unwrap()));
        assert!(acquire(1).is_none());
        let others = [acquire(2).unwrap(), acquire(3).unwrap()];
        assert!(acquire(2).is_none() && acquire(4).is_none());
        greedy.clear();
        assert!(acquire(1).is_some());
        drop(others);
        assert_eq!((node.load(), node.state().by_principal.principals()), (Load::default(), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_node_is_no_outlier() {
        let both = [node(), node()];
        let [idle, busy] = &both;
        for _ in 0..5 {
            // Both are equally fast, but `busy` has ten times as much work.
            for (node, calls) in [(idle, 1), (busy, 10)] {
                let guards = Vec::from_iter((0..calls).map(|_| node.acquire(1000, 99, &both).unwrap()));
                tokio::time::advance(calls * Duration::from_secs(1)).await;
                guards.into_iter().for_each(answered);
            }
        }
        assert!(busy.latency().median().is_some() && !busy.is_ejected() && !idle.is_ejected());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_node_is_ejected_even_if_its_callers_give_up() {
        let ends: [fn(InFlightGuard); 2] = [answered, drop];
        for end in ends {
            let both = [node(), node()];
            let [slow, usual] = &both;
            for _ in 0..3 {
                call(usual, &both, 1, answered).await;
            }
            let mut ejected = Vec::new();
            for _ in 0..3 {
                // A call that is cancelled early is no evidence about the node.
                call(slow, &both, 1, drop).await;
                call(slow, &both, 10, end).await;
                ejected.push(slow.is_ejected());
            }
            assert_eq!(ejected, [false, false, true]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_slow_probe_keeps_a_node_ejected_and_a_fast_one_brings_it_back() {
        let both = [node(), node()];
        let [slow, usual] = &both;
        for _ in 0..3 {
            call(usual, &both, 1, answered).await;
        }
        slow.eject("its answers are wrong");
        for (seconds, is_ejected) in [(10, true), (1, false)] {
            tokio::time::advance(Duration::from_secs(60)).await;
            assert!(slow.admits());
            call(slow, &both, seconds, answered).await;
            assert_eq!(slow.is_ejected(), is_ejected);
        }
    }
}
