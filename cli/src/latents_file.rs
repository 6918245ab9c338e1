//! Reads and writes latents as safetensors files, a format that other programs can read too.
//!
//! A window is a part of a text that the model compresses into one group of latents. Tensor `window.N` contains the
//! latents of window N, counted from 0: f32 values of shape [latents, width]. The metadata has one entry, a JSON
//! object. It lists the byte range, hash and corrections of each window. For a stored document it also has the
//! document's id and model. The f32 values are decoded from the codec's encoding; encoding them again with the same
//! codec gives the same bytes. The same windows always give the same file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use c3_client::{Corrections, Document, DocumentId, LatentCodec, LatentGroup, Window};
use c3_types::{Cascade, Correction, Fingerprint, Invalid, Provenance, WindowHash};
use futures::{Stream, TryStreamExt};
use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use crate::error::CliError;
use crate::input::TextInput;
use crate::output::{Output, Progress, Report, SummaryStream, to_json};

/// Key of the only metadata entry. It ends with the version of the format. Entries of a `HashMap` are written in random
/// order, so with several entries the same windows could give different files.
const METADATA_KEY: &str = "c3.latents.2";

/// Error while parsing or serializing a file.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("not a safetensors file: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
    #[error("{0}; give a file that `c3 compress` or `c3 latents` wrote")]
    Format(String),
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Content of a latents file.
#[derive(Debug, PartialEq)]
pub(crate) struct Latents {
    /// Document as the file describes it, not verified; `None` in a file that `c3 compress` wrote.
    pub(crate) document: Option<Document>,
    pub(crate) windows: Vec<Window>,
}

/// The metadata entry.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<DocumentHeader>,
    windows: Vec<WindowRecord>,
}

/// Properties of a document that cannot be computed from its windows.
#[derive(Debug, Serialize, Deserialize)]
struct DocumentHeader {
    id: DocumentId,
    bytes: u64,
    ratio: u32,
    codec: LatentCodec,
    cascade: String,
    compressor: Fingerprint,
    decoder: Fingerprint,
}

impl DocumentHeader {
    fn of(document: &Document) -> Self {
        let Cascade { name, compressor, decoder } = document.cascade.clone();
        Self {
            id: document.id,
            bytes: document.bytes,
            ratio: document.ratio,
            codec: document.codec,
            cascade: name,
            compressor,
            decoder,
        }
    }

    /// Returns the document with these properties and windows. Properties that the file lacks are 0, empty or `None`.
    fn document(self, windows: &[Window]) -> Result<Document, Invalid> {
        let sum = |of: fn(&LatentGroup) -> u32| windows.iter().map(|window| u64::from(of(&window.group))).sum();
        Ok(Document {
            id: self.id,
            bytes: self.bytes,
            tokens: sum(LatentGroup::tokens),
            latents: sum(LatentGroup::latents),
            ratio: self.ratio,
            codec: self.codec,
            verification: None,
            cascade: Cascade::new(self.cascade, self.compressor, self.decoder)?,
            shards: windows.last().map_or(0, |last| u64::from(last.shard) + 1),
            windows: windows.len() as u64,
            stored_bytes: 0,
            created_unix_ms: 0,
            expires_unix_ms: None,
            labels: Default::default(),
            names: Vec::new(),
        })
    }
}

/// Metadata of a window, in a file and in the output of `c3 latents --json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WindowRecord {
    shard: u32,
    start: u64,
    end: u64,
    latents: u32,
    width: u32,
    tokens: u32,
    ratio: u32,
    codec: LatentCodec,
    compressor: Fingerprint,
    hash: WindowHash,
    /// Token position and token id of each correction; absent if the window was not verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    corrections: Option<Vec<(u32, u32)>>,
}

impl WindowRecord {
    pub(crate) fn of(window: &Window) -> Self {
        let group = &window.group;
        let pairs = |corrections: &Corrections| {
            corrections.as_slice().iter().map(|correction| (correction.position, correction.token)).collect()
        };
        Self {
            shard: window.shard,
            start: window.bytes.start,
            end: window.bytes.end,
            latents: group.latents(),
            width: group.width(),
            tokens: group.tokens(),
            ratio: group.ratio(),
            codec: group.codec(),
            compressor: group.compressor(),
            hash: window.hash,
            corrections: window.corrections.as_ref().map(pairs),
        }
    }

