//! Weights of a dense network on the card, and its data type.

use std::sync::Arc;

use candle_core::DType;
use cudarc::cublas::sys::cudaDataType;
use cudarc::driver::{CudaSlice, CudaStream};

use crate::Error;
use crate::checkpoint::Weights;
use crate::network::cuda::weight::{bytes_as, vector};

/// Data type of weights and activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::network::cuda) enum Precision {
    F32,
    F16,
    Bf16,
}

impl Precision {
    pub(super) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }

    pub(super) fn bytes(self) -> usize {
        self.dtype().size_in_bytes()
    }

    pub(super) fn cuda(self) -> cudaDataType {
        match self {
            Self::F32 => cudaDataType::CUDA_R_32F,
            Self::F16 => cudaDataType::CUDA_R_16F,
            Self::Bf16 => cudaDataType::CUDA_R_16BF,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

/// Weights of a transformer layer.
pub(super) struct Layer {
    pub(super) input_norm: CudaSlice<f32>,
    pub(super) qkv: Linear,
    pub(super) qkv_bias: Option<CudaSlice<f32>>,
    pub(super) o: Linear,
    pub(super) mlp_norm: CudaSlice<f32>,
    pub(super) gate_up: Linear,
    pub(super) down: Linear,
}

/// Weight of a linear layer, `[outputs][inputs]`.
pub(super) struct Linear {
    pub(super) weight: CudaSlice<u8>,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
}

/// Reads tensors of a stage by their published names to the card.
pub(super) struct Loader<'a> {
    pub(super) weights: &'a mut Weights,
    pub(super) stream: &'a Arc<CudaStream>,
    pub(super) precision: Precision,
}

impl Loader<'_> {
    /// Reads linear layers and concatenates their outputs into one layer, without biases. Copies stored bytes as they
    /// are if they have the network's data type.
    pub(super) fn linear(&mut self, names: &[&str]) -> Result<Linear, Error> {
        let names: Vec<String> = names.iter().map(|name| format!("{name}.weight")).collect();
        let dtype = self.precision.dtype();
        let mut shapes = Vec::with_capacity(names.len());
        for name in &names {
            shapes.push(self.weights.matrix_shape(name)?);
        }
        let inputs = shapes[0][1];
        let outputs = shapes.iter().map(|shape| shape[0]).sum::<usize>();
        if shapes.iter().any(|shape| shape[1] != inputs) {
            return Err(Error::checkpoint(format!("the shapes of {} do not match", names.join(", "))));
        }
        // SAFETY: the loop below writes all of it.
        #[allow(unsafe_code)]
        let mut weight = unsafe { self.stream.alloc::<u8>(outputs * inputs * self.precision.bytes())? };
        let mut first = 0;
        for (name, shape) in names.iter().zip(shapes) {
            let end = first + shape[0] * inputs * self.precision.bytes();
            let mut to = weight.slice_mut(first..end);
            match self.weights.stored_bytes(name, dtype) {
                Some(bytes) => self.stream.memcpy_htod(bytes, &mut to)?,
                None => {
                    let tensor = self.weights.get(name)?.dense()?.to_dtype(dtype)?;
                    self.stream.memcpy_htod(&bytes_as(&tensor)?, &mut to)?;
                }
            }
            first = end;
        }
        Ok(Linear { weight, outputs, inputs })
    }

    /// Reads a tensor of any shape as f32.
    pub(super) fn f32s(&mut self, name: &str) -> Result<CudaSlice<f32>, Error> {
        Ok(self.stream.clone_htod(&vector(self.weights, name)?)?)
    }
}

impl Layer {
    /// Loads the transformer layer whose published name prefix is `name`.
    pub(super) fn load(load: &mut Loader<'_>, name: &str) -> Result<Self, Error> {
        let part = |part: &str| format!("{name}.{part}");
        let qkv = ["q", "k", "v"].map(|x| part(&format!("self_attn.{x}_proj")));
        let mut bias = Vec::new();
        for name in qkv.iter().map(|name| format!("{name}.bias")) {
            if load.weights.has(&name) {
                bias.extend(vector(load.weights, &name)?);
            }
        }
        let qkv_bias = if bias.is_empty() { None } else { Some(load.stream.clone_htod(&bias)?) };
        let qkv = load.linear(&qkv.each_ref().map(String::as_str))?;
        if qkv_bias.is_some() && bias.len() != qkv.outputs {
            return Err(Error::checkpoint(format!("the biases of {name} do not match the weights")));
        }
        Ok(Self {
            input_norm: load.f32s(&part("input_layernorm.weight"))?,
            qkv,
            qkv_bias,
            o: load.linear(&[&part("self_attn.o_proj")])?,
            mlp_norm: load.f32s(&part("post_attention_layernorm.weight"))?,
            gate_up: load.linear(&[&part("mlp.gate_proj"), &part("mlp.up_proj")])?,
            down: load.linear(&[&part("mlp.down_proj")])?,
        })
    }
}
