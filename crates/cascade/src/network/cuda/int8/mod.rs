//! The arithmetic `c3-int8-2` on a GPU. It computes the bits of the [CPU kernels](crate::network::cpu).
//!
//! Every f32 sum has the order of the CPU kernels; int8 dot products are exact and run on tensor cores. A layer takes
//! eight or nine launches.

mod launch_size;
mod layer;
mod outputs;

use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr};

use super::arena::{Arena, Base, Plan, Planned};
use super::graphs::{Graphs, Key};
use super::kernels::launch;
use super::pass::{Described, Shape};
use super::rotary::RotaryTable;
use super::weight::{self, Int8Weight, Order, QUANT_BLOCK, TILE, vector};
use super::{Card, DeviceInputLayer};
use crate::Error;
use crate::checkpoint::{NetworkConfig, Weights};
use crate::network::{self, Heads, InputLayer, Sequence};
use launch_size::{causal_bytes, gemm_grid, shared_bytes, tile_bytes, warps};
use layer::Layer;

/// Width of a head that the attention kernels support.
const HEAD_DIM: usize = 64;
/// Bytes of a causal row and of a slot in the KV cache of one head. See `HeadKv` in `cuda/int8_attention.cu`.
const CAUSAL_BYTES: usize = HEAD_DIM + 8 + HEAD_DIM + 4;
const SLOT_BYTES: usize = HEAD_DIM + 8 + 2 * HEAD_DIM;
/// Rows up to which the GEMM runs in tiles of 32 rows, so that a small pass occupies more multiprocessors.
const SMALL_ROWS_MAX: usize = 1024;
/// Rows of a GEMM tile in larger passes, two threads each, and of a tile of activations.
const LARGE_ROWS: usize = 128;
/// Threads per block of the kernels that compute a row or a head per warp.
const THREADS: usize = 256;
/// Threads per block of kernels with a warp per row: few, so that a small pass occupies more multiprocessors.
const ROW_THREADS: usize = 64;
/// Threads per block of the attention of slots, a warp per row.
const SLOT_THREADS: usize = 256;
/// Warps per block of causal attention, whose shared memory is per warp.
const CAUSAL_WARPS: usize = 4;

/// Returns true if the kernels support the head width and every matrix of a stage.
pub(super) fn supports(weights: &Weights, config: &NetworkConfig) -> bool {
    config.head_dim() == HEAD_DIM && weights.all_quantised(weight::supports)
}

/// A Qwen2 network with quantised weights, on a GPU.
pub(super) struct Int8Network {
    card: Card,
    embedding: Int8Weight,
    /// `None` if tied to `embedding`.
    lm_head: Option<Int8Weight>,
    layers: Vec<Layer>,
    norm: CudaSlice<f32>,
    input: DeviceInputLayer,
    /// A bit per vocabulary id, set for ids that the argmax excludes.
    masked: CudaSlice<u32>,
    heads: Heads,
    config: NetworkConfig,
    state: Mutex<State>,
}

/// Memory that passes reuse.
struct State {
    arena: Arena,
    rotary: RotaryTable,
    graphs: Graphs,
}

/// Buffers of a pass.
struct Buffers {
    words: Planned,
    latents: Planned,
    hidden: Planned,
    qkv: Planned,
    /// Quantised queries and their scales.
    queries: Planned,
    query_scales: Planned,
    /// Tiles of the quantised input of a linear layer.
    rows: Planned,
    /// Tiles of the quantised input of the MLP's down projection.
    gated: Planned,
}

/// `Rows` in `cuda/int8.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
struct RowsArgument {
    tiles: u64,
    count: i32,
    steps: i32,
}

// SAFETY: has the layout of the C struct.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for RowsArgument {}

impl RowsArgument {
    fn new(tiles: u64, count: usize, width: usize) -> Self {
        Self { tiles, count: count as i32, steps: (width / TILE) as i32 }
    }
}

/// A pass whose layers have run. The guard keeps its buffers.
struct Finished<'a> {
    state: MutexGuard<'a, State>,
    base: Base,
    shape: Shape,
    buffers: Buffers,
    /// Results for the outputs.
    out: Planned,
    scratch: Planned,
}

