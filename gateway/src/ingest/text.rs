//! Text on its way in: checked (UTF-8, size) while it streams, and cut into shards.

use async_stream::try_stream;
use bytes::Bytes;
use c3_types::Invalid;
use futures::{Stream, StreamExt, pin_mut};

use crate::error::Error;
use crate::ingest::chunker::Chunker;
use crate::ingest::hash::TextHash;

/// Bounds of one text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextLimits {
    /// Most bytes.
    pub(crate) bytes_max: u64,
    /// Bytes that the caller said it has.
    pub(crate) bytes_declared: Option<u64>,
}

/// What a text becomes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    /// The next shard.
    Shard(Bytes),
    /// The only shard of a text.
    Whole(Bytes),
    /// All of it was read: the hash of the bytes.
    End(TextHash),
}

/// What is there of a text already, when its pieces arrive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Begun {
    /// Hash of all that is there.
    pub(crate) hash: TextHash,
    /// The end of it, that is to be cut into shards together with what arrives.
    pub(crate) end: Bytes,
}

impl TextLimits {
    /// Checks the declared size before any text is read.
    pub(crate) fn check_declared(&self) -> Result<(), Invalid> {
        self.check(self.bytes_declared.unwrap_or(0))
    }

    fn check(&self, bytes: u64) -> Result<(), Invalid> {
        let most = self.bytes_max;
        if bytes > most {
            let problem = format!("a document may have {most}, this one has {bytes} or more: split it");
            return Err(Invalid::new("bytes", problem));
        }
        Ok(())
    }

    fn check_end(&self, bytes: u64) -> Result<(), Invalid> {
        match self.bytes_declared {
            Some(declared) if declared != bytes => {
                Err(Invalid::new("bytes", format!("{declared} declared, but the text has {bytes}")))
            }
            _ => Ok(()),
        }
    }
}

/// Cuts a text into shards as it arrives, after what is there of it already. Reads on only when the next shard is asked
/// for. Sizes and offsets are those of the whole text.
pub(crate) fn shards<S>(
    begun: Begun,
    pieces: S,
    limits: TextLimits,
) -> impl Stream<Item = Result<Part, Error>> + Send
where
    S: Stream<Item = Result<Bytes, Error>> + Send,
{
    try_stream! {
        let Begun { mut hash, end } = begun;
        let (mut utf8, mut chunker) = (Utf8Check::after(hash.bytes()), Chunker::default());
        chunker.push(&end);
        // Whether it is the only one is known when the second is, or where shards are there already.
        let (mut first, mut several) = (None, hash.bytes() > end.len() as u64);
        pin_mut!(pieces);
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            hash.push(&piece);
            limits.check(hash.bytes())?;
            utf8.push(&piece)?;
            chunker.push(&piece);
            while let Some(shard) = chunker.next_shard() {
                if !several && first.is_none() {
                    first = Some(shard);
                    continue;
                }
                several = true;
                for shard in first.take().into_iter().chain([shard]) {
                    yield Part::Shard(shard);
                }
            }
        }
        utf8.finish()?;
        limits.check_end(hash.bytes())?;
        let mut last = Vec::from_iter(first);
        last.extend(std::iter::from_fn(|| chunker.last_shard()));
        let alone = !several && last.len() == 1;
        for shard in last {
            yield if alone { Part::Whole(shard) } else { Part::Shard(shard) };
        }
        yield Part::End(hash);
    }
}

/// Checks UTF-8 that arrives in pieces which may end inside a character.
#[derive(Default)]
pub(crate) struct Utf8Check {
    /// The beginning of a character whose end is still to come: at most 3 bytes.
    pending: Vec<u8>,
    /// Bytes before `pending`.
    checked: u64,
}

impl Utf8Check {
    /// The check of what comes after so many bytes of a text.
    fn after(bytes: u64) -> Self {
        Self { checked: bytes, ..Self::default() }
    }

    /// Checks the next piece. The error names the offset of the first byte that fits no character.
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

    /// Checks that the text does not end inside a character.
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
    fn the_offset_of_the_first_wrong_byte_is_named() {
        assert_eq!(problem(&[b"ab\xffc"]).as_deref(), Some("text: not UTF-8 at byte 2"));
        assert_eq!(problem(&[b"a\xc3", b"\xa4b\xa4"]).as_deref(), Some("text: not UTF-8 at byte 4"));
        assert_eq!(problem(&[b"a\xf0\x9f", b"\x91"]).as_deref(), Some("text: not UTF-8 at byte 1"));
        assert_eq!(problem(&[b"", b"\0"]), None);
    }

    proptest! {
        #[test]
        fn pieces_are_judged_as_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..40), text in any::<String>(),
                                          size in 1usize..8) {
            let joined = [text.as_bytes(), &bytes].concat();
            let expected = std::str::from_utf8(&joined).err().map(|error| error.valid_up_to());
            let pieces: Vec<&[u8]> = joined.chunks(size).collect();
            let expected = expected.map(|at| format!("text: not UTF-8 at byte {at}"));
            prop_assert_eq!(problem(&pieces), expected);
        }
    }

    async fn parts(pieces: &[&'static [u8]], limits: TextLimits) -> Result<Vec<Part>, Error> {
        let pieces = pieces.iter().map(|piece| Ok(Bytes::from_static(piece)));
        let parts: Vec<_> = shards(Begun::default(), futures::stream::iter(pieces), limits).collect().await;
        parts.into_iter().collect()
    }

    fn hash(text: &[u8]) -> TextHash {
        let mut hash = TextHash::default();
        hash.push(text);
        hash
    }

    #[tokio::test]
    async fn a_text_goes_on_where_it_ended() {
        let limits = TextLimits { bytes_max: 100_000, bytes_declared: Some(14) };
        let begun = Begun { hash: hash(b"kept, end, "), end: "end, ".into() };
        let more = futures::stream::iter([Ok(Bytes::from_static(b"new"))]);
        let parts: Vec<_> = shards(begun, more, limits).collect().await;
        let parts: Result<Vec<_>, _> = parts.into_iter().collect();
        let expected = [Part::Shard("end, new".into()), Part::End(hash(b"kept, end, new"))];
        assert_eq!(parts.unwrap(), expected);
    }

    #[tokio::test]
    async fn sizes_are_held_to() {
        let limits = |bytes_max, bytes_declared| TextLimits { bytes_max, bytes_declared };
        let text: [&'static [u8]; 2] = [b"four", b" and six"];
        let parts_of_all = parts(&text, limits(12, Some(12))).await.unwrap();
        assert_eq!(parts_of_all, [Part::Whole("four and six".into()), Part::End(hash(b"four and six"))]);
        for wrong in [limits(11, None), limits(12, Some(13)), limits(100, Some(11)), limits(100, Some(13))] {
            let error = parts(&text, wrong).await.unwrap_err();
            assert!(matches!(error, Error::Invalid(Invalid { field: "bytes", .. })), "{error}");
        }
    }
}
