//! A line about a text: its kind, size and first words.

use c3_client::Document;

/// Bytes at the start of a text that the summary looks at.
const HEAD_BYTES: usize = 4096;
/// Maximum characters of the first words.
const WORDS_CHARS: usize = 60;

/// The start of a text, and the number of its lines. It is filled while the text is sent.
#[derive(Debug, Default)]
pub(crate) struct Head {
    start: Vec<u8>,
    line_feeds: u64,
    ends_with_line_feed: bool,
}

impl Head {
    /// Takes the next bytes of the text.
    pub(crate) fn observe(&mut self, bytes: &[u8]) {
        let missing = HEAD_BYTES.saturating_sub(self.start.len()).min(bytes.len());
        self.start.extend_from_slice(&bytes[..missing]);
        self.line_feeds += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.ends_with_line_feed = bytes.last().map_or(self.ends_with_line_feed, |byte| *byte == b'\n');
    }

    /// Returns the number of lines. The last one may have no line feed.
    pub(crate) fn lines(&self) -> u64 {
        self.line_feeds + u64::from(!self.start.is_empty() && !self.ends_with_line_feed)
    }

    /// Returns one line about the text.
    pub(crate) fn summary(&self, document: &Document) -> String {
        let start = String::from_utf8_lossy(&self.start);
        let words = start.split_whitespace().collect::<Vec<_>>().join(" ");
        let first: String = words.chars().take(WORDS_CHARS).collect();
        let more = if words.len() > first.len() { "…" } else { "" };
        let (kind, lines, bytes) = (kind(&start), count(self.lines(), "line"), count(document.bytes, "byte"));
        let (tokens, latents) = (count(document.tokens, "token"), count(document.latents, "latent"));
        format!("{kind}, {lines}, {bytes}, {tokens} as {latents}, begins: {first}{more}")
    }
}

/// Returns a number with its unit, such as `1 line` or `2 lines`.
fn count(number: u64, unit: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{plural}")
}

/// Returns the kind of a text that begins so.
fn kind(start: &str) -> &'static str {
    let trimmed = start.trim_start();
    let has_line = |beginnings: &[&str]| {
        start.lines().any(|line| beginnings.iter().any(|beginning| line.trim_start().starts_with(beginning)))
    };
    if trimmed.starts_with("diff --git ") || trimmed.starts_with("--- ") && start.contains("\n@@ ") {
        "diff"
    } else if trimmed.starts_with(['{', '[']) && start.contains('"') {
        "JSON"
    } else if trimmed.starts_with("$ ") || trimmed.starts_with("#!") {
        "commands"
    } else if has_line(&["fn ", "pub ", "def ", "class ", "import ", "#include", "function ", "package ", "const "]) {
        "code"
    } else if has_line(&["# ", "## "]) {
        "Markdown"
    } else {
        "text"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_lines() {
        for (text, expected, lines) in [
            ("", "text", 0),
            ("one line", "text", 1),
            ("a\nb\n", "text", 2),
            ("# Title\n\nwords", "Markdown", 3),
            ("diff --git a/x b/x\n", "diff", 1),
            ("{\"key\": 1}", "JSON", 1),
            ("$ cargo test\n", "commands", 1),
            ("use std::io;\n\npub fn main() {}\n", "code", 3),
        ] {
            let mut head = Head::default();
            text.as_bytes().chunks(3).for_each(|piece| head.observe(piece));
            assert_eq!((kind(text), head.lines()), (expected, lines), "{text}");
        }
    }
}