    /// Returns the window with the latents `values`, encoded with the recorded codec.
    fn window(self, values: &[f32]) -> Result<Window, Invalid> {
        let provenance = Provenance { compressor: self.compressor, tokens: self.tokens, ratio: self.ratio };
        let corrections = self.corrections.map(|pairs| {
            let corrections = pairs.into_iter().map(|(position, token)| Correction { position, token });
            Corrections::new(corrections.collect(), self.tokens)
        });
        Ok(Window {
            shard: self.shard,
            bytes: self.start..self.end,
            group: LatentGroup::encode(values, self.width, self.codec, provenance)?,
            hash: self.hash,
            corrections: corrections.transpose()?,
        })
    }
}

/// Writes all windows to one file. Returns the windows, and the output stream for the command's summary.
pub(crate) async fn save(
    mut stream: impl Stream<Item = Result<Window, c3_client::Error>> + Unpin,
    document: Option<&Document>,
    progress: Progress,
    mut output: Output,
) -> Result<(Vec<Window>, SummaryStream), CliError> {
    let mut windows = Vec::new();
    while let Some(window) = stream.try_next().await? {
        progress.set(window.bytes.end);
        windows.push(window);
    }
    drop(progress);
    let file = serialize(&windows, document).map_err(|error| CliError::Failed(error.to_string()))?;
    output.write(&file).await?;
    Ok((windows, output.finish().await?))
}

/// Reads a file that [`save`] wrote; `-` is standard input.
pub(crate) async fn open(path: &Path) -> Result<Latents, CliError> {
    let mut file = Vec::new();
    let mut input = TextInput::open(path).await?;
    input.reader.read_to_end(&mut file).await.map_err(|error| CliError::at(path, &error))?;
    deserialize(&file).map_err(|error| CliError::Failed(format!("{}: {error}", input.name)))
}

/// Returns a report on the windows of a file. `fidelity` is `None`, since it cannot be computed from the corrections:
/// some of them only secure tokens that the decoder predicts correctly, but by too thin a margin.
pub(crate) fn report(windows: &[Window]) -> Report {
    let corrections = windows.iter().map(|window| Some(window.corrections.as_ref()?.as_slice().len() as u64));
    let corrections: Option<u64> = corrections.sum();
    let mut ratios = windows.iter().map(|window| window.group.ratio());
    let first = ratios.next().unwrap_or_default();
    Report {
        bytes: windows.last().map_or(0, |last| last.bytes.end),
        tokens: windows.iter().map(|window| u64::from(window.group.tokens())).sum(),
        latents: windows.iter().map(|window| u64::from(window.group.latents())).sum(),
        ratio: if ratios.all(|ratio| ratio == first) { first } else { 0 },
        verified: corrections.is_some(),
        corrections,
        ..Report::default()
    }
}

fn serialize(windows: &[Window], document: Option<&Document>) -> Result<Vec<u8>, Error> {
    let records = windows.iter().map(WindowRecord::of).collect();
    let header = Header { document: document.map(DocumentHeader::of), windows: records };
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), to_json(&header))]);
    let tensors = windows.iter().map(LatentTensor::of).enumerate();
    let tensors = tensors.map(|(number, tensor)| (tensor_name(number), tensor));
    Ok(safetensors::serialize(tensors, Some(metadata))?)
}

fn deserialize(file: &[u8]) -> Result<Latents, Error> {
    let (_, metadata) = SafeTensors::read_metadata(file)?;
    let tensors = SafeTensors::deserialize(file)?;
    let entry = metadata.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_KEY));
    let entry = entry.ok_or_else(|| Error::Format(format!("the metadata has no entry {METADATA_KEY}")))?;
    let header: Header = serde_json::from_str(entry)
        .map_err(|error| Error::Format(format!("the metadata entry {METADATA_KEY} is invalid: {error}")))?;
    if header.windows.len() != tensors.len() {
        let (tensors, windows) = (tensors.len(), header.windows.len());
        return Err(Error::Format(format!("the file has {tensors} tensors for {windows} windows")));
    }
    let windows = header.windows.into_iter().enumerate();
    let windows = windows.map(|(number, record)| read_window(&tensors, record, &tensor_name(number)));
    let windows: Vec<_> = windows.collect::<Result<_, _>>()?;
    let document = header.document.map(|header| header.document(&windows)).transpose()?;
    Ok(Latents { document, windows })
}

fn read_window(tensors: &SafeTensors<'_>, record: WindowRecord, name: &str) -> Result<Window, Error> {
    let tensor = tensors.tensor(name)?;
    let shape = [record.latents as usize, record.width as usize];
    if tensor.dtype() != Dtype::F32 || *tensor.shape() != shape {
        return Err(Error::Format(format!("tensor {name} is not f32, or its shape differs from the metadata")));
    }
    let values: Vec<f32> = tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    Ok(record.window(&values)?)
}

