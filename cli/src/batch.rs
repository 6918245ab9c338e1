//! What a batch tells: a line for each document as it is done, then a total; on standard error what failed and why.

use std::sync::Arc;
use std::time::Instant;

use indicatif::HumanCount;
use serde::Serialize;

use crate::failure::Failure;
use crate::inputs::Origin;
use crate::output::print;
use crate::progress::{self, Progress};
use crate::report::{self, Report};

/// Failures that the last line repeats.
const TOLD_AGAIN_MAX: usize = 10;
/// Digits of an id in a line: enough to be unique, few enough to read.
const ID_DIGITS_SHOWN: usize = 12;

/// A batch under way.
pub(crate) struct Batch {
    json: bool,
    progress: Arc<Progress>,
    begun: Instant,
    total: Total,
    told_again: Vec<String>,
}

/// What became of all documents.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Total {
    documents: u64,
    failed: u64,
    bytes: u64,
    tokens: u64,
    latents: u64,
    seconds: f64,
}

/// What failed, in JSON.
#[derive(Serialize)]
struct Failed<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    error: &'a str,
}

impl Batch {
    /// Begins; `what` names it in the bar.
    pub(crate) fn begin(what: &'static str, json: bool) -> Self {
        Self {
            json,
            progress: Arc::new(progress::bar(what, None)),
            begun: Instant::now(),
            total: Total::default(),
            told_again: Vec::new(),
        }
    }

    /// The bar, which counts bytes.
    pub(crate) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// A document is done. Its report says where it came from or went to.
    pub(crate) fn done(&mut self, report: &Report) -> Result<(), Failure> {
        self.total.documents += 1;
        self.total.bytes += report.bytes;
        self.total.tokens += report.tokens;
        self.total.latents += report.latents;
        let line = if self.json { report.json() } else { line(report) };
        self.progress.aside(|| print(&line))
    }

    /// A text was not stored.
    pub(crate) fn refused(&mut self, origin: &Origin, failure: &Failure) -> Result<(), Failure> {
        let said = failure.to_string();
        // What fails at a file names it already.
        let why = said.strip_prefix(&format!("{origin}: ")).unwrap_or(&said);
        let file = Some(origin.file.display().to_string());
        self.failed(&origin.to_string(), why, &Failed { file, line: origin.line, id: None, error: why })
    }

    /// A document was not written.
    pub(crate) fn missed(&mut self, id: &str, failure: &Failure) -> Result<(), Failure> {
        let why = failure.to_string();
        self.failed(id, &why, &Failed { file: None, line: None, id: Some(id), error: &why })
    }

    fn failed(&mut self, what: &str, why: &str, record: &Failed<'_>) -> Result<(), Failure> {
        self.total.failed += 1;
        let line = format!("{what}: {why}");
        let told = match self.json {
            true => self.progress.aside(|| print(&report::json(record))),
            false => {
                self.progress.aside(|| eprintln!("failed: {line}"));
                Ok(())
            }
        };
        if self.told_again.len() < TOLD_AGAIN_MAX {
            self.told_again.push(line);
        }
        told
    }

    /// Tells the total. Fails where a document did.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.total.seconds = self.begun.elapsed().as_secs_f64();
        let Total { documents, failed, bytes, tokens, seconds, .. } = self.total;
        let (all, bytes, tokens) = (HumanCount(documents), HumanCount(bytes), HumanCount(tokens));
        let line = match self.json {
            true => report::json(&self.total),
            false => format!("{all} documents, {bytes} bytes, {tokens} tokens in {seconds:.2} s"),
        };
        self.progress.aside(|| print(&line))?;
        if failed == 0 {
            return Ok(());
        }
        let more = failed - self.told_again.len() as u64;
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let all = documents + failed;
        Err(Failure::WorkFailed(format!("{failed} of {all} failed: {}{more}", self.told_again.join("; "))))
    }
}

fn line(report: &Report) -> String {
    let id = report.id.as_deref().unwrap_or_default();
    let shown = &id[..id.len().min(ID_DIGITS_SHOWN)];
    let file = report.file.as_deref().unwrap_or_default();
    let line = report.line.map_or_else(String::new, |line| format!(":{line}"));
    format!("{shown}  {:>13}  {file}{line}", HumanCount(report.bytes).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_listed_up_to_a_bound() {
        let mut batch = Batch::begin("put", false);
        for line in 0..12 {
            let origin = Origin { file: "f.jsonl".into(), line: Some(line) };
            batch.refused(&origin, &Failure::WorkFailed(format!("{origin}: not JSON"))).unwrap();
        }
        let told = batch.finish().unwrap_err().to_string();
        assert!(told.starts_with("12 of 12 failed: f.jsonl:0: not JSON; f.jsonl:1: "), "{told}");
        assert!(told.ends_with("; and 2 more"), "{told}");
        assert!(Batch::begin("put", false).finish().is_ok());
    }
}
