//! Limit on log lines that a failing component would otherwise print with every call.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Minimum time between two lines of one kind.
const INTERVAL: Duration = Duration::from_secs(10);

/// Limits log lines to one of each kind `K` in 10 seconds, and counts the suppressed lines. `K` must have few values,
/// because each is kept for ever.
#[derive(Debug)]
pub struct Throttle<K>(Mutex<Vec<Lines<K>>>);

/// Lines of one kind.
#[derive(Debug)]
struct Lines<K> {
    kind: K,
    logged: Instant,
    suppressed: u64,
}

impl<K> Default for Throttle<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> Throttle<K> {
    /// Creates a limit that permits the first line of each kind.
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<K: PartialEq> Throttle<K> {
    /// Returns the number of lines of this kind suppressed since the last permitted one, or `None` if this line is
    /// suppressed too.
    pub fn permit(&self, kind: K) -> Option<u64> {
        self.permit_at(kind, Instant::now())
    }

    fn permit_at(&self, kind: K, now: Instant) -> Option<u64> {
        // No code that holds this lock panics.
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lines) = kinds.iter_mut().find(|lines| lines.kind == kind) else {
            kinds.push(Lines { kind, logged: now, suppressed: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(lines.logged) < INTERVAL {
            lines.suppressed += 1;
            return None;
        }
        lines.logged = now;
        Some(std::mem::take(&mut lines.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_lines_are_counted_instead() {
        let (throttle, start) = (Throttle::new(), Instant::now());
        assert_eq!(throttle.permit_at("full", start), Some(0));
        assert_eq!(throttle.permit_at("full", start + INTERVAL / 2), None);
        assert_eq!(throttle.permit_at("full", start + INTERVAL / 2), None);
        assert_eq!(throttle.permit_at("read-only", start + INTERVAL / 2), Some(0));
        assert_eq!(throttle.permit_at("full", start + INTERVAL), Some(2));
        assert_eq!(throttle.permit_at("full", start + 2 * INTERVAL), Some(0));
    }
}
