//! What of a document is written so far, and how long the rest will take.

use std::time::{Duration, Instant};

use c3_store::manifest::ShardEntry;
use c3_types::{Progress, StageTimes};

use crate::state::WrittenShard;

/// What is written so far.
pub(super) struct WriteProgress {
    begun: Instant,
    pub(super) bytes: u64,
    pub(super) tokens: u64,
    pub(super) shards: Vec<ShardEntry>,
    /// Shards that the store had, and their bytes.
    pub(super) reused: u64,
    bytes_reused: u64,
    pub(super) times: StageTimes,
}

impl WriteProgress {
    /// Begins after shards that are kept as they are.
    pub(super) fn after(kept: Vec<ShardEntry>) -> Self {
        let bytes = kept.iter().map(ShardEntry::bytes).sum();
        Self {
            begun: Instant::now(),
            bytes,
            tokens: kept.iter().map(|shard| shard.tokens).sum(),
            reused: kept.len() as u64,
            bytes_reused: bytes,
            times: StageTimes::default(),
            shards: kept,
        }
    }

    /// The next shard is durable.
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

    /// How far a text of so many bytes, where that is known, is.
    pub(super) fn progress(&self, bytes_total: Option<u64>) -> Progress {
        Progress {
            bytes_done: self.bytes,
            tokens_done: self.tokens,
            bytes_reused: self.bytes_reused,
            time_left: self.left(bytes_total, self.begun.elapsed()),
            upload: None,
        }
    }

    /// What was found tells nothing of how long what is computed takes.
    fn left(&self, bytes_total: Option<u64>, elapsed: Duration) -> Option<Duration> {
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
    fn the_rest_takes_as_long_as_what_was_computed() {
        let shards = manifest(&[vec![100], vec![40, 60], vec![50]], true).shards;
        let mut progress = WriteProgress::after(shards[..1].to_vec());
        let left = |progress: &WriteProgress, total| progress.left(total, Duration::from_secs(10));
        assert_eq!(left(&progress, Some(1000)), None);
        for (shard, reused) in shards[1..].iter().zip([true, false]) {
            progress.add(WrittenShard { entry: shard.clone(), reused, times: StageTimes::default() });
        }
        assert_eq!((progress.bytes, progress.bytes_reused, progress.reused), (250, 200, 2));
        assert_eq!(left(&progress, Some(350)), Some(Duration::from_secs(20)));
        assert_eq!((left(&progress, None), left(&progress, Some(100))), (None, None));
    }
}
