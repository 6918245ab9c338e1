//! Keys and values of the rows of one sequence, layer by layer.

use candle_core::{Device, Tensor};

use crate::Error;

/// Keys and values of the rows of one sequence.
pub(crate) struct KvCache {
    layers: Vec<LayerCache>,
    rows: usize,
}

/// Keys and values of one layer, `[rows, kv heads * dim]` each.
pub(super) enum LayerCache {
    /// On the CPU: read by the attention kernel in place.
    Host { k: Vec<f32>, v: Vec<f32> },
    /// On a card.
    Device(Option<[Tensor; 2]>),
}

impl KvCache {
    pub(super) fn new(layers: usize, device: &Device) -> Self {
        let empty = || match device {
            Device::Cpu => LayerCache::Host { k: Vec::new(), v: Vec::new() },
            _ => LayerCache::Device(None),
        };
        Self { layers: (0..layers).map(|_| empty()).collect(), rows: 0 }
    }

    /// Rows that every layer holds.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Notes that every layer has got `rows` more.
    pub(super) fn grew(&mut self, rows: usize) {
        self.rows += rows;
    }

    pub(super) fn layer(&self, number: usize) -> &LayerCache {
        &self.layers[number]
    }

    pub(super) fn layer_mut(&mut self, number: usize) -> &mut LayerCache {
        &mut self.layers[number]
    }
}

impl LayerCache {
    /// Appends rows on a card.
    pub(super) fn append(&mut self, k: &Tensor, v: &Tensor) -> Result<[Tensor; 2], Error> {
        let grown = match self {
            Self::Device(Some([old_k, old_v])) => {
                [Tensor::cat(&[&*old_k, k], 0)?, Tensor::cat(&[&*old_v, v], 0)?]
            }
            _ => [k.contiguous()?, v.contiguous()?],
        };
        *self = Self::Device(Some(grown.clone()));
        Ok(grown)
    }
}
