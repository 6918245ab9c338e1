//! Results of a pass with dense weights: hidden states, logits, argmax.

use std::sync::PoisonError;

use cudarc::driver::DevicePtr;

use super::{DenseNetwork, Finished, THREADS};
use crate::Error;
use crate::network::cuda::kernels::launch;
use crate::network::cuda::{argmax_of_words, new_cache, padded};
use crate::network::{Argmax, KvCache, KvCapacity, Network, Sequence};

impl Network for DenseNetwork {
    fn arithmetic(&self) -> String {
        // Bits may differ between compute capabilities, for which cuBLAS selects different kernels.
        format!("c3-dense-1/{}/{}", self.card.architecture(), self.precision.name())
    }

    fn kv_row_bytes(&self) -> usize {
        self.layers.len() * self.heads.key * 2 * self.heads.dim * self.precision.bytes()
    }

    fn cache(&self, capacity: KvCapacity, prefix: Option<&KvCache>) -> Result<KvCache, Error> {
        let capacity = padded(capacity);
        new_cache(&self.card, (capacity.causal + capacity.slots) * self.kv_row_bytes(), capacity, prefix)
    }

    fn hidden(&self, pass: &mut [Sequence<'_>]) -> Result<Vec<f32>, Error> {
        let width = self.config.hidden;
        let pass = self.forward(pass, &[], |outputs| outputs * width, 0)?;
        let Finished { state, base, described, buffers } = &pass;
        let outputs = described.outputs;
        if outputs.count == 0 {
            return Ok(Vec::new());
        }
        let select = outputs.at(base.at(buffers.words));
        self.rms_norm(base.at(buffers.hidden), select, &self.norm, outputs.count, 0, base.at(buffers.out))?;
        state.arena.download(buffers.out, outputs.count * width)
    }

    fn argmax(&self, pass: &mut [Sequence<'_>], targets: Option<&[u32]>) -> Result<Vec<Argmax>, Error> {
        let chunk = self.logit_rows();
        let pass = self.forward(pass, targets.unwrap_or_default(), |outputs| 4 * outputs, chunk)?;
        let Finished { state, base, described, buffers } = &pass;
        let (stream, count) = (self.card.stream(), described.outputs.count);
        for first in (0..count).step_by(chunk) {
            let rows = chunk.min(count - first);
            self.output_logits(&pass, first, rows)?;
            let targets = match targets {
                Some(_) => described.targets.at(base.at(buffers.words)) + (first * size_of::<u32>()) as u64,
                None => 0,
            };
            launch!(
                stream,
                &self.card.kernels().dense_argmax,
                (rows as u32, 1, 1),
                THREADS,
                0,
                [
                    base.at(buffers.logits),
                    self.config.vocabulary as i32,
                    self.masked.device_ptr(stream).0,
                    targets,
                    base.at(buffers.out) + (first * 16) as u64,
                ]
            );
        }
        Ok(argmax_of_words(&state.arena.download(buffers.out, 4 * count)?))
    }

    fn logits(&self, pass: &mut [Sequence<'_>]) -> Result<Vec<f32>, Error> {
        let chunk = self.logit_rows();
        let pass = self.forward(pass, &[], |_| 0, chunk)?;
        let count = pass.described.outputs.count;
        let mut logits = Vec::with_capacity(count * self.config.vocabulary);
        for first in (0..count).step_by(chunk) {
            let rows = chunk.min(count - first);
            self.output_logits(&pass, first, rows)?;
            logits.extend(pass.state.arena.download::<f32>(pass.buffers.logits, rows * self.config.vocabulary)?);
        }
        Ok(logits)
    }

    fn check_device(&self) -> Result<(), Error> {
        self.card.check()
    }

    fn project(&self, latents: &[f32]) -> Result<Vec<f32>, Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.input.project(&self.card, &mut state.arena, latents, self.config.hidden)
    }
}
