//! Description of a pass for the kernels: its rows, its sequences, and lists of rows by kind.
//!
//! All arrays are 32-bit words in one upload. The structs that they form are declared in `cuda/common.cuh`.

use cudarc::driver::{CudaSlice, DevicePtr};

use super::CAUSAL_STEP;
use crate::Error;
use crate::layout::Blocks;
use crate::network::{Input, KvCapacity, Pattern, Sequence};

/// Marks an input that is a vector, not a token.
const VECTOR: u32 = 1 << 31;
/// Words of `Row`, `Tile`, `Sequence` and `Fork` in `cuda/common.cuh`.
const ROW_WORDS: usize = 4;
const TILE_WORDS: usize = 3;
const SEQUENCE_WORDS: usize = 6;
const FORK_WORDS: usize = 2 * SEQUENCE_WORDS + 2;
/// Maximum and minimum rows of a tile of slots, which one thread block computes.
const TILE_ROWS_MAX: usize = 64;
const TILE_ROWS_MIN: usize = 4;
/// Rows of a tile of flash attention, and the number of new causal rows from which a sequence has such tiles.
const CAUSAL_TILE_ROWS: usize = 64;
const CAUSAL_TILE_MIN: usize = 16;
/// Tiles that give every multiprocessor of a large card work.
const TILES_MIN: usize = 256;

/// A part of the uploaded words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Part {
    offset: usize,
    pub(super) count: usize,
}

impl Part {
    /// Returns the device address of the part in the upload at `base`.
    pub(super) fn at(self, base: u64) -> u64 {
        base + (self.offset * size_of::<u32>()) as u64
    }
}

/// A described pass.
#[derive(Default)]
pub(super) struct Described {
    /// Words to upload.
    pub(super) words: Vec<u32>,
    /// Latents of all sequences, `[row][latent width]`, to upload.
    pub(super) latents: Vec<f32>,
    pub(super) shape: Shape,
    /// Position ids are below this number.
    pub(super) positions: usize,
}

/// All that the launches of a pass depend on, except the addresses of its buffers. The counts of parts are in rows,
/// sequences or tiles, not in words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) rows: Part,
    pub(super) sequences: Part,
    /// KV caches that begin with the rows of another.
    pub(super) forks: Part,
    /// Rows that attend to all earlier rows.
    pub(super) causal: Part,
    /// Rows that attend to all earlier rows, of sequences with few such rows.
    pub(super) few_causal: Part,
    /// Tiles of rows that attend to all earlier rows, of all other sequences.
    pub(super) causal_tiles: Part,
    /// Rows that are slots.
    pub(super) slots: Part,
    /// Tiles of slots.
    pub(super) tiles: Part,
    /// Rows whose result the caller needs.
    pub(super) outputs: Part,
    /// Rows whose input is a latent, in the order of `latents`.
    pub(super) latent_rows: Part,
    /// Rows whose input is a query, and the number of each query.
    pub(super) query_rows: Part,
    pub(super) queries: Part,
    /// Words for the results: target ids of the outputs, or rows with ids that they exclude. Empty if there are none.
    pub(super) targets: Part,
    /// Maximum rows that a causal row attends to, rounded up to whole blocks of 32.
    pub(super) visible_max: usize,
    /// Maximum prompt rows of a sequence with slots, rounded up to whole blocks of 32.
    pub(super) prompt_max: usize,
    /// Maximum slots of a block.
    pub(super) block_max: usize,
}

/// Arrays of a pass, before they are joined.
#[derive(Default)]
struct Arrays {
    rows: Vec<[u32; ROW_WORDS]>,
    sequences: Vec<u32>,
    forks: Vec<u32>,
    tiles: Vec<u32>,
    causal: Vec<u32>,
    few_causal: Vec<u32>,
    causal_tiles: Vec<u32>,
    slots: Vec<u32>,
    outputs: Vec<u32>,
    latent_rows: Vec<u32>,
    query_rows: Vec<u32>,
    queries: Vec<u32>,
}

