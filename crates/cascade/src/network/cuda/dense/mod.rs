//! A network with dense weights on a GPU, in f32, f16 or bf16. [`linear`] computes the linear layers.
//!
//! The residual stream, norms, softmax and logits are in f32. Attention over many consecutive rows is flash attention
//! on tensor cores; a kernel for all patterns computes the rest.

mod functions;
mod linear;
mod outputs;
mod weights;

use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::cublas::CudaBlas;
use cudarc::driver::{CudaSlice, DevicePtr};

use super::arena::{Arena, Base, Plan, Planned};
use super::graphs::{Graphs, Key};
use super::kernels::launch;
use super::pass::{Described, Shape};
use super::rotary::RotaryTable;
use super::{Card, DeviceInputLayer};
use crate::Error;
use crate::checkpoint::{NetworkConfig, Weights};
use crate::network::{self, Heads, InputLayer, KvCapacity, Sequence};
use functions::Functions;
use linear::{LinearInput, Output, blas};
pub(super) use weights::Precision;
use weights::{Layer, Linear, Loader};

/// Threads per block of the kernels for whole rows.
const THREADS: usize = 256;
/// Rows from which a warp computes a whole row, where a block or several warps do for fewer.
const MANY_ROWS: usize = 2048;
/// Threads per block of the kernel `attend`.
const ATTEND_THREADS: usize = 384;
/// Maximum bytes of a head in the kernel `attend` of `cuda/dense_attention.cu`: 16 per lane of a warp.
const HEAD_BYTES_MAX: usize = 16 * 32;
/// Threads per block of flash attention.
const FLASH_THREADS: usize = 128;
/// Rows of keys per tile of flash attention.
const FLASH_KEYS: usize = 64;
/// Maximum bytes of logits that are computed at once.
const LOGIT_BYTES_MAX: usize = 1 << 29;

/// A Qwen2 network with dense weights, on a GPU.
pub(super) struct DenseNetwork {
    card: Card,
    precision: Precision,
    kernels: Functions,
    embedding: Linear,
    /// `None` if tied to `embedding`.
    lm_head: Option<Linear>,
    layers: Vec<Layer>,
    norm: CudaSlice<f32>,
    input: DeviceInputLayer,
    /// A bit per vocabulary id, set for ids that the argmax excludes.
    masked: CudaSlice<u32>,
    heads: Heads,
    config: NetworkConfig,
    state: Mutex<State>,
}

/// Memory and handles that passes reuse.
struct State {
    arena: Arena,
    blas: CudaBlas,
    /// Memory of `blas`.
    _workspace: CudaSlice<u8>,
    rotary: RotaryTable,
    graphs: Graphs,
}

/// Buffers of a pass.
struct Buffers {
    words: Planned,
    latents: Planned,
    hidden: Planned,
    /// Queries, keys and values; then gate and up.
    wide: Planned,
    /// Input of a linear layer.
    rows: Planned,
    /// Input of the MLP's down projection.
    gated: Planned,
    out: Planned,
    logits: Planned,
}

/// A pass whose layers have run. The guard keeps its buffers.
struct Finished<'a> {
    state: MutexGuard<'a, State>,
    base: Base,
    shape: Shape,
    buffers: Buffers,
}

