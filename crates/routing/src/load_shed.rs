//! How much waits for nodes, and who is still let in.
//!
//! A caller costs little to refuse at the door and much once inside: its text is half read, its windows queue before
//! everybody's. So where more waits than is worked off soon, new calls are told when to come again; those that are inside
//! go on. Reads are let in for longer than writes, which more often have time.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Failure;

/// When to come again.
const RETRY_AFTER_MS: u64 = 1_000;

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Somebody waits for a text.
    Read,
    /// A text is stored, or stored anew.
    Write,
}

/// Text tokens that wait for a place on a node.
#[derive(Debug)]
pub(crate) struct Waiting {
    tokens: AtomicU64,
    /// With so many no more calls are let in.
    most: u64,
}

/// Tokens that wait until this is dropped.
pub(super) struct Held<'a> {
    waiting: &'a Waiting,
    tokens: u64,
}

impl Waiting {
    pub(super) fn up_to(most: u64) -> Self {
        Self { tokens: AtomicU64::new(0), most }
    }

    /// So many tokens wait from now on.
    pub(super) fn hold(&self, tokens: u64) -> Held<'_> {
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
        Held { waiting: self, tokens }
    }

    /// Whether there is room for a call's work.
    pub(crate) fn check(&self, work: Work) -> Result<(), Failure> {
        let most = match work {
            Work::Read => self.most,
            Work::Write => self.most / 2,
        };
        let tokens = self.tokens.load(Ordering::Relaxed);
        if tokens < most { Ok(()) } else { Err(Failure::Busy { tokens, retry_after_ms: RETRY_AFTER_MS }) }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.waiting.tokens.fetch_sub(self.tokens, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_refused_before_reads_and_nobody_once_it_is_worked_off() {
        let waiting = Waiting::up_to(100);
        let room = || [Work::Read, Work::Write].map(|work| waiting.check(work).is_ok());
        let half = waiting.hold(50);
        assert_eq!(room(), [true, false]);
        let more = waiting.hold(50);
        assert_eq!(room(), [false, false]);
        drop(half);
        assert_eq!(room(), [true, false]);
        drop(more);
        assert_eq!(room(), [true, true]);
    }
}