impl Int8Network {
    /// Loads the weights of a stage, all of which must be [supported](supports), to `card`.
    pub(super) fn load(
        weights: &mut Weights,
        config: &NetworkConfig,
        card: &Card,
        input: InputLayer,
        masked: Vec<u32>,
    ) -> Result<Self, Error> {
        let stream = card.stream();
        let mut load = |names: &[&str], order| Int8Weight::load(stream, weights, names, order);
        let embedding = load(&["model.embed_tokens"], Order::Consecutive)?;
        let lm_head = match weights.has("lm_head.weight") {
            true => Some(Int8Weight::load(stream, weights, &["lm_head"], Order::Consecutive)?),
            false => None,
        };
        let layers = (0..config.layers).map(|i| Layer::load(card, weights, &format!("model.layers.{i}")));
        let layers = layers.collect::<Result<_, _>>()?;
        let (dim, theta) = (config.head_dim(), f64::from(config.rope_theta));
        let frequency = |i: usize| libm::pow(theta, -((2 * i) as f64) / dim as f64);
        let rotary_frequencies: Vec<f64> = (0..dim / 2).map(frequency).collect();
        // The cosines and sines have the bits of the CPU kernels, because the `libm` crate computes both.
        let rotary = RotaryTable::new(stream, move |position| {
            let angles = || rotary_frequencies.iter().map(|frequency| position as f64 * frequency);
            angles().map(libm::cos).chain(angles().map(libm::sin)).map(|x| x as f32).collect()
        })?;
        Ok(Self {
            embedding,
            lm_head,
            layers,
            norm: stream.clone_htod(&vector(weights, "model.norm.weight")?)?,
            input: DeviceInputLayer::load(card, input)?,
            masked: super::mask(card, config.vocabulary, &masked)?,
            heads: Heads { query: config.heads, key: config.kv_heads, dim },
            config: config.clone(),
            state: Mutex::new(State { arena: Arena::new(stream.clone()), rotary, graphs: Graphs::default() }),
            card: card.clone(),
        })
    }

    /// Runs the layers of a pass, and plans `out_words` and `scratch_words` words for its results.
    fn forward(
        &self,
        pass: &mut [Sequence<'_>],
        targets: &[u32],
        result_words: impl Fn(usize) -> [usize; 2],
    ) -> Result<Finished<'_>, Error> {
        let described = Described::new(pass, targets)?;
        let shape = described.shape;
        let rows = shape.rows.count;
        let width = self.config.hidden;
        let mlp = self.layers.first().map_or(width, |layer| layer.down.inputs);
        let mut plan = Plan::default();
        let buffers = Buffers {
            words: plan.add::<u32>(described.words.len()),
            latents: plan.add::<f32>(described.latents.len()),
            hidden: plan.add::<f32>(rows * width),
            qkv: plan.add::<f32>(rows * (self.heads.query + 2 * self.heads.key) * HEAD_DIM),
            queries: plan.add::<u8>(rows * self.heads.query * HEAD_DIM),
            query_scales: plan.add::<f32>(rows * self.heads.query * HEAD_DIM / QUANT_BLOCK),
            rows: plan.add::<u8>(tile_bytes(rows, width)),
            gated: plan.add::<u8>(tile_bytes(rows, mlp)),
        };
        let [out, scratch] = result_words(shape.outputs.count).map(|words| plan.add::<u32>(words));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.rotary.cover(described.positions)?;
        let base = state.arena.reserve(&plan)?;
        state.arena.upload(buffers.words, &described.words)?;
        state.arena.upload(buffers.latents, &described.latents)?;
        let mut graphs = std::mem::take(&mut state.graphs);
        let key = Key { shape, arena: base.at(buffers.words), rotary: state.rotary.address() };
        let mut finished = Finished { state, base, shape, buffers, out, scratch };
        let launched = graphs.run(self.card.stream(), key, || self.layers(&finished));
        finished.state.graphs = graphs;
        launched?;
        super::forget_prefixes(pass)?;
        network::advance(pass);
        Ok(finished)
    }

