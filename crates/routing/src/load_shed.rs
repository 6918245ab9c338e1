//! Load shedding: refuses new requests when too many text tokens wait for a node.
//!
//! Refusal happens at admission, before a request has consumed memory and queue slots. Requests already admitted
//! continue. Writes are refused at half the limit of reads, because a writer can usually retry later, whereas a reader
//! waits for the text.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;

const RETRY_AFTER_MS: u64 = 1_000;

/// Class of a request. Writes are shed before reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestClass {
    /// Reads a text.
    Read,
    /// Stores a text, or writes a stored document again with other options.
    Write,
}

/// Counts the text tokens that wait for a node.
#[derive(Debug)]
pub(crate) struct LoadShedder {
    tokens: Arc<AtomicU64>,
    tokens_max: u64,
}

/// Guard that counts tokens as waiting until the guard is dropped.
pub(crate) struct WaitingTokens<'a> {
    shedder: &'a LoadShedder,
    tokens: u64,
}

impl LoadShedder {
    /// Returns a shedder that refuses reads at `tokens_max` waiting tokens and writes at half as many.
    pub(crate) fn new(tokens_max: u64) -> Self {
        Self { tokens: Arc::default(), tokens_max }
    }

    /// Returns the counter of waiting tokens.
    pub(crate) fn tokens(&self) -> &Arc<AtomicU64> {
        &self.tokens
    }

    /// Counts `tokens` as waiting until the returned guard is dropped.
    pub(crate) fn hold(&self, tokens: u64) -> WaitingTokens<'_> {
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
        WaitingTokens { shedder: self, tokens }
    }

    /// Returns [`Error::Shed`] if a new request of this class must be refused.
    pub(crate) fn admit(&self, class: RequestClass) -> Result<(), Error> {
        let most = match class {
            RequestClass::Read => self.tokens_max,
            RequestClass::Write => self.tokens_max / 2,
        };
        let tokens = self.tokens.load(Ordering::Relaxed);
        if tokens < most { Ok(()) } else { Err(Error::Shed { tokens, retry_after_ms: RETRY_AFTER_MS }) }
    }
}

impl Drop for WaitingTokens<'_> {
    fn drop(&mut self) {
        self.shedder.tokens.fetch_sub(self.tokens, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_shed_before_reads_until_the_load_is_gone() {
        let shedder = LoadShedder::new(100);
        let admitted = || [RequestClass::Read, RequestClass::Write].map(|class| shedder.admit(class).is_ok());
        let half = shedder.hold(50);
        assert_eq!(admitted(), [true, false]);
        let more = shedder.hold(50);
        assert_eq!(admitted(), [false, false]);
        drop(half);
        assert_eq!(admitted(), [true, false]);
        drop(more);
        assert_eq!(admitted(), [true, true]);
    }
}