impl DenseNetwork {
    /// Loads the weights of a stage to `card`, converted to `precision`.
    pub(super) fn load(
        weights: &mut Weights,
        config: &NetworkConfig,
        card: &Card,
        input: InputLayer,
        masked: Vec<u32>,
        precision: Precision,
    ) -> Result<Self, Error> {
        let stream = card.stream();
        let mut load = Loader { weights, stream, precision };
        let embedding = load.linear(&["model.embed_tokens"])?;
        let lm_head = if load.weights.has("lm_head.weight") { Some(load.linear(&["lm_head"])?) } else { None };
        let layers = (0..config.layers).map(|i| Layer::load(&mut load, &format!("model.layers.{i}")));
        let layers: Vec<Layer> = layers.collect::<Result<_, _>>()?;
        check_widths(config, precision, layers.first().map_or(0, |layer| layer.down.inputs))?;
        let dim = config.head_dim();
        let frequency = |i: usize| 1.0 / config.rope_theta.powf((2 * i) as f32 / dim as f32);
        let frequencies: Vec<f32> = (0..dim / 2).map(frequency).collect();
        let rotary = RotaryTable::new(stream, move |position| {
            let angles = || frequencies.iter().map(|frequency| position as f32 * frequency);
            angles().map(f32::cos).chain(angles().map(f32::sin)).collect()
        })?;
        let (blas, workspace) = blas(card)?;
        let arena = Arena::new(stream.clone());
        Ok(Self {
            precision,
            kernels: Functions::select(card, precision, dim),
            embedding,
            lm_head,
            layers,
            norm: load.f32s("model.norm.weight")?,
            input: DeviceInputLayer::load(card, input)?,
            masked: super::mask(card, config.vocabulary, &masked)?,
            heads: Heads { query: config.heads, key: config.kv_heads, dim },
            config: config.clone(),
            state: Mutex::new(State { arena, blas, _workspace: workspace, rotary, graphs: Graphs::default() }),
            card: card.clone(),
        })
    }

    /// Rows whose logits fit into [`LOGIT_BYTES_MAX`].
    fn logit_rows(&self) -> usize {
        (LOGIT_BYTES_MAX / size_of::<f32>() / self.config.vocabulary).max(1)
    }

