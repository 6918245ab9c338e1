//! Distinct texts of about one size, cut from a file.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::CliError;

/// Interval of the markers that make each text unique. It is shorter than a shard (the part of a text that the gateway
/// stores and reuses as a unit), so that the gateway finds no equal shard to reuse.
const NUMBER_EVERY_BYTES: usize = 1000;

/// Generator of distinct texts. Clones share one counter, so their texts differ too.
#[derive(Clone)]
pub(super) struct Texts {
    source: Arc<str>,
    bytes: usize,
    next: Arc<AtomicU64>,
    /// Random number that distinguishes the texts of this run from the texts of other runs.
    run: u64,
}

impl Texts {
    /// Reads the file from which texts are cut. Fails if it is not UTF-8, is empty or has fewer than `bytes` bytes.
    pub(super) fn open(path: &Path, bytes: usize) -> Result<Self, CliError> {
        let source = std::fs::read_to_string(path).map_err(|error| CliError::at(path, &error))?;
        if source.len() < bytes.max(1) {
            let (path, have) = (path.display(), source.len());
            let message = format!("{path} has {have} bytes, but --size is {bytes}: give a longer file or fewer bytes");
            return Err(CliError::Usage(message));
        }
        Ok(Self { source: source.into(), bytes, next: Arc::default(), run: fastrand::u64(..) })
    }

    /// Returns a new text of at least `bytes` bytes, and a few dozen more at most.
    pub(super) fn next(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut text = String::with_capacity(self.bytes + 64);
        let mut start = number as usize * self.bytes % self.source.len();
        while text.len() < self.bytes {
            text.push_str(&format!("{:x}.{number} ", self.run));
            start = self.source.ceil_char_boundary(start);
            let end = start + NUMBER_EVERY_BYTES.min(self.bytes.saturating_sub(text.len()));
            let end = self.source.ceil_char_boundary(end.min(self.source.len()));
            text.push_str(&self.source[start..end]);
            start = if end == self.source.len() { 0 } else { end };
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_the_requested_size_and_differ() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "Größe und Maß, 大小 🙂. ".repeat(200)).unwrap();
        let texts = Texts::open(file.path(), 2500).unwrap();
        let (a, b) = (texts.next(), texts.clone().next());
        assert!((2500..2600).contains(&a.len()) && (2500..2600).contains(&b.len()));
        assert_ne!(a, b);
        assert!(Texts::open(file.path(), 1 << 20).is_err());
    }
}
