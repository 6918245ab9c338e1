//! Token bucket that may go into debt: the size of a text is known only after it was processed, so its tokens are
//! charged afterwards. Limiters that only grant in advance, such as `governor`, cannot do this.

use std::time::{Duration, Instant};

/// Time in which an empty bucket fills.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// Bucket that holds a quota and refills evenly within [`WINDOW`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    quota: f64,
    level: f64,
    updated: Instant,
}

impl Bucket {
    /// Creates a full bucket.
    pub(crate) fn new(quota: u64, now: Instant) -> Self {
        Self { quota: quota as f64, level: quota as f64, updated: now }
    }

    /// Changes the quota. The level keeps its debt, but never exceeds the new quota.
    pub(crate) fn set_quota(&mut self, quota: u64, now: Instant) {
        self.refill(now);
        self.quota = quota as f64;
        self.level = self.level.min(self.quota);
    }

    /// Returns the time until the bucket has `amount`; zero if it has it now. The amount is capped to the quota.
    pub(crate) fn wait_for(&mut self, amount: u64, now: Instant) -> Duration {
        self.refill(now);
        let missing = (amount as f64).min(self.quota) - self.level;
        match self.quota {
            _ if missing <= 0.0 && self.quota > 0.0 => Duration::ZERO,
            0.0 => WINDOW,
            quota => WINDOW.mul_f64((missing / quota).min(60.0)),
        }
    }

    /// Takes an amount, even if the bucket has less.
    pub(crate) fn charge(&mut self, amount: u64, now: Instant) {
        self.refill(now);
        self.level -= amount as f64;
    }

    /// Returns what is left, and the time until the bucket is full.
    pub(crate) fn left(&mut self, now: Instant) -> (u64, Duration) {
        self.refill(now);
        let full =
            if self.quota > 0.0 { WINDOW.mul_f64(((self.quota - self.level) / self.quota).min(60.0)) } else { WINDOW };
        (self.level.max(0.0) as u64, full)
    }

    /// Returns the quota.
    pub(crate) fn quota(&self) -> u64 {
        self.quota as u64
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.updated).as_secs_f64();
        self.updated = self.updated.max(now);
        self.level = (self.level + self.quota * elapsed / WINDOW.as_secs_f64()).min(self.quota);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debt_is_paid_before_the_next_grant() {
        let start = Instant::now();
        let mut bucket = Bucket::new(60, start);
        assert_eq!(bucket.wait_for(1, start), Duration::ZERO);
        bucket.charge(90, start);
        assert_eq!(bucket.left(start).0, 0);
        assert_eq!(bucket.wait_for(1, start), Duration::from_secs(31));
        let later = start + Duration::from_secs(31);
        assert_eq!((bucket.wait_for(1, later), bucket.left(later).0), (Duration::ZERO, 1));
        assert_eq!(bucket.left(later + 2 * WINDOW), (60, Duration::ZERO));
    }

    #[test]
    fn a_quota_of_zero_grants_nothing() {
        let start = Instant::now();
        let mut bucket = Bucket::new(0, start);
        assert_eq!(bucket.wait_for(1, start), WINDOW);
        bucket.set_quota(10, start);
        assert_eq!(bucket.wait_for(1, start), Duration::from_secs(6));
    }
}
