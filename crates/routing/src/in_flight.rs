//! A call in flight on a node: its place, and what its end says of the node.

use std::sync::Arc;
use std::time::Duration;

use c3_server::caller::{self, Caller};
use tokio::time::Instant;

use super::Node;
use crate::nodes::breaker::Outcome;

/// Part of the usual time after which a call that shows how a node does is late.
const PROBE_LATE: f64 = 0.5;

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
    /// When it is late, as far as is known.
    late_after: Option<Duration>,
    ended: Option<Outcome>,
}

impl Node {
    /// A place for a call that costs so many text tokens, if fewer than `calls_max` are in flight. A caller who has none in
    /// flight here does not wait for those of others: beyond `calls_max` as many more are let in.
    pub(crate) fn lease(self: &Arc<Self>, tokens: u64, calls_max: usize) -> Option<Lease> {
        let (mut state, caller) = (self.state(), caller::current());
        let most = if state.by_caller.of(caller) > 0 { calls_max } else { 2 * calls_max };
        if state.load.calls >= most {
            return None;
        }
        state.load.calls += 1;
        state.by_caller.begin(caller);
        state.load.own_tokens += tokens;
        let probe = state.breaker.begun();
        Some(Lease {
            node: Arc::clone(self),
            caller,
            tokens,
            work: state.load.tokens(),
            begun: Instant::now(),
            probe,
            late_after: None,
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

    /// The call is late after so long; one that is to show how a node does a little sooner.
    pub(crate) fn late_after(&mut self, after: Option<Duration>) -> Option<Duration> {
        self.late_after = after.map(|after| if self.probe { after.mul_f64(PROBE_LATE) } else { after });
        self.late_after
    }

    /// How the call ended. One that is dropped without an end was given up, which says something of the node only where it
    /// was late by then: it counts as beaten.
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.ended = Some(outcome);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        let late = self.late_after.is_some_and(|after| took > after);
        let outcome =
            self.ended.unwrap_or(if late { Outcome::Beaten { begun: self.begun } } else { Outcome::Neither });
        let opened = {
            let mut state = self.node.state();
            // Those before it, or those of its batch that came later.
            let work = self.work.max(state.load.tokens());
            state.load.calls -= 1;
            state.by_caller.end(self.caller);
            state.load.own_tokens -= self.tokens;
            if matches!(outcome, Outcome::Answered | Outcome::Beaten { .. }) {
                state.pace.add(work, took);
            }
            state.breaker.ended(self.probe, outcome, Instant::now())
        };
        if opened {
            let why = if matches!(outcome, Outcome::Beaten { .. }) {
                "it is late with its calls"
            } else {
                "it fails its calls"
            };
            self.node.left_out(why);
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
        let leases = [node.lease(100, 2).unwrap(), node.lease(50, 2).unwrap()];
        assert!(node.lease(1, 2).is_none());
        assert_eq!((node.load().calls, node.load().own_tokens), (2, 150));
        drop(leases);
        assert_eq!(node.load(), Load::default());
    }

    #[tokio::test]
    async fn a_caller_does_not_wait_for_the_calls_of_others() {
        let node = Arc::new(Node::new(Stage::Decoder, "127.0.0.1:7302", Arc::default()).unwrap());
        let of = |number| Caller(number).within(|| node.lease(1, 2));
        let mut greedy = Vec::from_iter((0..2).map(|_| of(1).unwrap()));
        assert!(of(1).is_none());
        let others = [of(2).unwrap(), of(3).unwrap()];
        assert!(of(2).is_none() && of(4).is_none());
        greedy.clear();
        assert!(of(1).is_some());
        drop(others);
        assert_eq!((node.load(), node.state().by_caller.callers()), (Load::default(), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_with_much_to_do_is_not_slow() {
        let node = || Arc::new(Node::new(Stage::Decoder, "127.0.0.1:7302", Arc::default()).unwrap());
        let [idle, busy] = [node(), node()];
        let call = Duration::from_secs(1);
        for _ in 0..5 {
            // As fast as each other, with ten times as much work.
            for (node, calls, tokens) in [(&idle, 1, 1_000), (&busy, 10, 1_000)] {
                let leases = Vec::from_iter((0..calls).map(|_| node.lease(tokens, 99).unwrap()));
                tokio::time::advance(calls * call).await;
                leases.into_iter().for_each(|lease| lease.end(Outcome::Answered));
            }
        }
        assert!(!busy.is_slow([idle.pace()].into_iter()));
        assert!(!idle.is_slow([busy.pace()].into_iter()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_beaten_again_and_again_is_left_out() {
        let node = Arc::new(Node::new(Stage::Decoder, "127.0.0.1:7302", Arc::default()).unwrap());
        let usual = Duration::from_secs(1);
        let begin = || {
            let mut lease = node.lease(1, 9).unwrap();
            lease.late_after(Some(usual));
            lease
        };
        for _ in 0..9 {
            // Whose caller left in time says nothing.
            let (soon, beaten) = (begin(), begin());
            tokio::time::advance(usual / 2).await;
            drop(soon);
            assert!(!node.is_ejected());
            tokio::time::advance(usual).await;
            drop(beaten);
            if node.is_ejected() {
                return;
            }
        }
        panic!("it is asked as before");
    }
}
