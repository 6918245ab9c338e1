//! Output of a batch: a line for each document as it finishes, then the totals. A failure is a line on standard error,
//! or with `--json` a record on standard output.

use std::sync::Arc;
use std::time::Instant;

use c3_server::printable::Printable;
use indicatif::HumanCount;
use serde::Serialize;

use super::format::{count, short_id};
use super::{Format, Progress, Report, print, print_error, to_json};
use crate::error::CliError;
use crate::input::discover::Origin;

/// Output of a batch.
pub(crate) struct Batch {
    format: Format,
    progress: Arc<Progress>,
    started: Instant,
    totals: Totals,
}

/// Totals of a batch. Except for `failed` and `seconds`, they cover only documents that succeeded.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Totals {
    documents: u64,
    failed: u64,
    bytes: u64,
    tokens: u64,
    latents: u64,
    seconds: f64,
}

/// JSON record of a failure.
#[derive(Serialize)]
struct FailureRecord<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    error: &'a str,
}

impl Batch {
    /// Starts a batch and its progress bar, which shows `label`.
    pub(crate) fn start(label: &str, format: Format) -> Self {
        Self {
            format,
            progress: Arc::new(Progress::start(label, None)),
            started: Instant::now(),
            totals: Totals::default(),
        }
    }

    /// Returns the progress bar, which counts bytes.
    pub(crate) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Sets the total of the progress bar once `bytes` is known. Does nothing if the bar is not drawn.
    pub(crate) fn set_total(&self, bytes: impl Future<Output = Option<u64>> + Send + 'static) {
        if self.progress.is_hidden() {
            return;
        }
        let progress = Arc::downgrade(&self.progress);
        tokio::spawn(async move {
            if let Some(bytes) = bytes.await
                && let Some(progress) = progress.upgrade()
            {
                progress.set_total(bytes);
            }
        });
    }

    /// Returns the number of documents that succeeded so far.
    pub(crate) fn documents(&self) -> u64 {
        self.totals.documents
    }

    /// Prints the report on a document that was stored or read, and adds it to the totals.
    pub(crate) fn succeeded(&mut self, report: &Report) -> Result<(), CliError> {
        self.totals.documents += 1;
        self.totals.bytes += report.bytes;
        self.totals.tokens += report.tokens;
        self.totals.latents += report.latents;
        self.format.print(line(report), report)
    }

    /// Prints the error of an input text that was not stored, and counts the failure.
    pub(crate) fn input_failed(&mut self, origin: &Origin, error: &CliError) -> Result<(), CliError> {
        let message = error.to_string();
        // An error on a file already begins with the file's name, which is printed separately.
        let message = message.strip_prefix(&format!("{origin}: ")).unwrap_or(&message);
        let file = Some(origin.file.display().to_string());
        self.failed(&origin.to_string(), &FailureRecord { file, line: origin.line, id: None, error: message })
    }

    /// Prints the error of a document that was not read, and counts the failure.
    pub(crate) fn document_failed(&mut self, id: &str, error: &CliError) -> Result<(), CliError> {
        let message = error.to_string();
        self.failed(id, &FailureRecord { file: None, line: None, id: Some(id), error: &message })
    }

    fn failed(&mut self, subject: &str, record: &FailureRecord<'_>) -> Result<(), CliError> {
        self.totals.failed += 1;
        if self.format.json {
            return print(to_json(record));
        }
        print_error(format_args!("failed: {subject}: {}", record.error));
        Ok(())
    }

    /// Prints the totals. If any document failed, returns an error with the number of failures. The reason of each was
    /// printed when it failed.
    pub(crate) fn finish(mut self) -> Result<(), CliError> {
        self.totals.seconds = self.started.elapsed().as_secs_f64();
        let Totals { documents, failed, bytes, tokens, seconds, .. } = self.totals;
        let (bytes, tokens) = (count(bytes, "byte"), count(tokens, "token"));
        let text = format!("{}, {bytes}, {tokens} in {seconds:.2} s", count(documents, "document"));
        self.format.print(text, &self.totals)?;
        if failed == 0 {
            return Ok(());
        }
        Err(CliError::Failed(format!("{failed} of {} failed", documents + failed)))
    }
}

fn line(report: &Report) -> String {
    let id = short_id(report.id.as_deref().unwrap_or_default());
    let file = report.file.as_deref().unwrap_or_default();
    let line = report.line.map_or_else(String::new, |line| format!(":{line}"));
    let already = if report.already_stored == Some(true) { "  (already stored)" } else { "" };
    format!("{id}  {:>13}  {}{line}{already}", HumanCount(report.bytes).to_string(), Printable(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_counts_the_failures() {
        let mut batch = Batch::start("put", Format { json: false });
        for line in 0..12 {
            let origin = Origin { file: "f.jsonl".into(), line: Some(line) };
            batch.input_failed(&origin, &CliError::Failed(format!("{origin}: not JSON"))).unwrap();
        }
        assert_eq!(batch.finish().unwrap_err().to_string(), "12 of 12 failed");
        assert!(Batch::start("put", Format { json: false }).finish().is_ok());
    }
}
