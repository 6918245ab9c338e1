//! Tensors of a stage from GGUF or safetensors, addressed by their published names.

#[cfg(feature = "cuda")]
use candle_core::DType;
use candle_core::quantized::gguf_file::Content;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{Device, Tensor};

use super::files::{Files, ReadSeek};
use super::{Stage, gguf};
use crate::Error;

/// Name of the query embedding among the published main model's tensors.
pub(super) const PUBLISHED_QUERY: &str = "model.Q.weight";

/// Tensors of a stage.
pub(crate) enum Weights {
    Gguf(Gguf),
    Dense(MmapedSafetensors),
}

/// A tensor as stored, on the CPU.
pub(crate) enum StoredTensor {
    Quantised(QTensor),
    Dense(Tensor),
}

impl StoredTensor {
    /// Returns the dense tensor, dequantised if necessary.
    pub(crate) fn dense(self) -> Result<Tensor, Error> {
        match self {
            Self::Quantised(tensor) => Ok(tensor.dequantize(&Device::Cpu)?),
            Self::Dense(tensor) => Ok(tensor),
        }
    }
}

impl Weights {
    /// Reads a tensor. Fails with [`Error::Candle`] if the tensor does not exist.
    pub(crate) fn get(&mut self, name: &str) -> Result<StoredTensor, Error> {
        match self {
            Self::Gguf(gguf) => gguf.get(name).map(StoredTensor::Quantised),
            Self::Dense(tensors) => Ok(StoredTensor::Dense(tensors.load(name, &Device::Cpu)?)),
        }
    }

    /// Returns the shape of a tensor, or `None` if the tensor does not exist.
    pub(crate) fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match self {
            Self::Gguf(gguf) => gguf.content.tensor_infos.get(&gguf_name(name)).map(|info| info.shape.dims().to_vec()),
            Self::Dense(tensors) => tensors.get(name).ok().map(|view| view.shape().to_vec()),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::Gguf(gguf) => gguf.content.tensor_infos.contains_key(&gguf_name(name)),
            Self::Dense(tensors) => tensors.get(name).is_ok(),
        }
    }

    /// Returns true if the weights are a GGUF file and `supports` returns true for the type and shape of every matrix.
    pub(crate) fn all_quantised(&self, supports: impl Fn(GgmlDType, &[usize]) -> bool) -> bool {
        match self {
            Self::Gguf(gguf) => {
                let mut matrices = gguf.content.tensor_infos.values().filter(|info| info.shape.rank() > 1);
                matrices.all(|info| supports(info.ggml_dtype, info.shape.dims()))
            }
            Self::Dense(_) => false,
        }
    }
}

/// Properties of stored tensors, for the loaders of GPUs.
#[cfg(feature = "cuda")]
impl Weights {
    /// Returns the shape of a matrix, `[outputs, inputs]`. Fails with [`Error::Checkpoint`] if there is no such matrix.
    pub(crate) fn matrix_shape(&self, name: &str) -> Result<[usize; 2], Error> {
        let shape = self.shape(name).and_then(|shape| <[usize; 2]>::try_from(shape).ok());
        shape.ok_or_else(|| Error::checkpoint(format!("the checkpoint has no matrix {name}")))
    }

    /// Returns the bytes of a dense tensor as they are in the file, or `None` if it does not have the type `dtype`.
    pub(crate) fn stored_bytes(&self, name: &str, dtype: DType) -> Option<&[u8]> {
        let Self::Dense(tensors) = self else { return None };
        let view = tensors.get(name).ok()?;
        (DType::try_from(view.dtype()).ok()? == dtype).then(|| view.data())
    }

    /// Returns the data type of dense weights, read from the final norm, or `None` for a GGUF file.
    pub(crate) fn stored_dtype(&self) -> Result<Option<DType>, Error> {
        match self {
            Self::Gguf(_) => Ok(None),
            Self::Dense(tensors) => {
                let norm = tensors.get("model.norm.weight")?;
                Ok(Some(DType::try_from(norm.dtype())?))
            }
        }
    }
}

