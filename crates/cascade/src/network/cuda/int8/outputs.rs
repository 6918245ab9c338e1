//! Results of a pass in `c3-int8-2`: hidden states, logits, argmax.

use std::sync::PoisonError;

use cudarc::driver::DevicePtr;

use super::launch_size::{gemm_grid, shared_bytes, warps};
use super::{CAUSAL_BYTES, Finished, Int8Network, LARGE_ROWS, RowsArgument, SLOT_BYTES, SMALL_ROWS_MAX, THREADS};
use crate::Error;
use crate::network::cuda::kernels::launch;
use crate::network::cuda::weight::TILE;
use crate::network::cuda::{argmax_of_words, new_cache, padded};
use crate::network::{Argmax, KvCache, KvCapacity, Network, Sequence, cpu};

impl Network for Int8Network {
    fn arithmetic(&self) -> String {
        cpu::ARITHMETIC.to_owned()
    }

    fn kv_row_bytes(&self) -> usize {
        self.layers.len() * self.heads.key * CAUSAL_BYTES.max(SLOT_BYTES)
    }

    fn cache(&self, capacity: KvCapacity, prefix: Option<&KvCache>) -> Result<KvCache, Error> {
        let capacity = padded(capacity);
        let head_bytes = capacity.causal * CAUSAL_BYTES + capacity.slots * SLOT_BYTES;
        new_cache(&self.card, head_bytes * self.heads.key * self.layers.len(), capacity, prefix)
    }

    fn hidden(&self, pass: &mut [Sequence<'_>]) -> Result<Vec<f32>, Error> {
        let width = self.config.hidden;
        let pass = self.forward(pass, &[], |outputs| [outputs * width, 0])?;
        let Finished { state, base, shape, buffers, out, .. } = &pass;
        let outputs = shape.outputs;
        if outputs.count == 0 {
            return Ok(Vec::new());
        }
        let select = outputs.at(base.at(buffers.words));
        let none = RowsArgument::new(0, outputs.count, width);
        self.rms_norm(base.at(buffers.hidden), select, &self.norm, none, base.at(*out))?;
        state.arena.download(*out, outputs.count * width)
    }

    fn argmax(&self, pass: &mut [Sequence<'_>], targets: Option<&[u32]>) -> Result<Vec<Argmax>, Error> {
        let head = self.lm_head();
        let parts = head.outputs / TILE;
        let plan = |outputs: usize| [4 * outputs, (4 * parts + 1) * outputs];
        let pass = self.forward(pass, targets.unwrap_or_default(), plan)?;
        let Finished { state, base, shape, buffers, out, scratch } = &pass;
        let (stream, kernels) = (self.card.stream(), self.card.kernels());
        let count = shape.outputs.count;
        let rows = self.quantised_outputs(&pass)?;
        let partial = base.at(*scratch);
        let (target_ids, target_logits) = match targets {
            Some(_) => (shape.targets.at(base.at(buffers.words)), partial + (16 * parts * count) as u64),
            None => (0, 0),
        };
        let (function, tile, threads) = match count <= SMALL_ROWS_MAX {
            true => (&kernels.int8_gemm_argmax_small, 32, 64),
            false => (&kernels.int8_gemm_argmax_large, LARGE_ROWS, 2 * LARGE_ROWS),
        };
        let grid = gemm_grid(&self.card, head, count, tile);
        launch!(
            self.card,
            function,
            grid,
            threads,
            shared_bytes(tile),
            [rows, head.argument(), self.masked.device_ptr(stream).0, target_ids, partial, target_logits,]
        );
        launch!(
            self.card,
            &kernels.reduce_argmax,
            warps(count, THREADS / 32),
            THREADS,
            0,
            [partial, target_logits, parts as i32, count as i32, base.at(*out),]
        );
        let words = state.arena.download(*out, 4 * count)?;
        Ok(argmax_of_words(&words))
    }

    fn logits(&self, pass: &mut [Sequence<'_>]) -> Result<Vec<f32>, Error> {
        let vocabulary = self.config.vocabulary;
        let pass = self.forward(pass, &[], |outputs| [outputs * vocabulary, 0])?;
        let rows = self.quantised_outputs(&pass)?;
        self.gemm(self.lm_head(), rows, pass.base.at(pass.out), false)?;
        pass.state.arena.download(pass.out, pass.shape.outputs.count * vocabulary)
    }

    fn check_device(&self) -> Result<(), Error> {
        self.card.check()
    }

    fn project(&self, latents: &[f32]) -> Result<Vec<f32>, Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.input.project(&self.card, &mut state.arena, latents, self.config.hidden)
    }
}
