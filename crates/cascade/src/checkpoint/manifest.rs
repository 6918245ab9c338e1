//! The cascade's manifest: which files make a stage, and which two stages belong together.
//!
//! `cascade.json` stands beside the files. A fingerprint is BLAKE3 over the names and BLAKE3 hashes of a stage's files in
//! the order of their names; so it covers config, tokenizer and weights. A checkpoint without a manifest (the published
//! weights as they are downloaded) gets one from its files, where both stages' files are there.

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::files::Files;
use super::{Stage, weights};
use crate::Error;

/// Name of the manifest's file.
const FILE: &str = "cascade.json";
/// In a file's name, what stands before the name of the one tensor of it that counts.
const TENSOR_MARK: char = '#';

/// A cascade: its name and the two stages that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The name in requests.
    pub name: String,
    /// The first stage.
    pub compressor: StageFiles,
    /// The second stage.
    pub decoder: StageFiles,
}

/// The files of one stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageFiles {
    /// BLAKE3 over the names and hashes below.
    #[serde(with = "hex")]
    pub fingerprint: blake3::Hash,
    /// BLAKE3 of each file, by name. `FILE#TENSOR` stands for one tensor of a file.
    #[serde(with = "hex_map")]
    pub files: BTreeMap<String, blake3::Hash>,
}

impl StageFiles {
    fn of(files: BTreeMap<String, blake3::Hash>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"c3 stage 1\0");
        for (name, hash) in &files {
            hasher.update(name.as_bytes()).update(b"\0").update(hash.as_bytes());
        }
        Self { fingerprint: hasher.finalize(), files }
    }
}

impl Manifest {
    /// Makes the manifest of the checkpoint in a folder from its files.
    pub fn derive(folder: &std::path::Path, name: Option<String>) -> Result<Self, Error> {
        let files = Files::open(super::Source::Folder(folder))?;
        let derived = Self::from_files(&files)?;
        Ok(Self { name: name.unwrap_or(derived.name), ..derived })
    }

    /// The manifest beside the files, or the one that they make.
    pub(crate) fn read_or_derive(files: &Files) -> Result<Self, Error> {
        if !files.has(FILE) {
            return Self::from_files(files);
        }
        serde_json::from_slice(&files.read(FILE)?).map_err(|error| {
            Error::checkpoint(format!("{FILE} cannot be read ({error}): take the checkpoint's own"))
        })
    }

    /// Hashes the files of one stage and compares.
    pub(crate) fn check(&self, files: &Files, stage: Stage) -> Result<(), Error> {
        let stated = match stage {
            Stage::Compressor => &self.compressor,
            Stage::Decoder => &self.decoder,
        };
        for (name, expected) in &stated.files {
            let found = hash(files, name)?;
            if found != *expected {
                return Err(Error::checkpoint(format!(
                    "checksum of model file {name} is {found}, {FILE} says {expected}: copy the file again"
                )));
            }
        }
        if StageFiles::of(stated.files.clone()).fingerprint != stated.fingerprint {
            let stage = stage.name();
            return Err(Error::checkpoint(format!(
                "{FILE} gives the {stage} a fingerprint that its files do not make: take the checkpoint's own"
            )));
        }
        Ok(())
    }

    fn from_files(files: &Files) -> Result<Self, Error> {
        let stage = |stage| {
            let names = stage_files(files, stage)?;
            let hashes = names.into_iter().map(|name| Ok((name.clone(), hash(files, &name)?)));
            hashes.collect::<Result<_, Error>>().map(StageFiles::of)
        };
        Ok(Self {
            name: files.name(),
            compressor: stage(Stage::Compressor)?,
            decoder: stage(Stage::Decoder)?,
        })
    }
}

/// Names of the files that make a stage.
fn stage_files(files: &Files, stage: Stage) -> Result<Vec<String>, Error> {
    let gguf = weights::gguf_file(stage);
    let mut names = vec!["tokenizer.json".to_owned()];
    match stage {
        Stage::Compressor if files.has(&gguf) => names.extend([gguf, "query.safetensors".into()]),
        Stage::Decoder if files.has(&gguf) => names.extend([gguf, "projector.safetensors".into()]),
        _ if !files.has("config.json") => {
            return Err(Error::checkpoint(format!(
                "no checkpoint here: neither {gguf} nor config.json; name the folder that holds the model's files"
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

/// BLAKE3 of a file, or of one tensor of it: type, shape and bytes as stored.
fn hash(files: &Files, name: &str) -> Result<blake3::Hash, Error> {
    match name.split_once(TENSOR_MARK) {
        None => files.hash(name),
        Some((_, tensor)) => Ok(hash_tensor(&weights::main_tensor(files, tensor)?)?),
    }
}

fn hash_tensor(tensor: &Tensor) -> Result<blake3::Hash, Error> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{:?} {:?}\0", tensor.dtype(), tensor.dims()).as_bytes());
    let values = tensor.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    for value in values {
        hasher.update(&value.to_le_bytes());
    }
    Ok(hasher.finalize())
}

/// A hash as hexadecimal digits.
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

/// Hashes by name as hexadecimal digits.
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
