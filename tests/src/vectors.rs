//! Golden vectors: a JSON page of cases beside a file of tensors.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// What another implementation computed.
#[derive(Debug)]
pub struct Vectors {
    page: Value,
    tensors: Vec<u8>,
}

impl Vectors {
    /// Reads `vectors.json` and `vectors.safetensors` of a folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let page = serde_json::from_slice(&fs::read(folder.join("vectors.json"))?)?;
        Ok(Self { page, tensors: fs::read(folder.join("vectors.safetensors"))? })
    }

    /// A list of cases.
    pub fn list(&self, name: &str) -> Result<&[Value]> {
        let list = self.page[name].as_array();
        list.map(Vec::as_slice).with_context(|| format!("vectors.json has no list `{name}`"))
    }

    /// A tensor of floats.
    pub fn floats(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.words(name, Dtype::F32)?.into_iter().map(f32::from_le_bytes).collect())
    }

    /// A tensor of token ids.
    pub fn ids(&self, name: &str) -> Result<Vec<u32>> {
        Ok(self.words(name, Dtype::I32)?.into_iter().map(u32::from_le_bytes).collect())
    }

    fn words(&self, name: &str, dtype: Dtype) -> Result<Vec<[u8; 4]>> {
        let tensors = SafeTensors::deserialize(&self.tensors)?;
        let tensor = tensors.tensor(name).with_context(|| name.to_owned())?;
        ensure!(tensor.dtype() == dtype, "{name} is {:?}, not {dtype:?}", tensor.dtype());
        Ok(tensor.data().as_chunks().0.to_vec())
    }
}

/// A field that is text.
pub fn text<'a>(case: &'a Value, field: &str) -> Result<&'a str> {
    case[field].as_str().with_context(|| format!("the case has no `{field}`"))
}

/// A field that is token ids.
pub fn ids(field: &Value) -> Result<Vec<u32>> {
    Ok(serde_json::from_value(field.clone())?)
}

/// Largest difference of two tensors of one length; infinite where the lengths differ.
pub fn largest_difference(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
}

/// Largest magnitude of a tensor.
pub fn largest_magnitude(a: &[f32]) -> f64 {
    a.iter().map(|a| f64::from(a.abs())).fold(0.0, f64::max)
}