    /// Launches the kernels of all layers.
    fn layers(&self, pass: &Finished<'_>) -> Result<(), Error> {
        self.copy_prefixes(pass)?;
        self.input(pass)?;
        (0..self.layers.len()).try_for_each(|number| self.layer(number, pass))
    }

    /// Copies the first rows of new KV caches from the caches that they begin with.
    fn copy_prefixes(&self, pass: &Finished<'_>) -> Result<(), Error> {
        let Finished { base, shape, buffers, .. } = pass;
        if shape.forks.count > 0 {
            let grid = ((self.layers.len() * self.heads.key) as u32, shape.forks.count as u32, 1);
            launch!(
                self.card,
                &self.card.kernels().int8_copy_causal,
                grid,
                THREADS,
                0,
                [shape.forks.at(base.at(buffers.words)), self.heads.key as i32,]
            );
        }
        Ok(())
    }

    /// Writes the input rows to `hidden`.
    fn input(&self, pass: &Finished<'_>) -> Result<(), Error> {
        let Finished { base, shape, buffers, .. } = pass;
        let kernels = self.card.kernels();
        let (words, hidden) = (base.at(buffers.words), base.at(buffers.hidden));
        let rows = shape.rows;
        launch!(
            self.card,
            &kernels.int8_embed,
            (rows.count as u32, 1, 1),
            128,
            0,
            [rows.at(words), self.embedding.argument(), hidden,]
        );
        self.input.write(&self.card, shape, words, base.at(buffers.latents), self.config.hidden, hidden)
    }

    /// Runs layer `number` on all rows.
    fn layer(&self, number: usize, pass: &Finished<'_>) -> Result<(), Error> {
        let Finished { state, base, shape, buffers, .. } = pass;
        let (kernels, layer) = (self.card.kernels(), &self.layers[number]);
        let words = base.at(buffers.words);
        let rows = shape.rows;
        let (hidden, qkv) = (base.at(buffers.hidden), base.at(buffers.qkv));
        let (queries, query_scales) = (base.at(buffers.queries), base.at(buffers.query_scales));
        let quantised = RowsArgument::new(base.at(buffers.rows), rows.count, self.config.hidden);
        let (heads, key_heads) = (self.heads.query as i32, self.heads.key as i32);
        let sequences = shape.sequences.at(words);
        let rotary = state.rotary.address();

        self.rms_norm(hidden, 0, &layer.input_norm, quantised, 0)?;
        self.gemm(&layer.qkv, quantised, qkv, false)?;
        launch!(
            self.card,
            &kernels.int8_append,
            warps(rows.count, ROW_THREADS / 32),
            ROW_THREADS,
            0,
            [
                rows.at(words),
                sequences,
                qkv,
                rotary,
                number as i32,
                heads,
                key_heads,
                rows.count as i32,
                queries,
                query_scales,
            ]
        );
        if shape.causal.count > 0 {
            let visible = shape.visible_max;
            let shared = CAUSAL_WARPS * causal_bytes(visible);
            let grid = warps(shape.causal.count * self.heads.query, CAUSAL_WARPS);
            launch!(
                self.card,
                &kernels.int8_attend_causal,
                grid,
                CAUSAL_WARPS * 32,
                shared,
                [
                    rows.at(words),
                    sequences,
                    shape.causal.at(words),
                    shape.causal.count as i32,
                    number as i32,
                    heads,
                    key_heads,
                    visible as i32,
                    queries,
                    query_scales,
                    quantised,
                ]
            );
        }
        if shape.tiles.count > 0 {
            let (prompt, block) = (shape.prompt_max, shape.block_max);
            // A warp computes three query heads that share a key head, the number in the default model.
            let (function, group, heads_at_once) = match self.heads.group() {
                3 => (&kernels.int8_attend_slots_3, 3, self.heads.key),
                _ => (&kernels.int8_attend_slots, 1, self.heads.query),
            };
            let per_head = causal_bytes(prompt) + 4 * block.next_multiple_of(4);
            let shared = prompt * (HEAD_DIM + 16)
                + HEAD_DIM * (prompt + 16)
                + prompt * 12
                + SLOT_THREADS / 32 * group * per_head;
            let grid = (shape.tiles.count as u32, heads_at_once as u32, 1);
            launch!(
                self.card,
                function,
                grid,
                SLOT_THREADS,
                shared,
                [
                    rows.at(words),
                    sequences,
                    shape.tiles.at(words),
                    number as i32,
                    heads,
                    key_heads,
                    prompt as i32,
                    block as i32,
                    queries,
                    query_scales,
                    quantised,
                ]
            );
        }
        self.gemm(&layer.o, quantised, hidden, true)?;
        self.rms_norm(hidden, 0, &layer.mlp_norm, quantised, 0)?;
        let (function, tile, threads, shared) = match rows.count <= SMALL_ROWS_MAX {
            true => (&kernels.int8_gemm_swiglu_small, 32, 64, shared_bytes(32)),
            false => (&kernels.int8_gemm_swiglu_large, LARGE_ROWS, 2 * LARGE_ROWS, shared_bytes(LARGE_ROWS)),
        };
        let grid = gemm_grid(&self.card, &layer.gate_up, rows.count, tile);
        let gated = RowsArgument::new(base.at(buffers.gated), rows.count, layer.down.inputs);
        launch!(self.card, function, grid, threads, shared, [quantised, layer.gate_up.argument(), gated]);
        self.gemm(&layer.down, gated, hidden, true)
    }

