//! A checkpoint's files: found, checked against the manifest, and read.

mod config;
mod files;
mod manifest;
mod weights;

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

pub(crate) use config::{NetworkConfig, Ratios};
pub use manifest::{Manifest, StageFiles};
pub(crate) use weights::{Matrix, Weights};

use crate::device::{Numbers, Options};
use crate::layout::Layout;
use crate::network::host;
use crate::tokenizer::Tokenizer;
use crate::{Error, StageInfo};
use config::Settings;
use files::Files;

/// Where a checkpoint's files are.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A folder.
    Folder(&'a Path),
    /// Inside the program: names and bytes.
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

/// One stage of a checkpoint, checked, its weights ready to be read.
pub(crate) struct Checkpoint {
    pub(crate) manifest: Manifest,
    pub(crate) layout: Layout,
    pub(crate) ratios: Ratios,
    pub(crate) network: NetworkConfig,
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// Ids that end a generation, beside `<|im_end|>`.
    pub(crate) end_ids: Vec<u32>,
    pub(crate) device: Device,
    pub(crate) device_name: String,
    pub(crate) numbers: Numbers,
    pub(crate) weights: Weights,
    files: Files,
}

impl Checkpoint {
    /// Opens a stage. Every file of it is hashed and compared with the manifest.
    pub(crate) fn open(source: Source<'_>, stage: Stage, options: &Options) -> Result<Self, Error> {
        let files = Files::open(source)?;
        let manifest = Manifest::read_or_derive(&files)?;
        manifest.check(&files, stage)?;
        let (device, device_name) = options.device.open()?;
        let (settings, weights) = if files.has(&weights::gguf_file(stage)) {
            let gguf = weights::Gguf::open(&files, stage)?;
            (Settings::from_gguf(&gguf.content)?, Weights::Gguf(gguf))
        } else {
            (Settings::from_published(&files, stage)?, Weights::Dense(weights::open_dense(&files, stage)?))
        };
        let fits_host = host::fits(&weights, &settings.network);
        let numbers = Numbers::settle(options, &device, weights.stored_dtype()?, fits_host)?;
        let tokenizer = Tokenizer::read(&files.read("tokenizer.json")?, settings.network.vocabulary)?;
        Ok(Self {
            manifest,
            layout: settings.layout,
            ratios: settings.ratios,
            network: settings.network,
            tokenizer: Arc::new(tokenizer),
            end_ids: settings.end_ids,
            device,
            device_name,
            numbers,
            weights,
            files,
        })
    }

    /// The compressor's query embedding: `[latent_token_len, hidden]`.
    pub(crate) fn query(&self) -> Result<Tensor, Error> {
        self.beside("query.safetensors", "query.weight", "model.Q.weight")
    }

    /// The decoder's projector: weight `[hidden, latent width]` and bias `[hidden]`.
    pub(crate) fn projector(&self) -> Result<(Tensor, Tensor), Error> {
        let file = "projector.safetensors";
        let weight = self.beside(file, "projector.weight", "model.mm_projector.weight")?;
        let bias = self.beside(file, "projector.bias", "model.mm_projector.bias")?;
        Ok((weight, bias))
    }

    /// What the stage says of itself once its network stands.
    pub(crate) fn info(&self, latent_width: usize) -> StageInfo {
        StageInfo::of(self, latent_width)
    }

    /// A tensor that stands beside a GGUF file, or under its published name among the dense weights of the main model.
    fn beside(&self, file: &str, name: &str, published: &str) -> Result<Tensor, Error> {
        let dtype = self.numbers.dtype();
        let tensor = if self.files.has(file) {
            files::tensor(&self.files.read(file)?, file, name)?
        } else {
            weights::main_tensor(&self.files, published)?
        };
        Ok(tensor.to_dtype(DType::F32)?.to_device(&self.device)?.to_dtype(dtype)?)
    }
}
