//! The network on a CPU: packed quantised weights, int8 activations, one arithmetic.
//!
//! [`ARITHMETIC`] names the order and precision of every operation. A row's result does not depend on the other rows of
//! the batch, the number of threads, the instruction set, or the division of a window into forward passes. Every CPU
//! therefore decodes the same text. The arithmetic specifies:
//!
//! - GEMM ([`gemm`]): int8 activations with a scale per 32 values; exact i32 dot products of 32 columns; f32 sums of
//!   these products, column block by column block, with fused multiply-adds;
//! - attention ([`attention`]): int8 queries and keys with a scale per 32 dimensions; int8 softmax weights and values
//!   for causal rows; half-precision values for the slots of blocks; sums in the order of the rows;
//! - sums of RMSNorm and softmax ([`row_ops`]): 16 partial sums, added pairwise as a tree;
//! - [`exp`] from fused multiply-adds; sine and cosine from the `libm` crate, which has the same bits on every CPU.
//!
//! Rows depend on each other only in attention. One task therefore runs all operations from a layer's attention to the
//! next layer's for a chunk of rows: the rows stay in the core's cache, and only weights are read from memory.

mod activations;
mod attention;
pub(crate) mod bench;
mod dense;
mod exp;
mod gemm;
mod kv_cache;
mod lm_head;
mod loader;
mod packed_weight;
mod pass;
mod row_ops;
mod simd;

use std::cell::RefCell;

use rayon::prelude::*;

use super::{Heads, InputLayer, Pattern, Sequence};
use crate::Error;
use crate::checkpoint::{NetworkConfig, Weights};

use activations::Activations;
use attention::{CAUSAL_TILE_ROWS, QueryTile};
use dense::Dense;
pub(super) use kv_cache::LayerKv;
use loader::Loader;
use packed_weight::{PackedWeight, QUANT_BLOCK};
use pass::PackedInputLayer;
use row_ops::RotaryTable;
pub(super) use simd::Isa;
use simd::LANES;

/// Name of the arithmetic, part of the key of stored corrections.
pub(super) const ARITHMETIC: &str = "c3-int8-2";

/// Maximum rows per task. This many rows and their intermediate values fit in a core's L2 cache.
const CHUNK_ROWS: usize = 64;
/// Minimum rows per task: the maximum that the GEMM micro-kernel computes at once.
const CHUNK_ROWS_MIN: usize = 8;

thread_local! {
    /// Buffers of attention, and the queries of the current tile.
    static SCRATCH: RefCell<(attention::Scratch, Vec<f32>)> = RefCell::default();
}

/// Returns true if the kernels support the head width and every matrix of a stage.
pub(super) fn supports(weights: &Weights, config: &NetworkConfig) -> bool {
    config.head_dim().is_multiple_of(QUANT_BLOCK) && weights.all_quantised(PackedWeight::supports)
}

impl Heads {
    /// Scale of attention scores, `1 / sqrt(dim)`.
    #[inline(always)]
    fn scale(self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }

    /// Width of a row of concatenated queries, keys and values.
    fn qkv_width(self) -> usize {
        (self.query + 2 * self.key) * self.dim
    }
}

/// A Qwen2 network with quantised weights.
pub(super) struct Network {
    isa: Isa,
    embedding: PackedWeight,
    /// `None` if tied to `embedding`.
    lm_head: Option<PackedWeight>,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    rotary_frequencies: Vec<f64>,
    heads: Heads,
    config: NetworkConfig,
    input: PackedInputLayer,
    /// Ids that the argmax excludes.
    masked: Vec<u32>,
}

struct Layer {
    input_norm: Vec<f32>,
    /// Query, key and value projections, fused.
    qkv: PackedWeight,
    o: PackedWeight,
    mlp_norm: Vec<f32>,
    gate: PackedWeight,
    up: PackedWeight,
    down: PackedWeight,
}

/// Reusable buffers of one task.
#[derive(Default)]
struct Buffers {
    /// See [`WorkSplit::task_tiles`].
    task_tiles: usize,
    normed: Vec<f32>,
    rows: Activations,
    panels: Vec<[f32; LANES]>,
    up: Vec<[f32; LANES]>,
}

