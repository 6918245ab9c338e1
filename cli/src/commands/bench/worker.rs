//! One kind of call and what its callers saw.

use std::io::Cursor;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use c3_client::{ByteRange, Client, Error};
use futures::TryStreamExt;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::texts::Texts;
use crate::failure::Failure;
use crate::write::WriteArgs;

/// Times are kept to a microsecond and three digits.
const DIGITS: u8 = 3;

/// One kind of call.
pub(super) struct Side {
    client: Client,
    calls: Calls,
    seen: Mutex<Seen>,
}

enum Calls {
    /// Each call stores a text that nobody stored before.
    Put { texts: Texts, write: Box<WriteArgs> },
    /// Each call reads one of these documents: id and text tokens.
    Get { documents: Vec<(String, u64)>, next: AtomicUsize },
}

/// What callers saw.
struct Seen {
    first_byte: Histogram<u64>,
    total: Histogram<u64>,
    bytes: u64,
    tokens: u64,
    failed: u64,
    first_error: Option<String>,
}

/// What callers saw of one kind of call.
#[derive(Debug, Serialize)]
pub(super) struct SideReport {
    pub(super) calls: u64,
    pub(super) failed: u64,
    pub(super) first_error: Option<String>,
    /// Until the last call was answered.
    pub(super) seconds: f64,
    pub(super) calls_per_second: f64,
    pub(super) tokens_per_second: f64,
    pub(super) bytes_per_second: f64,
    /// Of a put, which has one answer, until that.
    pub(super) first_byte_ms: Percentiles,
    pub(super) total_ms: Percentiles,
}

/// Times in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl Side {
    /// Calls that store.
    pub(super) fn puts(client: Client, texts: Texts, write: WriteArgs) -> Self {
        Self::new(client, Calls::Put { texts, write: Box::new(write) })
    }

    /// Calls that read `count` documents in turn, which are stored first.
    pub(super) async fn gets(
        client: Client,
        texts: &Texts,
        count: usize,
        write: &WriteArgs,
    ) -> Result<Self, Failure> {
        let mut documents = Vec::with_capacity(count);
        for _ in 0..count.max(1) {
            let stored = put(&client, texts.next(), write).await?;
            documents.push(stored);
        }
        Ok(Self::new(client, Calls::Get { documents, next: AtomicUsize::new(0) }))
    }

    fn new(client: Client, calls: Calls) -> Self {
        let times = || Histogram::new(DIGITS).expect("three digits are allowed");
        let seen =
            Seen { first_byte: times(), total: times(), bytes: 0, tokens: 0, failed: 0, first_error: None };
        Self { client, calls, seen: Mutex::new(seen) }
    }

    /// `put` or `get`.
    pub(super) fn name(&self) -> &'static str {
        match self.calls {
            Calls::Put { .. } => "put",
            Calls::Get { .. } => "get",
        }
    }

    /// Makes one call, which was due at `due`.
    pub(super) async fn call(&self, due: Instant) {
        let outcome = match &self.calls {
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
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match outcome {
            Ok((first_byte, bytes, tokens)) => {
                // They grow as they must: no time is out of their range.
                let _ = seen.first_byte.record(micros(first_byte));
                let _ = seen.total.record(micros(due.elapsed()));
                seen.bytes += bytes;
                seen.tokens += tokens;
            }
            Err(error) => {
                seen.failed += 1;
                seen.first_error.get_or_insert_with(|| error.to_string());
            }
        }
    }

    /// What callers saw in `seconds`.
    pub(super) fn report(&self, seconds: f64) -> SideReport {
        let seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        SideReport {
            calls: seen.total.len() + seen.failed,
            failed: seen.failed,
            first_error: seen.first_error.clone(),
            seconds,
            calls_per_second: seen.total.len() as f64 / seconds,
            tokens_per_second: seen.tokens as f64 / seconds,
            bytes_per_second: seen.bytes as f64 / seconds,
            first_byte_ms: Percentiles::of(&seen.first_byte),
            total_ms: Percentiles::of(&seen.total),
        }
    }
}

impl Percentiles {
    fn of(times: &Histogram<u64>) -> Self {
        let ms = |micros: u64| micros as f64 / 1000.0;
        Self {
            p50: ms(times.value_at_quantile(0.5)),
            p90: ms(times.value_at_quantile(0.9)),
            p99: ms(times.value_at_quantile(0.99)),
            max: ms(times.max()),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Id and text tokens of the document.
async fn put(client: &Client, text: String, write: &WriteArgs) -> Result<(String, u64), Error> {
    let bytes = text.len() as u64;
    let stored =
        client.put(Cursor::new(text.into_bytes()), &write.options(Some(bytes))).await?.finish().await?;
    Ok((stored.document.id.to_string(), stored.document.tokens))
}

/// Time to the first byte, and how many there are.
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
    fn times_of_any_length_are_kept() {
        let mut times = Histogram::new(DIGITS).unwrap();
        for ms in [1u64, 20, 300, 40_000] {
            times.record(ms * 1000).unwrap();
        }
        let kept = Percentiles::of(&times);
        assert!((kept.p50 - 20.0).abs() < 0.1 && (kept.max - 40_000.0).abs() < 100.0, "{kept:?}");
    }
}
