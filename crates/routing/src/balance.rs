//! Which node gets the next call: of two that are drawn, the one with less work.
//!
//! A node's work is what it last said of itself and what this gateway has given it since. Its own calls are part of
//! what it reported, so they are taken off first: counted twice, a gateway would flee from the node it just used; not
//! counted until the next report, it would send every call of a second to the same one.
//!
//! Two that are drawn and not all of them: several gateways share the nodes, and what they know is up to a second old.
//! All would send their calls to the one that was idle then.

use std::time::Duration;

/// How long a node that has just come gets less than its share: its caches are cold, and its load is not known yet.
const SLOW_START: Duration = Duration::from_secs(5);
/// What it gets at first.
const WARMTH_MIN: f64 = 0.1;
/// Tokens that an idle node counts as having, so that one that has just come is not the first choice.
const IDLE_TOKENS: u64 = 100;

/// What decides between nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Text tokens that the node said wait or are computed.
    pub(crate) reported_tokens: u64,
    /// Text tokens of this gateway's calls in flight when it said so.
    pub(crate) own_tokens_then: u64,
    /// Text tokens of this gateway's calls in flight now.
    pub(crate) own_tokens: u64,
    /// This gateway's calls in flight.
    pub(crate) calls: usize,
    /// How long it has been ready; `None`: as long as this gateway knows it.
    pub(crate) ready_for: Option<Duration>,
}

impl Load {
    /// Text tokens ahead of a new call, near enough.
    pub(crate) fn tokens(&self) -> u64 {
        self.reported_tokens.saturating_sub(self.own_tokens_then) + self.own_tokens
    }

    /// Work as the balancer weighs it: the colder a node, the more it seems to have.
    fn weight(&self) -> f64 {
        let warmth = self.ready_for.map_or(1.0, |time| time.as_secs_f64() / SLOW_START.as_secs_f64());
        (self.tokens() + IDLE_TOKENS) as f64 / warmth.clamp(WARMTH_MIN, 1.0)
    }
}

/// The index of the node that gets a call: of two that are drawn the one with less work, and of equals the one with
/// fewer calls. `draw` gives a number below the one it gets.
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
            own_tokens_then: then,
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
        fn the_node_with_most_work_is_never_picked_before_one_with_less(
            mut loads in prop::collection::vec(load(), 2..8), seed: u64,
        ) {
            let most = loads.iter().map(Load::tokens).max().unwrap();
            loads.push(Load { own_tokens: most + 1, ..Load::default() });
            prop_assert!(picked(&loads, &mut fastrand::Rng::with_seed(seed)) < loads.len() - 1);
        }

        #[test]
        fn equal_nodes_get_about_as_much(count in 2usize..8, seed: u64) {
            let (loads, mut dice) = (vec![Load::default(); count], fastrand::Rng::with_seed(seed));
            let mut calls = vec![0; count];
            (0..1000 * count).for_each(|_| calls[picked(&loads, &mut dice)] += 1);
            prop_assert!(calls.iter().all(|calls| (800..1200).contains(calls)), "{:?}", calls);
        }

        #[test]
        fn calls_spread_by_what_others_left(
            busy in prop::collection::vec(0u64..20, 2..6), calls in 100u64..200, seed: u64,
        ) {
            let reported = |&reported_tokens| Load { reported_tokens, ..Load::default() };
            let (mut loads, mut dice) = (Vec::from_iter(busy.iter().map(reported)), fastrand::Rng::with_seed(seed));
            for _ in 0..calls {
                let picked = picked(&loads, &mut dice);
                loads[picked].own_tokens += 1;
                loads[picked].calls += 1;
            }
            // Two choices keep the fullest near the mean: log log n over it, and a little for luck.
            let mean = loads.iter().map(Load::tokens).sum::<u64>() / loads.len() as u64;
            prop_assert!(loads.iter().all(|load| load.tokens() <= mean.max(20) + 8), "{:?}", loads);
        }
    }

    #[test]
    fn own_calls_count_once() {
        let quiet = Load { reported_tokens: 100, own_tokens_then: 100, ..Load::default() };
        let busy = Load { reported_tokens: 10, ..Load::default() };
        let mut dice = fastrand::Rng::with_seed(1);
        assert_eq!(picked(&[busy, quiet], &mut dice), 1);
        assert_eq!(pick(&[], |_| 0), None);
    }

    #[test]
    fn a_node_that_has_just_come_gets_little_at_first() {
        let new = |seconds| Load { ready_for: Some(Duration::from_secs(seconds)), ..Load::default() };
        let used = Load { own_tokens: 5 * IDLE_TOKENS, ..Load::default() };
        let mut dice = fastrand::Rng::with_seed(1);
        assert_eq!(picked(&[new(0), used], &mut dice), 1);
        assert_eq!(picked(&[new(3), used], &mut dice), 0);
    }
}
