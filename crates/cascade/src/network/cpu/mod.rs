//! The network on a CPU: quantised weights, activations in int8, and one arithmetic.
//!
//! [`ARITHMETIC`] names the order and precision of every step. It depends on nothing else: not on the rows beside a row,
//! the number of threads, the CPU's instructions or how a window is cut into passes. So text comes back the same from
//! every CPU. What it fixes:
//!
//! - products ([`product`]): activations in int8 with a scale per 32, dot products of 32 exact in i32, sums over the blocks
//!   of 32 in order in f32, multiply-adds fused;
//! - attention ([`attention`]): queries and keys in int8 likewise, softmax's weights and a prompt's values too, the values of
//!   a block's own slots in half precision, sums over rows in order;
//! - norms and sums of softmax ([`rowwise`]): 16 lanes, added up as a tree;
//! - [`exp`], and sines and cosines by the crate libm, which computes the same everywhere.
//!
//! Between two attentions rows are independent: a task takes a run of rows from one attention to the next, so that they
//! stay in its cache while the weights stream through.

mod attention;
pub(crate) mod bench;
mod dense;
mod exp;
mod head;
mod kv;
mod load;
mod product;
mod rows;
mod rowwise;
mod simd;
mod weight;

use std::cell::RefCell;

use rayon::prelude::*;

use super::{Best, Heads, Pattern, Sequence};
use crate::Error;
use crate::checkpoint::{NetworkConfig, Weights};

pub(super) use dense::Dense;
pub(super) use kv::LayerKv;
use load::Loader;
use rows::Rows;
use rowwise::Turns;
pub(crate) use simd::Isa;
use simd::LANES;
use weight::{BLOCK, Weight};

/// Name of the arithmetic.
pub(crate) const ARITHMETIC: &str = "c3-int8-2";

/// Most rows of a task: with their intermediate values they fit the second cache.
const CHUNK_ROWS: usize = 64;
/// Rows that a product computes at once: a task of fewer would waste registers.
const CHUNK_ROWS_MIN: usize = 8;

thread_local! {
    /// What a thread's attention is computed in, and its queries.
    static SCRATCH: RefCell<(attention::Scratch, Vec<f32>)> = RefCell::default();
}

/// Whether the kernels know every matrix of a stage.
pub(crate) fn fits(weights: &Weights, config: &NetworkConfig) -> bool {
    config.head_dim().is_multiple_of(BLOCK) && weights.all_quantised(Weight::fits)
}

impl Heads {
    /// Query heads that share a key head.
    #[inline(always)]
    fn group(self) -> usize {
        self.query / self.key
    }

    /// What scores are scaled by.
    #[inline(always)]
    fn scale(self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }

    /// Width of a row of queries, keys and values.
    fn width(self) -> usize {
        (self.query + 2 * self.key) * self.dim
    }
}

/// A Qwen2 network with quantised weights.
pub(super) struct Network {
    isa: Isa,
    table: Weight,
    head: Option<Weight>,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    frequencies: Vec<f64>,
    heads: Heads,
    config: NetworkConfig,
}

struct Layer {
    input_norm: Vec<f32>,
    /// Queries, keys and values in one.
    qkv: Weight,
    o: Weight,
    mlp_norm: Vec<f32>,
    gate: Weight,
    up: Weight,
    down: Weight,
}

/// Buffers that a task uses again.
#[derive(Default)]
struct Buffers {
    /// Tiles of a task within a product.
    run: usize,
    normed: Vec<f32>,
    rows: Rows,
    panels: Vec<[f32; LANES]>,
    up: Vec<[f32; LANES]>,
}

/// How work is cut for the threads that there are.
#[derive(Clone, Copy)]
struct Cut {
    /// Rows of a task.
    chunk: usize,
    /// Tiles of a task within a product: all, but where there are more threads than chunks.
    run: usize,
}

