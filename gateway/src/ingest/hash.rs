//! BLAKE3 hash that can be resumed from a saved state, so that an append reads only the end of a document.
//!
//! BLAKE3 hashes a text as a binary tree over chunks of 1 KiB. The N chunks before the last one form complete subtrees,
//! one for each bit that is set in N. The *chaining value* of a subtree is the hash of its chunks. A manifest stores
//! these values. Together with the *tail*, which is the text after the subtrees, they suffice to resume the hash
//! (BLAKE3 paper, sections 2.1 and 5.1.2).

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use blake3::{CHUNK_LEN, Hasher};
use c3_types::DocumentId;

/// Size of a chunk, in bytes.
const CHUNK_BYTES: u64 = CHUNK_LEN as u64;

/// Hash of a text so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TextHash {
    /// Chaining values of the complete subtrees, largest first.
    subtrees: Vec<ChainingValue>,
    /// Number of chunks in the subtrees.
    chunks: u64,
    /// Text after the subtrees: at most a chunk, and empty only if the whole text is empty. A full chunk stays here
    /// until more text follows, because it may complete the whole tree, whose root is hashed differently.
    tail: Vec<u8>,
}

impl TextHash {
    /// Adds the next piece of the text.
    pub(crate) fn push(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            if self.tail.len() == CHUNK_LEN {
                self.complete_chunk();
            }
            let (now, later) = piece.split_at(piece.len().min(CHUNK_LEN - self.tail.len()));
            self.tail.extend_from_slice(now);
            piece = later;
        }
    }

    /// Returns the hash of the text.
    pub(crate) fn id(&self) -> DocumentId {
        let Some((first, others)) = self.subtrees.split_first() else { return DocumentId::of(&self.tail) };
        let last = chunk(self.chunks, &self.tail);
        let right = others.iter().rev().fold(last, |right, left| join(left, &right));
        merge_subtrees_root(first, &right, Mode::Hash).into()
    }

    /// Returns the size of the text, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.chunks * CHUNK_BYTES + self.tail.len() as u64
    }

    /// Returns the chaining values that represent the text before [`Self::tail_start`], largest subtree first.
    pub(crate) fn subtrees(&self) -> &[ChainingValue] {
        &self.subtrees
    }

    /// Returns the byte offset of the tail in a text of `bytes` bytes.
    pub(crate) fn tail_start(bytes: u64) -> u64 {
        chunks_before_last(bytes) * CHUNK_BYTES
    }

    /// Resumes the hash of a text of `bytes` bytes. `None` if that size requires other lengths of `subtrees` or `tail`.
    pub(crate) fn resume(subtrees: &[ChainingValue], bytes: u64, tail: &[u8]) -> Option<Self> {
        let chunks = chunks_before_last(bytes);
        let fit = subtrees.len() == chunks.count_ones() as usize && tail.len() as u64 == bytes - chunks * CHUNK_BYTES;
        fit.then(|| Self { subtrees: subtrees.to_vec(), chunks, tail: tail.to_vec() })
    }

    /// Moves the tail, which must be a full chunk, to the subtrees. More text must follow, so no subtree is the root.
    fn complete_chunk(&mut self) {
        let mut subtree = chunk(self.chunks, &self.tail);
        self.tail.clear();
        self.chunks += 1;
        for _ in 0..self.chunks.trailing_zeros() {
            let left = self.subtrees.pop().expect("each bit set in the number of chunks has a subtree");
            subtree = join(&left, &subtree);
        }
        self.subtrees.push(subtree);
    }
}

/// Returns the number of chunks before the last one in a text of `bytes` bytes.
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
    fn the_hash_is_the_document_id_for_all_lengths() {
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
    fn the_hash_resumes_from_subtrees_and_tail() {
        let text = text(40_000);
        for bytes in [1, 1024, 1025, 2048, 7000, 16_384, 16_385, 39_999] {
            let mut hash = TextHash::default();
            hash.push(&text[..bytes]);
            let tail = TextHash::tail_start(bytes as u64) as usize;
            let resume = |tail: &[u8]| TextHash::resume(hash.subtrees(), bytes as u64, tail);
            let mut resumed = resume(&text[tail..bytes]).unwrap();
            assert_eq!(resumed, hash);
            resumed.push(&text[bytes..]);
            assert_eq!(resumed.id(), DocumentId::of(&text), "after {bytes} bytes");
            assert_eq!(resume(&text[tail + 1..bytes]), None);
        }
        assert_eq!(TextHash::resume(&[[0; 32]], 1024, &text[..1024]), None);
    }
}
