//! Latent groups as a safetensors file, which other programs read too.
//!
//! Each window is a tensor `window.N` of latents × width in f32. The file's metadata says under the same name, in
//! JSON, what the window stands for. Values are those of the latents as they are written at rest, so encoding them
//! again gives the same bytes.

use std::borrow::Cow;
use std::collections::HashMap;

use c3_client::{Corrections, LatentGroup, Window};
use c3_proto::{Correction, Fingerprint, Invalid, Provenance, WindowHash};
use futures::{Stream, TryStreamExt};
use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Progress;

/// Metadata that says what the file is.
const FORMAT: (&str, &str) = ("format", "c3.latents.1");

/// Why a file cannot be read as latents.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("not a safetensors file: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
    #[error("{0}; give a file that `c3 compress` or `c3 latents` wrote")]
    Window(String),
    #[error(transparent)]
    Invalid(#[from] Invalid),
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

/// The file of these windows.
pub(crate) fn write(windows: &[Window]) -> Result<Vec<u8>, Error> {
    let records = windows.iter().map(|window| crate::report::json(&Record::of(window)));
    let mut metadata: HashMap<String, String> = (0..).map(name).zip(records).collect();
    metadata.insert(FORMAT.0.to_owned(), FORMAT.1.to_owned());
    let tensors = windows.iter().map(Rows::of).enumerate().map(|(number, rows)| (name(number), rows));
    Ok(safetensors::serialize(tensors, Some(metadata))?)
}

/// Writes the windows that arrive into one file, and gives them back.
pub(crate) async fn save(
    mut arriving: impl Stream<Item = Result<Window, c3_client::Error>> + Unpin,
    progress: Progress,
    mut output: Output,
) -> Result<Vec<Window>, Failure> {
    let mut windows = Vec::new();
    while let Some(window) = arriving.try_next().await? {
        progress.done(window.bytes.end);
        windows.push(window);
    }
    drop(progress);
    let file = write(&windows).map_err(|error| Failure::WorkFailed(error.to_string()))?;
    output.write(&file).await?;
    output.finish().await?;
    Ok(windows)
}

/// The windows of a file that [`write()`] made, in order.
pub(crate) fn read(file: &[u8]) -> Result<Vec<Window>, Error> {
    let (_, header) = SafeTensors::read_metadata(file)?;
    let tensors = SafeTensors::deserialize(file)?;
    let metadata = header.metadata().as_ref();
    if metadata.and_then(|metadata| metadata.get(FORMAT.0)).is_none_or(|format| format != FORMAT.1) {
        return Err(Error::Window(format!("its metadata does not say {} {}", FORMAT.0, FORMAT.1)));
    }
    (0..tensors.len()).map(|number| window(&tensors, metadata, &name(number))).collect()
}

fn window(
    tensors: &SafeTensors<'_>,
    metadata: Option<&HashMap<String, String>>,
    name: &str,
) -> Result<Window, Error> {
    let wrong = |problem: &str| Error::Window(format!("{name} {problem}"));
    let record = metadata.and_then(|metadata| metadata.get(name)).ok_or_else(|| wrong("has no metadata"))?;
    let record: Record =
        serde_json::from_str(record).map_err(|error| wrong(&format!("is unclear: {error}")))?;
    let tensor = tensors.tensor(name)?;
    if tensor.dtype() != Dtype::F32 || *tensor.shape() != [record.latents as usize, record.width as usize] {
        return Err(wrong("is not the f32 tensor that its metadata says"));
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
        assert_eq!(read(&write(&windows).unwrap()).unwrap(), windows);
    }

    #[test]
    fn no_windows_are_a_file_too() {
        assert_eq!(read(&write(&[]).unwrap()).unwrap(), []);
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        assert!(matches!(read(b"text"), Err(Error::Safetensors(_))));
        let rows = window(0, LatentCodec::F32, None);
        let foreign = safetensors::serialize([("weight", Rows::of(&rows))], None).unwrap();
        assert!(matches!(read(&foreign), Err(Error::Window(_))));
    }
}
