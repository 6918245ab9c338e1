//! The caller's trace goes on in the gateway: W3C trace context in the metadata of every call.

use opentelemetry::trace::TraceContextExt;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Writes the current span into `request`, where there is one and it is recorded.
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