fn tensor_name(number: usize) -> String {
    format!("window.{number}")
}

/// Latents of a window as a tensor. They are decoded to f32 only when the tensor is written.
struct LatentTensor<'a> {
    group: &'a LatentGroup,
    /// [latents, width]
    shape: [usize; 2],
}

impl<'a> LatentTensor<'a> {
    fn of(window: &'a Window) -> Self {
        let group = &window.group;
        Self { group, shape: [group.latents() as usize, group.width() as usize] }
    }
}

impl View for LatentTensor<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.group.values().iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * size_of::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn window(number: u32, codec: LatentCodec, corrections: Option<Vec<Correction>>) -> Window {
        let provenance = Provenance { compressor: Fingerprint::of(b"model"), tokens: 40, ratio: 20 };
        let values: Vec<f32> = (0..128).map(|i| ((i * 37 + number) as f32).sin() * 3.0).collect();
        Window {
            shard: number / 4,
            bytes: u64::from(number) * 100..u64::from(number + 1) * 100,
            group: LatentGroup::encode(&values, 64, codec, provenance).unwrap(),
            hash: WindowHash::of(&number.to_le_bytes()),
            corrections: corrections.map(|corrections| Corrections::new(corrections, 40).unwrap()),
        }
    }

    fn document() -> Document {
        let of = |name: &[u8]| Fingerprint::of(name);
        let cascade = Cascade { name: "c3-mini".to_owned(), compressor: of(b"model"), decoder: of(b"d") };
        Document {
            id: DocumentId::of(b"text"),
            bytes: 2400,
            tokens: 24 * 40,
            latents: 24 * 2,
            ratio: 20,
            codec: LatentCodec::F32,
            verification: None,
            cascade,
            shards: 6,
            windows: 24,
            stored_bytes: 0,
            created_unix_ms: 0,
            expires_unix_ms: None,
            labels: Default::default(),
            names: Vec::new(),
        }
    }

    #[test]
    fn windows_survive_the_file_bit_for_bit() {
        let corrected = Some(vec![Correction { position: 3, token: 9 }]);
        // More than ten windows, since the name `window.10` sorts before `window.2`.
        let windows: Vec<Window> = (0..24)
            .map(|number| {
                let codec = LatentCodec::ALL[number as usize % 4];
                window(number, codec, if number % 3 == 0 { corrected.clone() } else { None })
            })
            .collect();
        for document in [None, Some(document())] {
            let file = serialize(&windows, document.as_ref()).unwrap();
            let latents = deserialize(&file).unwrap();
            assert_eq!(serialize(&latents.windows, latents.document.as_ref()).unwrap(), file);
            assert_eq!(latents, Latents { document, windows: windows.clone() });
        }
    }

    #[test]
    fn an_empty_text_makes_a_file() {
        let none = Latents { document: None, windows: Vec::new() };
        assert_eq!(deserialize(&serialize(&[], None).unwrap()).unwrap(), none);
    }

    #[test]
    fn foreign_files_are_refused() {
        assert!(matches!(deserialize(b"text"), Err(Error::Safetensors(_))));
        let rows = window(0, LatentCodec::F32, None);
        let foreign = safetensors::serialize([("weight", LatentTensor::of(&rows))], None).unwrap();
        assert!(matches!(deserialize(&foreign), Err(Error::Format(_))));
    }

    #[test]
    fn tensors_that_contradict_the_metadata_are_refused() {
        let window = window(0, LatentCodec::F32, None);
        type Change = fn(&mut Value);
        let changes: [(&str, Change); 4] = [
            ("window.0", |record| record["latents"] = json!(1)),
            ("window.0", |record| record["width"] = json!(32)),
            ("fingerprint", |record| record["compressor"] = json!("model")),
            ("data", |_| ()),
        ];
        for (says, change) in changes {
            let mut header = json!({ "windows": [WindowRecord::of(&window)] });
            change(&mut header["windows"][0]);
            let metadata = HashMap::from([(METADATA_KEY.to_owned(), header.to_string())]);
            let tensors = [(tensor_name(0), LatentTensor::of(&window))];
            let mut file = safetensors::serialize(tensors, Some(metadata)).unwrap();
            if says == "data" {
                let last = file.len() - size_of::<f32>();
                file[last..].copy_from_slice(&f32::NAN.to_le_bytes());
            }
            let error = deserialize(&file).unwrap_err().to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
