//! What a command tells of its work: a report for people, or one line of JSON.

use std::fmt::{self, Write};
use std::time::Duration;

use c3_client::{Document, Stored};
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::print;

/// What a command tells of one text, or of several together. What does not apply is left out.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    /// Number of the line that it was, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    pub(crate) bytes: u64,
    pub(crate) tokens: u64,
    pub(crate) latents: u64,
    /// 0 where shards have ratios of their own.
    pub(crate) ratio: u32,
    /// Share of tokens that the decoder writes right without help; null where nobody looked.
    pub(crate) fidelity: Option<f64>,
    /// Tokens that the decoder is told; null where nobody looked.
    pub(crate) corrections: Option<u64>,
    pub(crate) verified: bool,
    /// Where ratios were chosen: whether the bound is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bound_met: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) identical: Option<bool>,
    pub(crate) seconds: Seconds,
    /// Where one line tells of several texts: each of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) files: Vec<Report>,
}

/// Seconds by stage. Those of the gateway's calls are summed over calls side by side.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Seconds {
    /// Until the servers that the command started were ready.
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
    /// A document as it is.
    pub(crate) fn of(document: &Document) -> Self {
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

    /// A document that was stored just now, in `took`.
    pub(crate) fn of_stored(stored: &Stored, took: Duration) -> Self {
        let seconds = Seconds {
            put: Some(took.as_secs_f64()),
            compress: Some(stored.seconds.compress),
            verify: Some(stored.seconds.verify),
            store: Some(stored.seconds.store),
            total: took.as_secs_f64(),
            ..Seconds::default()
        };
        Self { seconds, bound_met: stored.bound_met, ..Self::of(&stored.document) }
    }

    /// Several texts as one: sums, fidelity by tokens, identical where all are. One is itself.
    pub(crate) fn together(mut reports: Vec<Report>) -> Self {
        if reports.len() == 1 {
            return reports.remove(0);
        }
        let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum();
        let right = |report: &Report| Some(report.fidelity? * report.tokens as f64);
        let right: Option<f64> = reports.iter().map(right).sum();
        let tokens: u64 = sum(|report| report.tokens);
        let identical: Option<Vec<bool>> = reports.iter().map(|report| report.identical).collect();
        Self {
            bytes: sum(|report| report.bytes),
            tokens,
            latents: sum(|report| report.latents),
            ratio: common(reports.iter().map(|report| report.ratio)),
            bound_met: reports.iter().filter_map(|report| report.bound_met).reduce(|a, b| a && b),
            fidelity: right.map(|right| if tokens == 0 { 1.0 } else { right / tokens as f64 }),
            corrections: reports.iter().map(|report| report.corrections).sum(),
            verified: reports.iter().all(|report| report.verified),
            identical: identical.map(|each| each.into_iter().all(|identical| identical)),
            seconds: reports.iter().map(|report| report.seconds).fold(Seconds::default(), Seconds::and),
            files: reports,
            ..Self::default()
        }
    }

    /// The report as one line of JSON.
    pub(crate) fn json(&self) -> String {
        json(self)
    }
}

impl Seconds {
    fn and(self, other: Self) -> Self {
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
            writeln!(f, "file       {file}")?;
        }
        if let Some(id) = &self.id {
            writeln!(f, "id         {id}")?;
        }
        writeln!(f, "text       {} bytes, {} tokens", HumanCount(self.bytes), HumanCount(self.tokens))?;
        writeln!(f, "latents    {} at {}", HumanCount(self.latents), times(self.ratio))?;
        match (self.fidelity, self.corrections) {
            (Some(fidelity), Some(corrections)) => {
                let corrections = HumanCount(corrections);
                writeln!(f, "fidelity   {} without help, {corrections} corrections", percent(fidelity))?;
            }
            _ => writeln!(f, "fidelity   not verified")?,
        }
        if let Some(met) = self.bound_met {
            writeln!(f, "bound      {}", if met { "met" } else { "not met" })?;
        }
        write!(f, "seconds    {}", self.seconds)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.total)?;
        let stages = [("start", self.start), ("put", self.put), ("get", self.get)];
        let mut of = String::new();
        for (stage, seconds) in stages {
            if let Some(seconds) = seconds {
                write!(of, "{}{stage} {seconds:.2}", if of.is_empty() { "" } else { ", " })?;
            }
        }
        if !of.is_empty() {
            write!(f, " ({of})")?;
        }
        Ok(())
    }
}

/// A share as people read it, rounded down: what is not all is never shown as all.
pub(crate) fn percent(share: f64) -> String {
    if share >= 1.0 { "100 %".to_owned() } else { format!("{:.3} %", (share * 1e5).floor() / 1e3) }
}