    /// Runs the layers of a pass. Plans `out` words for the results, and logits for at most `logits` rows.
    fn forward(
        &self,
        pass: &mut [Sequence<'_>],
        targets: &[u32],
        out: impl Fn(usize) -> usize,
        logits: usize,
    ) -> Result<Finished<'_>, Error> {
        let described = Described::new(pass, targets)?;
        let shape = described.shape;
        let rows = shape.rows.count;
        let (width, bytes) = (self.config.hidden, self.precision.bytes());
        let mlp = self.layers.first().map_or(width, |layer| layer.down.inputs);
        let qkv = (self.heads.query + 2 * self.heads.key) * self.heads.dim;
        let mut plan = Plan::default();
        let buffers = Buffers {
            words: plan.add::<u32>(described.words.len()),
            latents: plan.add::<f32>(described.latents.len()),
            hidden: plan.add::<f32>(rows * width),
            wide: plan.add::<u8>(rows * bytes * qkv.max(2 * mlp)),
            rows: plan.add::<u8>(rows * bytes * width),
            gated: plan.add::<u8>(rows * bytes * mlp),
            out: plan.add::<u32>(out(shape.outputs.count)),
            logits: plan.add::<f32>(logits.min(shape.outputs.count) * self.config.vocabulary),
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.rotary.cover(described.positions)?;
        let base = state.arena.reserve(&plan)?;
        state.arena.upload(buffers.words, &described.words)?;
        state.arena.upload(buffers.latents, &described.latents)?;
        let mut graphs = std::mem::take(&mut state.graphs);
        let rotary = state.rotary.address();
        // No launch depends on the number of rows that a row attends to.
        let key = Key { shape: Shape { visible_max: 0, ..shape }, arena: base.at(buffers.words), rotary };
        let mut finished = Finished { state, base, shape, buffers };
        self.copy_prefixes(pass)?;
        let launched = graphs.run(self.card.stream(), key, || self.layers(&finished));
        finished.state.graphs = graphs;
        launched?;
        super::forget_prefixes(pass)?;
        network::advance(pass);
        Ok(finished)
    }

    /// Launches the kernels of all layers.
    fn layers(&self, pass: &Finished<'_>) -> Result<(), Error> {
        self.input(pass)?;
        (0..self.layers.len()).try_for_each(|number| self.layer(number, pass))
    }

    /// Copies the first rows of new KV caches from the caches that they begin with: one run of rows per layer, key
    /// head, and keys or values.
    fn copy_prefixes(&self, pass: &[Sequence<'_>]) -> Result<(), Error> {
        let row = self.heads.dim * self.precision.bytes();
        for sequence in pass {
            let to = sequence.cache.cuda()?;
            let Some(prefix) = &to.prefix else { continue };
            let capacity = |capacity: KvCapacity| capacity.causal + capacity.slots;
            super::copy_runs(
                self.card.stream(),
                (&prefix.bytes, capacity(prefix.capacity) * row),
                (&to.bytes, capacity(to.capacity) * row),
                prefix.rows * row,
                self.layers.len() * self.heads.key * 2,
            )?;
        }
        Ok(())
    }

    /// Writes the input rows to `hidden`.
    fn input(&self, pass: &Finished<'_>) -> Result<(), Error> {
        let Finished { base, shape, buffers, .. } = pass;
        let stream = self.card.stream();
        let (words, hidden, width) = (base.at(buffers.words), base.at(buffers.hidden), self.config.hidden);
        let grid = (shape.rows.count as u32, 1, 1);
        launch!(
            self.card,
            &self.kernels.embed,
            grid,
            128,
            0,
            [shape.rows.at(words), self.embedding.weight.device_ptr(stream).0, width as i32, hidden,]
        );
        self.input.write(&self.card, shape, words, base.at(buffers.latents), width, hidden)
    }

    /// Runs layer `number` on all rows.
    fn layer(&self, number: usize, pass: &Finished<'_>) -> Result<(), Error> {
        let Finished { state, base, shape, buffers, .. } = pass;
        let (stream, layer, count) = (self.card.stream(), &self.layers[number], shape.rows.count);
        let Heads { query, key, dim } = self.heads;
        let words = base.at(buffers.words);
        let (rows, sequences) = (shape.rows.at(words), shape.sequences.at(words));
        let (hidden, wide) = (base.at(buffers.hidden), base.at(buffers.wide));
        let (narrow, gated) = (base.at(buffers.rows), base.at(buffers.gated));
        let (heads, key_heads) = (query as i32, key as i32);

        let input = LinearInput::Normalised { hidden, weight: &layer.input_norm };
        self.linear(pass, &layer.qkv, input, count, wide, Output::Rows)?;
        let bias = layer.qkv_bias.as_ref().map_or(0, |bias| bias.device_ptr(stream).0);
        let rotary = state.rotary.address();
        // If all sequences have a single new row, the kernel `attend` appends it.
        let single = shape.rows.count == shape.sequences.count && (dim * self.precision.bytes()).is_multiple_of(32);
        if !single {
            let all_heads = query + 2 * key;
            let per_warp = if count >= MANY_ROWS { all_heads } else { 1 };
            let grid = ((count * all_heads / per_warp).div_ceil(THREADS / 32) as u32, 1, 1);
            launch!(
                self.card,
                &self.kernels.append,
                grid,
                THREADS,
                0,
                [
                    rows,
                    sequences,
                    wide,
                    bias,
                    rotary,
                    number as i32,
                    heads,
                    key_heads,
                    dim as i32,
                    count as i32,
                    per_warp as i32,
                ]
            );
        }
        let (attend_bias, attend_rotary) = if single { (bias, rotary) } else { (0, 0) };
        let (mut selected, mut tiles) = (vec![shape.few_causal, shape.slots], shape.causal_tiles);
        if self.kernels.flash.is_none() {
            (selected, tiles) = (vec![shape.causal, shape.slots], Default::default());
        }
        if let (Some(flash), true) = (&self.kernels.flash, tiles.count > 0) {
            let shared = 2 * 2 * FLASH_KEYS * dim * self.precision.bytes();
            launch!(
                self.card,
                flash,
                (tiles.count as u32, query as u32, 1),
                FLASH_THREADS,
                shared,
                [rows, sequences, tiles.at(words), number as i32, heads, key_heads, wide, narrow,]
            );
        }
        for select in selected {
            if select.count > 0 {
                launch!(
                    self.card,
                    &self.kernels.attend,
                    (select.count as u32, query as u32, 1),
                    ATTEND_THREADS,
                    0,
                    [
                        rows,
                        sequences,
                        select.at(words),
                        number as i32,
                        heads,
                        key_heads,
                        dim as i32,
                        wide,
                        attend_bias,
                        attend_rotary,
                        narrow,
                    ]
                );
            }
        }
        self.linear(pass, &layer.o, LinearInput::Rows(narrow), count, hidden, Output::Added)?;
        let input = LinearInput::Normalised { hidden, weight: &layer.mlp_norm };
        if self.is_gemv(&layer.gate_up, input, count) {
            self.gemv(&layer.gate_up, input, count, gated, Output::Swiglu)?;
        } else {
            self.linear(pass, &layer.gate_up, input, count, wide, Output::Rows)?;
            let mlp = layer.down.inputs;
            let blocks = (count * mlp).div_ceil(8 * THREADS).min(16 * self.card.multiprocessors());
            launch!(
                self.card,
                &self.kernels.swiglu,
                (blocks as u32, 1, 1),
                THREADS,
                0,
                [wide, mlp as i32, count, gated]
            );
        }
        self.linear(pass, &layer.down, LinearInput::Rows(gated), count, hidden, Output::Added)
    }

    /// Normalises `count` rows of `hidden`: those listed at address `select`, or the first if it is 0. Writes to the
    /// address `out`, or as f32 to `floats` if it is not 0.
    fn rms_norm(
        &self,
        hidden: u64,
        select: u64,
        weight: &CudaSlice<f32>,
        count: usize,
        out: u64,
        floats: u64,
    ) -> Result<(), Error> {
        let stream = self.card.stream();
        let blocks = if count >= MANY_ROWS { count.div_ceil(THREADS / 32) } else { count };
        launch!(
            self.card,
            &self.kernels.rms_norm,
            (blocks as u32, 1, 1),
            THREADS,
            0,
            [
                hidden,
                select,
                weight.device_ptr(stream).0,
                self.config.hidden as i32,
                self.config.rms_norm_eps,
                count as i32,
                out,
                floats,
            ]
        );
        Ok(())
    }

    /// Computes the logits of `count` output rows, from output `first` on, to the buffer of logits.
    fn output_logits(&self, pass: &Finished<'_>, first: usize, count: usize) -> Result<(), Error> {
        let Finished { base, shape, buffers, .. } = pass;
        let select = shape.outputs.at(base.at(buffers.words)) + (first * size_of::<u32>()) as u64;
        let rows = base.at(buffers.rows);
        self.rms_norm(base.at(buffers.hidden), select, &self.norm, count, rows, 0)?;
        let head = self.lm_head.as_ref().unwrap_or(&self.embedding);
        self.linear(pass, head, LinearInput::Rows(rows), count, base.at(buffers.logits), Output::Floats)
    }
}

/// Fails if the kernels do not support the widths of a network.
fn check_widths(config: &NetworkConfig, precision: Precision, intermediate: usize) -> Result<(), Error> {
    let dim = config.head_dim();
    let widths = [("head", dim), ("hidden", config.hidden), ("intermediate", intermediate)];
    match widths.into_iter().find(|(_, width)| !width.is_multiple_of(8)) {
        Some((name, width)) => Err(Error::Device(format!(
            "a GPU needs a {name} size that is a multiple of 8, but this checkpoint has {width}: use --device cpu"
        ))),
        None if dim * precision.bytes() > HEAD_BYTES_MAX => Err(Error::Device(format!(
            "in {}, a GPU supports head sizes up to {}, but this checkpoint has {dim}: use another --dtype",
            precision.name(),
            HEAD_BYTES_MAX / precision.bytes()
        ))),
        None => Ok(()),
    }
}
