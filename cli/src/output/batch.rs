//! Output of a batch: a line for each document as it finishes, then the totals. A failure is a line on standard error,
//! or with `--json` a record on standard output.

use std::sync::Arc;
use std::time::Instant;

use c3_server::printable::Printable;
use indicatif::HumanCount;
use serde::Serialize;

use super::format::short_id;
use super::{Format, Progress, Report, print, to_json};
use crate::error::CliError;
use crate::input::discover::Origin;

/// Maximum number of failures that the final error message repeats.
const REPEATED_FAILURES_MAX: usize = 10;

/// Output of a batch.
pub(crate) struct Batch {
    format: Format,
    progress: Arc<Progress>,
    started: Instant,
    totals: Totals,
    /// The first failures, for the final error message.
    failures: Vec<String>,
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
            failures: Vec::new(),
        }
    }

    /// Returns the progress bar, which counts bytes.
    pub(crate) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Prints the report on a document that was stored or read, and adds it to the totals.
    pub(crate) fn succeeded(&mut self, report: &Report) -> Result<(), CliError> {
        self.totals.documents += 1;
        self.totals.bytes += report.bytes;
        self.totals.tokens += report.tokens;
        self.totals.latents += report.latents;
        self.progress.suspend(|| self.format.print(line(report), report))
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
        let line = format!("{subject}: {}", record.error);
        let printed = self.progress.suspend(|| {
            if self.format.json {
                return print(to_json(record));
            }
            eprintln!("failed: {}", Printable(&line));
            Ok(())
        });
        if self.failures.len() < REPEATED_FAILURES_MAX {
            self.failures.push(line);
        }
        printed
    }

    /// Prints the totals. If any document failed, returns an error that repeats the first failures.
    pub(crate) fn finish(mut self) -> Result<(), CliError> {
        self.totals.seconds = self.started.elapsed().as_secs_f64();
        let Totals { documents, failed, bytes, tokens, seconds, .. } = self.totals;
        let [count, bytes, tokens] = [documents, bytes, tokens].map(HumanCount);
        let text = format!("{count} documents, {bytes} bytes, {tokens} tokens in {seconds:.2} s");
        self.progress.suspend(|| self.format.print(text, &self.totals))?;
        if failed == 0 {
            return Ok(());
        }
        let more = failed - self.failures.len() as u64;
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let all = documents + failed;
        Err(CliError::Failed(format!("{failed} of {all} failed: {}{more}", self.failures.join("; "))))
    }
}

fn line(report: &Report) -> String {
    let id = short_id(report.id.as_deref().unwrap_or_default());
    let file = report.file.as_deref().unwrap_or_default();
    let line = report.line.map_or_else(String::new, |line| format!(":{line}"));
    format!("{id}  {:>13}  {}{line}", HumanCount(report.bytes).to_string(), Printable(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_failures_is_bounded() {
        let mut batch = Batch::start("put", Format { json: false });
        for line in 0..12 {
            let origin = Origin { file: "f.jsonl".into(), line: Some(line) };
            batch.input_failed(&origin, &CliError::Failed(format!("{origin}: not JSON"))).unwrap();
        }
        let message = batch.finish().unwrap_err().to_string();
        assert!(message.starts_with("12 of 12 failed: f.jsonl:0: not JSON; f.jsonl:1: "), "{message}");
        assert!(message.ends_with("; and 2 more"), "{message}");
        assert!(Batch::start("put", Format { json: false }).finish().is_ok());
    }
}
