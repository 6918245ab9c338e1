//! Checkpoints: finds the files, compares their hashes with the manifest, reads configuration and tensors.

mod config;
mod files;
#[cfg(test)]
mod fuzz;
mod gguf;
mod manifest;
mod shapes;
mod weights;

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Tensor};

pub(crate) use config::{NetworkConfig, Ratios};
pub use manifest::{Manifest, StageFiles};
pub(crate) use weights::{StoredTensor, Weights};

use crate::layout::{Layout, PositionLayout};
use crate::options::{Device, Options};
use crate::tokenizer::Tokenizer;
use crate::{Error, StageInfo};
use config::Settings;
use files::Files;

/// Location of a checkpoint's files.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A folder.
    Folder(&'a Path),
    /// Files embedded in the program, as pairs of name and contents.
    Embedded(&'a [(&'static str, &'static [u8])]),
}

/// A stage of the cascade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Compressor,
    Decoder,
}

impl Stage {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Compressor => "compressor",
            Self::Decoder => "decoder",
        }
    }
}

/// One stage of a checkpoint. Its files match the manifest, and its weights are open for reading.
pub(crate) struct Checkpoint {
    pub(crate) manifest: Manifest,
    pub(crate) layout: Layout,
    pub(crate) ratios: Ratios,
    pub(crate) network: NetworkConfig,
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// Token ids that end an answer, in addition to `<|im_end|>`.
    pub(crate) end_ids: Vec<u32>,
    pub(crate) device: Device,
    pub(crate) weights: Weights,
    files: Files,
}

impl Checkpoint {
    /// Opens a stage, after comparing its files with the manifest. Fails with [`Error::Checkpoint`] if a file is
    /// missing, damaged or not supported, with [`Error::Device`] if the device cannot be opened.
    pub(crate) fn open(source: Source<'_>, stage: Stage, options: &Options) -> Result<Self, Error> {
        let files = Files::open(source)?;
        let manifest = Manifest::read_or_derive(&files)?;
        manifest.check(&files, stage)?;
        let device = options.device.open()?;
        let (settings, weights) = if files.has(&weights::gguf_file(stage)) {
            let gguf = weights::Gguf::open(&files, stage)?;
            (Settings::from_gguf(&gguf.content)?, Weights::Gguf(gguf))
        } else {
            (Settings::from_published(&files, stage)?, Weights::Dense(weights::open_dense(&files, stage)?))
        };
        shapes::check(&weights, &settings.network)?;
        let tokenizer = Tokenizer::read(&files.read("tokenizer.json")?, settings.network.vocabulary)?;
        Ok(Self {
            manifest,
            layout: settings.layout,
            ratios: settings.ratios,
            network: settings.network,
            tokenizer: Arc::new(tokenizer),
            end_ids: settings.end_ids,
            device,
            weights,
            files,
        })
    }

    /// Reads the compressor's query embedding as f32, `[latent_token_len, hidden]`.
    pub(crate) fn query(&self) -> Result<Tensor, Error> {
        self.auxiliary("query.safetensors", "query.weight", "model.Q.weight")
    }

    /// Reads the decoder's projector as f32: weight `[hidden, latent width]` and bias `[hidden]`.
    pub(crate) fn projector(&self) -> Result<(Tensor, Tensor), Error> {
        let file = "projector.safetensors";
        let weight = self.auxiliary(file, "projector.weight", "model.mm_projector.weight")?;
        let bias = self.auxiliary(file, "projector.bias", "model.mm_projector.bias")?;
        Ok((weight, bias))
    }

    /// Describes the stage. The caller gets `latent_width` and `arithmetic` from the loaded network.
    pub(crate) fn info(&self, latent_width: usize, arithmetic: String) -> StageInfo {
        let published = self.layout.positions == PositionLayout::Published;
        StageInfo {
            cascade: self.manifest.name.clone(),
            compressor_fingerprint: *self.manifest.compressor.fingerprint.as_bytes(),
            decoder_fingerprint: *self.manifest.decoder.fingerprint.as_bytes(),
            arithmetic,
            device: self.device.to_string(),
            accelerator: self.device.accelerator(),
            accelerator_memory: self.device.memory(),
            latent_width,
            latent_token_len: self.layout.latent_token_len,
            fixed_latents: self.layout.fixed_latents(),
            ratio_min: self.ratios.min,
            ratio_max: self.ratios.max,
            ratio_default: self.ratios.default,
            ratios: self.ratios.trained.clone(),
            latent_codec: if published { "bf16" } else { "q4_0" },
            takes_prompt: published,
            vocabulary: self.tokenizer.vocabulary(),
        }
    }

    /// Reads a tensor that is not part of the Qwen2 network: tensor `name` of `file` if the checkpoint has that file,
    /// otherwise tensor `published` of the published main model. Returns f32.
    fn auxiliary(&self, file: &str, name: &str, published: &str) -> Result<Tensor, Error> {
        let tensor = if self.files.has(file) {
            files::tensor(&self.files.read(file)?, file, name)?
        } else {
            weights::main_tensor(&self.files, published)?
        };
        Ok(tensor.to_dtype(DType::F32)?)
    }
}
