//! Latents as safetensors files, a format that other programs can read too.
//!
//! A window is a part of a text that the model compresses into one group of latents. Tensor `window.N` has the latents
//! of window N, counted from 0. The metadata has one entry, a JSON object. It lists the byte range, hash and
//! corrections of each window. For a stored document it also has the document's id and model. The same windows always
//! give the same file.
//!
//! Tensors are written in the order of windows, so that a reader can process a file as it arrives. Files of earlier
//! versions have another order.

use std::collections::HashMap;
use std::fmt::Write;
use std::ops::Range;

use bytes::Bytes;
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::{
    Cascade, Correction, Corrections, Document, DocumentId, Fingerprint, Invalid, LatentCodec, LatentGroup,
    LatentGroupParts, Provenance, Window, WindowHash,
};

/// Key of the metadata entry of files with f32 tensors. It ends with the version of the format.
const KEY_F32: &str = "c3.latents.2";
/// Key of the metadata entry of files with stored tensors.
const KEY_STORED: &str = "c3.latents.3";
/// Bytes before the header, which contain its length.
pub const LENGTH_BYTES: usize = 8;
/// Maximum length of a header, as in the `safetensors` crate.
pub const HEADER_BYTES_MAX: usize = 100_000_000;
/// Alignment of the first tensor.
const ALIGNMENT: usize = 8;

/// Format of the tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorFormat {
    /// Decoded floats: f32 of shape [latents, width]. Encoding them again with the same codec gives the same bytes.
    F32,
    /// The stored bytes. For the codecs f32 and bf16, the tensor has this type and the shape [latents, width]. For the
    /// other codecs, it has bytes (u8) and the shape [latents, bytes of a latent].
    Stored,
}

/// Error while parsing a file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is no safetensors file.
    #[error("not a safetensors file: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// The metadata or the tensors are not those of a latents file.
    #[error("{0}; give a file that `c3 compress` or `c3 latents` wrote")]
    Format(String),
    /// A value is invalid.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Content of a latents file.
#[derive(Clone, Debug, PartialEq)]
pub struct Latents {
    /// Document as the file describes it, not verified; `None` in a file of a text that was not stored.
    pub document: Option<Document>,
    /// Windows in text order.
    pub windows: Vec<Window>,
}

/// Metadata of a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowRecord {
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

/// The metadata entry.
#[derive(Debug, Deserialize)]
struct Entry {
    document: Option<DocumentEntry>,
    windows: Vec<WindowRecord>,
}

/// The metadata entry of a file to write.
#[derive(Serialize)]
struct EntryRef<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<&'a DocumentEntry>,
    windows: &'a [WindowRecord],
}

/// Properties of a document that cannot be computed from its windows.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct DocumentEntry {
    id: DocumentId,
    bytes: u64,
    ratio: u32,
    codec: LatentCodec,
    cascade: String,
    compressor: Fingerprint,
    decoder: Fingerprint,
}

/// Beginning of a latents file: everything but the tensors.
#[derive(Debug)]
pub struct Header {
    format: TensorFormat,
    document: Option<DocumentEntry>,
    records: Vec<WindowRecord>,
    /// Position of each window's tensor after the header.
    data: Vec<Range<usize>>,
}

