//! Load of the device: how fast it computes, how busy it is, and how full its batches and its KV cache are.
//!
//! The values are moving averages, because operators and autoscalers need the load of the last seconds, not of the last
//! batch. [`crate::queue::Queue`] knows the jobs that wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Operation;

/// Time constant of the busy share: the last 15 seconds have 63 % of the weight.
const BUSY_MEMORY: Duration = Duration::from_secs(15);
/// Device time in which the weight of past batches in the rate of an operation falls to 37 %.
const RATE_MEMORY: Duration = Duration::from_secs(10);
/// Weight of the latest batch in the average fill of batches.
const FILL_WEIGHT: f64 = 0.1;

/// A handle on the load of a device; clones share it.
#[derive(Clone, Debug, Default)]
pub struct DeviceLoad(Arc<Mutex<Record>>);

#[derive(Debug)]
struct Record {
    rates: [Rate; Operation::ALL.len()],
    /// Busy share at `updated`, 0 to 1.
    busy: f64,
    updated: Instant,
    /// True while the device computes a batch.
    is_computing: bool,
    fill: f64,
    kv: KvCacheUse,
}

/// Memory of a KV cache in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvCacheUse {
    /// Bytes that the running windows need at most.
    pub used: u64,
    /// Maximum that the node allows; 0 if the node has no KV cache.
    pub max: u64,
}

/// Text tokens and device seconds of past batches. Later batches count more.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    tokens: f64,
    seconds: f64,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            rates: Default::default(),
            busy: 0.0,
            updated: Instant::now(),
            is_computing: false,
            fill: 0.0,
            kv: KvCacheUse::default(),
        }
    }
}

/// Guard that counts the device as computing until the guard is dropped.
#[derive(Debug)]
pub struct ComputingGuard {
    load: DeviceLoad,
    started: Instant,
}

/// Guard that counts bytes of the KV cache as used until the guard is dropped.
#[derive(Debug)]
pub struct KvCacheGuard {
    load: DeviceLoad,
    bytes: u64,
}

impl DeviceLoad {
    /// Counts the device as computing until the returned guard is dropped. Only one guard exists at a time, because
    /// only the model's thread uses the device.
    pub fn computing(&self) -> ComputingGuard {
        let started = Instant::now();
        self.lock().advance(started, true);
        ComputingGuard { load: self.clone(), started }
    }

    /// Sets the maximum number of bytes of the KV cache.
    pub fn set_kv_cache_max(&self, bytes: u64) {
        self.lock().kv.max = bytes;
    }

    /// Counts `bytes` of the KV cache as used until the returned guard is dropped.
    pub fn use_kv_cache(&self, bytes: u64) -> KvCacheGuard {
        self.lock().kv.used += bytes;
        KvCacheGuard { load: self.clone(), bytes }
    }

    /// Returns the memory of the KV cache.
    pub fn kv_cache(&self) -> KvCacheUse {
        self.lock().kv
    }

    /// Returns the share of the last seconds in which the device computed, 0 to 1.
    pub fn busy(&self) -> f64 {
        let mut record = self.lock();
        let is_computing = record.is_computing;
        record.advance(Instant::now(), is_computing);
        record.busy
    }

    /// Returns the average size of the latest batches over the maximum size, 0 to 1.
    pub fn fill(&self) -> f64 {
        self.lock().fill
    }

    /// Returns the text tokens of an operation that the device computes in a second, or `None` before its first batch.
    pub fn tokens_per_second(&self, operation: Operation) -> Option<f64> {
        self.lock().rates[operation as usize].per_second()
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        // No code that holds this lock panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ComputingGuard {
    /// Records the batch that was computed: its text tokens, and its size over the maximum size (0 to 1). Returns the
    /// time that it took.
    pub fn finish(self, operation: Operation, tokens: usize, fill: f64) -> Duration {
        let elapsed = self.started.elapsed();
        let mut record = self.load.lock();
        record.rates[operation as usize].add(tokens, elapsed);
        record.fill += FILL_WEIGHT * (fill.clamp(0.0, 1.0) - record.fill);
        elapsed
    }
}

impl Drop for ComputingGuard {
    fn drop(&mut self) {
        self.load.lock().advance(Instant::now(), false);
    }
}

impl Drop for KvCacheGuard {
    fn drop(&mut self) {
        self.load.lock().kv.used -= self.bytes;
    }
}

impl Record {
    /// Adds the time since the last update to the busy share, and sets whether the device computes from now on.
    fn advance(&mut self, now: Instant, is_computing: bool) {
        let passed = now.saturating_duration_since(self.updated);
        let kept = (-passed.as_secs_f64() / BUSY_MEMORY.as_secs_f64()).exp();
        let before = if self.is_computing { 1.0 } else { 0.0 };
        self.busy = before + (self.busy - before) * kept;
        self.updated = now;
        self.is_computing = is_computing;
    }
}

impl Rate {
    fn add(&mut self, tokens: usize, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        let kept = (-seconds / RATE_MEMORY.as_secs_f64()).exp();
        self.tokens = self.tokens * kept + tokens as f64;
        self.seconds = self.seconds * kept + seconds;
    }

    fn per_second(&self) -> Option<f64> {
        (self.tokens > 0.0 && self.seconds > 0.0).then(|| self.tokens / self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busy_share_approaches_the_share_of_time_that_the_device_computes() {
        let mut record = Record::default();
        let mut now = record.updated;
        for _ in 0..200 {
            record.advance(now, true);
            now += Duration::from_millis(600);
            record.advance(now, false);
            now += Duration::from_millis(400);
        }
        assert!((record.busy - 0.6).abs() < 0.02, "{}", record.busy);
        record.advance(now + 5 * BUSY_MEMORY, false);
        assert!(record.busy < 0.01, "{}", record.busy);
    }

    #[test]
    fn the_kv_cache_is_used_until_the_guards_are_dropped() {
        let load = DeviceLoad::default();
        load.set_kv_cache_max(100);
        let (first, second) = (load.use_kv_cache(30), load.use_kv_cache(20));
        assert_eq!(load.kv_cache(), KvCacheUse { used: 50, max: 100 });
        drop(first);
        assert_eq!(load.kv_cache().used, 20);
        drop(second);
        assert_eq!(load.kv_cache(), KvCacheUse { used: 0, max: 100 });
    }

    #[test]
    fn a_long_batch_counts_before_it_ends() {
        let mut record = Record::default();
        let now = record.updated;
        record.advance(now, true);
        record.advance(now + 3 * BUSY_MEMORY, true);
        assert!(record.busy > 0.9, "{}", record.busy);
    }

    #[test]
    fn the_rate_follows_the_latest_batches() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(), None);
        for (tokens, batches) in [(100, 100), (400, 100)] {
            for _ in 0..batches {
                rate.add(tokens, Duration::from_secs(1));
            }
            let per_second = rate.per_second().unwrap_or_default();
            assert!((per_second - f64::from(tokens as u32)).abs() < 0.05 * f64::from(tokens as u32), "{per_second}");
        }
    }
}
