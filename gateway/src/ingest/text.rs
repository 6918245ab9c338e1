//! Checks UTF-8 and size of a text while the text arrives, and cuts the text into shards.

use async_stream::try_stream;
use bytes::Bytes;
use c3_types::Invalid;
use futures::{Stream, StreamExt, pin_mut};

use super::chunker::Chunker;
use super::hash::TextHash;
use crate::error::Error;

/// Size limits of a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextLimits {
    bytes_max: u64,
    /// Size that the caller declared, in bytes.
    bytes_declared: Option<u64>,
}

/// Part of a text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TextPart {
    /// The next shard.
    Shard(Bytes),
    /// The only shard of the whole text, prefix included.
    OnlyShard(Bytes),
    /// The end of the text, with its hash.
    End(TextHash),
}

/// Beginning of a text whose caller sends only the continuation. Empty if the caller sends the whole text.
#[derive(Clone, Debug, Default)]
pub(crate) struct TextPrefix {
    /// Hash of the whole prefix.
    pub(crate) hash: TextHash,
    /// End of the prefix, which is cut into shards together with the continuation.
    pub(crate) uncut: Bytes,
}

impl TextLimits {
    /// Fails if the declared size exceeds the maximum.
    pub(crate) fn new(bytes_max: u64, bytes_declared: Option<u64>) -> Result<Self, Error> {
        let limits = Self { bytes_max, bytes_declared };
        limits.check(bytes_declared.unwrap_or(0))?;
        Ok(limits)
    }

    fn check(&self, bytes: u64) -> Result<(), Error> {
        let max = self.bytes_max;
        if bytes <= max { Ok(()) } else { Err(Error::TooLarge { bytes, max }) }
    }

    fn check_end(&self, bytes: u64) -> Result<(), Invalid> {
        match self.bytes_declared {
            Some(declared) if declared != bytes => {
                Err(Invalid::new("bytes", format!("{declared} declared, but the text has {bytes}: declare {bytes}")))
            }
            _ => Ok(()),
        }
    }
}

/// Cuts a text into shards as it arrives. Yields [`TextPart::End`] last.
///
/// Reads only the pieces that the next shard needs. Sizes and offsets in errors include the prefix.
pub(crate) fn shards<S>(
    prefix: TextPrefix,
    pieces: S,
    limits: TextLimits,
) -> impl Stream<Item = Result<TextPart, Error>> + Send
where
    S: Stream<Item = Result<Bytes, Error>> + Send,
{
    try_stream! {
        let TextPrefix { mut hash, uncut } = prefix;
        let (mut utf8, mut chunker) = (Utf8Check::after(hash.bytes()), Chunker::default());
        chunker.push(&uncut);
        // The first shard is held back until another shard or the end follows, because an only shard gets its own
        // variant.
        let (mut first, mut has_several) = (None, hash.bytes() > uncut.len() as u64);
        pin_mut!(pieces);
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            hash.push(&piece);
            limits.check(hash.bytes())?;
            utf8.push(&piece)?;
            chunker.push(&piece);
            while let Some(shard) = chunker.next_shard() {
                if !has_several && first.is_none() {
                    first = Some(shard);
                    continue;
                }
                has_several = true;
                for shard in first.take().into_iter().chain([shard]) {
                    yield TextPart::Shard(shard);
                }
            }
        }
        utf8.finish()?;
        limits.check_end(hash.bytes())?;
        let mut last = Vec::from_iter(first);
        last.extend(std::iter::from_fn(|| chunker.last_shard()));
        let is_only = !has_several && last.len() == 1;
        for shard in last {
            yield if is_only { TextPart::OnlyShard(shard) } else { TextPart::Shard(shard) };
        }
        yield TextPart::End(hash);
    }
}

/// Checks UTF-8 that arrives in pieces. A piece may end inside a character.
#[derive(Default)]
pub(crate) struct Utf8Check {
    /// Beginning of an incomplete character, at most 3 bytes.
    pending: Vec<u8>,
    /// Number of bytes of the text before `pending`.
    checked: u64,
}

impl Utf8Check {
    /// Starts a check of the text after its first `bytes` bytes, which are valid.
    fn after(bytes: u64) -> Self {
        Self { checked: bytes, ..Self::default() }
    }

