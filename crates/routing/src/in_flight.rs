//! A call in flight on a node: its place, and what its end says of the node.

use std::sync::Arc;
use std::time::Duration;

use c3_server::caller::{self, Caller};
use tokio::time::Instant;

use super::Node;
use crate::nodes::breaker::Outcome;
use crate::nodes::pace;

/// A call in flight on a node, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    node: Arc<Node>,
    caller: Caller,
    tokens: u64,
    /// Text tokens that the node had to do when it began, with its own.
    work: u64,
    begun: Instant,
    /// Whether the breaker let it through to see how the node does.
    probe: bool,
    /// Nodes that compute the same, for comparison.
    peers: Vec<Arc<Node>>,
    ended: Option<Outcome>,
}

impl Node {
    /// A place for a call that costs so many text tokens, if fewer than `calls_max` are in flight. A caller who has none in
    /// flight here does not wait for those of others: beyond `calls_max` as many more are let in.
    pub(crate) fn lease(
        self: &Arc<Self>,
        tokens: u64,
        calls_max: usize,
        peers: &[Arc<Node>],
    ) -> Option<Lease> {
        let (mut state, caller) = (self.state(), caller::current());
        let most = if state.by_caller.of(caller) > 0 { calls_max } else { 2 * calls_max };
        if state.load.calls >= most {
            return None;
        }
        state.load.calls += 1;
        state.by_caller.begin(caller);
        state.load.own_tokens += tokens;
        let probe = state.breaker.begun(Instant::now());
        Some(Lease {
            node: Arc::clone(self),
            caller,
            tokens,
            work: state.load.tokens(),
            begun: Instant::now(),
            probe,
            peers: peers.to_vec(),
            ended: None,
        })
    }
}

impl Lease {
    /// The node.
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// How long the call has taken so far.
    pub(crate) fn took(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How the call ended. One that is dropped without an end was given up by its caller.
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.ended = Some(outcome);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        let peers = self.peers.iter().filter(|peer| !Arc::ptr_eq(peer, &self.node));
        let slow_above = pace::slow_above(peers.map(|peer| peer.pace())).unwrap_or(f64::INFINITY);
        let (outcome, opened) = {
            let mut state = self.node.state();
            // Those before it, or those of its batch that came later.
            let work = self.work.max(state.load.tokens());
            state.load.calls -= 1;
            state.by_caller.end(self.caller);
            state.load.own_tokens -= self.tokens;
            let is_slow = pace::pace(work, took) > slow_above;
            // How long a call would have taken that its caller gave up is known only to be more.
            let counts = self.ended == Some(Outcome::Answered) || (self.ended.is_none() && is_slow);
            if counts {
                state.pace.add(work, took);
            }
            let node_is_slow = || state.pace.known().is_some_and(|pace| pace > slow_above);
            // A probe is a call that somebody waits for: one that is slow is enough.
            let outcome = match self.ended.unwrap_or(Outcome::Neither) {
                _ if counts && if self.probe { is_slow } else { node_is_slow() } => Outcome::Slow,
                outcome => outcome,
            };
            (outcome, state.breaker.ended(self.probe, outcome, Instant::now()))
        };
        if opened && outcome == Outcome::Slow {
            self.node.left_out("it takes far longer than the others");
        } else if opened {
            self.node.left_out("it fails its calls");
        }
        self.node.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use c3_proto::Stage;

    use super::*;
    use crate::nodes::balance::Load;

    #[tokio::test]
    async fn a_lease_counts_until_it_is_dropped() {
        let node = Arc::new(Node::new(Stage::Decoder, "127.0.0.1:7302", Arc::default()).unwrap());
        let leases = [node.lease(100, 2, &[]).unwrap(), node.lease(50, 2, &[]).unwrap()];
        assert!(node.lease(1, 2, &[]).is_none());
        assert_eq!((node.load().calls, node.load().own_tokens), (2, 150));
        drop(leases);
        assert_eq!(node.load(), Load::default());
    }

    #[tokio::test]
    async fn a_caller_does_not_wait_for_the_calls_of_others() {
        let node = Arc::new(Node::new(Stage::Decoder, "127.0.0.1:7302", Arc::default()).unwrap());
        let of = |number| Caller(number).within(|| node.lease(1, 2, &[]));
        let mut greedy = Vec::from_iter((0..2).map(|_| of(1).unwrap()));
        assert!(of(1).is_none());
        let others = [of(2).unwrap(), of(3).unwrap()];
        assert!(of(2).is_none() && of(4).is_none());
        greedy.clear();
        assert!(of(1).is_some());
        drop(others);
        assert_eq!((node.load(), node.state().by_caller.callers()), (Load::default(), 0));
    }

    fn node() -> Arc<Node> {
        Arc::new(Node::new(Stage::Decoder, "127.0.0.1:7302", Arc::default()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_with_much_to_do_is_not_slow() {
        let both = [node(), node()];
        let [idle, busy] = &both;
        let call = Duration::from_secs(1);
        for _ in 0..5 {
            // As fast as each other, with ten times as much work.
            for (node, calls, tokens) in [(idle, 1, 1_000), (busy, 10, 1_000)] {
                let leases = Vec::from_iter((0..calls).map(|_| node.lease(tokens, 99, &both).unwrap()));
                tokio::time::advance(calls * call).await;
                leases.into_iter().for_each(|lease| lease.end(Outcome::Answered));
            }
        }
        assert!(busy.pace().known().is_some() && !busy.is_ejected() && !idle.is_ejected());
    }

    /// Whether a slow node is left out after each of some calls, which end so.
    async fn left_out_after(calls: usize, end: impl Fn(Lease)) -> Vec<bool> {
        let both = [node(), node()];
        let [slow, usual] = &both;
        let call = async |node: &Arc<Node>, took, end: &dyn Fn(Lease)| {
            let lease = node.lease(1000, 9, &both).unwrap();
            tokio::time::advance(took).await;
            end(lease);
        };
        for _ in 0..3 {
            call(usual, Duration::from_secs(1), &|lease| lease.end(Outcome::Answered)).await;
        }
        let mut left_out = Vec::new();
        for _ in 0..calls {
            // Whose caller leaves in time says nothing.
            call(slow, Duration::from_secs(1), &drop).await;
            call(slow, Duration::from_secs(10), &end).await;
            left_out.push(slow.is_ejected());
        }
        left_out
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_left_out_that_is_slow_thrice_even_where_nobody_waits_for_its_answers() {
        let ends: [fn(Lease); 2] = [|lease| lease.end(Outcome::Answered), drop];
        for end in ends {
            assert_eq!(left_out_after(3, end).await, [false, false, true]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_slow_probe_keeps_a_node_out_and_a_quick_one_brings_it_back() {
        let both = [node(), node()];
        let [slow, usual] = &both;
        let call = async |node: &Arc<Node>, seconds| {
            let lease = node.lease(1000, 9, &both).unwrap();
            tokio::time::advance(Duration::from_secs(seconds)).await;
            lease.end(Outcome::Answered);
        };
        for _ in 0..3 {
            call(usual, 1).await;
        }
        slow.eject("its answers are wrong");
        for (seconds, is_ejected) in [(10, true), (1, false)] {
            tokio::time::advance(Duration::from_secs(60)).await;
            assert!(slow.admits());
            call(slow, seconds).await;
            assert_eq!(slow.is_ejected(), is_ejected);
        }
    }
}
