//! Products with a weight matrix, dense or quantised, and how the weights become what computes.

use std::sync::Arc;

use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};

use crate::Error;
use crate::checkpoint::{Matrix, Weights};
use crate::device::Numbers;

/// `x W^T + b`, with `W` `[out, in]`.
#[derive(Clone)]
pub(super) struct Linear {
    weight: QMatMul,
    bias: Option<Tensor>,
}

impl Linear {
    /// `[rows, in]` to `[rows, out]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        let y = self.weight.forward(x)?;
        match &self.bias {
            Some(bias) => Ok(y.broadcast_add(bias)?),
            None => Ok(y),
        }
    }

    /// Rows of the weight, as a table of embeddings is read.
    pub(super) fn rows(&self, ids: &Tensor) -> Result<Tensor, Error> {
        Ok(self.weight.embedding(ids)?)
    }

    /// A layer of dense tensors.
    pub(super) fn dense(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight: QMatMul::Tensor(weight), bias }
    }
}

/// Turns a stage's stored tensors into layers on its device.
pub(super) struct Loader<'a> {
    pub(super) weights: &'a mut Weights,
    pub(super) numbers: Numbers,
    pub(super) device: &'a Device,
}

impl Loader<'_> {
    /// The layer of this published name, with its bias where it has one.
    pub(super) fn linear(&mut self, name: &str) -> Result<Linear, Error> {
        let bias = format!("{name}.bias");
        let bias = if self.weights.has(&bias) { Some(self.vector(&bias)?) } else { None };
        match (self.weights.get(&format!("{name}.weight"))?, self.numbers) {
            (Matrix::Quantised(weight), Numbers::Int8) => {
                Ok(Linear { weight: QMatMul::from_arc(Arc::new(weight))?, bias })
            }
            (matrix, _) => Ok(Linear::dense(self.dense(matrix)?, bias)),
        }
    }

    /// A vector in the type of hidden states.
    pub(super) fn vector(&mut self, name: &str) -> Result<Tensor, Error> {
        let stored = self.weights.get(name)?;
        self.dense(stored)
    }

    fn dense(&self, matrix: Matrix) -> Result<Tensor, Error> {
        let tensor = match matrix {
            Matrix::Quantised(tensor) => QTensor::dequantize(&tensor, &Device::Cpu)?,
            Matrix::Dense(tensor) => tensor,
        };
        Ok(tensor.to_dtype(self.numbers.dtype())?.to_device(self.device)?)
    }
}

/// Latents of the compressor's width to hidden states of the decoder's.
pub(crate) struct Projector {
    weight: Tensor,
    linear: Linear,
}

impl Projector {
    /// `weight` is `[hidden, latent width]`, `bias` `[hidden]`.
    pub(crate) fn new(weight: Tensor, bias: Tensor) -> Self {
        Self { linear: Linear::dense(weight.clone(), Some(bias)), weight }
    }

    /// `count` latents, row after row, to `[count, hidden]`.
    pub(crate) fn forward(&self, values: &[f32], count: usize) -> Result<Tensor, Error> {
        let latents = Tensor::new(values, self.weight.device())?.reshape((count, ()))?;
        self.linear.forward(&latents.to_dtype(self.weight.dtype())?)
    }
}
