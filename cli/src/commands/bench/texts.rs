//! Texts of one size, cut from a file.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::failure::Failure;

/// A caller's number is written before so many bytes each time, so that no shard of a text was stored before.
const NUMBERED_BYTES: usize = 1000;

/// Texts of one size; clones count on together.
#[derive(Clone)]
pub(super) struct Texts {
    source: Arc<str>,
    bytes: usize,
    next: Arc<AtomicU64>,
    /// Tells the texts of this run from those of others.
    run: u64,
}

impl Texts {
    /// Reads the file that they are cut from.
    pub(super) fn open(path: &Path, bytes: usize) -> Result<Self, Failure> {
        let source = std::fs::read_to_string(path).map_err(|error| Failure::at(path, &error))?;
        if source.len() < bytes.max(1) {
            return Err(Failure::CallWrong(format!(
                "{} has {} bytes, texts of {bytes} asked for: name a longer file or fewer --bytes",
                path.display(),
                source.len()
            )));
        }
        Ok(Self { source: source.into(), bytes, next: Arc::default(), run: fastrand::u64(..) })
    }

    /// The next text, unlike all before it.
    pub(super) fn next(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut text = String::with_capacity(self.bytes + 64);
        let mut at = number as usize * self.bytes % self.source.len();
        while text.len() < self.bytes {
            text.push_str(&format!("{:x}.{number} ", self.run));
            at = self.source.ceil_char_boundary(at);
            let end = at + NUMBERED_BYTES.min(self.bytes.saturating_sub(text.len()));
            let end = self.source.ceil_char_boundary(end.min(self.source.len()));
            text.push_str(&self.source[at..end]);
            at = if end == self.source.len() { 0 } else { end };
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_the_size_that_was_asked_for_and_differ() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "Größe und Maß, 大小 🙂. ".repeat(200)).unwrap();
        let texts = Texts::open(file.path(), 2500).unwrap();
        let (a, b) = (texts.next(), texts.clone().next());
        assert!((2500..2600).contains(&a.len()) && (2500..2600).contains(&b.len()));
        assert_ne!(a, b);
        assert!(Texts::open(file.path(), 1 << 20).is_err());
    }
}
