//! Immutable postings of many windows.

use std::sync::Arc;

use super::block::Block;
use super::document::{IndexedDocument, WindowEntry};
use super::tail::TailDocument;
use crate::key::{Resolution, Resolutions, Space, TermId};
use crate::sketch::Entry;

/// Postings of many windows, sorted by key.
///
/// The list of a key is a number of bytes in `postings`: for each window LEB128 of four times the distance to the
/// window before, plus the level.
#[derive(Debug, Default)]
pub(super) struct Segment {
    documents: Vec<(Arc<IndexedDocument>, u32)>,
    windows: Vec<WindowEntry>,
    keys: Vec<u32>,
    /// End of the list of each key in `postings`.
    ends: Vec<u32>,
    postings: Vec<u8>,
    /// Resolutions of the windows' words, characters and bigrams, as sets of bits.
    resolutions: [u64; 3],
}

/// Index of a window that is not copied.
const DROPPED: u32 = u32::MAX;

impl Segment {
    /// Returns the segment of the documents of a tail. Adds the number of windows that were left out to `dropped`.
    pub(super) fn of_tail(tail: &[Arc<TailDocument>], dropped: &mut u64) -> Self {
        let mut writer = Writer::default();
        let mut postings: Vec<(Entry, u32)> = Vec::new();
        for document in tail {
            let first = writer.segment.windows.len() as u32;
            if !writer.document(&**document, 0, document.entries(), dropped) {
                continue;
            }
            for (sketch, window) in document.sketches().iter().zip(first..) {
                let Resolutions { words, characters, pairs } = sketch.resolutions();
                for (set, resolution) in writer.segment.resolutions.iter_mut().zip([words, characters, pairs]) {
                    *set |= 1 << resolution.number();
                }
                postings.extend(sketch.terms().iter().map(|&entry| (entry, window)));
            }
        }
        postings.sort_unstable_by_key(|&(entry, window)| (entry.key(), window));
        for list in postings.chunk_by(|(a, _), (b, _)| a.key() == b.key()) {
            writer.list(list[0].0.key(), list.iter().map(|&(entry, window)| (window, entry.level())));
        }
        writer.finish()
    }

    /// Returns one segment with the documents of `sources` that have no tombstone. Adds the number of windows that were
    /// left out to `dropped`.
    pub(super) fn merge(sources: &[Arc<Self>], dropped: &mut u64) -> Self {
        let mut writer = Writer::default();
        let mut maps = Vec::new();
        for source in sources {
            let mut map = vec![DROPPED; source.windows.len()];
            for (index, (document, first)) in (0..).zip(&source.documents) {
                let range = *first as usize..(first + document.windows()) as usize;
                let target = writer.segment.windows.len() as u32;
                if writer.document(&**source, index, &source.windows[range.clone()], dropped) {
                    map[range].iter_mut().zip(target..).for_each(|(window, target)| *window = target);
                }
            }
            for (set, other) in writer.segment.resolutions.iter_mut().zip(source.resolutions) {
                *set |= other;
            }
            maps.push(map);
        }
        let mut keys: Vec<u32> = sources.iter().flat_map(|source| &source.keys).copied().collect();
        keys.sort_unstable();
        keys.dedup();
        let mut cursors = vec![0; sources.len()];
        for key in keys {
            let mut lists = Vec::with_capacity(sources.len());
            for ((source, map), cursor) in sources.iter().zip(&maps).zip(&mut cursors) {
                if source.keys.get(*cursor) == Some(&key) {
                    lists.push((Postings::new(source.list(*cursor)), map));
                    *cursor += 1;
                }
            }
            let moved = lists.into_iter().flat_map(|(list, map)| {
                list.map(|(window, level)| (map[window as usize], level)).filter(|(window, _)| *window != DROPPED)
            });
            writer.list(key, moved);
        }
        writer.finish()
    }

    pub(super) fn windows(&self) -> usize {
        self.windows.len()
    }