impl WindowRecord {
    /// Returns the metadata of a window.
    pub fn of(window: &Window) -> Self {
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

    /// Returns the type and shape of the window's tensor.
    fn tensor(&self, format: TensorFormat) -> Result<(Dtype, [usize; 2]), Invalid> {
        let floats = [self.latents as usize, self.width as usize];
        Ok(match (format, self.codec) {
            (TensorFormat::F32, _) | (_, LatentCodec::F32) => (Dtype::F32, floats),
            (_, LatentCodec::Bf16) => (Dtype::BF16, floats),
            (_, codec) => (Dtype::U8, [self.latents as usize, codec.bytes(1, self.width)?]),
        })
    }

    /// Returns the size of the window's tensor in bytes. Fails if its sizes are invalid.
    fn tensor_bytes(&self, format: TensorFormat) -> Result<usize, Invalid> {
        let codec = if format == TensorFormat::F32 { LatentCodec::F32 } else { self.codec };
        codec.bytes(self.latents, self.width)
    }

    /// Returns the window. `data` is its tensor.
    fn window(&self, format: TensorFormat, data: Bytes) -> Result<Window, Invalid> {
        let provenance = Provenance { compressor: self.compressor, tokens: self.tokens, ratio: self.ratio };
        let corrections = self.corrections.as_ref().map(|pairs| {
            let corrections = pairs.iter().map(|&(position, token)| Correction { position, token });
            Corrections::new(corrections.collect(), self.tokens)
        });
        let group = match format {
            TensorFormat::F32 => {
                LatentGroup::encode(&LatentCodec::F32.decode(&data), self.width, self.codec, provenance)?
            }
            TensorFormat::Stored => LatentGroup::new(LatentGroupParts {
                latents: self.latents,
                width: self.width,
                codec: self.codec,
                checksum: Bytes::copy_from_slice(blake3::hash(&data).as_bytes()),
                data,
                provenance,
            })?,
        };
        if self.end < self.start {
            return Err(Invalid::new("window.end", "must not be before the window's start"));
        }
        let bytes = self.start..self.end;
        Ok(Window { shard: self.shard, bytes, group, hash: self.hash, corrections: corrections.transpose()? })
    }
}

impl DocumentEntry {
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
    fn document(self, windows: &[WindowRecord]) -> Result<Document, Invalid> {
        let sum = |of: fn(&WindowRecord) -> u32| windows.iter().map(|window| u64::from(of(window))).sum();
        Ok(Document {
            id: self.id,
            bytes: self.bytes,
            tokens: sum(|window| window.tokens),
            latents: sum(|window| window.latents),
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

impl Header {
    /// Returns the header of a file with these windows. Fails if the sizes of a window are invalid.
    pub fn new(format: TensorFormat, document: Option<&Document>, records: Vec<WindowRecord>) -> Result<Self, Invalid> {
        let mut end = 0;
        let data = records.iter().map(|record| {
            let start = end;
            end += record.tensor_bytes(format)?;
            Ok(start..end)
        });
        let data = data.collect::<Result<_, Invalid>>()?;
        Ok(Self { format, document: document.map(DocumentEntry::of), records, data })
    }

    /// Parses the header of a file, without its length. Checks the type, shape and position of every tensor.
    pub fn parse(header: &[u8]) -> Result<Self, Error> {
        // Also checks that the tensors follow each other without gaps.
        let metadata: Metadata = serde_json::from_slice(header)
            .map_err(|error| Error::Format(format!("the header of the safetensors file is invalid: {error}")))?;
        let (format, entry) = entry(&metadata)?;
        let entry: Entry = serde_json::from_str(entry)
            .map_err(|error| Error::Format(format!("the metadata entry of the windows is invalid: {error}")))?;
        let (tensors, windows) = (metadata.tensors(), entry.windows);
        if windows.len() != tensors.len() {
            let (tensors, windows) = (tensors.len(), windows.len());
            return Err(Error::Format(format!("the file has {tensors} tensors for {windows} windows")));
        }
        let data = windows.iter().enumerate().map(|(number, record)| {
            let name = tensor_name(number);
            let tensor = tensors.get(&name).ok_or_else(|| Error::Format(format!("there is no tensor {name}")))?;
            let (dtype, shape) = record.tensor(format)?;
            if tensor.dtype != dtype || *tensor.shape != shape {
                let problem = format!("tensor {name} is not {dtype:?} of the shape in the metadata, {shape:?}");
                return Err(Error::Format(problem));
            }
            Ok(tensor.data_offsets.0..tensor.data_offsets.1)
        });
        let data = data.collect::<Result<_, Error>>()?;
        Ok(Self { format, document: entry.document, records: windows, data })
    }

    /// Returns the document as the file describes it; `None` in a file of a text that was not stored.
    pub fn document(&self) -> Result<Option<Document>, Invalid> {
        self.document.clone().map(|entry| entry.document(&self.records)).transpose()
    }

    /// Returns the number of windows.
    pub fn windows(&self) -> usize {
        self.records.len()
    }

    /// Returns the position of a window's tensor after the header. Panics if there is no such window.
    pub fn data_range(&self, window: usize) -> Range<usize> {
        self.data[window].clone()
    }

    /// Returns the size of all tensors together, in bytes.
    pub fn data_bytes(&self) -> usize {
        self.data.iter().map(|range| range.end).max().unwrap_or(0)
    }

    /// Returns whether the tensors follow each other in the order of windows.
    pub fn is_in_order(&self) -> bool {
        self.data.iter().scan(0, |end, range| Some(std::mem::replace(end, range.end) == range.start)).all(|fits| fits)
    }

    /// Returns a window. `data` is the content of its tensor. Panics if there is no such window.
    pub fn window(&self, window: usize, data: Bytes) -> Result<Window, Invalid> {
        self.records[window].window(self.format, data)
    }

    /// Returns the content of the tensor of a window. `None` if the header does not describe this window.
    pub fn tensor(&self, number: usize, window: &Window) -> Option<Bytes> {
        self.records.get(number).filter(|record| **record == WindowRecord::of(window))?;
        Some(match self.format {
            TensorFormat::F32 => window.group.values().iter().flat_map(|value| value.to_le_bytes()).collect(),
            TensorFormat::Stored => window.group.data().clone(),
        })
    }

    /// Returns the beginning of the file: the length of the header, and the header.
    pub fn to_bytes(&self) -> Bytes {
        let key = if self.format == TensorFormat::F32 { KEY_F32 } else { KEY_STORED };
        let entry = EntryRef { document: self.document.as_ref(), windows: &self.records };
        let metadata = HashMap::from([(key, to_json(&entry))]);
        let mut header = format!("{{\"__metadata__\":{}", to_json(&metadata));
        for (number, (record, range)) in self.records.iter().zip(&self.data).enumerate() {
            let (dtype, shape) = record.tensor(self.format).expect("the sizes were checked with the header");
            let (name, Range { start, end }) = (tensor_name(number), range);
            // Writing to a string cannot fail.
            let _ = write!(
                header,
                ",\"{name}\":{{\"dtype\":\"{dtype:?}\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}"
            );
        }
        header.push('}');
        // Spaces after the header align the first tensor.
        let length = header.len().next_multiple_of(ALIGNMENT);
        header.extend(std::iter::repeat_n(' ', length - header.len()));
        [&(length as u64).to_le_bytes(), header.as_bytes()].concat().into()
    }
}

/// Writes a file.
pub fn write(format: TensorFormat, document: Option<&Document>, windows: &[Window]) -> Result<Vec<u8>, Invalid> {
    let header = Header::new(format, document, windows.iter().map(WindowRecord::of).collect())?;
    let tensors = windows.iter().enumerate().filter_map(|(number, window)| header.tensor(number, window));
    let start = header.to_bytes();
    let mut file = Vec::with_capacity(start.len() + header.data_bytes());
    std::iter::once(start).chain(tensors).for_each(|part| file.extend_from_slice(&part));
    Ok(file)
}

/// Reads a file.
pub fn read(file: &Bytes) -> Result<Latents, Error> {
    // Checks that the tensors cover the file.
    SafeTensors::deserialize(file)?;
    let start = LENGTH_BYTES + header_bytes(file)?;
    let header = Header::parse(&file[LENGTH_BYTES..start])?;
    let data = file.slice(start..);
    let windows = (0..header.windows()).map(|number| header.window(number, data.slice(header.data_range(number))));
    let windows = windows.collect::<Result<_, Invalid>>()?;
    Ok(Latents { document: header.document()?, windows })
}

/// Returns the length of the header of a file that begins with `start`. Fails if it exceeds [`HEADER_BYTES_MAX`], or if
/// `start` is shorter than [`LENGTH_BYTES`].
pub fn header_bytes(start: &[u8]) -> Result<usize, Error> {
    let wrong = || Error::Format("the length of the header is missing or too large".to_owned());
    let (length, _) = start.split_first_chunk().ok_or_else(wrong)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| wrong())?;
    if length <= HEADER_BYTES_MAX { Ok(length) } else { Err(wrong()) }
}

/// Returns the metadata entry and the format that its key stands for.
fn entry(metadata: &Metadata) -> Result<(TensorFormat, &String), Error> {
    let entries = metadata.metadata().as_ref();
    let find = |(key, format)| Some((format, entries?.get(key)?));
    let found = [(KEY_F32, TensorFormat::F32), (KEY_STORED, TensorFormat::Stored)].into_iter().find_map(find);
    found.ok_or_else(|| Error::Format(format!("the metadata has no entry {KEY_F32} or {KEY_STORED}")))
}

fn tensor_name(number: usize) -> String {
    format!("window.{number}")
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("numbers, strings and maps with string keys are valid JSON")
}

#[cfg(test)]
mod tests;
