//! Outlier detection: compares a node's latency with that of the other nodes that serve the same model.
//!
//! Latency is measured in seconds per text token, because calls differ in size. A call's time is divided by all tokens
//! that the node had to process during the call, so that a busy node does not look slow.

use std::time::Duration;

use tokio::time::Instant;

/// Minimum number of tokens by which a call's time is divided. The time of smaller calls does not depend on their size.
const TOKENS_MIN: u64 = 500;
/// A node is an outlier if its latency is more than this multiple of the median latency of its peers.
const OUTLIER_FACTOR: f64 = 4.0;
/// Minimum samples before the latency is trusted, and the number of samples kept.
const SAMPLES: usize = 3;

/// Tracks the latency of one node: the median of its last samples.
///
/// Calls that overlap in time form one sample, because a shared batch or queue may delay them all. The fastest of these
/// calls is the value of the sample.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LatencyTracker {
    /// Seconds per token, newest first.
    samples: [f64; SAMPLES],
    count: usize,
    /// End of the first call of the newest sample.
    sample_ended: Option<Instant>,
}

impl LatencyTracker {
    /// Adds a call that ends now and took `latency`. The node had to process `tokens` during the call.
    pub(crate) fn record(&mut self, tokens: u64, latency: Duration) {
        let (seconds, now) = (seconds_per_token(tokens, latency), Instant::now());
        if self.sample_ended.is_some_and(|ended| now - latency < ended) {
            self.samples[0] = self.samples[0].min(seconds);
            return;
        }
        self.samples.rotate_right(1);
        self.samples[0] = seconds;
        (self.count, self.sample_ended) = (self.count + 1, Some(now));
    }

    /// Returns the median latency in seconds per token, or `None` while there are fewer than [`SAMPLES`] samples.
    pub(crate) fn median(&self) -> Option<f64> {
        let mut samples = self.samples;
        samples.sort_by(f64::total_cmp);
        (self.count >= SAMPLES).then_some(samples[SAMPLES / 2])
    }
}

/// Returns the latency, in seconds per token, above which a node is an outlier among `peers`. Infinite if no peer has a
/// median latency yet.
pub(crate) fn outlier_threshold(peers: impl Iterator<Item = LatencyTracker>) -> f64 {
    let mut medians = Vec::from_iter(peers.filter_map(|peer| peer.median()));
    medians.sort_by(f64::total_cmp);
    // The lower median: of two peers, the faster one counts, so that a slow peer does not hide a slow node.
    let typical = medians.get(medians.len().saturating_sub(1) / 2);
    typical.map_or(f64::INFINITY, |typical| OUTLIER_FACTOR * typical)
}

/// Returns the latency of one call in seconds per token.
pub(crate) fn seconds_per_token(tokens: u64, latency: Duration) -> f64 {
    latency.as_secs_f64() / tokens.max(TOKENS_MIN) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: Duration = Duration::from_millis(100);

    fn is_outlier<const N: usize>(node: LatencyTracker, peers: [LatencyTracker; N]) -> bool {
        node.median().is_some_and(|median| median > outlier_threshold(peers.into_iter()))
    }

    /// Returns the tracker of a node after `calls` calls, made `together` at a time, each of which took `latency`.
    async fn tracker(calls: usize, together: usize, latency: Duration) -> LatencyTracker {
        let mut tracker = LatencyTracker::default();
        for call in 0..calls {
            if call % together == 0 {
                tokio::time::advance(latency).await;
            }
            tracker.record(1000, latency);
        }
        tracker
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_an_outlier_only_beside_faster_peers() {
        let usual = tracker(SAMPLES, 1, LATENCY).await;
        let slow = tracker(SAMPLES, 1, 10 * LATENCY).await;
        assert!(is_outlier(slow, [usual, usual]));
        assert!(is_outlier(slow, [usual, slow]));
        assert!(!is_outlier(usual, [usual, slow]));
        assert!(!is_outlier(slow, [slow, slow]));
        assert!(!is_outlier(slow, []));
        // A batch is one sample, however many calls it has.
        for (calls, expected) in [(32, false), (32 * SAMPLES, true)] {
            let of_batches = tracker(calls, 32, 10 * LATENCY).await;
            assert_eq!(is_outlier(of_batches, [usual]), expected, "{calls} calls");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_fastest_call_of_a_sample_counts_and_one_slow_sample_does_not_eject() {
        let usual = tracker(SAMPLES, 1, LATENCY).await;
        let mut tracker = usual;
        // Calls that began together and ended one after another.
        for ended in 1..=10 {
            tokio::time::advance(LATENCY).await;
            tracker.record(1000, ended * LATENCY);
        }
        assert_eq!(tracker.samples, usual.samples);
        tokio::time::advance(10 * LATENCY).await;
        tracker.record(1000, 10 * LATENCY);
        assert!(!is_outlier(tracker, [usual]));
        tokio::time::advance(10 * LATENCY).await;
        tracker.record(1000, 10 * LATENCY);
        assert!(is_outlier(tracker, [usual]));
    }
}
