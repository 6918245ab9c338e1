//! How long calls take: when one is so late that another node is asked beside it, and which node is far slower than the
//! others.
//!
//! Calls differ in size, so what counts is time to a token; a small call takes as long as one of a few hundred tokens. A
//! node's own pace is over all tokens that it had to do meanwhile: who has much to do is not slow.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Tokens that the smallest call counts as.
const TOKENS_MIN: u64 = 500;
/// Calls that are remembered.
const CALLS: usize = 128;
/// Calls of which the first tells something.
const CALLS_MIN: usize = 20;
/// A call is hedged once it took so many times as long as half of the calls.
const HEDGE_TIMES: f64 = 2.0;
/// No call is hedged earlier.
const HEDGE_MIN: Duration = Duration::from_millis(50);
/// A node is far slower than others where its pace is so many times theirs.
const SLOW_TIMES: f64 = 4.0;
/// Groups of calls on a node of which its pace is known, and where it was too slow not long ago.
const KNOWN_AFTER: [usize; 2] = [3, 2];

/// Time to a token of the last calls of one kind.
#[derive(Debug, Default)]
pub(crate) struct Paces(VecDeque<f64>);

impl Paces {
    /// A call was answered.
    pub(crate) fn add(&mut self, tokens: u64, took: Duration) {
        if self.0.len() == CALLS {
            self.0.pop_front();
        }
        self.0.push_back(pace(tokens, took));
    }

    /// After how long a call of so many tokens is late; `None` where too little is known.
    pub(crate) fn late_after(&self, tokens: u64) -> Option<Duration> {
        if self.0.len() < CALLS_MIN {
            return None;
        }
        let mut sorted = Vec::from_iter(self.0.iter().copied());
        let (_, median, _) = sorted.select_nth_unstable_by(CALLS_MIN.max(self.0.len()) / 2, f64::total_cmp);
        let seconds = HEDGE_TIMES * *median * tokens.max(TOKENS_MIN) as f64;
        Some(Duration::from_secs_f64(seconds).max(HEDGE_MIN))
    }
}

/// A node's own pace, over calls of all kinds: the middle one of the last groups of calls. Those that were in flight
/// together are a group, and its pace is that of the fastest: of one batch, or of one wait in a queue, all are late for one
/// reason.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// Of the last groups, the last one first.
    last: [f64; KNOWN_AFTER[0]],
    groups: usize,
    /// When the first call of the last group had ended.
    ended: Option<Instant>,
}

impl Pace {
    /// A call was answered, or given up, after so long, in which the node had so many tokens to do.
    pub(crate) fn add(&mut self, tokens: u64, took: Duration) {
        let (pace, now) = (pace(tokens, took), Instant::now());
        if self.ended.is_some_and(|ended| now - took < ended) {
            self.last[0] = self.last[0].min(pace);
            return;
        }
        self.last.rotate_right(1);
        self.last[0] = pace;
        (self.groups, self.ended) = (self.groups + 1, Some(now));
    }

    /// Seconds to a token, once it is known; sooner where the node was too slow not long ago.
    fn known(&self, was_slow: bool) -> Option<f64> {
        let mut last = Vec::from(&self.last[..self.groups.min(KNOWN_AFTER[0])]);
        last.sort_by(f64::total_cmp);
        (last.len() >= KNOWN_AFTER[usize::from(was_slow)]).then(|| last[(last.len() - 1) / 2])
    }

    /// Whether it is far slower than the others, all of which compute the same.
    pub(crate) fn is_slow(&self, was_slow: bool, others: impl Iterator<Item = Self>) -> bool {
        let Some(own) = self.known(was_slow) else { return false };
        let mut others = Vec::from_iter(others.filter_map(|other| other.known(false)));
        if others.is_empty() {
            return false;
        }
        others.sort_by(f64::total_cmp);
        // Of two, the faster: a slow one must not excuse another.
        own > SLOW_TIMES * others[(others.len() - 1) / 2]
    }
}

fn pace(tokens: u64, took: Duration) -> f64 {
    took.as_secs_f64() / tokens.max(TOKENS_MIN) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Duration = Duration::from_millis(100);

    #[test]
    fn a_call_is_late_by_what_others_of_its_size_took() {
        let mut paces = Paces::default();
        assert_eq!(paces.late_after(1000), None);
        // One of three nodes takes ten times as long.
        (0..99).for_each(|i| paces.add(1000, if i % 3 == 0 { 10 * CALL } else { CALL }));
        assert_eq!(paces.late_after(1000), Some(2 * CALL));
        assert_eq!(paces.late_after(2000), Some(4 * CALL));
        assert_eq!(paces.late_after(1), Some(CALL));
    }

    /// The pace of a node on which so many calls took so long, `together` at a time.
    async fn pace_of(calls: usize, together: usize, took: Duration) -> Pace {
        let mut pace = Pace::default();
        for call in 0..calls {
            if call % together == 0 {
                tokio::time::advance(took).await;
            }
            pace.add(1000, took);
        }
        pace
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_slow_only_beside_others() {
        let usual = pace_of(KNOWN_AFTER[0], 1, CALL).await;
        let slow = pace_of(KNOWN_AFTER[0], 1, 10 * CALL).await;
        assert!(slow.is_slow(false, [usual, usual].into_iter()));
        assert!(slow.is_slow(false, [usual, slow].into_iter()));
        assert!(!usual.is_slow(false, [usual, slow].into_iter()));
        assert!(!slow.is_slow(false, [slow, slow].into_iter()));
        assert!(!slow.is_slow(false, std::iter::empty()));
        // However many there are of a batch, they are late for one reason.
        for (calls, is_known) in [(32, false), (32 * KNOWN_AFTER[0], true)] {
            let of_batches = pace_of(calls, 32, 10 * CALL).await;
            assert_eq!(of_batches.is_slow(false, [usual].into_iter()), is_known, "{calls} calls");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_fastest_of_a_group_counts_and_one_slow_group_does_not() {
        let usual = pace_of(KNOWN_AFTER[0], 1, CALL).await;
        let mut pace = usual;
        // All begun at once, ended one after another.
        for ended in 1..=10 {
            tokio::time::advance(CALL).await;
            pace.add(1000, ended * CALL);
        }
        assert_eq!(pace.last, usual.last);
        tokio::time::advance(10 * CALL).await;
        pace.add(1000, 10 * CALL);
        assert!(!pace.is_slow(false, [usual].into_iter()));
        tokio::time::advance(10 * CALL).await;
        pace.add(1000, 10 * CALL);
        assert!(pace.is_slow(false, [usual].into_iter()));
    }
}