    /// Returns the number of windows whose document has a tombstone.
    pub(super) fn dead_windows(&self) -> usize {
        let dead = self.documents.iter().filter(|(document, _)| document.is_removed());
        dead.map(|(document, _)| document.windows() as usize).sum()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.documents.capacity() * size_of::<(Arc<IndexedDocument>, u32)>()
            + self.windows.capacity() * size_of::<WindowEntry>()
            + (self.keys.capacity() + self.ends.capacity()) * size_of::<u32>()
            + self.postings.capacity()
    }

    fn list(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.postings[start as usize..self.ends[index] as usize]
    }

    /// Returns the indexes of the lists of a term.
    fn lists(&self, id: TermId) -> impl Iterator<Item = usize> {
        let [words, characters, pairs] = self.resolutions;
        let resolutions = match id.space() {
            // One pass: the key of a common term is the same in all resolutions.
            Space::CommonWord | Space::CommonCharacter => 1 << Resolution::MIN.number(),
            Space::Word => words,
            Space::Character => characters,
            Space::Pair => pairs,
        };
        let all = (0..u64::BITS as u8).filter(move |number| resolutions >> number & 1 == 1).filter_map(Resolution::new);
        let keys = all.map(move |resolution| {
            id.key(Resolutions { words: resolution, characters: resolution, pairs: resolution })
        });
        keys.filter_map(|key| self.keys.binary_search(&key).ok())
    }
}

impl Block for Segment {
    fn entries(&self) -> &[WindowEntry] {
        &self.windows
    }

    fn document(&self, index: u32) -> &Arc<IndexedDocument> {
        &self.documents[index as usize].0
    }

    fn first_window(&self, index: u32) -> u32 {
        self.documents[index as usize].1
    }

    fn for_each(&self, id: TermId, f: &mut dyn FnMut(u32, u8)) {
        for list in self.lists(id) {
            Postings::new(self.list(list)).for_each(|(window, level)| f(window, level));
        }
    }
}

/// Windows and levels of one list.
struct Postings<'a> {
    bytes: std::slice::Iter<'a, u8>,
    next: u32,
}

impl<'a> Postings<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes: bytes.iter(), next: 0 }
    }
}

impl Iterator for Postings<'_> {
    type Item = (u32, u8);

    fn next(&mut self) -> Option<Self::Item> {
        let mut byte = *self.bytes.next()?;
        let mut value = u64::from(byte & 0x7f);
        let mut shift = 7;
        while byte >= 0x80 {
            byte = *self.bytes.next()?;
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
        }
        let window = self.next + (value >> 2) as u32;
        self.next = window + 1;
        Some((window, (value & 3) as u8))
    }
}

/// Builds a segment.
#[derive(Default)]
struct Writer {
    segment: Segment,
}

impl Writer {
    /// Appends the windows of a document. Leaves out a document with a tombstone: then returns false and adds its
    /// windows to `dropped`.
    fn document(&mut self, source: &dyn Block, index: u32, windows: &[WindowEntry], dropped: &mut u64) -> bool {
        let document = source.document(index);
        if document.is_removed() {
            *dropped += u64::from(document.windows());
            return false;
        }
        let target = self.segment.documents.len() as u32;
        self.segment.documents.push((Arc::clone(document), self.segment.windows.len() as u32));
        let moved = windows.iter().map(|window| window.moved_to(target));
        self.segment.windows.extend(moved);
        true
    }

    /// Appends the list of a key, which is greater than those before. Windows are in ascending order.
    fn list(&mut self, key: u32, postings: impl Iterator<Item = (u32, u8)>) {
        let mut next = 0;
        let start = self.segment.postings.len();
        for (window, level) in postings {
            let mut value = u64::from(window - next) << 2 | u64::from(level);
            while value >= 0x80 {
                self.segment.postings.push(value as u8 | 0x80);
                value >>= 7;
            }
            self.segment.postings.push(value as u8);
            next = window + 1;
        }
        if self.segment.postings.len() > start {
            self.segment.keys.push(key);
            self.segment.ends.push(self.segment.postings.len() as u32);
        }
    }

    fn finish(self) -> Segment {
        let mut segment = self.segment;
        segment.documents.shrink_to_fit();
        segment.windows.shrink_to_fit();
        segment.keys.shrink_to_fit();
        segment.ends.shrink_to_fit();
        segment.postings.shrink_to_fit();
        segment
    }
}
