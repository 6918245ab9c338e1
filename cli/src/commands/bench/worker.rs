//! Makes calls of one operation and measures their latency.

use std::io::Cursor;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use c3_client::{ByteRange, Client, Error};
use futures::TryStreamExt;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::Operation;
use super::texts::Texts;
use crate::args::WriteArgs;
use crate::error::CliError;

/// Significant digits of the histograms, which record microseconds.
const DIGITS: u8 = 3;

/// Makes calls of one operation and records their latency.
pub(super) struct Worker {
    client: Client,
    calls: Calls,
    record: Mutex<Record>,
}

enum Calls {
    /// Each call stores a new text.
    Put { texts: Texts, write: Box<WriteArgs> },
    /// Each call reads the next of these documents, and the first one after the last. An entry is the id of a document
    /// and its number of text tokens.
    Get { documents: Vec<(String, u64)>, next: AtomicUsize },
}

/// Measurements of the calls so far. Only `failed` and `first_error` cover failed calls.
struct Record {
    first_byte: Histogram<u64>,
    total: Histogram<u64>,
    bytes: u64,
    tokens: u64,
    failed: u64,
    first_error: Option<String>,
}

/// Measurements of one operation. Rates and latencies cover only calls that succeeded.
#[derive(Debug, Serialize)]
pub(super) struct WorkerReport {
    pub(super) calls: u64,
    pub(super) failed: u64,
    pub(super) first_error: Option<String>,
    /// Time from the first call to the last answer.
    pub(super) seconds: f64,
    pub(super) calls_per_second: f64,
    pub(super) tokens_per_second: f64,
    pub(super) bytes_per_second: f64,
    /// Time to the first byte of a read. For a put, which has a single answer, the total time.
    pub(super) first_byte_ms: Percentiles,
    pub(super) total_ms: Percentiles,
}

/// Percentiles of a latency, in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl Worker {
    /// Creates a worker whose calls store texts.
    pub(super) fn puts(client: Client, texts: Texts, write: WriteArgs) -> Self {
        Self::new(client, Calls::Put { texts, write: Box::new(write) })
    }

    /// Stores `count` documents, and creates a worker whose calls read them.
    pub(super) async fn gets(client: Client, texts: &Texts, count: usize, write: &WriteArgs) -> Result<Self, CliError> {
        let mut documents = Vec::with_capacity(count);
        for _ in 0..count {
            documents.push(put(&client, texts.next(), write).await?);
        }
        Ok(Self::new(client, Calls::Get { documents, next: AtomicUsize::new(0) }))
    }

    fn new(client: Client, calls: Calls) -> Self {
        let histogram = || Histogram::new(DIGITS).expect("three digits are allowed");
        let (first_byte, total) = (histogram(), histogram());
        let record = Record { first_byte, total, bytes: 0, tokens: 0, failed: 0, first_error: None };
        Self { client, calls, record: Mutex::new(record) }
    }

    pub(super) fn operation(&self) -> Operation {
        match self.calls {
            Calls::Put { .. } => Operation::Put,
            Calls::Get { .. } => Operation::Get,
        }
    }

    /// Makes one call, which is due at `due`. Records its latency, counted from that time, or its error.
    pub(super) async fn call(&self, due: Instant) {
        let result = match &self.calls {
            Calls::Put { texts, write } => {
                let text = texts.next();
                let bytes = text.len() as u64;
                put(&self.client, text, write).await.map(|(_, tokens)| (due.elapsed(), bytes, tokens))
            }
            Calls::Get { documents, next } => {
                let (id, tokens) = &documents[next.fetch_add(1, Ordering::Relaxed) % documents.len()];
                get(&self.client, id, due).await.map(|(first, bytes)| (first, bytes, *tokens))
            }
        };
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok((first_byte, bytes, tokens)) => {
                // Recording cannot fail: the histograms resize themselves.
                let _ = record.first_byte.record(micros(first_byte));
                let _ = record.total.record(micros(due.elapsed()));
                record.bytes += bytes;
                record.tokens += tokens;
            }
            Err(error) => {
                record.failed += 1;
                record.first_error.get_or_insert_with(|| error.to_string());
            }
        }
    }

    /// Returns the measurements of all calls so far. `seconds` is the time from the first call to the last answer.
    pub(super) fn report(&self, seconds: f64) -> WorkerReport {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        WorkerReport {
            calls: record.total.len() + record.failed,
            failed: record.failed,
            first_error: record.first_error.clone(),
            seconds,
            calls_per_second: record.total.len() as f64 / seconds,
            tokens_per_second: record.tokens as f64 / seconds,
            bytes_per_second: record.bytes as f64 / seconds,
            first_byte_ms: Percentiles::of(&record.first_byte),
            total_ms: Percentiles::of(&record.total),
        }
    }
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        let ms = |micros: u64| micros as f64 / 1000.0;
        Self {
            p50: ms(histogram.value_at_quantile(0.5)),
            p90: ms(histogram.value_at_quantile(0.9)),
            p99: ms(histogram.value_at_quantile(0.99)),
            max: ms(histogram.max()),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Stores a text. Returns the document's id and its number of text tokens.
async fn put(client: &Client, text: String, write: &WriteArgs) -> Result<(String, u64), Error> {
    let options = write.options(Some(text.len() as u64));
    let stored = client.put(Cursor::new(text.into_bytes()), &options).await?.finish().await?;
    Ok((stored.document.id.to_string(), stored.document.tokens))
}

/// Reads a document. Returns the time from `due` to the first byte, and the number of bytes.
async fn get(client: &Client, id: &str, due: Instant) -> Result<(Duration, u64), Error> {
    let mut text = client.get(id, ByteRange::default()).await?;
    let (mut first, mut bytes) = (None, 0);
    while let Some(piece) = text.try_next().await? {
        first.get_or_insert_with(|| due.elapsed());
        bytes += piece.len() as u64;
    }
    Ok((first.unwrap_or_else(|| due.elapsed()), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_hold_times_of_any_length() {
        let mut histogram = Histogram::new(DIGITS).unwrap();
        for ms in [1u64, 20, 300, 40_000] {
            histogram.record(ms * 1000).unwrap();
        }
        let kept = Percentiles::of(&histogram);
        assert!((kept.p50 - 20.0).abs() < 0.1 && (kept.max - 40_000.0).abs() < 100.0, "{kept:?}");
    }
}
