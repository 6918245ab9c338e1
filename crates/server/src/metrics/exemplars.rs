//! Histograms of durations with exemplars: for each bucket, the trace of the latest sampled call in it.
//!
//! The OpenTelemetry SDK for Rust records no exemplars, so they are kept here, beside the SDK's histogram.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::metrics::Histogram;
use opentelemetry::trace::{TraceContextExt, TraceId};
use opentelemetry::{Context, KeyValue};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{SECONDS, meter};

/// Histogram of durations in seconds.
#[derive(Clone, Debug)]
pub struct Durations {
    name: &'static str,
    histogram: Histogram<f64>,
}

/// A recorded duration and the trace in which it was measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exemplar {
    pub(super) trace: TraceId,
    pub(super) seconds: f64,
    /// Time of the record, in seconds since the Unix epoch.
    pub(super) time: f64,
}

/// Latest exemplar in each bucket of a series. The last bucket has no bound.
pub(super) type Buckets = [Option<Exemplar>; SECONDS.len() + 1];

/// Labels as Prometheus names them, in the order of their names.
type Labels = Vec<(String, String)>;

/// Exemplars of the process by name of the histogram and labels of the series.
static EXEMPLARS: LazyLock<Mutex<HashMap<&'static str, HashMap<Labels, Buckets>>>> = LazyLock::new(Mutex::default);

impl Durations {
    /// Returns the histogram with this name.
    pub fn new(name: &'static str, help: &'static str) -> Self {
        let histogram = meter().f64_histogram(name).with_description(help).with_boundaries(SECONDS.to_vec()).build();
        Self { name, histogram }
    }

    /// Records a duration in seconds. If the current span is sampled, its trace becomes the exemplar of the bucket.
    pub fn record(&self, seconds: f64, labels: &[KeyValue]) {
        self.histogram.record(seconds, labels);
        let span = Span::current();
        if !span.is_disabled() {
            record(self.name, seconds, labels, &span.context());
        }
    }
}

fn record(name: &'static str, seconds: f64, labels: &[KeyValue], context: &Context) {
    let span = context.span();
    if !span.span_context().is_sampled() {
        return;
    }
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
    let exemplar = Exemplar { trace: span.span_context().trace_id(), seconds, time };
    let label = |label: &KeyValue| (label.key.as_str().replace('.', "_"), label.value.to_string());
    let mut labels = Vec::from_iter(labels.iter().map(label));
    labels.sort_unstable();
    // A bound belongs to the bucket that it ends.
    let bucket = SECONDS.partition_point(|bound| *bound < seconds);
    lock().entry(name).or_default().entry(labels).or_default()[bucket] = Some(exemplar);
}

/// Returns the exemplars of a series.
pub(super) fn of_series<'a>(name: &str, labels: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Buckets> {
    let exemplars = lock();
    let series = exemplars.get(name)?;
    let mut labels = Vec::from_iter(labels.map(|(name, value)| (name.to_owned(), value.to_owned())));
    labels.sort_unstable();
    series.get(&labels).copied()
}

fn lock() -> MutexGuard<'static, HashMap<&'static str, HashMap<Labels, Buckets>>> {
    // No code that holds this lock panics.
    EXEMPLARS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceState};

    use super::*;

    fn context(trace: u128, flags: TraceFlags) -> Context {
        let (trace, span) = (TraceId::from(trace), SpanId::from(7));
        Context::new().with_remote_span_context(SpanContext::new(trace, span, flags, true, TraceState::default()))
    }

    #[test]
    fn a_bucket_has_the_latest_sampled_trace() {
        let labels = [KeyValue::new("rpc.method", "Stat"), KeyValue::new("error.type", "internal")];
        for (trace, seconds, flags) in [
            (1, 0.002, TraceFlags::SAMPLED),
            (2, 0.0025, TraceFlags::SAMPLED),
            (3, 0.0025, TraceFlags::NOT_SAMPLED),
            (4, 1000.0, TraceFlags::SAMPLED),
        ] {
            record("exemplars_test", seconds, &labels, &context(trace, flags));
        }
        let of = |labels: [(&'static str, &'static str); 2]| of_series("exemplars_test", labels.into_iter());
        let buckets = of([("rpc_method", "Stat"), ("error_type", "internal")]).unwrap();
        let found = Vec::from_iter(
            buckets
                .iter()
                .enumerate()
                .filter_map(|(number, exemplar)| exemplar.map(|exemplar| (number, exemplar.trace, exemplar.seconds))),
        );
        assert_eq!(found, [(1, TraceId::from(2), 0.0025), (SECONDS.len(), TraceId::from(4), 1000.0)]);
        assert!(of([("rpc_method", "List"), ("error_type", "internal")]).is_none());
    }
}
