//! Numbers of all roles of a process: an OpenTelemetry meter with a Prometheus exporter.
//!
//! Names are `c3_<what>_<unit>` (counters end in `_total`); every number carries its `role`, so that the three roles
//! of `c3 serve` share one registry. `GET /metrics` on any server's port renders it.

use std::{sync::LazyLock, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram, Meter, MeterProvider},
};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};
use tonic::Code;

use crate::error::Kind;

/// Bounds of histograms of seconds: from a cached answer to a book.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];
/// Bounds of histograms of text tokens in a batch.
const TOKENS: [f64; 10] = [64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16_384.0, 65_536.0];
/// Bounds of histograms of windows in a batch.
const WINDOWS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

struct Exporter {
    registry: Registry,
    // Holds the reader that the registry reads from.
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

/// The meter that a role makes its own instruments from. Give each value the role's label.
pub fn meter() -> Meter {
    EXPORTER.provider.meter("c3")
}

/// All numbers of the process in Prometheus' text format.
pub fn render() -> Result<String, prometheus::Error> {
    TextEncoder::new().encode_to_string(&EXPORTER.registry.gather())
}

/// The instruments that roles share, labelled with one role.
#[derive(Clone, Debug)]
pub struct Metrics {
    role: KeyValue,
    requests: Counter<u64>,
    seconds: Histogram<f64>,
    errors: Counter<u64>,
    tokens: Counter<u64>,
    batch_tokens: Histogram<u64>,
    batch_windows: Histogram<u64>,
    batch_seconds: Histogram<f64>,
    queue: Gauge<u64>,
    corrections: Counter<u64>,
}

impl Metrics {
    /// The instruments of `role`.
    pub fn new(role: &'static str) -> Self {
        let meter = meter();
        let counter = |name, what| meter.u64_counter(name).with_description(what).build();
        let sizes = |name, what, bounds: &[f64]| {
            meter.u64_histogram(name).with_description(what).with_boundaries(bounds.to_vec()).build()
        };
        let seconds = |name, what| {
            meter.f64_histogram(name).with_description(what).with_boundaries(SECONDS.to_vec()).build()
        };
        Self {
            role: KeyValue::new("role", role),
            requests: counter("c3_requests", "Calls that ended, by method and gRPC code"),
            seconds: seconds("c3_request_seconds", "Seconds from a call's arrival to its last byte"),
            errors: counter("c3_errors", "Calls that failed, by method and kind"),
            tokens: counter("c3_tokens", "Text tokens computed, by work"),
            batch_tokens: sizes("c3_batch_tokens", "Text tokens computed side by side, by work", &TOKENS),
            batch_windows: sizes("c3_batch_windows", "Windows computed side by side, by work", &WINDOWS),
            batch_seconds: seconds("c3_batch_seconds", "Seconds that a batch took, by work"),
            queue: meter
                .u64_gauge("c3_queue_tokens")
                .with_description("Text tokens that wait for the model")
                .build(),
            corrections: counter("c3_corrections", "Corrections that verified windows needed"),
        }
    }

    /// A batch of `work` (compress, verify, decode) was computed. A decode step is a batch of one token a block.
    pub fn batch(&self, work: &'static str, windows: usize, tokens: usize, took: Duration) {
        let labels = [self.role.clone(), KeyValue::new("work", work)];
        self.tokens.add(tokens as u64, &labels);
        self.batch_tokens.record(tokens as u64, &labels);
        self.batch_windows.record(windows as u64, &labels);
        self.batch_seconds.record(took.as_secs_f64(), &labels);
    }

    /// So many text tokens wait for the model now.
    pub fn queued(&self, tokens: u64) {
        self.queue.record(tokens, std::slice::from_ref(&self.role));
    }

    /// Verified windows needed so many corrections.
    pub fn corrections(&self, corrections: usize) {
        self.corrections.add(corrections as u64, std::slice::from_ref(&self.role));
    }

    /// A call ended.
    pub(crate) fn call(&self, method: String, code: Code, took: Duration) {
        let method = KeyValue::new("method", method);
        let labels = [self.role.clone(), method.clone(), KeyValue::new("code", code_name(code))];
        self.requests.add(1, &labels);
        self.seconds.record(took.as_secs_f64(), &labels);
        if code != Code::Ok {
            let kind = KeyValue::new("kind", Kind::of_code(code).name());
            self.errors.add(1, &[self.role.clone(), method, kind]);
        }
    }
}

/// The name of a code as gRPC writes it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_share_one_registry_and_keep_apart() {
        for role in ["here", "there"] {
            let metrics = Metrics::new(role);
            metrics.corrections(2);
            metrics.call("c3.v1.Gateway/Stat".to_owned(), Code::NotFound, Duration::from_millis(3));
        }
        let text = render().unwrap();
        for expected in [
            r#"c3_corrections_total{role="here"} 2"#,
            r#"c3_corrections_total{role="there"} 2"#,
            r#"c3_errors_total{kind="not_found",method="c3.v1.Gateway/Stat",role="here"} 1"#,
            r#"c3_requests_total{code="NOT_FOUND",method="c3.v1.Gateway/Stat",role="there"} 1"#,
        ] {
            assert!(text.contains(expected), "{expected} is missing in\n{text}");
        }
    }
}
