//! Load balancing: power of two choices. Of two nodes drawn at random, the one with less work gets the call.
//!
//! A node's work is an estimate in text tokens: the tokens in the node's last report, minus the tokens of this
//! gateway's calls in flight at that time, plus the tokens of this gateway's calls in flight now. Without the
//! subtraction, calls would count twice, and the gateway would avoid the node that it just used. Without the addition,
//! all calls until the next report would go to the same node.
//!
//! The node with the least work of all would be a worse pick: several gateways share the nodes, and reports are up to a
//! second old, so all gateways would pick the node that was idle a second ago.

use std::time::Duration;

/// Slow start: time for which a node that became ready gets fewer calls, because its caches are cold and its load is
/// unknown.
const SLOW_START: Duration = Duration::from_secs(5);
/// Initial warmth of a node; the warmth rises to 1. The balancer divides a node's work by its warmth, so the work of a
/// new node counts tenfold at first.
const WARMTH_MIN: f64 = 0.1;
/// Tokens added to each node's work, so that slow start affects an idle node too.
const BASE_TOKENS: u64 = 100;

/// Load of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Text tokens queued or running, as the node last reported.
    pub(crate) reported_tokens: u64,
    /// Text tokens of this gateway's calls in flight at the time of the report.
    pub(crate) own_tokens_at_report: u64,
    /// Text tokens of this gateway's calls in flight now.
    pub(crate) own_tokens: u64,
    /// This gateway's calls in flight.
    pub(crate) calls: usize,
    /// Time since the node last became ready; `None` if it never was.
    pub(crate) ready_for: Option<Duration>,
}

impl Load {
    /// Returns an estimate of the text tokens ahead of a new call.
    pub(crate) fn tokens(&self) -> u64 {
        self.reported_tokens.saturating_sub(self.own_tokens_at_report) + self.own_tokens
    }

    /// Returns the work that the balancer compares. Slow start increases the work of a new node.
    fn weight(&self) -> f64 {
        let warmth = self.ready_for.map_or(1.0, |time| time.as_secs_f64() / SLOW_START.as_secs_f64());
        (self.tokens() + BASE_TOKENS) as f64 / warmth.clamp(WARMTH_MIN, 1.0)
    }
}

/// Returns the index of the node that gets the next call, or `None` if `loads` is empty. Of two nodes with equal work,
/// the one with fewer calls is picked. `draw` returns a random number below its argument.
pub(crate) fn pick(loads: &[Load], mut draw: impl FnMut(usize) -> usize) -> Option<usize> {
    let count = loads.len();
    if count < 2 {
        return count.checked_sub(1);
    }
    let one = draw(count);
    let other = (one + 1 + draw(count - 1)) % count;
    let (a, b) = (&loads[one], &loads[other]);
    let less = b.weight().total_cmp(&a.weight()).then(b.calls.cmp(&a.calls));
    Some(if less.is_lt() { other } else { one })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn load() -> impl Strategy<Value = Load> {
        (0u64..50, 0u64..50, 0u64..50, 0usize..4).prop_map(|(reported, then, own, calls)| Load {
            reported_tokens: reported,
            own_tokens_at_report: then,
            own_tokens: own,
            calls,
            ready_for: None,
        })
    }

    fn picked(loads: &[Load], dice: &mut fastrand::Rng) -> usize {
        pick(loads, |below| dice.usize(..below)).unwrap()
    }

    proptest! {
        #[test]
        fn the_node_with_the_most_work_is_never_picked(
            mut loads in prop::collection::vec(load(), 2..8), seed: u64,
        ) {
            let most = loads.iter().map(Load::tokens).max().unwrap();
            loads.push(Load { own_tokens: most + 1, ..Load::default() });
            prop_assert!(picked(&loads, &mut fastrand::Rng::with_seed(seed)) < loads.len() - 1);
        }

        #[test]
        fn equal_nodes_get_about_equally_many_calls(count in 2usize..8, seed: u64) {
            let (loads, mut dice) = (vec![Load::default(); count], fastrand::Rng::with_seed(seed));
            let mut calls = vec![0; count];
            (0..1000 * count).for_each(|_| calls[picked(&loads, &mut dice)] += 1);
            prop_assert!(calls.iter().all(|calls| (800..1200).contains(calls)), "{:?}", calls);
        }

        #[test]
        fn calls_go_to_where_other_gateways_left_room(
            busy in prop::collection::vec(0u64..20, 2..6), calls in 100u64..200, seed: u64,
        ) {
            let reported = |&reported_tokens| Load { reported_tokens, ..Load::default() };
            let (mut loads, mut dice) = (Vec::from_iter(busy.iter().map(reported)), fastrand::Rng::with_seed(seed));
            for _ in 0..calls {
                let picked = picked(&loads, &mut dice);
                loads[picked].own_tokens += 1;
                loads[picked].calls += 1;
            }
            // With two choices, the fullest node is about log log n above the mean. The bound of 8 leaves tolerance.
            let mean = loads.iter().map(Load::tokens).sum::<u64>() / loads.len() as u64;
            prop_assert!(loads.iter().all(|load| load.tokens() <= mean.max(20) + 8), "{:?}", loads);
        }
    }

    #[test]
    fn own_calls_are_counted_once() {
        let quiet = Load { reported_tokens: 100, own_tokens_at_report: 100, ..Load::default() };
        let busy = Load { reported_tokens: 10, ..Load::default() };
        let mut dice = fastrand::Rng::with_seed(1);
        assert_eq!(picked(&[busy, quiet], &mut dice), 1);
        assert_eq!(pick(&[], |_| 0), None);
    }

    #[test]
    fn a_new_node_gets_few_calls_at_first() {
        let new = |seconds| Load { ready_for: Some(Duration::from_secs(seconds)), ..Load::default() };
        let used = Load { own_tokens: 5 * BASE_TOKENS, ..Load::default() };
        let mut dice = fastrand::Rng::with_seed(1);
        assert_eq!(picked(&[new(0), used], &mut dice), 1);
        assert_eq!(picked(&[new(3), used], &mut dice), 0);
    }
}
