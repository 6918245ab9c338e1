//! The hash of a text, kept so that it can go on without the text.
//!
//! A document's id is BLAKE3 of its text: a tree over chunks of 1 KiB. The hashes of its complete subtrees, one for each
//! bit that is set in the number of chunks, stand for the text below them. A manifest keeps them; with the bytes that
//! come after them, which are the end of the text, the hash goes on. (The BLAKE3 paper, sections 2.1 and 5.1.2.)

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use blake3::{CHUNK_LEN, Hasher};
use c3_types::DocumentId;

/// Bytes of a chunk.
const CHUNK_BYTES: u64 = CHUNK_LEN as u64;

/// The hash of a text so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TextHash {
    /// Complete subtrees, the largest first.
    subtrees: Vec<ChainingValue>,
    /// Chunks in the subtrees.
    chunks: u64,
    /// What comes after them: at most a chunk, and empty only where the text is. Whether the last chunk is complete, or
    /// all there is, nobody knows before the text goes on.
    rest: Vec<u8>,
}

impl TextHash {
    /// Takes the next piece of the text.
    pub(crate) fn push(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            if self.rest.len() == CHUNK_LEN {
                self.complete();
            }
            let (now, later) = piece.split_at(piece.len().min(CHUNK_LEN - self.rest.len()));
            self.rest.extend_from_slice(now);
            piece = later;
        }
    }

    /// Hash of all of the text.
    pub(crate) fn id(&self) -> DocumentId {
        let Some((first, others)) = self.subtrees.split_first() else { return DocumentId::of(&self.rest) };
        let last = chunk(self.chunks, &self.rest);
        let right = others.iter().rev().fold(last, |right, left| join(left, &right));
        merge_subtrees_root(first, &right, Mode::Hash).into()
    }

    /// Bytes of the text.
    pub(crate) fn bytes(&self) -> u64 {
        self.chunks * CHUNK_BYTES + self.rest.len() as u64
    }

    /// What stands for the text before [`Self::tail_start`]: complete subtrees, the largest first.
    pub(crate) fn subtrees(&self) -> &[ChainingValue] {
        &self.subtrees
    }

    /// Where the rest of a text of `bytes` bytes begins, which its subtrees do not stand for.
    pub(crate) fn tail_start(bytes: u64) -> u64 {
        chunks_before_last(bytes) * CHUNK_BYTES
    }

    /// The hash of a text with these subtrees and this rest; `None` where they do not belong together.
    pub(crate) fn resume(subtrees: &[ChainingValue], bytes: u64, rest: &[u8]) -> Option<Self> {
        let chunks = chunks_before_last(bytes);
        let fit = subtrees.len() == chunks.count_ones() as usize
            && rest.len() as u64 == bytes - chunks * CHUNK_BYTES;
        fit.then(|| Self { subtrees: subtrees.to_vec(), chunks, rest: rest.to_vec() })
    }

    /// The rest is a whole chunk, and there is text after it, so that none of what it completes is the root.
    fn complete(&mut self) {
        let mut subtree = chunk(self.chunks, &self.rest);
        self.rest.clear();
        self.chunks += 1;
        for _ in 0..self.chunks.trailing_zeros() {
            let left = self.subtrees.pop().expect("every bit of the number of chunks is a subtree");
            subtree = join(&left, &subtree);
        }
        self.subtrees.push(subtree);
    }
}

/// Whole chunks of a text that others follow.
fn chunks_before_last(bytes: u64) -> u64 {
    bytes.saturating_sub(1) / CHUNK_BYTES
}

fn chunk(number: u64, bytes: &[u8]) -> ChainingValue {
    Hasher::new().set_input_offset(number * CHUNK_BYTES).update(bytes).finalize_non_root()
}

fn join(left: &ChainingValue, right: &ChainingValue) -> ChainingValue {
    merge_subtrees_non_root(left, right, Mode::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| (i * i / 8) as u8).collect()
    }

    #[test]
    fn it_is_the_hash_of_the_text_whatever_its_length() {
        for chunks in 0..20 {
            for more in [0, 1, 1023] {
                let text = text(1024 * chunks + more);
                let mut hash = TextHash::default();
                text.chunks(700).for_each(|piece| hash.push(piece));
                assert_eq!(hash.id(), DocumentId::of(&text), "{chunks} chunks and {more} bytes");
                assert_eq!(hash.bytes(), text.len() as u64);
            }
        }
    }

    #[test]
    fn it_goes_on_from_its_subtrees_and_the_end_of_the_text() {
        let whole = text(40_000);
        for bytes in [1, 1024, 1025, 2048, 7000, 16_384, 16_385, 39_999] {
            let mut hash = TextHash::default();
            hash.push(&whole[..bytes]);
            let rest = TextHash::tail_start(bytes as u64) as usize;
            let resume = |rest: &[u8]| TextHash::resume(hash.subtrees(), bytes as u64, rest);
            let mut resumed = resume(&whole[rest..bytes]).unwrap();
            assert_eq!(resumed, hash);
            resumed.push(&whole[bytes..]);
            assert_eq!(resumed.id(), DocumentId::of(&whole), "after {bytes} bytes");
            assert_eq!(resume(&whole[rest + 1..bytes]), None);
        }
        assert_eq!(TextHash::resume(&[[0; 32]], 1024, &whole[..1024]), None);
    }
}