    /// Normalises rows of `hidden`: those listed at address `select`, or all if it is 0. Writes as many quantised rows
    /// as `to` has, or f32 rows to the address `floats` if it is not 0.
    fn rms_norm(
        &self,
        hidden: u64,
        select: u64,
        weight: &CudaSlice<f32>,
        to: RowsArgument,
        floats: u64,
    ) -> Result<(), Error> {
        let stream = self.card.stream();
        let grid = warps(to.count as usize, ROW_THREADS / 32);
        launch!(
            self.card,
            &self.card.kernels().int8_rms_norm,
            grid,
            ROW_THREADS,
            0,
            [
                hidden,
                select,
                weight.device_ptr(stream).0,
                self.config.hidden as i32,
                self.config.rms_norm_eps,
                to,
                floats,
            ]
        );
        Ok(())
    }

    /// Computes `x W^T + b` to address `out`, or adds it to the values there.
    fn gemm(&self, weight: &Int8Weight, x: RowsArgument, out: u64, add: bool) -> Result<(), Error> {
        let kernels = self.card.kernels();
        let rows = x.count as usize;
        let (function, tile, threads) = match (rows <= SMALL_ROWS_MAX, add) {
            (true, false) => (&kernels.int8_gemm_small, 32, 64),
            (true, true) => (&kernels.int8_gemm_add_small, 32, 64),
            (false, false) => (&kernels.int8_gemm_large, LARGE_ROWS, 2 * LARGE_ROWS),
            (false, true) => (&kernels.int8_gemm_add_large, LARGE_ROWS, 2 * LARGE_ROWS),
        };
        let grid = gemm_grid(&self.card, weight, rows, tile);
        launch!(self.card, function, grid, threads, shared_bytes(tile), [x, weight.argument(), out]);
        Ok(())
    }

    fn lm_head(&self) -> &Int8Weight {
        self.lm_head.as_ref().unwrap_or(&self.embedding)
    }

    /// Normalises and quantises the output rows. Returns them as the input of the LM head.
    fn quantised_outputs(&self, pass: &Finished<'_>) -> Result<RowsArgument, Error> {
        let Finished { base, shape, buffers, .. } = pass;
        let outputs = shape.outputs;
        let select = outputs.at(base.at(buffers.words));
        let to = RowsArgument::new(base.at(buffers.rows), outputs.count, self.config.hidden);
        self.rms_norm(base.at(buffers.hidden), select, &self.norm, to, 0)?;
        Ok(to)
    }
}