impl Cut {
    fn of(rows: usize) -> Self {
        let threads = rayon::current_num_threads();
        // As many tasks for each thread: none waits for one that has a task more.
        let tasks = threads * rows.div_ceil(threads * CHUNK_ROWS).max(1);
        let chunk = rows.div_ceil(tasks).next_multiple_of(CHUNK_ROWS_MIN);
        let chunks = rows.div_ceil(chunk);
        Self { chunk, run: if chunks < threads { 4 } else { usize::MAX } }
    }
}

impl Network {
    /// Reads the weights of a stage, all of which must fit.
    pub(super) fn load(weights: &mut Weights, config: &NetworkConfig, isa: Isa) -> Result<Self, Error> {
        let mut load = Loader { weights };
        let head = load.weights.has("lm_head.weight").then(|| load.weight(&["lm_head"])).transpose()?;
        let (dim, theta) = (config.head_dim(), f64::from(config.rope_theta));
        let layers = (0..config.layers).map(|i| Layer::load(&mut load, &format!("model.layers.{i}")));
        let layers = layers.collect::<Result<_, _>>()?;
        Ok(Self {
            isa,
            table: load.weight(&["model.embed_tokens"])?,
            head,
            layers,
            norm: load.vector("model.norm.weight")?,
            frequencies: (0..dim / 2).map(|i| libm::pow(theta, -((2 * i) as f64) / dim as f64)).collect(),
            heads: Heads { query: config.heads, key: config.kv_heads, dim },
            config: config.clone(),
        })
    }

    /// An empty cache for one sequence.
    pub(super) fn cache(&self) -> Vec<LayerKv> {
        self.layers.iter().map(|_| LayerKv::default()).collect()
    }

    /// Bytes that a row of keys and values takes, all layers together.
    pub(super) fn kv_row_bytes(&self) -> usize {
        self.layers.len() * kv::row_bytes(self.heads)
    }

    /// Rows of the token table, row after row.
    pub(super) fn embed(&self, ids: &[u32]) -> Vec<f32> {
        let mut rows = vec![0.0; ids.len() * self.config.hidden];
        let work = rows.par_chunks_exact_mut(self.config.hidden).zip(ids).with_min_len(CHUNK_ROWS_MIN);
        work.for_each(|(row, id)| self.table.row(*id as usize, row));
        rows
    }