impl Described {
    /// Describes `pass`. `targets` are words for the results, see [`Shape::targets`].
    pub(super) fn new(pass: &[Sequence<'_>], targets: &[u32]) -> Result<Self, Error> {
        let mut described = Self::default();
        let all_slots: usize = pass.iter().map(slot_rows).sum();
        let tile_rows = (all_slots / TILES_MIN).clamp(TILE_ROWS_MIN, TILE_ROWS_MAX);
        let mut arrays = Arrays::default();
        arrays.rows.reserve(pass.iter().map(Sequence::rows).sum());
        for (number, sequence) in pass.iter().enumerate() {
            let first = arrays.rows.len();
            arrays.add_sequence(sequence)?;
            let inputs = described.add_inputs(sequence, first as u32, &mut arrays);
            let slots = slot_rows(sequence);
            let causal = sequence.rows() - slots;
            let before = sequence.cache.rows();
            let rows = sequence.positions.iter().zip(&inputs).map(|(&position, &input)| (position, input));
            arrays.add_rows(number as u32, (before..).take(causal).zip(rows.clone()));
            arrays.add_causal(number as u32, first as u32, causal);
            if causal > 0 {
                described.shape.visible_max = described.shape.visible_max.max(before + causal);
            }
            if let Pattern::Blocks(blocks) = &sequence.pattern {
                let places = slot_places(blocks, before + causal).take(slots);
                arrays.add_rows(number as u32, places.zip(rows.skip(causal)));
                arrays.add_slots(number as u32, (first + causal) as u32, slots, tile_rows);
                described.shape.prompt_max = described.shape.prompt_max.max(blocks.prompt);
                described.shape.block_max = described.shape.block_max.max(blocks.block);
            }
            let end = (first + sequence.rows()) as u32;
            arrays.outputs.extend(end - sequence.outputs as u32..end);
            let last = sequence.positions.iter().copied().max().unwrap_or_default();
            described.positions = described.positions.max(last as usize + 1);
        }
        let Shape { visible_max, prompt_max, .. } = &mut described.shape;
        *visible_max = visible_max.next_multiple_of(CAUSAL_STEP);
        *prompt_max = prompt_max.next_multiple_of(CAUSAL_STEP);
        described.join(arrays, targets);
        Ok(described)
    }

    /// Returns the inputs of a sequence's rows, the first of which is row `first` of the pass. Collects its latents and
    /// queries.
    fn add_inputs(&mut self, sequence: &Sequence<'_>, first: u32, arrays: &mut Arrays) -> Vec<u32> {
        let mut inputs = Vec::with_capacity(sequence.rows());
        for input in &sequence.input {
            let at = first + inputs.len() as u32;
            match input {
                Input::Tokens(ids) => inputs.extend(ids),
                Input::Latents(latents) => {
                    let count = sequence.rows() - other_inputs(sequence);
                    self.latents.extend_from_slice(latents);
                    arrays.latent_rows.extend(at..at + count as u32);
                    inputs.resize(inputs.len() + count, VECTOR);
                }
                Input::Queries(count) => {
                    arrays.query_rows.extend(at..at + *count as u32);
                    arrays.queries.extend(0..*count as u32);
                    inputs.resize(inputs.len() + count, VECTOR);
                }
            }
        }
        inputs
    }

    /// Joins the arrays to one upload.
    fn join(&mut self, arrays: Arrays, targets: &[u32]) {
        self.shape.sequences = self.append(&arrays.sequences, SEQUENCE_WORDS);
        self.shape.rows = self.append(arrays.rows.as_flattened(), ROW_WORDS);
        self.shape.forks = self.append(&arrays.forks, FORK_WORDS);
        self.shape.tiles = self.append(&arrays.tiles, TILE_WORDS);
        self.shape.causal = self.append(&arrays.causal, 1);
        self.shape.few_causal = self.append(&arrays.few_causal, 1);
        self.shape.causal_tiles = self.append(&arrays.causal_tiles, TILE_WORDS);
        self.shape.slots = self.append(&arrays.slots, 1);
        self.shape.outputs = self.append(&arrays.outputs, 1);
        self.shape.latent_rows = self.append(&arrays.latent_rows, 1);
        self.shape.query_rows = self.append(&arrays.query_rows, 1);
        self.shape.queries = self.append(&arrays.queries, 1);
        self.shape.targets = self.append(targets, 1);
    }

    /// Describes only the rows of `count` latents, to project them without a pass.
    pub(super) fn latents_only(count: usize) -> Self {
        let mut described = Self::default();
        described.shape.latent_rows = described.append(&Vec::from_iter(0..count as u32), 1);
        described
    }

    /// Appends an array whose items have `words` words each. Arrays start at multiples of 16 bytes.
    fn append(&mut self, array: &[u32], words: usize) -> Part {
        let part = Part { offset: self.words.len(), count: array.len() / words };
        self.words.extend_from_slice(array);
        self.words.resize(self.words.len().next_multiple_of(4), 0);
        part
    }
}

impl Arrays {
    fn add_sequence(&mut self, sequence: &Sequence<'_>) -> Result<(), Error> {
        let cache = sequence.cache.cuda()?;
        let words = sequence_words(&cache.bytes, cache.capacity, &sequence.pattern);
        if let Some(prefix) = &cache.prefix {
            self.forks.extend(sequence_words(&prefix.bytes, prefix.capacity, &Pattern::Causal));
            self.forks.extend(words);
            self.forks.extend([prefix.rows as u32, 0]);
        }
        self.sequences.extend(words);
        Ok(())
    }

