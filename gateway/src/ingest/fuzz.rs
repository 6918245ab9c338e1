//! Fuzz target: cuts of texts into shards.

use bytes::Bytes;
use c3_fuzz::MemoryBound;
use c3_types::limits::SHARD_BYTES_MAX;

use super::chunker::{Chunker, settled_count};
use super::text::Utf8Check;

fn shards<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Bytes> {
    let (mut chunker, mut shards) = (Chunker::default(), Vec::new());
    for piece in pieces {
        chunker.push(piece);
        shards.extend(std::iter::from_fn(|| chunker.next_shard()));
    }
    shards.extend(std::iter::from_fn(|| chunker.last_shard()));
    shards
}

#[test]
fn chunker() {
    // 2 bytes: the size of the pieces in which the text arrives. The rest: the text.
    let text = |unit: &str, bytes: usize| [&[9, 3], unit.repeat(bytes / unit.len()).as_bytes()].concat();
    let seeds = vec![
        text("x", 40_000),
        text("A sentence of some words. Another one!\n\nA new paragraph, ", 50_000),
        text("漢字。", 34_000),
        text("\r\n", 20_000),
    ];
    let bound = MemoryBound { factor: 8, constant: 256 << 10 };
    c3_fuzz::check!("chunker", bound, seeds, |input| {
        let Some(([a, b], text)) = input.split_first_chunk() else { return };
        let piece_bytes = usize::from(u16::from_le_bytes([*a, *b])).max(1);
        let cut = shards(text.chunks(piece_bytes));
        assert_eq!(cut.concat(), text);
        assert_eq!(cut, shards(std::iter::once(text)), "cuts depend on the pieces");
        assert!(cut.iter().all(|shard| (1..=SHARD_BYTES_MAX).contains(&shard.len())));
        assert!(cut.len() <= text.len().div_ceil(SHARD_BYTES_MAX / 4), "shards are too small");
        assert!(settled_count(&Vec::from_iter(cut.iter().map(|shard| shard.len() as u64))) <= cut.len());
        let mut check = Utf8Check::default();
        let valid = text.chunks(piece_bytes).try_for_each(|piece| check.push(piece)).and_then(|()| check.finish());
        assert_eq!(valid.is_ok(), std::str::from_utf8(text).is_ok());
        if valid.is_ok() {
            assert!(cut.iter().all(|shard| std::str::from_utf8(shard).is_ok()), "a cut divides a character");
        }
    });
}
