//! Latent groups as a safetensors file, which other programs read too.
//!
//! Each window is a tensor `window.N` of latents × width in f32. The file's metadata has one entry, in JSON: what each
//! window stands for and, where they are a document's, which. Values are those of the latents as they are written at
//! rest, so encoding them again gives the same bytes; and one document gives one file, byte for byte.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use c3_client::{Corrections, Document, LatentGroup, Window};
use c3_proto::{CascadeName, Correction, Fingerprint, Invalid, Provenance, WindowHash};
use futures::{Stream, TryStreamExt};
use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Progress;
use crate::source::Source;

/// The metadata's entry, which also says what the file is. One, for several would lie in any order.
const ENTRY: &str = "c3.latents.2";

/// Why a file cannot be read as latents.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("not a safetensors file: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
    #[error("{0}; give a file that `c3 compress` or `c3 latents` wrote")]
    Foreign(String),
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// What a file holds.
#[derive(Debug, PartialEq)]
pub(crate) struct Latents {
    /// Whose latents they are, as the file claims; `None` where they are no document's.
    pub(crate) document: Option<Document>,
    pub(crate) windows: Vec<Window>,
}

/// The metadata's entry.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<DocumentRecord>,
    windows: Vec<Record>,
}

/// What of a document latents do not say themselves.
#[derive(Debug, Serialize, Deserialize)]
struct DocumentRecord {
    id: String,
    bytes: u64,
    ratio: u32,
    codec: String,
    cascade: String,
    compressor: String,
    decoder: String,
}

impl DocumentRecord {
    fn of(document: &Document) -> Self {
        let CascadeName { name, compressor, decoder } = &document.cascade;
        Self {
            id: document.id.to_string(),
            bytes: document.bytes,
            ratio: document.ratio,
            codec: document.codec.to_string(),
            cascade: name.clone(),
            compressor: compressor.to_string(),
            decoder: decoder.to_string(),
        }
    }

    /// The document that these windows claim to be. What is to be proven first is left open.
    fn document(self, windows: &[Window]) -> Result<Document, Invalid> {
        let sum =
            |of: fn(&LatentGroup) -> u32| windows.iter().map(|window| u64::from(of(&window.group))).sum();
        Ok(Document {
            id: self.id.parse()?,
            bytes: self.bytes,
            tokens: sum(LatentGroup::tokens),
            latents: sum(LatentGroup::latents),
            ratio: self.ratio,
            codec: self.codec.parse()?,
            verification: None,
            cascade: CascadeName {
                name: self.cascade,
                compressor: self.compressor.parse()?,
                decoder: self.decoder.parse()?,
            },
            shards: windows.last().map_or(0, |last| u64::from(last.shard) + 1),
            windows: windows.len() as u64,
            stored_bytes: 0,
            created_unix_ms: 0,
            expires_unix_ms: None,
            labels: BTreeMap::new(),
            names: Vec::new(),
        })
    }
}

/// What a window stands for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    shard: u32,
    start: u64,
    end: u64,
    latents: u32,
    width: u32,
    tokens: u32,
    ratio: u32,
    codec: String,
    compressor: String,
    hash: String,
    /// Position and token of each; absent where nobody verified the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    corrections: Option<Vec<(u32, u32)>>,
}

impl Record {
    /// What `window` stands for.
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
            codec: group.codec().to_string(),
            compressor: group.compressor().to_string(),
            hash: window.hash.to_string(),
            corrections: window.corrections.as_ref().map(pairs),
        }
    }

    /// The window whose latents are `values`.
    fn window(self, values: &[f32]) -> Result<Window, Invalid> {
        let compressor: Fingerprint = self.compressor.parse()?;
        let of = Provenance { compressor, tokens: self.tokens, ratio: self.ratio };
        let corrections = self.corrections.map(|pairs| {
            let corrections = pairs.into_iter().map(|(position, token)| Correction { position, token });
            Corrections::new(corrections.collect(), self.tokens)
        });
        Ok(Window {
            shard: self.shard,
            bytes: self.start..self.end,
            group: LatentGroup::encode(values, self.width, self.codec.parse()?, of)?,
            hash: self.hash.parse::<WindowHash>()?,
            corrections: corrections.transpose()?,
        })
    }
}

/// The file of these windows, and of the document that they are.
fn write(windows: &[Window], document: Option<&Document>) -> Result<Vec<u8>, Error> {
    let records = windows.iter().map(Record::of).collect();
    let header = Header { document: document.map(DocumentRecord::of), windows: records };
    let metadata = HashMap::from([(ENTRY.to_owned(), crate::report::json(&header))]);
    let tensors = windows.iter().map(Rows::of).enumerate().map(|(number, rows)| (name(number), rows));
    Ok(safetensors::serialize(tensors, Some(metadata))?)
}

/// Writes the windows that arrive into one file, and gives them back.
pub(crate) async fn save(
    mut arriving: impl Stream<Item = Result<Window, c3_client::Error>> + Unpin,
    document: Option<&Document>,
    progress: Progress,
    mut output: Output,
) -> Result<Vec<Window>, Failure> {
    let mut windows = Vec::new();
    while let Some(window) = arriving.try_next().await? {
        progress.done(window.bytes.end);
        windows.push(window);
    }
    drop(progress);
    let file = write(&windows, document).map_err(|error| Failure::WorkFailed(error.to_string()))?;
    output.write(&file).await?;
    output.finish().await?;
    Ok(windows)
}

