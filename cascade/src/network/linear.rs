//! Products with a weight matrix, dense or quantised, and how the weights become what computes.

use std::sync::Arc;

use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};
use candle_transformers::models::with_tracing::Linear as DenseLinear;
use candle_transformers::quantized_nn::Linear as QuantisedLinear;

use super::int8;
use crate::Error;
use crate::checkpoint::{Matrix, Weights};
use crate::device::Numbers;

/// `x W^T + b`, with `W` `[out, in]`.
#[derive(Clone)]
pub(super) enum Linear {
    Dense(DenseLinear),
    /// Of a type or shape that our kernel does not know.
    Quantised(QuantisedLinear),
    /// By our kernel.
    Int8 {
        weight: Arc<int8::Weight>,
        bias: Option<Arc<[f32]>>,
    },
}

/// Rows that several layers read, made ready once.
pub(super) struct Input<'a> {
    rows: &'a Tensor,
    rounded: Option<int8::Rows>,
}

impl<'a> Input<'a> {
    /// Makes `rows` `[rows, in]` ready for layers of these numbers.
    pub(super) fn new(rows: &'a Tensor, numbers: Numbers) -> Result<Self, Error> {
        let rounded = match numbers {
            Numbers::Int8 => Some(int8::Rows::of(rows)?),
            Numbers::Dense(_) => None,
        };
        Ok(Self { rows, rounded })
    }
}

impl Linear {
    /// `[rows, in]` to `[rows, out]`.
    pub(super) fn forward(&self, input: &Input<'_>) -> Result<Tensor, Error> {
        match (self, &input.rounded) {
            (Self::Int8 { weight, bias }, Some(rows)) => weight.forward(rows, bias.as_deref()),
            (Self::Int8 { weight, bias }, None) => {
                weight.forward(&int8::Rows::of(input.rows)?, bias.as_deref())
            }
            (Self::Dense(linear), _) => Ok(linear.forward(input.rows)?),
            (Self::Quantised(linear), _) => Ok(linear.forward(input.rows)?),
        }
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
            (Matrix::Quantised(stored), Numbers::Int8) => match int8::Weight::pack(&stored)? {
                Some(weight) => {
                    let bias = bias.map(|bias| bias.to_vec1::<f32>()).transpose()?;
                    Ok(Linear::Int8 { weight: Arc::new(weight), bias: bias.map(Arc::from) })
                }
                None => Ok(Linear::Quantised(QuantisedLinear::from_arc(Arc::new(stored), bias)?)),
            },
            (matrix, _) => Ok(Linear::Dense(DenseLinear::from_weights(self.dense(matrix)?, bias))),
        }
    }

    /// The table of this published name, whose rows are read by token id.
    pub(super) fn table(&mut self, name: &str) -> Result<QMatMul, Error> {
        match (self.weights.get(&format!("{name}.weight"))?, self.numbers) {
            (Matrix::Quantised(table), Numbers::Int8) => Ok(QMatMul::from_qtensor(table)?),
            (matrix, _) => Ok(QMatMul::Tensor(self.dense(matrix)?)),
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

/// Latents of the compressor's width to hidden states of the decoder's: dense, at either end of the wire.
pub(crate) struct Projector {
    weight: Tensor,
    bias: Tensor,
}

impl Projector {
    /// `weight` is `[hidden, latent width]`, `bias` `[hidden]`.
    pub(crate) fn new(weight: Tensor, bias: Tensor) -> Self {
        Self { weight, bias }
    }

    /// `count` latents, row after row, to `[count, hidden]`.
    pub(crate) fn forward(&self, values: &[f32], count: usize) -> Result<Tensor, Error> {
        let latents = Tensor::new(values, self.weight.device())?.reshape((count, ()))?;
        let latents = latents.to_dtype(self.weight.dtype())?;
        Ok(latents.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)?)
    }
}
