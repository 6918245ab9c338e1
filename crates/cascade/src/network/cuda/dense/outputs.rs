//! Results of a pass with dense weights: hidden states, logits, argmax.

use std::sync::PoisonError;

use cudarc::driver::DevicePtr;

use super::{DenseNetwork, Finished, THREADS};
use crate::Error;
use crate::network::cuda::kernels::launch;
use crate::network::cuda::{argmax_of_words, new_cache, padded};
use crate::network::{Argmax, KvCache, KvCapacity, Network, Sequence};

/// Thread blocks that share the argmax of a row, such that many blocks run if there are few rows.
fn argmax_parts(rows: usize) -> usize {
    (512 / rows.max(1)).clamp(1, 64)
}

/// Which ids an argmax excludes, and whether it returns the logits of target ids.
#[derive(Clone, Copy)]
enum Ask<'a> {
    /// Excludes the masked ids.
    Masked,
    /// The same, and returns the logit of a target id per output row.
    Targets(&'a [u32]),
    /// Excludes only the `banned` ids: pairs of an output row and an id.
    Unmasked { banned: &'a [u32] },
}

impl DenseNetwork {
    /// Runs a pass and returns the argmax of each output row's logits.
    fn best(&self, pass: &mut [Sequence<'_>], ask: Ask<'_>) -> Result<Vec<Argmax>, Error> {
        let chunk = self.logit_rows();
        // The results of all rows; then the partial results and the targets' logits of a chunk of rows.
        let words = |outputs: usize| 4 * outputs + (4 * argmax_parts(outputs.min(chunk)) + 1) * outputs.min(chunk);
        let ids = match ask {
            Ask::Masked => &[],
            Ask::Targets(ids) | Ask::Unmasked { banned: ids } => ids,
        };
        let pass = self.forward(pass, ids, words, chunk)?;
        let Finished { state, base, shape, buffers } = &pass;
        let (kernels, count) = (self.card.kernels(), shape.outputs.count);
        let (ids, out) = (shape.targets.at(base.at(buffers.words)), base.at(buffers.out));
        let (logits, vocabulary) = (base.at(buffers.logits), self.config.vocabulary as i32);
        for first in (0..count).step_by(chunk) {
            let rows = chunk.min(count - first);
            self.output_logits(&pass, first, rows)?;
            let parts = argmax_parts(rows);
            let partial = out + (16 * count) as u64;
            let mut masked = self.masked.device_ptr(self.card.stream()).0;
            let (mut targets, mut target_logits) = (0, 0);
            match ask {
                Ask::Masked => {}
                Ask::Targets(_) => {
                    targets = ids + (first * size_of::<u32>()) as u64;
                    target_logits = partial + (16 * parts * rows) as u64;
                }
                Ask::Unmasked { banned } => {
                    masked = 0;
                    if !banned.is_empty() {
                        let count = banned.len() as i32 / 2;
                        launch!(
                            self.card,
                            &kernels.dense_ban,
                            (1, 1, 1),
                            THREADS,
                            0,
                            [ids, count, first as i32, rows as i32, vocabulary, logits]
                        );
                    }
                }
            }
            launch!(
                self.card,
                &kernels.dense_argmax,
                (rows as u32, parts as u32, 1),
                THREADS,
                0,
                [logits, vocabulary, masked, targets, partial, target_logits]
            );
            launch!(
                self.card,
                &kernels.reduce_argmax,
                (rows.div_ceil(THREADS / 32) as u32, 1, 1),
                THREADS,
                0,
                [partial, target_logits, parts as i32, rows as i32, out + (16 * first) as u64]
            );
        }
        Ok(argmax_of_words(&state.arena.download(buffers.out, 4 * count)?))
    }
}

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
        let Finished { state, base, shape, buffers } = &pass;
        let outputs = shape.outputs;
        if outputs.count == 0 {
            return Ok(Vec::new());
        }
        let select = outputs.at(base.at(buffers.words));
        self.rms_norm(base.at(buffers.hidden), select, &self.norm, outputs.count, 0, base.at(buffers.out))?;
        state.arena.download(buffers.out, outputs.count * width)
    }

    fn argmax(&self, pass: &mut [Sequence<'_>], targets: Option<&[u32]>) -> Result<Vec<Argmax>, Error> {
        self.best(pass, targets.map_or(Ask::Masked, Ask::Targets))
    }

    fn greedy(&self, pass: &mut [Sequence<'_>], banned: &[Vec<u32>]) -> Result<Vec<u32>, Error> {
        let pairs = banned.iter().enumerate().flat_map(|(row, ids)| ids.iter().flat_map(move |&id| [row as u32, id]));
        let best = self.best(pass, Ask::Unmasked { banned: &Vec::from_iter(pairs) })?;
        Ok(best.into_iter().map(|argmax| argmax.id).collect())
    }

    fn logits(&self, pass: &mut [Sequence<'_>]) -> Result<Vec<f32>, Error> {
        let chunk = self.logit_rows();
        let pass = self.forward(pass, &[], |_| 0, chunk)?;
        let count = pass.shape.outputs.count;
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