/// Reads a file, or standard input, that [`write()`] made.
pub(crate) async fn open(path: &Path) -> Result<Latents, Failure> {
    let mut file = Vec::new();
    let mut source = Source::open(path).await?;
    source.text.read_to_end(&mut file).await.map_err(|error| Failure::at(path, &error))?;
    read(&file).map_err(|error| Failure::WorkFailed(format!("{}: {error}", path.display())))
}

/// What a file holds that [`write()`] made, windows in order.
fn read(file: &[u8]) -> Result<Latents, Error> {
    let (_, header) = SafeTensors::read_metadata(file)?;
    let tensors = SafeTensors::deserialize(file)?;
    let entry = header.metadata().as_ref().and_then(|metadata| metadata.get(ENTRY));
    let entry = entry.ok_or_else(|| Error::Foreign(format!("its metadata has no entry {ENTRY}")))?;
    let header: Header = serde_json::from_str(entry)
        .map_err(|error| Error::Foreign(format!("{ENTRY} is unclear: {error}")))?;
    if header.windows.len() != tensors.len() {
        let counts = format!("{} tensors and {} windows", tensors.len(), header.windows.len());
        return Err(Error::Foreign(format!("it has {counts}")));
    }
    let windows = header.windows.into_iter().enumerate();
    let windows: Vec<_> =
        windows.map(|(number, record)| window(&tensors, record, &name(number))).collect::<Result<_, _>>()?;
    let document = header.document.map(|record| record.document(&windows)).transpose()?;
    Ok(Latents { document, windows })
}

fn window(tensors: &SafeTensors<'_>, record: Record, name: &str) -> Result<Window, Error> {
    let tensor = tensors.tensor(name)?;
    if tensor.dtype() != Dtype::F32 || *tensor.shape() != [record.latents as usize, record.width as usize] {
        return Err(Error::Foreign(format!("{name} is not the f32 tensor that the metadata says")));
    }
    let values: Vec<f32> =
        tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    Ok(record.window(&values)?)
}

fn name(number: usize) -> String {
    format!("window.{number}")
}

/// A group's rows, decoded when they are written.
struct Rows<'a> {
    group: &'a LatentGroup,
    /// [latents, width]
    shape: [usize; 2],
}

impl<'a> Rows<'a> {
    fn of(window: &'a Window) -> Self {
        let group = &window.group;
        Self { group, shape: [group.latents() as usize, group.width() as usize] }
    }
}

impl View for Rows<'_> {
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
    use c3_client::LatentCodec;

    use super::*;

    fn window(number: u32, codec: LatentCodec, corrections: Option<Vec<Correction>>) -> Window {
        let of = Provenance { compressor: Fingerprint::of(b"model"), tokens: 40, ratio: 20 };
        let values: Vec<f32> = (0..128).map(|i| ((i * 37 + number) as f32).sin() * 3.0).collect();
        Window {
            shard: number / 4,
            bytes: u64::from(number) * 100..u64::from(number + 1) * 100,
            group: LatentGroup::encode(&values, 64, codec, of).unwrap(),
            hash: WindowHash::of(&number.to_le_bytes()),
            corrections: corrections.map(|corrections| Corrections::new(corrections, 40).unwrap()),
        }
    }

    fn document() -> Document {
        let of = |name: &[u8]| Fingerprint::of(name);
        let cascade = CascadeName { name: "c3-mini".to_owned(), compressor: of(b"model"), decoder: of(b"d") };
        Document {
            id: c3_client::DocumentId::of(b"text"),
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
            labels: BTreeMap::new(),
            names: Vec::new(),
        }
    }

    #[test]
    fn windows_survive_the_file_bit_for_bit() {
        let corrected = Some(vec![Correction { position: 3, token: 9 }]);
        // More than ten: names do not sort as numbers do.
        let windows: Vec<Window> = (0..24)
            .map(|number| {
                let codec = LatentCodec::ALL[number as usize % 4];
                window(number, codec, if number % 3 == 0 { corrected.clone() } else { None })
            })
            .collect();
        for document in [None, Some(document())] {
            let file = write(&windows, document.as_ref()).unwrap();
            let latents = read(&file).unwrap();
            assert_eq!(write(&latents.windows, latents.document.as_ref()).unwrap(), file);
            assert_eq!(latents, Latents { document, windows: windows.clone() });
        }
    }

    #[test]
    fn no_windows_are_a_file_too() {
        let none = Latents { document: None, windows: Vec::new() };
        assert_eq!(read(&write(&[], None).unwrap()).unwrap(), none);
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        assert!(matches!(read(b"text"), Err(Error::Safetensors(_))));
        let rows = window(0, LatentCodec::F32, None);
        let foreign = safetensors::serialize([("weight", Rows::of(&rows))], None).unwrap();
        assert!(matches!(read(&foreign), Err(Error::Foreign(_))));
    }

    #[test]
    fn what_the_metadata_does_not_say_is_refused() {
        let window = window(0, LatentCodec::F32, None);
        type Change = fn(&mut Record);
        let changes: [(&str, Change); 4] = [
            ("window.0", |record| record.latents = 1),
            ("window.0", |record| record.width = 32),
            ("fingerprint", |record| record.compressor = "model".to_owned()),
            ("data", |record| record.codec = "f32".to_owned()),
        ];
        for (says, change) in changes {
            let mut record = Record::of(&window);
            change(&mut record);
            let header = Header { document: None, windows: vec![record] };
            let metadata = HashMap::from([(ENTRY.to_owned(), crate::report::json(&header))]);
            let mut file = safetensors::serialize([(name(0), Rows::of(&window))], Some(metadata)).unwrap();
            if says == "data" {
                let last = file.len() - size_of::<f32>();
                file[last..].copy_from_slice(&f32::NAN.to_le_bytes());
            }
            let error = read(&file).unwrap_err().to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
