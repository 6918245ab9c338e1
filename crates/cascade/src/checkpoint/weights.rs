//! The tensors of a stage, under their published names, from GGUF or safetensors.

use candle_core::quantized::gguf_file::Content;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor};

use super::Stage;
use super::files::{Files, ReadSeek};
use crate::Error;

/// The published checkpoint's query embedding, which lies among the main model's weights.
pub(super) const PUBLISHED_QUERY: &str = "model.Q.weight";

/// The tensors of a stage.
pub(crate) enum Weights {
    Gguf(Gguf),
    Dense(MmapedSafetensors),
}

/// A matrix as stored.
pub(crate) enum Matrix {
    Quantised(QTensor),
    Dense(Tensor),
}

impl Matrix {
    /// Its values, as they are stored or as quantised ones stand for.
    pub(crate) fn dense(self) -> Result<Tensor, Error> {
        match self {
            Self::Quantised(tensor) => Ok(tensor.dequantize(&Device::Cpu)?),
            Self::Dense(tensor) => Ok(tensor),
        }
    }
}

impl Weights {
    /// A tensor under its published name, as stored, on the CPU.
    pub(crate) fn get(&mut self, name: &str) -> Result<Matrix, Error> {
        match self {
            Self::Gguf(gguf) => gguf.get(name).map(Matrix::Quantised),
            Self::Dense(tensors) => Ok(Matrix::Dense(tensors.load(name, &Device::Cpu)?)),
        }
    }

    /// Whether there is such a tensor.
    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::Gguf(gguf) => gguf.content.tensor_infos.contains_key(&gguf_name(name)),
            Self::Dense(tensors) => tensors.get(name).is_ok(),
        }
    }

    /// Whether the weights are quantised and `fits` holds for the type and shape of every matrix.
    pub(crate) fn all_quantised(&self, fits: impl Fn(GgmlDType, &[usize]) -> bool) -> bool {
        match self {
            Self::Gguf(gguf) => {
                let mut matrices = gguf.content.tensor_infos.values().filter(|info| info.shape.rank() > 1);
                matrices.all(|info| fits(info.ggml_dtype, info.shape.dims()))
            }
            Self::Dense(_) => false,
        }
    }

    /// The type of dense weights; `None` where they are quantised.
    pub(super) fn stored_dtype(&self) -> Result<Option<DType>, Error> {
        match self {
            Self::Gguf(_) => Ok(None),
            Self::Dense(tensors) => {
                let norm = tensors.get("model.norm.weight")?;
                Ok(Some(DType::try_from(norm.dtype())?))
            }
        }
    }
}

/// An open GGUF file.
pub(crate) struct Gguf {
    pub(super) content: Content,
    reader: Box<dyn ReadSeek>,
}

impl Gguf {
    pub(super) fn open(files: &Files, stage: Stage) -> Result<Self, Error> {
        let name = gguf_file(stage);
        let mut reader = files.reader(&name)?;
        let content = Content::read(&mut reader);
        let content =
            content.map_err(|error| Error::checkpoint(format!("{name} is not a GGUF file: {error}")))?;
        Ok(Self { content, reader })
    }

    fn get(&mut self, name: &str) -> Result<QTensor, Error> {
        Ok(self.content.tensor(&mut self.reader, &gguf_name(name), &Device::Cpu)?)
    }
}

/// Name of a stage's GGUF file.
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

/// A tensor of the main model, as stored, on the CPU.
pub(super) fn main_tensor(files: &Files, name: &str) -> Result<Tensor, Error> {
    let file = file_of_main_tensor(files, name)?;
    Ok(map(files, &[file])?.load(name, &Device::Cpu)?)
}

/// The file of the main model that holds a tensor.
pub(super) fn file_of_main_tensor(files: &Files, name: &str) -> Result<String, Error> {
    for file in files.safetensors("") {
        if map(files, std::slice::from_ref(&file))?.get(name).is_ok() {
            return Ok(file);
        }
    }
    Err(Error::checkpoint(format!("no *.safetensors file of the main model holds {name}: copy them there")))
}

fn map(files: &Files, names: &[String]) -> Result<MmapedSafetensors, Error> {
    let paths: Vec<_> = names.iter().filter_map(|name| files.path(name)).collect();
    if paths.is_empty() {
        return Err(Error::checkpoint("no *.safetensors files here: copy the model's weights there"));
    }
    // SAFETY: the files are mapped read-only and must not be changed while the program runs, which holds for a model's
    // files: operators replace folders, they do not edit weights in place.
    #[allow(unsafe_code)]
    let mapped = unsafe { MmapedSafetensors::multi(&paths) };
    mapped.map_err(|error| Error::checkpoint(format!("{} cannot be mapped: {error}", names.join(", "))))
}

/// The name that a published tensor has in GGUF.
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
    fn published_names_become_those_of_gguf() {
        assert_eq!(gguf_name("model.layers.3.self_attn.q_proj.bias"), "blk.3.attn_q.bias");
        assert_eq!(gguf_name("model.layers.0.mlp.gate_proj.weight"), "blk.0.ffn_gate.weight");
        assert_eq!(gguf_name("model.layers.0.post_attention_layernorm.weight"), "blk.0.ffn_norm.weight");
        assert_eq!(gguf_name("model.layers.0.input_layernorm.weight"), "blk.0.attn_norm.weight");
        assert_eq!(gguf_name("model.embed_tokens.weight"), "token_embd.weight");
        assert_eq!(gguf_name("model.norm.weight"), "output_norm.weight");
    }
}
