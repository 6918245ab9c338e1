//! Keys and values of one layer.

use candle_core::Tensor;

use crate::Error;

/// Keys and values of one layer, `[rows, kv heads * dim]` each; nothing at first.
#[derive(Clone, Default)]
pub(in crate::network) struct LayerCache(Option<[Tensor; 2]>);

impl LayerCache {
    /// Appends rows, and returns all.
    pub(super) fn append(&mut self, k: &Tensor, v: &Tensor) -> Result<[Tensor; 2], Error> {
        let grown = match &self.0 {
            Some([old_k, old_v]) => [Tensor::cat(&[old_k, k], 0)?, Tensor::cat(&[old_v, v], 0)?],
            None => [k.contiguous()?, v.contiguous()?],
        };
        Ok(self.0.insert(grown).clone())
    }
}
