//! What a call hands on to the calls that it makes: its W3C trace context, by gRPC metadata, its deadline, and for whom it
//! is made.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::{Request, Status, metadata::MetadataMap, service::Interceptor};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::{caller::Caller, deadline};

/// By so much later the called server is to end than the caller, who would take the end for a failure of the server.
const SLACK: Duration = Duration::from_millis(100);

/// Writes the current span's trace context into the metadata of an outgoing call.
pub fn inject(metadata: &mut MetadataMap) {
    let context = Span::current().context();
    TraceContextPropagator::new().inject_context(&context, &mut Headers(metadata.as_mut()));
}

/// Reads the caller's trace context from the headers of an incoming call.
pub fn extract(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract(&HeadersRef(headers))
}

/// A client interceptor that calls [`inject`], hands the deadline on and names the caller:
/// `CompressorClient::with_interceptor(channel, Propagate)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Propagate;

impl Interceptor for Propagate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        inject(request.metadata_mut());
        Caller::name(request.metadata_mut().as_mut());
        if let Some(left) = deadline::left() {
            request.set_timeout(left + SLACK);
        }
        Ok(request)
    }
}

struct Headers<'a>(&'a mut HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(key, value);
        }
    }
}

struct HeadersRef<'a>(&'a HeaderMap);

impl Extractor for HeadersRef<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{TraceContextExt, TracerProvider};
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn what_is_injected_is_extracted() {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span = tracing::info_span!("call");
            let mut metadata = MetadataMap::new();
            span.in_scope(|| inject(&mut metadata));
            let remote = extract(metadata.as_ref());
            let (remote, local) = (remote.span().span_context().clone(), span.context());
            assert!(remote.is_remote());
            assert_eq!(remote.trace_id(), local.span().span_context().trace_id());
            assert_eq!(remote.span_id(), local.span().span_context().span_id());
        });
    }
}
