//! Golden vectors: results of PyTorch code, with which the results of our network are compared.

mod default_layout;
mod published;

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use c3_cascade::{DecodeWindow, Decoder, Dtype, Latents, Options, Task};
use safetensors::SafeTensors;

pub use default_layout::default_layout;
pub use published::{published_layout, published_prompts};

/// Arithmetic that the network computes with: the order and the precision of its operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// Dequantised weights and f32 arithmetic.
    F32,
    /// The default of nodes: with quantised weights, activations are int8.
    Served,
}

impl Arithmetic {
    fn options(self, options: Options) -> Options {
        match self {
            Self::F32 => Options { dtype: Dtype::F32, ..options },
            Self::Served => Options { dtype: Dtype::Auto, ..options },
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Served => "served",
        }
    }
}

/// Tensors of a vector file, by name.
struct Vectors {
    floats: HashMap<String, Vec<f32>>,
    ids: HashMap<String, Vec<u32>>,
}

impl Vectors {
    fn read(file: &Path) -> Result<Self> {
        let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
        let (mut floats, mut ids) = (HashMap::new(), HashMap::new());
        for (name, tensor) in SafeTensors::deserialize(&bytes)?.tensors() {
            let words = tensor.data().as_chunks::<4>().0.iter();
            match tensor.dtype() {
                safetensors::Dtype::F32 => {
                    floats.insert(name, words.map(|w| f32::from_le_bytes(*w)).collect()).is_none()
                }
                _ => ids.insert(name, words.map(|w| u32::from_le_bytes(*w)).collect()).is_none(),
            };
        }
        Ok(Self { floats, ids })
    }

    fn floats(&self, name: &str) -> Result<&[f32]> {
        self.floats.get(name).map(Vec::as_slice).with_context(|| format!("no vector {name}"))
    }

    fn ids(&self, name: &str) -> Result<&[u32]> {
        self.ids.get(name).map(Vec::as_slice).with_context(|| format!("no vector {name}"))
    }
}

/// Returns the largest absolute difference of two tensors. Panics if their lengths differ.
fn max_difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "tensors of different lengths");
    a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
}

/// Returns the Euclidean norm of `a - b` divided by that of `b`. Panics if the lengths differ.
pub fn relative_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "tensors of different lengths");
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

/// Decodes one window completely and returns its token ids and text.
fn decode(decoder: &Decoder, latents: Latents, task: Task) -> Result<(Vec<u32>, String)> {
    let mut decoding = decoder.start(DecodeWindow { latents, task })?;
    while !decoding.done() {
        decoder.step(&mut [&mut decoding])?;
    }
    let text = String::from_utf8_lossy(&decoding.take_text()).into_owned();
    Ok((decoding.token_ids().to_vec(), text))
}
