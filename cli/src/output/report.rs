//! Report of a command on one document or several, printed as human-readable lines or as JSON.

use std::fmt;
use std::time::Duration;

use c3_client::{Document, DocumentName, Labels, Stored};
use c3_server::printable::Printable;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::format::{count, percent, ratio, time_since};

/// Report of a command on one document or several. In JSON, `fidelity` and `corrections` are null if unknown; other
/// fields that do not apply are omitted.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    /// 1-based line number of the text, if `file` is JSON Lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    pub(crate) bytes: u64,
    pub(crate) tokens: u64,
    pub(crate) latents: u64,
    /// Text tokens per latent; 0 if the document's shards (parts of its text) have different ratios.
    pub(crate) ratio: u32,
    /// Fraction of tokens that the decoder predicts correctly without corrections.
    pub(crate) fidelity: Option<f64>,
    pub(crate) corrections: Option<u64>,
    pub(crate) verified: bool,
    /// After a put: bytes that the document takes in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stored_bytes: Option<u64>,
    /// After a put: true if the text was stored before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) already_stored: Option<bool>,
    /// Name that a put set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<DocumentName>,
    /// Labels of the document after a put that set any.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub(crate) labels: Labels,
    /// With `--ratio auto`: true if the document meets the bound that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bound_met: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) identical: Option<bool>,
    pub(crate) seconds: Seconds,
    /// Reports on the individual documents, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) files: Vec<Report>,
}

/// Durations in seconds. `compress`, `verify` and `store` each add up parallel calls, so they can exceed `total`.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Seconds {
    /// Time to start the embedded servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) put: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compress: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) verify: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) store: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) get: Option<f64>,
    pub(crate) total: f64,
}

impl Report {
    /// Returns a report on a stored document, without durations.
    pub(crate) fn of_document(document: &Document) -> Self {
        Self {
            id: Some(document.id.to_string()),
            bytes: document.bytes,
            tokens: document.tokens,
            latents: document.latents,
            ratio: document.ratio,
            fidelity: document.fidelity(),
            corrections: document.verification.as_ref().map(|verification| verification.corrections),
            verified: document.verification.is_some(),
            ..Self::default()
        }
    }

    /// Returns a report on a write that took `elapsed`.
    pub(crate) fn of_stored(stored: &Stored, elapsed: Duration) -> Self {
        let seconds = Seconds {
            put: Some(elapsed.as_secs_f64()),
            compress: Some(stored.times.compress.as_secs_f64()),
            verify: Some(stored.times.verify.as_secs_f64()),
            store: Some(stored.times.store.as_secs_f64()),
            total: elapsed.as_secs_f64(),
            ..Seconds::default()
        };
        Self {
            seconds,
            bound_met: stored.bound_met,
            stored_bytes: Some(stored.document.stored_bytes),
            already_stored: Some(stored.already_stored),
            labels: stored.document.labels.clone(),
            ..Self::of_document(&stored.document)
        }
    }

    /// Combines reports into one that lists them in `files`. A single report is returned unchanged.
    ///
    /// Counts and durations are summed; `fidelity` is the mean weighted by tokens. `verified` and `identical` are true
    /// if they are true in every report. `fidelity`, `corrections` and `identical` are `None` if any report lacks them.
    /// `bound_met` is true if it is true in every report that has it, and `None` if none has it. `ratio` is 0 if the
    /// reports have different ratios.
    pub(crate) fn sum(mut reports: Vec<Report>) -> Self {
        if reports.len() == 1 {
            return reports.remove(0);
        }
        let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum();
        let right = |report: &Report| Some(report.fidelity? * report.tokens as f64);
        let right: Option<f64> = reports.iter().map(right).sum();
        let tokens: u64 = sum(|report| report.tokens);
        let identical: Option<Vec<bool>> = reports.iter().map(|report| report.identical).collect();
        let first_ratio = reports.first().map_or(0, |first| first.ratio);
        Self {
            bytes: sum(|report| report.bytes),
            tokens,
            latents: sum(|report| report.latents),
            ratio: if reports.iter().all(|report| report.ratio == first_ratio) { first_ratio } else { 0 },
            bound_met: reports.iter().filter_map(|report| report.bound_met).reduce(|a, b| a && b),
            fidelity: right.map(|right| if tokens == 0 { 1.0 } else { right / tokens as f64 }),
            corrections: reports.iter().map(|report| report.corrections).sum(),
            verified: reports.iter().all(|report| report.verified),
            identical: identical.map(|each| each.into_iter().all(|identical| identical)),
            seconds: reports.iter().map(|report| report.seconds).fold(Seconds::default(), Seconds::plus),
            files: reports,
            ..Self::default()
        }
    }
}