pub(crate) struct Gguf {
    pub(super) content: Content,
    reader: Box<dyn ReadSeek>,
}

impl Gguf {
    pub(super) fn open(files: &Files, stage: Stage) -> Result<Self, Error> {
        let name = gguf_file(stage);
        let mut reader = files.reader(&name)?;
        let content = gguf::read(&mut reader);
        let content = content.map_err(|problem| Error::checkpoint(format!("{name} is not a GGUF file: {problem}")))?;
        Ok(Self { content, reader })
    }

    fn get(&mut self, name: &str) -> Result<QTensor, Error> {
        Ok(self.content.tensor(&mut self.reader, &gguf_name(name), &Device::Cpu)?)
    }
}

/// Returns the name of a stage's GGUF file.
pub(super) fn gguf_file(stage: Stage) -> String {
    format!("{}.gguf", stage.name())
}

/// Opens the dense weights of a stage.
pub(super) fn open_dense(files: &Files, stage: Stage) -> Result<MmapedSafetensors, Error> {
    let folder = match stage {
        Stage::Compressor => "llm1",
        Stage::Decoder => "",
    };
    map(files, &files.safetensors(folder))
}

/// Reads a tensor of the published main model.
pub(super) fn main_tensor(files: &Files, name: &str) -> Result<Tensor, Error> {
    let file = file_of_main_tensor(files, name)?;
    Ok(map(files, &[file])?.load(name, &Device::Cpu)?)
}

/// Returns the name of the published main model's file that contains the tensor `name`.
pub(super) fn file_of_main_tensor(files: &Files, name: &str) -> Result<String, Error> {
    for file in files.safetensors("") {
        if map(files, std::slice::from_ref(&file))?.get(name).is_ok() {
            return Ok(file);
        }
    }
    Err(Error::checkpoint(format!(
        "no *.safetensors file of the main model contains {name}: copy the model's weights to its folder"
    )))
}

fn map(files: &Files, names: &[String]) -> Result<MmapedSafetensors, Error> {
    let paths: Vec<_> = names.iter().filter_map(|name| files.path(name)).collect();
    if paths.is_empty() {
        return Err(Error::checkpoint("no *.safetensors files found: copy the model's weights to its folder"));
    }
    // SAFETY: the mapping is read-only, and nothing modifies model files while the program runs: operators deploy a new
    // model in a new folder.
    #[allow(unsafe_code)]
    let mapped = unsafe { MmapedSafetensors::multi(&paths) };
    mapped.map_err(|error| Error::checkpoint(format!("{} cannot be mapped: {error}", names.join(", "))))
}

/// Translates a published tensor name to the name that llama.cpp uses in GGUF files of qwen2.
fn gguf_name(published: &str) -> String {
    const PARTS: [(&str, &str); 12] = [
        ("model.layers.", "blk."),
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
    ];
    PARTS.iter().fold(published.to_owned(), |name, (from, to)| name.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::gguf_name;

    #[test]
    fn published_names_translate_to_gguf_names() {
        assert_eq!(gguf_name("model.layers.3.self_attn.q_proj.bias"), "blk.3.attn_q.bias");
        assert_eq!(gguf_name("model.layers.0.mlp.gate_proj.weight"), "blk.0.ffn_gate.weight");
        assert_eq!(gguf_name("model.layers.0.post_attention_layernorm.weight"), "blk.0.ffn_norm.weight");
        assert_eq!(gguf_name("model.layers.0.input_layernorm.weight"), "blk.0.attn_norm.weight");
        assert_eq!(gguf_name("model.embed_tokens.weight"), "token_embd.weight");
        assert_eq!(gguf_name("model.norm.weight"), "output_norm.weight");
    }
}
