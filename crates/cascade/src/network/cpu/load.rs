//! How a stage's stored tensors become what computes.

use candle_core::DType;
use candle_core::quantized::QTensor;

use super::Layer;
use super::weight::Weight;
use crate::Error;
use crate::checkpoint::{Matrix, Weights};

/// Reads a stage's stored tensors.
pub(super) struct Loader<'a> {
    pub(super) weights: &'a mut Weights,
}

impl Loader<'_> {
    /// The layers of these published names in one, with their biases where they have them.
    pub(super) fn weight(&mut self, names: &[&str]) -> Result<Weight, Error> {
        let stored = names.iter().map(|name| self.quantised(&format!("{name}.weight")));
        let stored: Vec<QTensor> = stored.collect::<Result<_, _>>()?;
        let biases = names.iter().map(|name| format!("{name}.bias"));
        let mut bias = Vec::new();
        for name in biases.filter(|name| self.weights.has(name)).collect::<Vec<_>>() {
            bias.extend(self.vector(&name)?);
        }
        let bias = (!bias.is_empty()).then_some(bias);
        let weight = Weight::pack(&stored.iter().collect::<Vec<_>>(), bias)?;
        if weight.bias.as_ref().is_some_and(|bias| bias.len() != weight.outputs) {
            return Err(Error::checkpoint(format!(
                "{} do not all have a bias of their length",
                names.join(", ")
            )));
        }
        Ok(weight)
    }

    pub(super) fn vector(&mut self, name: &str) -> Result<Vec<f32>, Error> {
        let stored = self.weights.get(name)?.dense()?;
        Ok(stored.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }

    fn quantised(&mut self, name: &str) -> Result<QTensor, Error> {
        match self.weights.get(name)? {
            Matrix::Quantised(stored) => Ok(stored),
            Matrix::Dense(_) => Err(Error::checkpoint(format!("{name} is not quantised"))),
        }
    }
}

impl Layer {
    /// The layer of this published name.
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