impl Seconds {
    fn plus(self, other: Self) -> Self {
        let sum = |a: Option<f64>, b: Option<f64>| a.map_or(b, |a| Some(a + b.unwrap_or(0.0)));
        Self {
            start: sum(self.start, other.start),
            put: sum(self.put, other.put),
            compress: sum(self.compress, other.compress),
            verify: sum(self.verify, other.verify),
            store: sum(self.store, other.store),
            get: sum(self.get, other.get),
            total: self.total + other.total,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            writeln!(f, "file       {}", Printable(file))?;
        }
        if let Some(id) = &self.id {
            writeln!(f, "id         {id}")?;
        }
        writeln!(f, "text       {}, {}", count(self.bytes, "byte"), count(self.tokens, "token"))?;
        writeln!(f, "latents    {} at {}", HumanCount(self.latents), ratio(self.ratio))?;
        match (self.fidelity, self.corrections) {
            (Some(fidelity), Some(corrections)) => {
                writeln!(f, "fidelity   {}, {}", percent(fidelity), count(corrections, "correction"))?;
            }
            (None, Some(corrections)) => writeln!(f, "fidelity   verified, {}", count(corrections, "correction"))?,
            _ => writeln!(f, "fidelity   not verified")?,
        }
        if let Some(met) = self.bound_met {
            writeln!(f, "bound      {}", if met { "met" } else { "not met" })?;
        }
        if let Some(bytes) = self.stored_bytes {
            let already = if self.already_stored == Some(true) { ", already stored" } else { "" };
            writeln!(f, "stored     {}{already}", HumanBytes(bytes))?;
        }
        if let Some(name) = &self.name {
            writeln!(f, "name       {name}")?;
        }
        for (key, value) in self.labels.iter() {
            writeln!(f, "label      {key}={value}")?;
        }
        write!(f, "seconds    {}", self.seconds)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.total)?;
        let parts = [("start", self.start), ("put", self.put), ("get", self.get)];
        let parts = parts.iter().filter_map(|(name, seconds)| Some(format!("{name} {:.2}", (*seconds)?)));
        let parts: Vec<String> = parts.collect();
        if parts.is_empty() { Ok(()) } else { write!(f, " ({})", parts.join(", ")) }
    }
}

/// Returns human-readable lines that describe a stored document.
pub(crate) fn describe(document: &Document) -> String {
    let mut lines = String::new();
    let mut line = |name: &str, value: String| lines.push_str(&format!("{name:<10} {value}\n"));
    line("id", document.id.to_string());
    line("text", format!("{}, {}", count(document.bytes, "byte"), count(document.tokens, "token")));
    let (latents, ratio) = (HumanCount(document.latents), ratio(document.ratio));
    line("latents", format!("{latents} at {ratio}, stored as {}", document.codec));
    line("windows", format!("{} in {}", HumanCount(document.windows), count(document.shards, "shard")));
    match (document.fidelity(), &document.verification) {
        (Some(fidelity), Some(verification)) => {
            let (corrections, margin) = (count(verification.corrections, "correction"), verification.margin);
            line("fidelity", format!("{}, {corrections} at margin {margin}", percent(fidelity)));
            line("arithmetic", verification.arithmetic.clone());
        }
        _ => line("fidelity", "not verified".to_owned()),
    }
    line("cascade", document.cascade.name.clone());
    line("stored", format!("{}, {}", HumanBytes(document.stored_bytes), time_since(document.created_unix_ms)));
    for (key, value) in document.labels.iter() {
        line("label", format!("{key}={value}"));
    }
    lines.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(tokens: u64, fidelity: Option<f64>, identical: bool) -> Report {
        Report {
            bytes: 4 * tokens,
            tokens,
            latents: tokens / 20,
            ratio: 20,
            fidelity,
            corrections: fidelity.map(|_| 3),
            verified: fidelity.is_some(),
            identical: Some(identical),
            seconds: Seconds { put: Some(1.0), get: Some(2.0), total: 3.0, ..Seconds::default() },
            ..Report::default()
        }
    }

    #[test]
    fn json_is_one_line_with_every_field() {
        let line = crate::output::to_json(&report(100, Some(0.99), true));
        assert!(!line.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let fields = ["bytes", "tokens", "latents", "ratio", "fidelity", "corrections", "verified", "identical"];
        assert!(fields.iter().all(|field| !value[field].is_null()), "{line}");
        assert_eq!(value["seconds"]["put"], 1.0);
        assert!(value["seconds"].get("start").is_none());
    }

    #[test]
    fn a_sum_is_identical_if_all_reports_are() {
        let both = |one, other| Report::sum(vec![one, other]);
        let sum = both(report(100, Some(1.0), true), report(300, Some(0.96), true));
        assert_eq!((sum.tokens, sum.identical, sum.corrections), (400, Some(true), Some(6)));
        assert!((sum.fidelity.unwrap() - 0.97).abs() < 1e-12);
        assert!((sum.seconds.total - 6.0).abs() < 1e-12);
        assert_eq!(sum.files.len(), 2);
        let differs = both(report(100, Some(1.0), true), report(1, None, false));
        assert_eq!((differs.identical, differs.fidelity, differs.verified), (Some(false), None, false));
    }

    #[test]
    fn different_ratios_sum_to_zero() {
        let other = Report { ratio: 40, bound_met: Some(false), ..report(1, None, true) };
        let sum = Report::sum(vec![Report { bound_met: Some(true), ..report(1, None, true) }, other]);
        assert_eq!((sum.ratio, sum.bound_met), (0, Some(false)));
    }
}
