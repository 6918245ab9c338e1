//! Sends the W3C trace context in the metadata of every call, so that the gateway continues the caller's trace.

use opentelemetry::trace::TraceContextExt;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Adds the context of the current span to the metadata of `request`, as `traceparent` and `tracestate`. Does nothing
/// if no OpenTelemetry layer records the span. Always returns `Ok`; tonic requires a `Result` of interceptors.
pub(crate) fn inject(mut request: Request<()>) -> Result<Request<()>, Status> {
    let context = tracing::Span::current().context();
    let span = context.span().span_context().clone();
    if span.is_valid() {
        let flags = span.trace_flags().to_u8();
        let parent = format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id());
        if let Ok(parent) = MetadataValue::try_from(parent) {
            request.metadata_mut().insert("traceparent", parent);
        }
        match MetadataValue::try_from(span.trace_state().header()) {
            Ok(state) if !state.is_empty() => drop(request.metadata_mut().insert("tracestate", state)),
            _ => {}
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn only_recorded_spans_are_propagated() {
        let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let _subscriber = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        let parent = || {
            let request = inject(Request::new(())).unwrap();
            request.metadata().get("traceparent").map(|parent| parent.to_str().unwrap().to_owned())
        };
        assert_eq!(parent(), None);
        let span = tracing::info_span!("call");
        let trace = span.context().span().span_context().trace_id();
        let parent = span.in_scope(parent).unwrap();
        assert_eq!(parent.len(), "00-".len() + 32 + "-".len() + 16 + "-01".len());
        assert!(parent.starts_with(&format!("00-{trace}-")) && parent.ends_with("-01"), "{parent}");
    }
}
