//! Which node gets the next call: the one with the least work.
//!
//! A node's work is what it last said of itself and what this gateway has given it since. Its own calls are part of
//! what it reported, so they are taken off first: counted twice, a gateway would flee from the node it just used; not
//! counted until the next report, it would send every call of a second to the same one.

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
}

impl Load {
    /// Text tokens ahead of a new call, near enough.
    fn tokens(&self) -> u64 {
        self.reported_tokens.saturating_sub(self.own_tokens_then) + self.own_tokens
    }
}

/// The index of the least loaded; among equals the first from `turn` on, so that idle nodes take turns.
pub(crate) fn least_loaded(loads: &[Load], turn: usize) -> Option<usize> {
    let count = loads.len();
    let in_turn = (0..count).map(|i| (turn % count + i) % count);
    in_turn.min_by_key(|&i| (loads[i].tokens(), loads[i].calls))
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
        })
    }

    proptest! {
        #[test]
        fn nobody_has_less_than_the_one_that_is_picked(loads in prop::collection::vec(load(), 1..8), turn: usize) {
            let picked = loads[least_loaded(&loads, turn).unwrap()];
            prop_assert!(loads.iter().all(|other| picked.tokens() <= other.tokens()));
        }

        #[test]
        fn equal_nodes_take_turns(count in 1usize..8, rounds in 1usize..5) {
            let loads = vec![Load::default(); count];
            let mut calls = vec![0; count];
            for turn in 0..count * rounds {
                calls[least_loaded(&loads, turn).unwrap()] += 1;
            }
            prop_assert_eq!(calls, vec![rounds; count]);
        }

        #[test]
        fn calls_spread_by_what_others_left(busy in prop::collection::vec(0u64..20, 2..6), calls in 1u64..200) {
            let reported = |&reported_tokens| Load { reported_tokens, ..Load::default() };
            let mut loads: Vec<Load> = busy.iter().map(reported).collect();
            for turn in 0..calls {
                let picked = least_loaded(&loads, turn as usize).unwrap();
                loads[picked].own_tokens += 1;
                loads[picked].calls += 1;
            }
            // Water finds its level: who got a call is no fuller than one call over the emptiest.
            let least = loads.iter().map(Load::tokens).min().unwrap();
            for load in loads.iter().filter(|load| load.calls > 0) {
                prop_assert!(load.tokens() <= least + 1);
            }
        }
    }

    #[test]
    fn own_calls_count_once() {
        let quiet = Load { reported_tokens: 100, own_tokens_then: 100, own_tokens: 0, calls: 0 };
        let busy = Load { reported_tokens: 10, ..Load::default() };
        assert_eq!(least_loaded(&[busy, quiet], 0), Some(1));
        assert_eq!(least_loaded(&[], 3), None);
    }
}