/// Division of a batch among threads.
#[derive(Clone, Copy)]
struct WorkSplit {
    /// Rows per task.
    chunk: usize,
    /// Minimum tiles per nested task of a GEMM: all tiles, unless there are fewer chunks than threads.
    task_tiles: usize,
}

impl WorkSplit {
    fn new(rows: usize) -> Self {
        let threads = rayon::current_num_threads();
        // Every thread gets the same number of tasks. Otherwise some threads would be idle during the last tasks.
        let tasks = threads * rows.div_ceil(threads * CHUNK_ROWS).max(1);
        let chunk = rows.div_ceil(tasks).next_multiple_of(CHUNK_ROWS_MIN);
        let chunks = rows.div_ceil(chunk);
        Self { chunk, task_tiles: if chunks < threads { 4 } else { usize::MAX } }
    }
}

impl Network {
    /// Loads the weights of a stage, all of which must be [supported](supports).
    pub(super) fn load(
        weights: &mut Weights,
        config: &NetworkConfig,
        isa: Isa,
        input: InputLayer,
        masked: Vec<u32>,
    ) -> Result<Self, Error> {
        let mut load = Loader { weights };
        let lm_head = load.weights.has("lm_head.weight").then(|| load.weight(&["lm_head"])).transpose()?;
        let (dim, theta) = (config.head_dim(), f64::from(config.rope_theta));
        let layers = (0..config.layers).map(|i| Layer::load(&mut load, &format!("model.layers.{i}")));
        let layers = layers.collect::<Result<_, _>>()?;
        let frequency = |i: usize| libm::pow(theta, -((2 * i) as f64) / dim as f64);
        Ok(Self {
            isa,
            embedding: load.weight(&["model.embed_tokens"])?,
            lm_head,
            layers,
            norm: load.vector("model.norm.weight")?,
            rotary_frequencies: (0..dim / 2).map(frequency).collect(),
            heads: Heads { query: config.heads, key: config.kv_heads, dim },
            config: config.clone(),
            input: PackedInputLayer::pack(isa, input),
            masked,
        })
    }

    /// Returns the embeddings of `ids`, `[ids][hidden]`.
    fn embed(&self, ids: &[u32]) -> Vec<f32> {
        let mut rows = vec![0.0; ids.len() * self.config.hidden];
        let work = rows.par_chunks_exact_mut(self.config.hidden).zip(ids).with_min_len(CHUNK_ROWS_MIN);
        work.for_each(|(row, id)| self.embedding.dequantise_row(*id as usize, row));
        rows
    }

