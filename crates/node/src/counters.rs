//! Counters of the work that a node has done since it started.

use std::sync::atomic::{AtomicU64, Ordering};

use c3_proto::pb;

use crate::Operation;

/// Windows and text tokens that a node has computed since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Compressed windows and tokens.
    pub compressed: Counter,
    /// Verified windows and tokens.
    pub verified: Counter,
    /// Decoded windows and tokens.
    pub decoded: Counter,
}

/// Windows and text tokens of one operation.
#[derive(Debug, Default)]
pub struct Counter {
    windows: AtomicU64,
    tokens: AtomicU64,
}

impl Counter {
    /// Adds windows that were computed, and their text tokens.
    pub fn add(&self, windows: usize, tokens: usize) {
        self.windows.fetch_add(windows as u64, Ordering::Relaxed);
        self.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
    }

    fn read(&self) -> (u64, u64) {
        (self.windows.load(Ordering::Relaxed), self.tokens.load(Ordering::Relaxed))
    }
}

impl Counters {
    /// Returns the counter of an operation.
    pub fn of(&self, operation: Operation) -> &Counter {
        match operation {
            Operation::Compress => &self.compressed,
            Operation::Verify => &self.verified,
            Operation::Decode => &self.decoded,
        }
    }

    /// Converts the counters to the protocol's message.
    pub fn to_wire(&self) -> pb::NodeCounters {
        let (windows_compressed, tokens_compressed) = self.compressed.read();
        let (windows_verified, tokens_verified) = self.verified.read();
        let (windows_decoded, tokens_decoded) = self.decoded.read();
        pb::NodeCounters {
            windows_compressed,
            windows_verified,
            windows_decoded,
            tokens_compressed,
            tokens_verified,
            tokens_decoded,
        }
    }
}
