//! Tracks the progress of a write and estimates the time left.

use std::time::{Duration, Instant};

use c3_store::manifest::ShardEntry;
use c3_types::{Progress, StageTimes};

use crate::state::WrittenShard;

/// Sums over the shards written so far.
pub(super) struct WriteProgress {
    start: Instant,
    pub(super) bytes: u64,
    pub(super) tokens: u64,
    pub(super) shards: Vec<ShardEntry>,
    /// Number of shards that the store already had, including those kept from a base document.
    pub(super) reused: u64,
    bytes_reused: u64,
    pub(super) times: StageTimes,
}

impl WriteProgress {
    /// Starts with the shards that are kept from a base document.
    pub(super) fn new(kept: Vec<ShardEntry>) -> Self {
        let bytes = kept.iter().map(ShardEntry::bytes).sum();
        Self {
            start: Instant::now(),
            bytes,
            tokens: kept.iter().map(|shard| shard.tokens).sum(),
            reused: kept.len() as u64,
            bytes_reused: bytes,
            times: StageTimes::default(),
            shards: kept,
        }
    }

    /// Adds the next shard.
    pub(super) fn add(&mut self, shard: WrittenShard) {
        let bytes = shard.entry.bytes();
        self.bytes += bytes;
        self.tokens += shard.entry.tokens;
        if shard.reused {
            self.reused += 1;
            self.bytes_reused += bytes;
        }
        self.times += shard.times;
        self.shards.push(shard.entry);
    }

    /// Returns the progress. `bytes_total` is the size of the text; if it is unknown (`None`), no time left is
    /// estimated. `compressed` is the number of bytes that this write has compressed, some perhaps at several ratios.
    pub(super) fn report(&self, bytes_total: Option<u64>, compressed: u64) -> Progress {
        // Shards that another write computed are not in `compressed`.
        let bytes_compressed = (self.bytes_reused + compressed).min(bytes_total.unwrap_or(u64::MAX)).max(self.bytes);
        Progress {
            bytes_compressed,
            bytes_done: self.bytes,
            tokens_done: self.tokens,
            bytes_reused: self.bytes_reused,
            time_left: self.time_left(bytes_total, self.start.elapsed()),
            upload: None,
        }
    }

    /// Estimates the time left from the time per computed byte. Excludes reused shards, which cost almost no time.
    fn time_left(&self, bytes_total: Option<u64>, elapsed: Duration) -> Option<Duration> {
        let computed = self.bytes - self.bytes_reused;
        let left = bytes_total?.checked_sub(self.bytes)?;
        (computed > 0).then(|| elapsed.mul_f64(left as f64 / computed as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::manifest;

    #[test]
    fn time_left_follows_from_computed_shards() {
        let shards = manifest(&[vec![100], vec![40, 60], vec![50]], true).shards;
        let mut progress = WriteProgress::new(shards[..1].to_vec());
        let left = |progress: &WriteProgress, total| progress.time_left(total, Duration::from_secs(10));
        assert_eq!(left(&progress, Some(1000)), None);
        for (shard, reused) in shards[1..].iter().zip([true, false]) {
            progress.add(WrittenShard { entry: shard.clone(), reused, times: StageTimes::default() });
        }
        assert_eq!((progress.bytes, progress.bytes_reused, progress.reused), (250, 200, 2));
        assert_eq!(left(&progress, Some(350)), Some(Duration::from_secs(20)));
        assert_eq!((left(&progress, None), left(&progress, Some(100))), (None, None));
        let compressed = [0, 60, 5000].map(|compressed| progress.report(Some(350), compressed).bytes_compressed);
        assert_eq!(compressed, [250, 260, 350]);
    }
}
