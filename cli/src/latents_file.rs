//! Reads and writes latents files ([`c3_types::latents_file`]), and reports on them.

use std::path::Path;

use c3_client::{Document, Window};
use c3_types::latents_file::{self, TensorFormat};
use futures::{Stream, TryStreamExt};
use tokio::io::AsyncReadExt;

use crate::error::CliError;
use crate::input::TextInput;
use crate::output::{Output, Progress, Report, SummaryStream};

pub(crate) use c3_types::latents_file::{Latents, WindowRecord};

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
    let file = latents_file::write(TensorFormat::F32, document, &windows);
    let file = file.map_err(|error| CliError::Failed(error.to_string()))?;
    output.write(&file).await?;
    Ok((windows, output.finish().await?))
}

/// Reads a file that [`save`] wrote; `-` is standard input.
pub(crate) async fn open(path: &Path) -> Result<Latents, CliError> {
    let mut file = Vec::new();
    let mut input = TextInput::open(path).await?;
    input.reader.read_to_end(&mut file).await.map_err(|error| CliError::at(path, &error))?;
    latents_file::read(&file.into()).map_err(|error| {
        let remedy = "give a file that `c3 latents` or `c3 compress` wrote";
        CliError::Failed(format!("{}: {error}; {remedy}", input.name))
    })
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