    /// Runs the layers and the final norm. `hidden` is `[rows][hidden]`; replaces it in place. `positions` has one
    /// position id per row.
    fn forward(&self, hidden: &mut [f32], positions: &[u32], sequences: &mut [Sequence<'_>]) {
        let Self { isa, heads, .. } = *self;
        let (width, qkv_width) = (self.config.hidden, heads.qkv_width());
        let split = WorkSplit::new(positions.len());
        let rotary = self.rotary_table(positions);
        let mut qkv = vec![0.0; positions.len() * qkv_width];
        let mut mixed = vec![0.0; positions.len() * heads.query * heads.dim];
        let tasks = attention_tasks(sequences);
        for number in 0..=self.layers.len() {
            let chunks = hidden.par_chunks_mut(split.chunk * width).zip(qkv.par_chunks_mut(split.chunk * qkv_width));
            let chunks = chunks.zip(mixed.par_chunks(split.chunk * heads.query * heads.dim)).enumerate();
            chunks.for_each_init(
                || Buffers { task_tiles: split.task_tiles, ..Default::default() },
                |buffers, (chunk, ((hidden, qkv), mixed))| {
                    if let Some(previous) = number.checked_sub(1) {
                        self.output_and_mlp(&self.layers[previous], hidden, mixed, buffers);
                    }
                    match self.layers.get(number) {
                        Some(layer) => self.project_qkv(layer, hidden, &rotary, chunk * split.chunk, qkv, buffers),
                        None => {
                            buffers.normed.resize(hidden.len(), 0.0);
                            let epsilon = self.config.rms_norm_eps;
                            row_ops::rms_norm(isa, hidden, &self.norm, epsilon, &mut buffers.normed);
                            hidden.copy_from_slice(&buffers.normed);
                        }
                    }
                },
            );
            if number < self.layers.len() {
                append_kv(isa, number, sequences, heads, &qkv);
                self.attend(number, sequences, &tasks, &qkv, &mut mixed);
            }
        }
    }

    /// Computes a layer's operations before attention for a chunk of rows: norm, QKV projection, rotary embedding.
    /// `first` is the index of the chunk's first row in the batch.
    fn project_qkv(
        &self,
        layer: &Layer,
        hidden: &[f32],
        rotary: &RotaryTable,
        first: usize,
        qkv: &mut [f32],
        buffers: &mut Buffers,
    ) {
        let Buffers { task_tiles, normed, rows, panels, .. } = buffers;
        let (isa, width, heads) = (self.isa, self.heads.qkv_width(), self.heads);
        normed.resize(hidden.len(), 0.0);
        row_ops::rms_norm(isa, hidden, &layer.input_norm, self.config.rms_norm_eps, normed);
        rows.quantise(isa, normed, self.config.hidden);
        panels.resize(layer.qkv.tiles() * rows.count, [0.0; LANES]);
        layer.qkv.gemm(isa, rows, *task_tiles, panels);
        row_ops::copy_panels(panels, qkv, width);
        for (row, qkv) in qkv.chunks_exact_mut(width).enumerate() {
            rotary.apply(isa, first + row, &mut qkv[..(heads.query + heads.key) * heads.dim]);
        }
    }

    /// Computes a layer's operations after attention: output projection and MLP. Adds their results to `hidden`.
    fn output_and_mlp(&self, layer: &Layer, hidden: &mut [f32], mixed: &[f32], buffers: &mut Buffers) {
        let Buffers { task_tiles, normed, rows, panels, up } = buffers;
        let (isa, width) = (self.isa, self.config.hidden);
        rows.quantise(isa, mixed, self.heads.query * self.heads.dim);
        panels.resize(layer.o.tiles() * rows.count, [0.0; LANES]);
        layer.o.gemm(isa, rows, *task_tiles, panels);
        row_ops::add_panels(panels, hidden, width);
        normed.resize(hidden.len(), 0.0);
        row_ops::rms_norm(isa, hidden, &layer.mlp_norm, self.config.rms_norm_eps, normed);
        rows.quantise(isa, normed, width);
        panels.resize(layer.gate.tiles() * rows.count, [0.0; LANES]);
        up.resize(layer.up.tiles() * rows.count, [0.0; LANES]);
        let tiles = panels.par_chunks_exact_mut(rows.count).zip(up.par_chunks_exact_mut(rows.count));
        tiles.enumerate().with_min_len(*task_tiles).for_each(|(tile, (gate, up))| {
            layer.gate.gemm_tile(isa, tile, rows, gate);
            layer.up.gemm_tile(isa, tile, rows, up);
            row_ops::swiglu(isa, gate, up);
        });
        let count = rows.count;
        rows.quantise_panels(isa, panels, count, layer.down.inputs);
        panels.resize(layer.down.tiles() * count, [0.0; LANES]);
        layer.down.gemm(isa, rows, *task_tiles, panels);
        row_ops::add_panels(panels, hidden, width);
    }

    /// Computes attention of all new rows from their `qkv`. Writes to `mixed`, `[rows][query heads * dim]`.
    fn attend(
        &self,
        layer: usize,
        sequences: &[Sequence<'_>],
        tasks: &[AttentionTask],
        qkv: &[f32],
        mixed: &mut [f32],
    ) {
        let (heads, width) = (self.heads, self.heads.qkv_width());
        let mut rest = mixed;
        let work: Vec<_> = tasks
            .iter()
            .map(|task| {
                let (own, others) = std::mem::take(&mut rest).split_at_mut(task.rows * heads.query * heads.dim);
                rest = others;
                (task, own)
            })
            .collect();
        // Schedules tasks one by one: the last tile of a long window takes many times as long as its first.
        work.into_par_iter().with_max_len(1).for_each(|(task, out)| {
            SCRATCH.with_borrow_mut(|(scratch, queries)| {
                queries.clear();
                for row in qkv[task.first * width..(task.first + task.rows) * width].chunks_exact(width) {
                    queries.extend_from_slice(&row[..heads.query * heads.dim]);
                }
                let kv = &sequences[task.sequence].cache.cpu()[layer];
                attention::attend(self.isa, task.tile, kv, heads, queries, out, scratch);
            });
        });
    }

    fn lm_head(&self) -> &PackedWeight {
        self.lm_head.as_ref().unwrap_or(&self.embedding)
    }

    fn rotary_table(&self, positions: &[u32]) -> RotaryTable {
        let half = self.rotary_frequencies.len();
        let [mut cos, mut sin] = [(); 2].map(|()| vec![0.0; positions.len() * half]);
        let rows = cos.par_chunks_exact_mut(half).zip(sin.par_chunks_exact_mut(half)).zip(positions);
        rows.with_min_len(CHUNK_ROWS_MIN).for_each(|((cos, sin), position)| {
            for ((cos, sin), frequency) in cos.iter_mut().zip(sin).zip(&self.rotary_frequencies) {
                let (s, c) = libm::sincos(f64::from(*position) * frequency);
                (*cos, *sin) = (c as f32, s as f32);
            }
        });
        RotaryTable { cos, sin, half }
    }
}

/// Consecutive rows of the batch whose attention is computed together.
struct AttentionTask {
    /// Index of the sequence.
    sequence: usize,
    /// Batch index of the first row.
    first: usize,
    rows: usize,
    tile: QueryTile,
}

/// Divides all new rows into attention tasks, in row order.
fn attention_tasks(sequences: &[Sequence<'_>]) -> Vec<AttentionTask> {
    let (mut tasks, mut first) = (Vec::new(), 0);
    for (sequence, new) in sequences.iter().enumerate() {
        let (mut row, end) = (new.cache.rows(), new.cache.rows() + new.rows());
        while row < end {
            let (tile, rows) = match &new.pattern {
                Pattern::Blocks(blocks) if row >= blocks.prompt => {
                    let (block, step) = blocks.locate(row);
                    let (group, groups) = (block / LANES, blocks.count().div_ceil(LANES));
                    (QueryTile::Blocks { step, group, groups }, (blocks.active(step) - block).min(LANES))
                }
                pattern => {
                    let end = match pattern {
                        Pattern::Blocks(blocks) => blocks.prompt.min(end),
                        Pattern::Causal => end,
                    };
                    (QueryTile::Causal { first: row }, (end - row).min(CAUSAL_TILE_ROWS))
                }
            };
            tasks.push(AttentionTask { sequence, first, rows, tile });
            row += rows;
            first += rows;
        }
    }
    tasks
}

/// Appends the keys and values of the new rows to the KV caches of their sequences.
fn append_kv(isa: Isa, layer: usize, sequences: &mut [Sequence<'_>], heads: Heads, qkv: &[f32]) {
    let width = heads.qkv_width();
    let mut rest = qkv;
    let work: Vec<_> = sequences
        .iter_mut()
        .map(|sequence| {
            let (own, others) = rest.split_at(sequence.rows() * width);
            rest = others;
            (sequence, own)
        })
        .collect();
    work.into_par_iter().with_max_len(1).for_each(|(sequence, qkv)| {
        let (before, pattern) = (sequence.cache.rows(), sequence.pattern);
        let rows = sequence.rows();
        let LayerKv { causal, blocks: block_kv } = &mut sequence.cache.cpu_mut()[layer];
        match &pattern {
            Pattern::Blocks(blocks) => {
                causal.reserve(heads, blocks.prompt.saturating_sub(before));
                block_kv.reserve(heads, blocks);
            }
            // A generation appends single rows, for which amortised growth is cheaper than exact reservations.
            Pattern::Causal if rows > LANES => causal.reserve(heads, rows),
            Pattern::Causal => {}
        }
        for (row, qkv) in (before..).zip(qkv.chunks_exact(width)) {
            let (k, v) = qkv[heads.query * heads.dim..].split_at(heads.key * heads.dim);
            match &pattern {
                Pattern::Blocks(blocks) if row >= blocks.prompt => {
                    let (block, step) = blocks.locate(row);
                    kv_cache::write_slot(isa, block_kv, heads, blocks, [block, step], k, v);
                }
                _ => kv_cache::append(isa, causal, heads, k, v),
            }
        }
    });
}
