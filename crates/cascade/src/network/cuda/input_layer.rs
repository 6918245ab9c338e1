//! The layer of a stage outside the Qwen2 network, on the card: query embedding or projector.

use cudarc::driver::{CudaSlice, DevicePtr};

use super::Card;
use super::arena::{Arena, Plan};
use super::kernels::launch;
use super::pass::{Described, Shape};
use crate::Error;
use crate::network::{self, InputLayer};

/// Threads per block of the projection, one per output.
const THREADS: usize = 256;
/// Latents per block of the projection: `VECTORS` in `cuda/shared.cu`.
const VECTORS: usize = 8;

/// The stage's own input layer.
pub(super) enum DeviceInputLayer {
    /// `[latent_token_len][hidden]`
    Queries(CudaSlice<f32>),
    /// Weight `[latent width][hidden]` and bias `[hidden]`.
    Projector { weight: CudaSlice<f32>, bias: CudaSlice<f32>, inputs: usize },
}

impl DeviceInputLayer {
    pub(super) fn load(card: &Card, input: InputLayer) -> Result<Self, Error> {
        let stream = card.stream();
        Ok(match input {
            InputLayer::Queries(rows) => Self::Queries(stream.clone_htod(&rows)?),
            InputLayer::Projector { weight, bias } => {
                let inputs = weight.len() / bias.len();
                let column = |i: usize| weight[i % bias.len() * inputs + i / bias.len()];
                let transposed: Vec<f32> = (0..weight.len()).map(column).collect();
                Self::Projector { weight: stream.clone_htod(&transposed)?, bias: stream.clone_htod(&bias)?, inputs }
            }
        })
    }

    /// Writes the latents or queries of a pass to their rows of `hidden`, `width` values each. `words` and `latents`
    /// are the addresses of the uploaded description.
    pub(super) fn write(
        &self,
        card: &Card,
        shape: &Shape,
        words: u64,
        latents: u64,
        width: usize,
        hidden: u64,
    ) -> Result<(), Error> {
        let (stream, kernels) = (card.stream(), card.kernels());
        let (latent_rows, query_rows) = (shape.latent_rows, shape.query_rows);
        match self {
            Self::Projector { .. } if query_rows.count > 0 => return Err(network::no_queries()),
            Self::Projector { weight, bias, inputs } if latent_rows.count > 0 => {
                let grid = (latent_rows.count.div_ceil(VECTORS) as u32, width.div_ceil(THREADS) as u32, 1);
                launch!(
                    card,
                    &kernels.project,
                    grid,
                    THREADS,
                    VECTORS * inputs * 4,
                    [
                        latents,
                        latent_rows.at(words),
                        latent_rows.count as i32,
                        *inputs as i32,
                        width as i32,
                        weight.device_ptr(stream).0,
                        bias.device_ptr(stream).0,
                        hidden,
                    ]
                );
            }
            Self::Queries(_) if latent_rows.count > 0 => return Err(network::no_projector()),
            Self::Queries(queries) if query_rows.count > 0 => {
                launch!(
                    card,
                    &kernels.copy_vectors,
                    (query_rows.count as u32, 1, 1),
                    128,
                    0,
                    [queries.device_ptr(stream).0, shape.queries.at(words), query_rows.at(words), width as i32, hidden,]
                );
            }
            _ => {}
        }
        Ok(())
    }

    /// Projects latents, `[count][latent width]`, to `[count][width]` in host memory.
    pub(super) fn project(
        &self,
        card: &Card,
        arena: &mut Arena,
        latents: &[f32],
        width: usize,
    ) -> Result<Vec<f32>, Error> {
        let Self::Projector { inputs, .. } = self else { return Err(network::no_projector()) };
        let count = latents.len() / inputs;
        let described = Described::latents_only(count);
        let mut plan = Plan::default();
        let [words, from] = [described.words.len(), latents.len()].map(|words| plan.add::<u32>(words));
        let to = plan.add::<f32>(count * width);
        let base = arena.reserve(&plan)?;
        arena.upload(words, &described.words)?;
        arena.upload(from, latents)?;
        self.write(card, &described.shape, base.at(words), base.at(from), width, base.at(to))?;
        arena.download(to, count * width)
    }
}
