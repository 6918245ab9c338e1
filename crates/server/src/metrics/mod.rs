//! Metrics of all roles of a process: an OpenTelemetry meter with a Prometheus exporter.
//!
//! Metrics of calls have the names and attributes of OpenTelemetry's semantic conventions for RPC. Metrics of the
//! process are Prometheus' `process_*` metrics. All other metrics are called `c3_<subject>_<unit>`. The exporter
//! appends `_total` to counters and replaces dots by underscores. Samples have a `role` label, because the three roles
//! of `c3 serve` share one registry. `GET /metrics` on any server's port renders the registry, in OpenMetrics' format
//! with exemplars or in Prometheus' text format.

mod exemplars;
mod openmetrics;

use std::collections::HashSet;
use std::sync::{LazyLock, PoisonError, RwLock};
use std::time::Duration;

use c3_types::TenantId;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, MeterProvider, UpDownCounter};
use opentelemetry::{KeyValue, StringValue};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

pub use self::exemplars::Durations;
pub(crate) use self::openmetrics::{CONTENT_TYPE as OPENMETRICS, MEDIA_TYPE as OPENMETRICS_MEDIA_TYPE};

/// Histogram bounds for durations in seconds: from a cache hit to a whole book.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];
/// Histogram bounds for text tokens in a batch.
const TOKENS: [f64; 10] = [64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16_384.0, 65_536.0];
/// Histogram bounds for windows in a batch.
const WINDOWS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// Maximum tenants with time series of their own.
const TENANTS_MAX: usize = 100;
/// Label of all other tenants.
const OTHER_TENANTS: &str = "other";

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
    let (meter, help) = (provider.meter("c3"), "Version of the program; the value is always 1");
    let build = meter.u64_gauge("c3_build_info").with_description(help).build();
    build.record(1, &[KeyValue::new("version", env!("CARGO_PKG_VERSION"))]);
    #[cfg(target_os = "linux")]
    registry
        .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
        .expect("a new registry has no collector of the same name");
    Exporter { registry, provider }
});

/// Returns the process's meter, for a role's own instruments. Label each sample with the role.
pub fn meter() -> Meter {
    EXPORTER.provider.meter("c3")
}

/// Returns the label of a tenant. Only the first [`TENANTS_MAX`] tenants of the process have labels of their own; all
/// others share the label `other`, so that tenants cannot add any number of time series.
pub fn tenant_label(tenant: &TenantId) -> KeyValue {
    static KNOWN: LazyLock<RwLock<HashSet<TenantId>>> = LazyLock::new(RwLock::default);
    // The lock is never poisoned: no code panics while it holds it.
    let is_known = KNOWN.read().unwrap_or_else(PoisonError::into_inner).contains(tenant) || {
        let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
        known.len() < TENANTS_MAX && known.insert(tenant.clone()) || known.contains(tenant)
    };
    KeyValue::new("tenant", if is_known { tenant.to_string() } else { OTHER_TENANTS.to_owned() })
}

/// Renders all metrics of the process in Prometheus' text format, which has no exemplars.
pub fn render() -> Result<String, prometheus::Error> {
    TextEncoder::new().encode_to_string(&EXPORTER.registry.gather())
}

/// Renders all metrics of the process in OpenMetrics' text format, with exemplars.
pub(crate) fn render_openmetrics() -> Result<String, std::fmt::Error> {
    openmetrics::encode(&EXPORTER.registry.gather())
}

/// The instruments that roles share, labelled with one role.
#[derive(Clone, Debug)]
pub struct Metrics {
    role: KeyValue,
    call_duration: Durations,
    calls_in_flight: UpDownCounter<i64>,
    tenant_calls: Counter<u64>,
    tokens: Counter<u64>,
    batch_tokens: Histogram<u64>,
    batch_windows: Histogram<u64>,
    batch_duration: Durations,
    queue_tokens: Gauge<u64>,
    queue_wait: Durations,
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
        Self {
            role: KeyValue::new("role", role),
            call_duration: Durations::new(
                "rpc_server_call_duration_seconds",
                "Time from a call's arrival to the last byte of its response",
            ),
            calls_in_flight: meter
                .i64_up_down_counter("c3_calls_in_flight")
                .with_description("Calls that arrived and have not ended")
                .build(),
            tenant_calls: counter("c3_tenant_calls", "Calls with valid credentials, by tenant and status code"),
            tokens: counter("c3_tokens", "Text tokens computed, by operation"),
            batch_tokens: sizes("c3_batch_tokens", "Text tokens of a batch, by operation", &TOKENS),
            batch_windows: sizes("c3_batch_windows", "Windows of a batch, by operation", &WINDOWS),
            batch_duration: Durations::new("c3_batch_duration_seconds", "Time to compute a batch, by operation"),
            queue_tokens: meter
                .u64_gauge("c3_queue_tokens")
                .with_description("Text tokens that wait for the model")
                .build(),
            queue_wait: Durations::new(
                "c3_queue_wait_duration_seconds",
                "Wait of a job for the model, or of a stage call for a node, by operation",
            ),
            corrections: counter("c3_corrections", "Corrections that verified windows needed"),
        }
    }

    /// Returns the label of the role.
    pub fn role(&self) -> KeyValue {
        self.role.clone()
    }

    /// Records a batch of an operation (compress, verify, decode). A decode step is a batch too. It writes one token in
    /// each block, which is the run of text tokens that one latent stands for.
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

    /// Records how long a job of an operation (compress, verify, decode) waited.
    pub fn queue_wait(&self, operation: &'static str, wait: Duration) {
        self.queue_wait.record(wait.as_secs_f64(), &[self.role.clone(), KeyValue::new("operation", operation)]);
    }

    /// Counts a call as in flight. Must be followed by [`Metrics::call_ended`].
    pub(crate) fn call_began(&self) {
        self.calls_in_flight.add(1, std::slice::from_ref(&self.role));
    }

    /// Counts a call of a tenant.
    pub(crate) fn tenant_call(&self, tenant: &TenantId, code: impl Into<StringValue>) {
        let code = KeyValue::new("rpc.response.status_code", code.into());
        self.tenant_calls.add(1, &[self.role.clone(), tenant_label(tenant), code]);
    }

    /// Records a call that ended, with its attributes.
    pub(crate) fn call_ended(&self, mut attributes: Vec<KeyValue>, duration: Duration) {
        self.calls_in_flight.add(-1, std::slice::from_ref(&self.role));
        attributes.push(self.role.clone());
        self.call_duration.record(duration.as_secs_f64(), &attributes);
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
            metrics.call_began();
            metrics.call_began();
            metrics.call_ended(vec![KeyValue::new("rpc.method", "c3.v1.Gateway/Stat")], Duration::from_millis(3));
        }
        let text = render().unwrap();
        for expected in [
            r#"c3_corrections_total{role="here"} 2"#,
            r#"c3_corrections_total{role="there"} 2"#,
            r#"c3_calls_in_flight{role="here"} 1"#,
            r#"rpc_server_call_duration_seconds_count{role="there",rpc_method="c3.v1.Gateway/Stat"} 1"#,
        ] {
            assert!(text.contains(expected), "{expected} is missing in\n{text}");
        }
    }
}