    /// See [`super::Qwen2::forward`].
    pub(super) fn forward(&self, hidden: &mut [f32], positions: &[u32], sequences: &mut [Sequence<'_>]) {
        let Self { isa, heads, .. } = *self;
        let (width, qkv_width) = (self.config.hidden, heads.width());
        let cut = Cut::of(positions.len());
        let turns = self.turns(positions);
        let mut qkv = vec![0.0; positions.len() * qkv_width];
        let mut mixed = vec![0.0; positions.len() * heads.query * heads.dim];
        let units = units(sequences);
        for number in 0..=self.layers.len() {
            let chunks =
                hidden.par_chunks_mut(cut.chunk * width).zip(qkv.par_chunks_mut(cut.chunk * qkv_width));
            let chunks = chunks.zip(mixed.par_chunks(cut.chunk * heads.query * heads.dim)).enumerate();
            chunks.for_each_init(
                || Buffers { run: cut.run, ..Default::default() },
                |buffers, (chunk, ((hidden, qkv), mixed))| {
                    if let Some(before) = number.checked_sub(1) {
                        self.finish(&self.layers[before], hidden, mixed, buffers);
                    }
                    match self.layers.get(number) {
                        Some(layer) => self.begin(layer, hidden, &turns, chunk * cut.chunk, qkv, buffers),
                        None => {
                            buffers.normed.resize(hidden.len(), 0.0);
                            let epsilon = self.config.rms_norm_eps;
                            rowwise::rms_norm(isa, hidden, &self.norm, epsilon, &mut buffers.normed);
                            hidden.copy_from_slice(&buffers.normed);
                        }
                    }
                },
            );
            if number < self.layers.len() {
                keep(isa, number, sequences, heads, &qkv);
                self.attend(number, sequences, &units, &qkv, &mut mixed);
            }
        }
    }

    /// The first half of a layer: queries, keys and values of rows.
    fn begin(
        &self,
        layer: &Layer,
        hidden: &[f32],
        turns: &Turns,
        first: usize,
        qkv: &mut [f32],
        buffers: &mut Buffers,
    ) {
        let Buffers { run, normed, rows, panels, .. } = buffers;
        let (isa, width, heads) = (self.isa, self.heads.width(), self.heads);
        normed.resize(hidden.len(), 0.0);
        rowwise::rms_norm(isa, hidden, &layer.input_norm, self.config.rms_norm_eps, normed);
        rows.round(isa, normed, self.config.hidden);
        panels.resize(layer.qkv.tiles() * rows.count, [0.0; LANES]);
        layer.qkv.product(isa, rows, *run, panels);
        rowwise::copy_panels(panels, qkv, width);
        for (row, qkv) in qkv.chunks_exact_mut(width).enumerate() {
            turns.apply(isa, first + row, &mut qkv[..(heads.query + heads.key) * heads.dim]);
        }
    }

    /// The second half of a layer: what attention mixed goes back to the residual stream, and through the MLP.
    fn finish(&self, layer: &Layer, hidden: &mut [f32], mixed: &[f32], buffers: &mut Buffers) {
        let Buffers { run, normed, rows, panels, up } = buffers;
        let (isa, width) = (self.isa, self.config.hidden);
        rows.round(isa, mixed, self.heads.query * self.heads.dim);
        panels.resize(layer.o.tiles() * rows.count, [0.0; LANES]);
        layer.o.product(isa, rows, *run, panels);
        rowwise::add_panels(panels, hidden, width);
        normed.resize(hidden.len(), 0.0);
        rowwise::rms_norm(isa, hidden, &layer.mlp_norm, self.config.rms_norm_eps, normed);
        rows.round(isa, normed, width);
        panels.resize(layer.gate.tiles() * rows.count, [0.0; LANES]);
        up.resize(layer.up.tiles() * rows.count, [0.0; LANES]);
        let tiles = panels.par_chunks_exact_mut(rows.count).zip(up.par_chunks_exact_mut(rows.count));
        tiles.enumerate().with_min_len(*run).for_each(|(tile, (gate, up))| {
            layer.gate.panel(isa, tile, rows, gate);
            layer.up.panel(isa, tile, rows, up);
            rowwise::swiglu(isa, gate, up);
        });
        let count = rows.count;
        rows.round_panels(isa, panels, count, layer.down.inputs);
        panels.resize(layer.down.tiles() * count, [0.0; LANES]);
        layer.down.product(isa, rows, *run, panels);
        rowwise::add_panels(panels, hidden, width);
    }

    fn attend(
        &self,
        layer: usize,
        sequences: &[Sequence<'_>],
        units: &[RowUnit],
        qkv: &[f32],
        mixed: &mut [f32],
    ) {
        let (heads, width) = (self.heads, self.heads.width());
        let mut rest = mixed;
        let work: Vec<_> = units
            .iter()
            .map(|unit| {
                let (own, others) =
                    std::mem::take(&mut rest).split_at_mut(unit.rows * heads.query * heads.dim);
                rest = others;
                (unit, own)
            })
            .collect();
        // One by one: a unit at the end of a long window costs many times what one at its beginning does.
        work.into_par_iter().with_max_len(1).for_each(|(unit, out)| {
            SCRATCH.with_borrow_mut(|(scratch, queries)| {
                queries.clear();
                for row in qkv[unit.first * width..(unit.first + unit.rows) * width].chunks_exact(width) {
                    queries.extend_from_slice(&row[..heads.query * heads.dim]);
                }
                let kv = &sequences[unit.sequence].cache.host()[layer];
                attention::attend(self.isa, unit.unit, kv, heads, queries, out, scratch);
            });
        });
    }

    /// The best token of each of `hidden`'s rows.
    pub(super) fn best(&self, hidden: &[f32], skip: &[u32], truth: Option<&[u32]>) -> Vec<Best> {
        let cut = Cut::of(hidden.len() / self.config.hidden);
        self.output().best(self.isa, hidden, skip, truth, cut.chunk)
    }

    /// All logits of `hidden`'s rows.
    pub(super) fn logits(&self, hidden: &[f32]) -> Vec<f32> {
        self.output().logits(self.isa, hidden, 4)
    }

    fn output(&self) -> &Weight {
        self.head.as_ref().unwrap_or(&self.table)
    }

    fn turns(&self, positions: &[u32]) -> Turns {
        let half = self.frequencies.len();
        let [mut cos, mut sin] = [(); 2].map(|()| vec![0.0; positions.len() * half]);
        let rows = cos.par_chunks_exact_mut(half).zip(sin.par_chunks_exact_mut(half)).zip(positions);
        rows.with_min_len(CHUNK_ROWS_MIN).for_each(|((cos, sin), position)| {
            for ((cos, sin), frequency) in cos.iter_mut().zip(sin).zip(&self.frequencies) {
                let (s, c) = libm::sincos(f64::from(*position) * frequency);
                (*cos, *sin) = (c as f32, s as f32);
            }
        });
        Turns { cos, sin, half }
    }
}

/// Rows of the batch that attention computes together.
struct RowUnit {
    sequence: usize,
    /// In the batch.
    first: usize,
    rows: usize,
    unit: attention::Unit,
}

/// The units of all new rows, in the order of the rows.
fn units(sequences: &[Sequence<'_>]) -> Vec<RowUnit> {
    let (mut units, mut first) = (Vec::new(), 0);
    for (sequence, Sequence { cache, rows, pattern }) in sequences.iter().enumerate() {
        let (mut row, end) = (cache.rows(), cache.rows() + rows);
        while row < end {
            let (unit, rows) = match pattern {
                Pattern::Blocks(blocks) if row >= blocks.prompt => {
                    let (block, step) = blocks.place(row);
                    let (group, groups) = (block / LANES, blocks.count().div_ceil(LANES));
                    (attention::Unit::Slots { step, group, groups }, (blocks.live(step) - block).min(LANES))
                }
                pattern => {
                    let lead = match pattern {
                        Pattern::Blocks(blocks) => blocks.prompt.min(end),
                        Pattern::Causal => end,
                    };
                    (attention::Unit::Lead { first: row }, (lead - row).min(attention::LEAD_ROWS))
                }
            };
            units.push(RowUnit { sequence, first, rows, unit });
            row += rows;
            first += rows;
        }
    }
    units
}

/// Keeps the new rows' keys and values.
fn keep(isa: Isa, layer: usize, sequences: &mut [Sequence<'_>], heads: Heads, qkv: &[f32]) {
    let width = heads.width();
    let mut rest = qkv;
    let work: Vec<_> = sequences
        .iter_mut()
        .map(|sequence| {
            let (own, others) = rest.split_at(sequence.rows * width);
            rest = others;
            (sequence, own)
        })
        .collect();
    work.into_par_iter().with_max_len(1).for_each(|(sequence, qkv)| {
        let (before, pattern) = (sequence.cache.rows(), sequence.pattern);
        let rows = sequence.rows;
        let LayerKv { lead, own } = &mut sequence.cache.host_mut()[layer];
        match &pattern {
            Pattern::Blocks(blocks) => {
                lead.reserve(heads, blocks.prompt.saturating_sub(before));
                own.reserve(heads, blocks);
            }
            // One by one they come in a generation: then doubling is cheaper.
            Pattern::Causal if rows > LANES => lead.reserve(heads, rows),
            Pattern::Causal => {}
        }
        for (row, qkv) in (before..).zip(qkv.chunks_exact(width)) {
            let (k, v) = qkv[heads.query * heads.dim..].split_at(heads.key * heads.dim);
            match &pattern {
                Pattern::Blocks(blocks) if row >= blocks.prompt => {
                    let (block, step) = blocks.place(row);
                    kv::write_slot(isa, own, heads, blocks, [block, step], k, v);
                }
                _ => kv::append(isa, lead, heads, k, v),
            }
        }
    });
}