    /// Checks the next piece. The error names the offset of the first invalid byte.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), Invalid> {
        self.pending.extend_from_slice(piece);
        let valid = match std::str::from_utf8(&self.pending) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(error) => return Err(self.invalid_at(error.valid_up_to())),
        };
        self.pending.drain(..valid);
        self.checked += valid as u64;
        Ok(())
    }

    /// Fails if the text ends inside a character.
    pub(crate) fn finish(self) -> Result<(), Invalid> {
        if self.pending.is_empty() { Ok(()) } else { Err(self.invalid_at(0)) }
    }

    fn invalid_at(&self, pending_at: usize) -> Invalid {
        let offset = self.checked + pending_at as u64;
        Invalid::new("text", format!("not UTF-8 at byte {offset}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problem(pieces: &[&[u8]]) -> Option<String> {
        let mut check = Utf8Check::default();
        let pushed = pieces.iter().try_for_each(|piece| check.push(piece));
        pushed.and_then(|()| check.finish()).err().map(|invalid| invalid.to_string())
    }

    #[test]
    fn errors_name_the_offset_of_the_first_invalid_byte() {
        assert_eq!(problem(&[b"ab\xffc"]).as_deref(), Some("text: not UTF-8 at byte 2"));
        assert_eq!(problem(&[b"a\xc3", b"\xa4b\xa4"]).as_deref(), Some("text: not UTF-8 at byte 4"));
        assert_eq!(problem(&[b"a\xf0\x9f", b"\x91"]).as_deref(), Some("text: not UTF-8 at byte 1"));
        assert_eq!(problem(&[b"", b"\0"]), None);
    }

    proptest! {
        #[test]
        fn the_result_does_not_depend_on_the_pieces(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            text in any::<String>(),
            size in 1usize..8,
        ) {
            let joined = [text.as_bytes(), &bytes].concat();
            let expected = std::str::from_utf8(&joined).err().map(|error| error.valid_up_to());
            let pieces: Vec<&[u8]> = joined.chunks(size).collect();
            let expected = expected.map(|at| format!("text: not UTF-8 at byte {at}"));
            prop_assert_eq!(problem(&pieces), expected);
        }
    }

    async fn parts(pieces: &[&'static [u8]], limits: TextLimits) -> Result<Vec<TextPart>, Error> {
        let pieces = pieces.iter().map(|piece| Ok(Bytes::from_static(piece)));
        let parts: Vec<_> = shards(TextPrefix::default(), futures::stream::iter(pieces), limits).collect().await;
        parts.into_iter().collect()
    }

    fn hash(text: &[u8]) -> TextHash {
        let mut hash = TextHash::default();
        hash.push(text);
        hash
    }

    #[tokio::test]
    async fn a_text_continues_after_its_prefix() {
        let limits = TextLimits { bytes_max: 100_000, bytes_declared: Some(14) };
        let prefix = TextPrefix { hash: hash(b"kept, end, "), uncut: "end, ".into() };
        let more = futures::stream::iter([Ok(Bytes::from_static(b"new"))]);
        let parts: Vec<_> = shards(prefix, more, limits).collect().await;
        let parts: Result<Vec<_>, _> = parts.into_iter().collect();
        let expected = [TextPart::Shard("end, new".into()), TextPart::End(hash(b"kept, end, new"))];
        assert_eq!(parts.unwrap(), expected);
    }

    #[tokio::test]
    async fn size_limits_and_declared_sizes_are_enforced() {
        let limits = |bytes_max, bytes_declared| TextLimits { bytes_max, bytes_declared };
        let text: [&'static [u8]; 2] = [b"four", b" and six"];
        let all = parts(&text, limits(12, Some(12))).await.unwrap();
        assert_eq!(all, [TextPart::OnlyShard("four and six".into()), TextPart::End(hash(b"four and six"))]);
        for wrong in [limits(11, None), limits(12, Some(13)), limits(100, Some(11)), limits(100, Some(13))] {
            let error = parts(&text, wrong).await.unwrap_err();
            let expected = matches!(error, Error::Invalid(Invalid { field: "bytes", .. }) | Error::TooLarge { .. });
            assert!(expected, "{error}");
        }
    }
}