    /// Adds rows, each with its place in sequence `sequence`, its position id and its input.
    fn add_rows(&mut self, sequence: u32, rows: impl Iterator<Item = (usize, (u32, u32))>) {
        self.rows.extend(rows.map(|(place, (position, input))| [sequence, place as u32, position, input]));
    }

    /// Lists `count` rows of a sequence, from `first` on, that attend to all earlier rows.
    fn add_causal(&mut self, sequence: u32, first: u32, count: usize) {
        self.causal.extend(first..first + count as u32);
        if count < CAUSAL_TILE_MIN {
            self.few_causal.extend(first..first + count as u32);
        } else {
            self.causal_tiles.extend(tiles(sequence, first, count, CAUSAL_TILE_ROWS));
        }
    }

    /// Lists `count` slots of a sequence, from row `first` on.
    fn add_slots(&mut self, sequence: u32, first: u32, count: usize, tile_rows: usize) {
        self.slots.extend(first..first + count as u32);
        self.tiles.extend(tiles(sequence, first, count, tile_rows));
    }
}

/// Returns the words of tiles of at most `rows` rows each.
fn tiles(sequence: u32, first: u32, count: usize, rows: usize) -> impl Iterator<Item = u32> {
    let tile = move |i: usize| [sequence, first + i as u32, rows.min(count - i) as u32];
    (0..count).step_by(rows).flat_map(tile)
}

/// Returns the places of slots in row order, from row `row` on. A place is the number of prompt rows plus the number of
/// the slot in text order.
fn slot_places(blocks: &Blocks, row: usize) -> impl Iterator<Item = usize> {
    let blocks = *blocks;
    let (first_block, first_step) = if row < blocks.prompt + blocks.tokens { blocks.locate(row) } else { (0, 0) };
    let of_step = move |step: usize| {
        let first = if step == first_step { first_block } else { 0 };
        (first..blocks.active(step)).map(move |block| blocks.prompt + block * blocks.block + step)
    };
    (first_step..blocks.steps()).flat_map(of_step)
}

/// Returns the words of a `Sequence` in `cuda/common.cuh`.
fn sequence_words(bytes: &CudaSlice<u8>, capacity: KvCapacity, pattern: &Pattern) -> [u32; SEQUENCE_WORDS] {
    let address = bytes.device_ptr(bytes.stream()).0;
    let (prompt, block) = match pattern {
        Pattern::Causal => (u32::MAX, 1),
        Pattern::Blocks(blocks) => (blocks.prompt as u32, blocks.block as u32),
    };
    [address as u32, (address >> 32) as u32, capacity.causal as u32, capacity.slots as u32, prompt, block]
}

/// Returns the number of new rows that are slots.
fn slot_rows(sequence: &Sequence<'_>) -> usize {
    match &sequence.pattern {
        Pattern::Causal => 0,
        Pattern::Blocks(blocks) => {
            let end = sequence.cache.rows() + sequence.rows();
            end - sequence.cache.rows().max(blocks.prompt).min(end)
        }
    }
}

/// Returns the number of new rows whose input is not a latent.
fn other_inputs(sequence: &Sequence<'_>) -> usize {
    let rows = |input: &Input<'_>| match input {
        Input::Tokens(ids) => ids.len(),
        Input::Queries(count) => *count,
        Input::Latents(_) => 0,
    };
    sequence.input.iter().map(rows).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_have_the_places_of_their_rows() {
        let blocks = Blocks { prompt: 7, tokens: 23, block: 5 };
        let end = blocks.prompt + blocks.tokens;
        for first in blocks.prompt..=end {
            let expected = (first..end).map(|row| {
                let (block, step) = blocks.locate(row);
                blocks.prompt + block * blocks.block + step
            });
            let places: Vec<usize> = slot_places(&blocks, first).take(end - first).collect();
            assert_eq!(places, expected.collect::<Vec<_>>(), "from row {first}");
        }
    }

    #[test]
    fn tiles_cover_all_rows() {
        let words: Vec<u32> = tiles(3, 10, 130, 64).collect();
        assert_eq!(words, [3, 10, 64, 3, 74, 64, 3, 138, 2]);
        assert_eq!(tiles(0, 0, 0, 64).count(), 0);
    }
}
