//! Metrics of the gateway, in addition to those of the server, the store and routing.

use std::time::Duration;

use c3_server::metrics;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge};

use crate::ROLE;

/// The gateway's instruments.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Instruments of the store.
    pub(crate) store: c3_store::Metrics,
    /// Labels of every sample: the role and, with access control, the tenant.
    labels: Vec<KeyValue>,
    shards: Counter<u64>,
    bytes: Counter<u64>,
    tokens: Counter<u64>,
    corrections: Counter<u64>,
    verified_tokens: Counter<u64>,
    first_byte: metrics::Durations,
    search_windows: Gauge<u64>,
    search_bytes: Gauge<u64>,
    reindex_documents: Gauge<u64>,
}

/// Direction of a text through the gateway.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    In,
    Out,
}

impl Metrics {
    pub(crate) fn new(store: c3_store::Metrics) -> Self {
        let meter = metrics::meter();
        let counter = |name, help| meter.u64_counter(name).with_description(help).build();
        let gauge = |name, help| meter.u64_gauge(name).with_description(help).build();
        Self {
            store,
            labels: vec![KeyValue::new("role", ROLE)],
            shards: counter("c3_shards", "Shards written, by outcome (reused, compressed)"),
            bytes: counter("c3_text_bytes", "Bytes of text, by direction (in, out)"),
            tokens: counter("c3_text_tokens", "Text tokens, by direction (in, out)"),
            corrections: counter("c3_corrections", "Corrections that verified windows needed"),
            verified_tokens: counter("c3_verified_tokens", "Text tokens of verified windows, by cascade"),
            first_byte: metrics::Durations::new(
                "c3_first_byte_duration_seconds",
                "Time from the start of a read to its first bytes of text",
            ),
            search_windows: gauge("c3_search_windows", "Windows in the search index"),
            search_bytes: gauge("c3_search_index_bytes", "Memory of the search index in bytes"),
            reindex_documents: gauge("c3_reindex_documents", "Documents that the reindex job has not examined yet"),
        }
    }

    /// Returns the same instruments with one more label on each sample.
    pub(crate) fn with_label(&self, label: KeyValue) -> Self {
        let store = self.store.with_label(label.clone());
        Self { store, labels: [self.labels.as_slice(), &[label]].concat(), ..self.clone() }
    }

    /// Counts a written shard.
    pub(crate) fn shard(&self, reused: bool) {
        let outcome = if reused { "reused" } else { "compressed" };
        self.shards.add(1, &self.labels([KeyValue::new("outcome", outcome)]));
    }

    /// Counts the text tokens of windows that were verified, and the corrections that they needed.
    pub(crate) fn verified(&self, cascade: &str, tokens: u64, corrections: u64) {
        let labels = self.labels([KeyValue::new("cascade", cascade.to_owned())]);
        self.verified_tokens.add(tokens, &labels);
        self.corrections.add(corrections, &labels);
    }

    /// Records how long a read took to its first bytes of text.
    pub(crate) fn first_byte(&self, duration: Duration) {
        self.first_byte.record(duration.as_secs_f64(), &self.labels);
    }

    /// Records the size of the search index.
    pub(crate) fn search_index(&self, windows: u64, bytes: usize) {
        self.search_windows.record(windows, &self.labels);
        self.search_bytes.record(bytes as u64, &self.labels);
    }

    /// Records the number of documents that the reindex job has not examined yet.
    pub(crate) fn reindex_documents(&self, left: u64) {
        self.reindex_documents.record(left, &self.labels);
    }

    /// Counts text that was stored, compressed or read, in bytes and tokens.
    pub(crate) fn text(&self, direction: Direction, bytes: u64, tokens: u64) {
        let direction = match direction {
            Direction::In => "in",
            Direction::Out => "out",
        };
        let labels = self.labels([KeyValue::new("direction", direction)]);
        self.bytes.add(bytes, &labels);
        self.tokens.add(tokens, &labels);
    }

    fn labels<const N: usize>(&self, own: [KeyValue; N]) -> Vec<KeyValue> {
        [self.labels.as_slice(), &own].concat()
    }
}