/// A ratio as people read it.
pub(crate) fn times(ratio: u32) -> String {
    if ratio == 0 { "mixed".to_owned() } else { format!("{ratio}x") }
}

/// The ratio of all, 0 where they differ.
fn common(mut ratios: impl Iterator<Item = u32>) -> u32 {
    let first = ratios.next().unwrap_or(0);
    if ratios.all(|ratio| ratio == first) { first } else { 0 }
}

/// A document in a report for people.
pub(crate) fn describe(document: &Document) -> String {
    let mut lines = String::new();
    let mut line = |name: &str, value: String| lines.push_str(&format!("{name:<10} {value}\n"));
    line("id", document.id.to_string());
    line("text", format!("{} bytes, {} tokens", HumanCount(document.bytes), HumanCount(document.tokens)));
    let (latents, ratio) = (HumanCount(document.latents), times(document.ratio));
    line("latents", format!("{latents} at {ratio}, written as {}", document.codec));
    line("windows", format!("{} in {} shards", HumanCount(document.windows), HumanCount(document.shards)));
    match (document.fidelity(), &document.verification) {
        (Some(fidelity), Some(verification)) => {
            let (corrections, margin) = (HumanCount(verification.corrections), verification.margin);
            let made = format!("{corrections} corrections at margin {margin}");
            line("fidelity", format!("{} without help, {made}", percent(fidelity)));
            line("arithmetic", verification.arithmetic.clone());
        }
        _ => line("fidelity", "not verified".to_owned()),
    }
    line("cascade", document.cascade.name.clone());
    line("stored", format!("{}, {}", HumanBytes(document.stored_bytes), age(document.created_unix_ms)));
    for (key, value) in &document.labels {
        line("label", format!("{key}={value}"));
    }
    lines.trim_end().to_owned()
}

/// How long ago a moment was.
pub(crate) fn age(unix_ms: u64) -> String {
    let moment = std::time::UNIX_EPOCH + Duration::from_millis(unix_ms);
    match moment.elapsed() {
        Ok(age) => format!("{} ago", indicatif::HumanDuration(age)),
        Err(_) => "in the future".to_owned(),
    }
}

/// How long it is until a moment.
pub(crate) fn age_to(unix_ms: u64) -> String {
    let moment = std::time::UNIX_EPOCH + Duration::from_millis(unix_ms);
    match moment.duration_since(std::time::SystemTime::now()) {
        Ok(left) => format!("for {}", indicatif::HumanDuration(left)),
        Err(_) => "past its time".to_owned(),
    }
}

/// Tells what was done: on standard output, or on standard error where the result itself has the former.
pub(crate) fn tell(line: &str, result_on_stdout: bool) -> Result<(), Failure> {
    if result_on_stdout {
        eprintln!("{line}");
        return Ok(());
    }
    print(line)
}

/// A value as one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, numbers and lists of them are always JSON")
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
        let line = report(100, Some(0.99), true).json();
        assert!(!line.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let fields =
            ["bytes", "tokens", "latents", "ratio", "fidelity", "corrections", "verified", "identical"];
        assert!(fields.iter().all(|field| !value[field].is_null()), "{line}");
        assert_eq!(value["seconds"]["put"], 1.0);
        assert!(value["seconds"].get("start").is_none());
    }

    #[test]
    fn several_texts_are_identical_where_all_are() {
        let both = |one, other| Report::together(vec![one, other]);
        let sum = both(report(100, Some(1.0), true), report(300, Some(0.96), true));
        assert_eq!((sum.tokens, sum.identical, sum.corrections), (400, Some(true), Some(6)));
        assert!((sum.fidelity.unwrap() - 0.97).abs() < 1e-12);
        assert!((sum.seconds.total - 6.0).abs() < 1e-12);
        assert_eq!(sum.files.len(), 2);
        let differs = both(report(100, Some(1.0), true), report(1, None, false));
        assert_eq!((differs.identical, differs.fidelity, differs.verified), (Some(false), None, false));
    }

    #[test]
    fn ratios_that_differ_are_mixed() {
        let other = Report { ratio: 40, bound_met: Some(false), ..report(1, None, true) };
        let sum = Report::together(vec![Report { bound_met: Some(true), ..report(1, None, true) }, other]);
        assert_eq!((sum.ratio, sum.bound_met), (0, Some(false)));
        assert_eq!((times(0), times(20)), ("mixed".to_owned(), "20x".to_owned()));
    }

    #[test]
    fn what_is_not_all_is_never_shown_as_all() {
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(percent(0.999_999_9), "99.999 %");
        assert_eq!(percent(0.5), "50.000 %");
    }
}
