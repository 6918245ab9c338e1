//! Metrics of all roles of a process: an OpenTelemetry meter with a Prometheus exporter.
//!
//! Names are `c3_<subject>_<unit>`; the exporter appends `_total` to counters. Every sample has a `role` label, because
//! the three roles of `c3 serve` share one registry. `GET /metrics` on any server's port renders the registry.

use std::{borrow::Cow, sync::LazyLock, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram, Meter, MeterProvider},
};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

use crate::error::ErrorKind;

/// Histogram bounds for durations in seconds: from a cache hit to a whole book.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];
/// Histogram bounds for text tokens in a batch.
const TOKENS: [f64; 10] = [64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16_384.0, 65_536.0];
/// Histogram bounds for windows in a batch.
const WINDOWS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

struct Exporter {
    registry: Registry,
    // Owns the reader that the registry collects from.
    provider: SdkMeterProvider,
}

static EXPORTER: LazyLock<Exporter> = LazyLock::new(|| {
    let registry = Registry::new();
    let reader = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .without_target_info()
        .without_units()
        .scope_info_enabled(false)
        .build()
        .expect("a new registry has no collector of the same name");
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    Exporter { registry, provider }
});

/// Returns the process's meter, for a role's own instruments. Label each sample with the role.
pub fn meter() -> Meter {
    EXPORTER.provider.meter("c3")
}

/// Renders all metrics of the process in Prometheus' text format.
pub fn render() -> Result<String, prometheus::Error> {
    TextEncoder::new().encode_to_string(&EXPORTER.registry.gather())
}

/// The instruments that roles share, labelled with one role.
#[derive(Clone, Debug)]
pub struct Metrics {
    role: KeyValue,
    requests: Counter<u64>,
    request_duration: Histogram<f64>,
    request_errors: Counter<u64>,
    tokens: Counter<u64>,
    batch_tokens: Histogram<u64>,
    batch_windows: Histogram<u64>,
    batch_duration: Histogram<f64>,
    queue_tokens: Gauge<u64>,
    corrections: Counter<u64>,
}

impl Metrics {
    /// Returns the instruments of `role`.
    pub fn new(role: &'static str) -> Self {
        let meter = meter();
        let counter = |name, help| meter.u64_counter(name).with_description(help).build();
        let sizes = |name, help, bounds: &[f64]| {
            meter.u64_histogram(name).with_description(help).with_boundaries(bounds.to_vec()).build()
        };
        let durations =
            |name, help| meter.f64_histogram(name).with_description(help).with_boundaries(SECONDS.to_vec()).build();
        Self {
            role: KeyValue::new("role", role),
            requests: counter("c3_requests", "Calls that ended, by method and gRPC or HTTP code"),
            request_duration: durations(
                "c3_request_duration_seconds",
                "Time from a call's arrival to the last byte of its response",
            ),
            request_errors: counter("c3_request_errors", "Calls that failed, by method and error kind"),
            tokens: counter("c3_tokens", "Text tokens computed, by operation"),
            batch_tokens: sizes("c3_batch_tokens", "Text tokens of a batch, by operation", &TOKENS),
            batch_windows: sizes("c3_batch_windows", "Windows of a batch, by operation", &WINDOWS),
            batch_duration: durations("c3_batch_duration_seconds", "Time to compute a batch, by operation"),
            queue_tokens: meter
                .u64_gauge("c3_queue_tokens")
                .with_description("Text tokens that wait for the model")
                .build(),
            corrections: counter("c3_corrections", "Corrections that verified windows needed"),
        }
    }

    /// Records a batch of an operation (compress, verify, decode). A decode step is a batch of one token per block.
    pub fn batch(&self, operation: &'static str, windows: usize, tokens: usize, duration: Duration) {
        let labels = [self.role.clone(), KeyValue::new("operation", operation)];
        self.tokens.add(tokens as u64, &labels);
        self.batch_tokens.record(tokens as u64, &labels);
        self.batch_windows.record(windows as u64, &labels);
        self.batch_duration.record(duration.as_secs_f64(), &labels);
    }

    /// Records the number of text tokens that wait for the model.
    pub fn queue(&self, tokens: u64) {
        self.queue_tokens.record(tokens, std::slice::from_ref(&self.role));
    }

    /// Counts corrections that a verified window needed.
    pub fn corrections(&self, corrections: usize) {
        self.corrections.add(corrections as u64, std::slice::from_ref(&self.role));
    }

    /// Counts a call that ended.
    pub(crate) fn call(&self, method: String, code: Cow<'static, str>, error: Option<ErrorKind>, duration: Duration) {
        let method = KeyValue::new("method", method);
        let labels = [self.role.clone(), method.clone(), KeyValue::new("code", code)];
        self.requests.add(1, &labels);
        self.request_duration.record(duration.as_secs_f64(), &labels);
        if let Some(kind) = error {
            self.request_errors.add(1, &[self.role.clone(), method, KeyValue::new("kind", kind.as_str())]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_share_one_registry_under_labels_of_their_own() {
        for role in ["here", "there"] {
            let metrics = Metrics::new(role);
            metrics.corrections(2);
            let (method, took) = ("c3.v1.Gateway/Stat".to_owned(), Duration::from_millis(3));
            metrics.call(method, "NOT_FOUND".into(), Some(ErrorKind::NotFound), took);
        }
        let text = render().unwrap();
        for expected in [
            r#"c3_corrections_total{role="here"} 2"#,
            r#"c3_corrections_total{role="there"} 2"#,
            r#"c3_request_errors_total{kind="not_found",method="c3.v1.Gateway/Stat",role="here"} 1"#,
            r#"c3_requests_total{code="NOT_FOUND",method="c3.v1.Gateway/Stat",role="there"} 1"#,
        ] {
            assert!(text.contains(expected), "{expected} is missing in\n{text}");
        }
    }
}
