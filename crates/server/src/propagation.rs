//! Context that a call passes to its outgoing calls as gRPC metadata: W3C trace context, deadline and principal.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::deadline;
use crate::principal::Principal;

/// Added to a propagated deadline, so that the caller's own deadline passes first. Otherwise the callee could report
/// its timeout first, and the caller would count this timeout as a failure of the callee.
const DEADLINE_SLACK: Duration = Duration::from_millis(100);

/// Trace context of a call that is not traced. The ids only need to be valid: no span has them.
const UNSAMPLED: &str = "00-00000000000000000000000000000001-0000000000000001-00";

/// Writes the current span's trace context into the metadata of an outgoing call.
pub fn inject(metadata: &mut MetadataMap) {
    let context = Span::current().context();
    TraceContextPropagator::new().inject_context(&context, &mut Headers(metadata.as_mut()));
}

/// Reads the caller's trace context from the headers of an incoming call.
pub fn extract(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract(&HeadersRef(headers))
}

/// Client interceptor that propagates trace context, deadline and principal:
/// `CompressorClient::with_interceptor(channel, Propagate)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Propagate;

impl Interceptor for Propagate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        inject(request.metadata_mut());
        Principal::inject(request.metadata_mut().as_mut());
        if let Some(remaining) = deadline::remaining() {
            request.set_timeout(remaining + DEADLINE_SLACK);
        }
        Ok(request)
    }
}

/// Client interceptor for calls that a program repeats on a timer, such as health checks. It tells the server not to
/// trace them. Otherwise most spans of an idle system would come from such calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unsampled;

impl Interceptor for Unsampled {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("traceparent", MetadataValue::from_static(UNSAMPLED));
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
    use std::net::{Ipv4Addr, SocketAddr};

    use opentelemetry::trace::{TraceContextExt, TracerProvider};
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tonic::transport::server::TcpConnectInfo;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::deadline::{Deadline, grpc_timeout};
    use crate::principal::{self, PrincipalSource};

    #[test]
    fn an_injected_trace_context_is_extracted() {
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

    #[test]
    fn a_server_does_not_sample_the_calls_of_a_timer() {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let metadata = |mut interceptor: Box<dyn Interceptor>| {
                interceptor.call(Request::new(())).unwrap().into_parts().0.into_headers()
            };
            let is_sampled = |headers: HeaderMap| {
                let span = tracing::info_span!("call");
                span.set_parent(extract(&headers)).unwrap();
                span.context().span().span_context().is_sampled()
            };
            assert!(is_sampled(metadata(Box::new(Propagate))));
            assert!(!is_sampled(metadata(Box::new(Unsampled))));
        });
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_propagates_to_calls_and_to_tasks_that_inherit_it() {
        let sent = || {
            let request = Propagate.call(Request::new(())).unwrap();
            grpc_timeout(request.metadata().as_ref())
        };
        assert_eq!(sent(), None);
        let limit = Some(Duration::from_secs(3));
        let deadline = Deadline::earlier(None, limit);
        let (own, shared) = Deadline::scope(deadline.as_ref(), || {
            (tokio::spawn(deadline::inherit(async move { sent() })), tokio::spawn(async move { sent() }))
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(Deadline::scope(deadline.as_ref(), sent) < limit);
        let own = own.await.unwrap();
        assert!(own >= limit && own < Some(Duration::from_secs(4)), "{own:?}");
        assert_eq!(shared.await.unwrap(), None);
    }

    fn request(port: u16, headers: HeaderMap) -> http::Request<()> {
        let mut request = http::Request::new(());
        *request.headers_mut() = headers;
        let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        request.extensions_mut().insert(TcpConnectInfo { local_addr: None, remote_addr: Some(remote) });
        request
    }

    #[tokio::test]
    async fn a_node_takes_principals_from_gateways_and_a_gateway_takes_none_from_callers() {
        let first = Principal::from_request(&request(1, HeaderMap::new()), PrincipalSource::Connection);
        let sent = || Propagate.call(Request::new(())).unwrap().into_parts().0.into_headers();
        let task = first.scope(|| tokio::spawn(principal::inherit(async move { sent() })));
        let sent = task.await.unwrap();
        assert_eq!(Principal::from_request(&request(2, sent.clone()), PrincipalSource::Header), first);
        let second = Principal::from_request(&request(2, HeaderMap::new()), PrincipalSource::Connection);
        assert_ne!(second, first);
        assert_eq!(Principal::from_request(&request(2, sent), PrincipalSource::Connection), second);
        // Without the header, the connection determines the principal.
        assert_eq!(Principal::from_request(&request(2, HeaderMap::new()), PrincipalSource::Header), second);
    }
}
