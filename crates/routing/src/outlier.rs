//! Outlier detection: how long calls take on a node, beside other nodes that compute the same.
//!
//! Calls differ in size, so what counts is time to a token; a small call takes as long as one of a few hundred tokens. A
//! node's own pace is over all tokens that it had to do meanwhile: who has much to do is not slow.

use std::time::Duration;

use tokio::time::Instant;

/// Tokens that the smallest call counts as.
const TOKENS_MIN: u64 = 500;
/// A node is far slower than others where its pace is so many times theirs.
const SLOW_TIMES: f64 = 4.0;
/// Groups of calls on a node after which its pace is known.
const GROUPS: usize = 3;

/// A node's own pace, over calls of all kinds: the middle one of the last groups of calls. Those that were in flight
/// together are a group, and its pace is that of the fastest: of one batch, or of one wait in a queue, all are late for one
/// reason.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// Of the last groups, the last one first.
    last: [f64; GROUPS],
    groups: usize,
    /// When the first call of the last group had ended.
    ended: Option<Instant>,
}

impl Pace {
    /// A call took so long, in which the node had so many tokens to do.
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

    /// Seconds to a token, once it is known: the middle one of the last groups.
    pub(crate) fn known(&self) -> Option<f64> {
        let mut last = self.last;
        last.sort_by(f64::total_cmp);
        (self.groups >= GROUPS).then_some(last[GROUPS / 2])
    }
}

/// Time to a token above which a node is far slower than these others; `None` where too little is known of them.
pub(crate) fn slow_above(others: impl Iterator<Item = Pace>) -> Option<f64> {
    let mut others = Vec::from_iter(others.filter_map(|other| other.known()));
    others.sort_by(f64::total_cmp);
    // Of two, the faster: a slow one must not excuse another.
    others.get(others.len().saturating_sub(1) / 2).map(|usual| SLOW_TIMES * usual)
}

/// Seconds to a token of one call.
pub(crate) fn pace(tokens: u64, took: Duration) -> f64 {
    took.as_secs_f64() / tokens.max(TOKENS_MIN) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Duration = Duration::from_millis(100);

    fn is_slow<const N: usize>(own: Pace, others: [Pace; N]) -> bool {
        own.known().zip(slow_above(others.into_iter())).is_some_and(|(own, above)| own > above)
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
        let usual = pace_of(GROUPS, 1, CALL).await;
        let slow = pace_of(GROUPS, 1, 10 * CALL).await;
        assert!(is_slow(slow, [usual, usual]));
        assert!(is_slow(slow, [usual, slow]));
        assert!(!is_slow(usual, [usual, slow]));
        assert!(!is_slow(slow, [slow, slow]));
        assert!(!is_slow(slow, []));
        // However many there are of a batch, they are late for one reason.
        for (calls, is_known) in [(32, false), (32 * GROUPS, true)] {
            let of_batches = pace_of(calls, 32, 10 * CALL).await;
            assert_eq!(is_slow(of_batches, [usual]), is_known, "{calls} calls");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_fastest_of_a_group_counts_and_one_slow_group_does_not() {
        let usual = pace_of(GROUPS, 1, CALL).await;
        let mut pace = usual;
        // All begun at once, ended one after another.
        for ended in 1..=10 {
            tokio::time::advance(CALL).await;
            pace.add(1000, ended * CALL);
        }
        assert_eq!(pace.last, usual.last);
        tokio::time::advance(10 * CALL).await;
        pace.add(1000, 10 * CALL);
        assert!(!is_slow(pace, [usual]));
        tokio::time::advance(10 * CALL).await;
        pace.add(1000, 10 * CALL);
        assert!(is_slow(pace, [usual]));
    }
}
