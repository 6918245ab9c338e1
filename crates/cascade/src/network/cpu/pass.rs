//! [`Network`](crate::network::Network) for the CPU: builds the input rows of a pass and selects its output rows.

use super::{Dense, Network};
use crate::Error;
use crate::network::{self, Argmax, Input, InputLayer, KvCache, KvCapacity, Layers, Sequence};

/// The stage's own input layer, packed for the kernels.
pub(super) enum PackedInputLayer {
    /// `[latent_token_len][hidden]`
    Queries(Vec<f32>),
    Projector(Dense),
}

impl PackedInputLayer {
    pub(super) fn pack(isa: super::Isa, layer: InputLayer) -> Self {
        match layer {
            InputLayer::Queries(rows) => Self::Queries(rows),
            InputLayer::Projector { weight, bias } => Self::Projector(Dense::new(isa, &weight, bias)),
        }
    }
}

impl network::Network for Network {
    fn arithmetic(&self) -> String {
        super::ARITHMETIC.to_owned()
    }

    fn kv_row_bytes(&self) -> usize {
        self.layers.len() * super::kv_cache::row_bytes(self.heads)
    }

    /// Ignores `capacity`: the pass that appends rows reserves their memory.
    fn cache(&self, _: KvCapacity, prefix: Option<&KvCache>) -> Result<KvCache, Error> {
        let (layers, rows) = match prefix {
            Some(prefix) => (prefix.cpu().to_vec(), prefix.rows),
            None => (vec![super::LayerKv::default(); self.layers.len()], 0),
        };
        Ok(KvCache { layers: Layers::Cpu(layers), rows })
    }

    fn hidden(&self, pass: &mut [Sequence<'_>]) -> Result<Vec<f32>, Error> {
        let mut hidden = self.input(pass)?;
        let positions: Vec<u32> = pass.iter().flat_map(|sequence| &sequence.positions).copied().collect();
        self.forward(&mut hidden, &positions, pass);
        network::advance(pass);
        Ok(network::outputs(pass, &hidden, self.config.hidden))
    }

    fn argmax(&self, pass: &mut [Sequence<'_>], targets: Option<&[u32]>) -> Result<Vec<Argmax>, Error> {
        let hidden = self.hidden(pass)?;
        let split = super::WorkSplit::new(hidden.len() / self.config.hidden);
        Ok(self.lm_head().argmax(self.isa, &hidden, &self.masked, targets, split.chunk))
    }

    fn logits(&self, pass: &mut [Sequence<'_>]) -> Result<Vec<f32>, Error> {
        Ok(self.lm_head().logits(self.isa, &self.hidden(pass)?, 4))
    }

    fn project(&self, latents: &[f32]) -> Result<Vec<f32>, Error> {
        match &self.input {
            PackedInputLayer::Projector(projector) => Ok(projector.forward(latents)),
            PackedInputLayer::Queries(_) => Err(network::no_projector()),
        }
    }
}

impl Network {
    /// Returns the input rows of a pass, `[rows][hidden]`.
    fn input(&self, pass: &[Sequence<'_>]) -> Result<Vec<f32>, Error> {
        let rows = pass.iter().map(Sequence::rows).sum::<usize>();
        let mut hidden = Vec::with_capacity(rows * self.config.hidden);
        for input in pass.iter().flat_map(|sequence| &sequence.input) {
            match (input, &self.input) {
                (Input::Tokens(ids), _) => hidden.extend(self.embed(ids)),
                (Input::Latents(latents), _) => hidden.extend(network::Network::project(self, latents)?),
                (Input::Queries(count), PackedInputLayer::Queries(queries)) => {
                    hidden.extend_from_slice(&queries[..count * self.config.hidden]);
                }
                (Input::Queries(_), PackedInputLayer::Projector(_)) => return Err(network::no_queries()),
            }
        }
        Ok(hidden)
    }
}
