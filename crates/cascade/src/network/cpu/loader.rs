//! Conversion of a checkpoint's stored tensors into packed weights.

use candle_core::DType;
use candle_core::quantized::QTensor;

use super::Layer;
use super::packed_weight::PackedWeight;
use crate::Error;
use crate::checkpoint::{StoredTensor, Weights};

/// Reads tensors of a stage by their published names.
pub(super) struct Loader<'a> {
    pub(super) weights: &'a mut Weights,
}

impl Loader<'_> {
    /// Reads linear layers and concatenates their outputs into one layer. Biases are optional. Fails with
    /// [`Error::Candle`] if a weight is missing, with [`Error::Checkpoint`] if a weight is not supported or only some
    /// of the layers have a bias.
    pub(super) fn weight(&mut self, names: &[&str]) -> Result<PackedWeight, Error> {
        let stored = names.iter().map(|name| self.quantised(&format!("{name}.weight")));
        let stored: Vec<QTensor> = stored.collect::<Result<_, _>>()?;
        let biases = names.iter().map(|name| format!("{name}.bias"));
        let mut bias = Vec::new();
        for name in biases.filter(|name| self.weights.has(name)).collect::<Vec<_>>() {
            bias.extend(self.vector(&name)?);
        }
        let bias = (!bias.is_empty()).then_some(bias);
        let weight = PackedWeight::pack(&stored.iter().collect::<Vec<_>>(), bias)?;
        if weight.bias.as_ref().is_some_and(|bias| bias.len() != weight.outputs) {
            return Err(Error::checkpoint(format!("the biases of {} do not match the weights", names.join(", "))));
        }
        Ok(weight)
    }

    /// Reads a tensor of any shape as f32.
    pub(super) fn vector(&mut self, name: &str) -> Result<Vec<f32>, Error> {
        let stored = self.weights.get(name)?.dense()?;
        Ok(stored.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }

    fn quantised(&mut self, name: &str) -> Result<QTensor, Error> {
        match self.weights.get(name)? {
            StoredTensor::Quantised(stored) => Ok(stored),
            StoredTensor::Dense(_) => Err(Error::checkpoint(format!("{name} is not quantised"))),
        }
    }
}

impl Layer {
    /// Loads the transformer layer whose published name prefix is `name`.
    pub(super) fn load(load: &mut Loader<'_>, name: &str) -> Result<Self, Error> {
        let part = |part: &str| format!("{name}.{part}");
        let qkv = ["q", "k", "v"].map(|x| part(&format!("self_attn.{x}_proj")));
        Ok(Self {
            input_norm: load.vector(&part("input_layernorm.weight"))?,
            qkv: load.weight(&qkv.each_ref().map(String::as_str))?,
            o: load.weight(&[&part("self_attn.o_proj")])?,
            mlp_norm: load.vector(&part("post_attention_layernorm.weight"))?,
            gate: load.weight(&[&part("mlp.gate_proj")])?,
            up: load.weight(&[&part("mlp.up_proj")])?,
            down: load.weight(&[&part("mlp.down_proj")])?,
        })
    }
}
