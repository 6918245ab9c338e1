//! Cascade manifest, `cascade.json`: names a cascade and lists the files of its two stages.
//!
//! A stage's fingerprint is BLAKE3 over the names and BLAKE3 hashes of its files, sorted by name. These files are the
//! config, the tokenizer and the weights. If a checkpoint has no manifest, like the published download, the manifest is
//! derived from the files of both stages.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::files::Files;
use super::{Stage, weights};
use crate::Error;

/// File name of the manifest.
const FILE: &str = "cascade.json";
/// Separates file and tensor in the name of a manifest entry for a single tensor.
const TENSOR_MARK: char = '#';

/// A cascade: its name and its two stages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name of the cascade in requests.
    pub name: String,
    /// The first stage.
    pub compressor: StageFiles,
    /// The second stage.
    pub decoder: StageFiles,
}

/// The files of one stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageFiles {
    /// BLAKE3 over the names and hashes of `files`.
    #[serde(with = "hex")]
    pub fingerprint: blake3::Hash,
    /// BLAKE3 hash of each file, by name. The name `FILE#TENSOR` stands for one tensor of a file.
    #[serde(with = "hex_map")]
    pub files: BTreeMap<String, blake3::Hash>,
}

impl StageFiles {
    fn new(files: BTreeMap<String, blake3::Hash>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"c3 stage 1\0");
        for (name, hash) in &files {
            hasher.update(name.as_bytes()).update(b"\0").update(hash.as_bytes());
        }
        Self { fingerprint: hasher.finalize(), files }
    }
}

impl Manifest {
    /// Derives the manifest of the checkpoint in `folder`. `name` defaults to the name of the folder. Fails with
    /// [`Error::Checkpoint`] if files of either stage are missing or cannot be read.
    pub fn derive(folder: &Path, name: Option<String>) -> Result<Self, Error> {
        let files = Files::open(super::Source::Folder(folder))?;
        let derived = Self::from_files(&files)?;
        Ok(Self { name: name.unwrap_or(derived.name), ..derived })
    }

    /// Reads the manifest, or derives it if the checkpoint has none.
    pub(crate) fn read_or_derive(files: &Files) -> Result<Self, Error> {
        if !files.has(FILE) {
            return Self::from_files(files);
        }
        serde_json::from_slice(&files.read(FILE)?).map_err(|error| {
            Error::checkpoint(format!("{FILE} is invalid ({error}): use the file that came with the checkpoint"))
        })
    }

    /// Compares the hashes of one stage's files, and the stage's fingerprint, with the manifest.
    pub(crate) fn check(&self, files: &Files, stage: Stage) -> Result<(), Error> {
        let expected = match stage {
            Stage::Compressor => &self.compressor,
            Stage::Decoder => &self.decoder,
        };
        for (name, expected_hash) in &expected.files {
            let found = hash(files, name)?;
            if found != *expected_hash {
                return Err(Error::checkpoint(format!(
                    "checksum of model file {name} is {found}, {FILE} says {expected_hash}: copy the file again"
                )));
            }
        }
        if StageFiles::new(expected.files.clone()).fingerprint != expected.fingerprint {
            let stage = stage.name();
            return Err(Error::checkpoint(format!(
                "{FILE}: the {stage}'s fingerprint does not match its files: use the file that came with the checkpoint"
            )));
        }
        Ok(())
    }

    fn from_files(files: &Files) -> Result<Self, Error> {
        let stage = |stage| {
            let names = stage_files(files, stage)?;
            let hashes = names.into_iter().map(|name| Ok((name.clone(), hash(files, &name)?)));
            hashes.collect::<Result<_, Error>>().map(StageFiles::new)
        };
        Ok(Self { name: files.name(), compressor: stage(Stage::Compressor)?, decoder: stage(Stage::Decoder)? })
    }
}

/// Lists the names of a stage's files, as they appear in the manifest.
fn stage_files(files: &Files, stage: Stage) -> Result<Vec<String>, Error> {
    let gguf = weights::gguf_file(stage);
    let mut names = vec!["tokenizer.json".to_owned()];
    match stage {
        Stage::Compressor if files.has(&gguf) => names.extend([gguf, "query.safetensors".into()]),
        Stage::Decoder if files.has(&gguf) => names.extend([gguf, "projector.safetensors".into()]),
        _ if !files.has("config.json") => {
            return Err(Error::checkpoint(format!(
                "no checkpoint found (neither {gguf} nor config.json): name the folder that contains the model's files"
            )));
        }
        Stage::Compressor => {
            names.extend(["config.json".into(), "llm1/config.json".into()]);
            names.extend(files.safetensors("llm1"));
            let query = weights::file_of_main_tensor(files, weights::PUBLISHED_QUERY)?;
            names.push(format!("{query}{TENSOR_MARK}{}", weights::PUBLISHED_QUERY));
        }
        Stage::Decoder => {
            names.push("config.json".into());
            names.extend(files.safetensors(""));
        }
    }
    Ok(names)
}

/// Returns the BLAKE3 hash of a file. For `FILE#TENSOR`, searches all files of the main model for the tensor.
fn hash(files: &Files, name: &str) -> Result<blake3::Hash, Error> {
    // A name that leads out of the checkpoint's folder could be that of a device, which has no end.
    if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(Error::checkpoint(format!(
            "{FILE} names the file {name}, which is outside the checkpoint's folder"
        )));
    }
    match name.split_once(TENSOR_MARK) {
        None => files.hash(name),
        Some((_, tensor)) => Ok(hash_tensor(&weights::main_tensor(files, tensor)?)?),
    }
}

/// Returns the BLAKE3 hash of a tensor's data type, its shape, and its values converted to f32.
fn hash_tensor(tensor: &Tensor) -> Result<blake3::Hash, Error> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{:?} {:?}\0", tensor.dtype(), tensor.dims()).as_bytes());
    let values = tensor.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    for value in values {
        hasher.update(&value.to_le_bytes());
    }
    Ok(hasher.finalize())
}

/// Serde for hashes as hexadecimal digits.
mod hex {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(hash: &blake3::Hash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hash.to_hex())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<blake3::Hash, D::Error> {
        blake3::Hash::from_hex(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Serde for maps from names to hashes as hexadecimal digits.
mod hex_map {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Hex(#[serde(with = "super::hex")] blake3::Hash);

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<String, blake3::Hash>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(name, hash)| (name, Hex(*hash))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, blake3::Hash>, D::Error> {
        let map = BTreeMap::<String, Hex>::deserialize(deserializer)?;
        Ok(map.into_iter().map(|(name, hash)| (name, hash.0)).collect())
    }
}
