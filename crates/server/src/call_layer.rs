//! The layer around every call: its span, whose parent is the caller's, its place and its time, and at its end its
//! numbers.
//!
//! One layer for all of them: each would cost every call a boxed future and a boxed body.

use std::{
    convert::Infallible,
    future::{Future, poll_fn, ready},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tonic::{Code, Status, body::Body};
use tower::{BoxError, Layer, Service};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::{
    admission::{Gate, Place},
    body::Watched,
    caller::{Caller, Callers},
    deadline::Deadline,
    metrics::Metrics,
    propagation,
};

/// The layer.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) gate: Gate,
    pub(crate) callers: Callers,
    /// Longest time that a call may take, where there is one.
    pub(crate) timeout: Option<Duration>,
}

impl<S> Layer<S> for Calls {
    type Service = Watching<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Watching { calls: self.clone(), inner }
    }
}

/// A service whose calls are admitted, bounded and counted.
#[derive(Clone, Debug)]
pub(crate) struct Watching<S> {
    calls: Calls,
    inner: S,
}

impl<S, B, A> Service<Request<B>> for Watching<S>
where
    S: Service<Request<B>, Response = Response<A>, Error = Infallible, Future: Send + 'static>,
    A: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Default + Unpin + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut call = Call::begin(&self.calls, &request);
        match self.calls.gate.admit(&request) {
            Ok(place) => call.place = place,
            Err(status) => return Box::pin(ready(Ok(call.answered(status.into_http::<Body>())))),
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut answer = pin!(answer);
            let response = poll_fn(|cx| {
                // An answer that is there in time wins.
                match call.within(|| answer.as_mut().poll(cx)) {
                    Poll::Pending => call.poll_cut(cx).map(|status| Ok(status.into_http())),
                    answered => answered,
                }
            });
            let response = response.await?;
            Ok(call.answered(response))
        })
    }
}

/// A call until its last byte, or until its caller leaves: whatever the reason, it is counted when it is dropped.
pub(crate) struct Call {
    metrics: Arc<Metrics>,
    method: String,
    span: Span,
    started: Instant,
    code: Option<Code>,
    deadline: Option<Deadline>,
    caller: Caller,
    place: Option<Place>,
}

impl Call {
    fn begin<B>(calls: &Calls, request: &Request<B>) -> Self {
        let method = request.uri().path().trim_start_matches('/').to_owned();
        Self {
            metrics: Arc::clone(&calls.metrics),
            span: span(&method, request.headers()),
            method,
            started: Instant::now(),
            code: None,
            deadline: Deadline::of(request.headers(), calls.timeout),
            caller: Caller::of(request, calls.callers),
            place: None,
        }
    }

    /// Work for the call: in its span, under its deadline, for its caller.
    pub(crate) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let work = || self.caller.within(|| self.span.in_scope(work));
        Deadline::within(self.deadline.as_ref(), work)
    }

    /// Ready when the call is to be cut here, with the status that ends it.
    pub(crate) fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if let Some(Poll::Ready(status)) = self.deadline.as_mut().map(|deadline| deadline.poll(cx)) {
            return Poll::Ready(status);
        }
        self.place.as_mut().map_or(Poll::Pending, |place| place.poll_lost(cx))
    }

    /// The response whose stream is the rest of the call.
    fn answered<A>(mut self, response: Response<A>) -> Response<Body>
    where
        A: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Default + Unpin + Send + 'static,
    {
        // A call that fails before its stream begins has its status in the headers.
        self.ended(response.headers());
        response.map(|body| Body::new(Watched::new(body, self)))
    }

    /// The call came to its end with these trailers. Its place is free before the caller has them, or a caller who asks
    /// again at once could find it taken by himself.
    pub(crate) fn ended(&mut self, trailers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(trailers) {
            self.code = Some(status.code());
            self.place = None;
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        let took = self.started.elapsed();
        self.span.set_attribute("rpc.grpc.status_code", code as i64);
        if is_servers_fault(code) {
            self.span.set_status(opentelemetry::trace::Status::error(""));
        }
        self.span.in_scope(|| tracing::debug!(?code, seconds = took.as_secs_f64(), "call ended"));
        // Paths that no service knows come from outside and would make labels without end.
        let known = code != Code::Unimplemented;
        let method = if known { std::mem::take(&mut self.method) } else { "other".to_owned() };
        self.metrics.call(method, code, took);
    }
}

fn span(method: &str, headers: &HeaderMap) -> Span {
    // For traces, and for log lines where the log is that detailed: to write it out costs a small call a twentieth.
    let span = tracing::debug_span!("rpc", otel.name = method, otel.kind = "server");
    // Setting a parent fails where traces are off: what follows does nothing then.
    if !span.is_disabled() && span.set_parent(propagation::extract(headers)).is_ok() {
        let (service, name) = method.split_once('/').unwrap_or((method, ""));
        // OpenTelemetry's names for server spans of gRPC.
        span.set_attribute("rpc.system", "grpc");
        span.set_attribute("rpc.service", service.to_owned());
        span.set_attribute("rpc.method", name.to_owned());
    }
    span
}

/// The codes that OpenTelemetry counts as errors of a server.
fn is_servers_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

#[cfg(test)]
mod tests {
    use http_body::{Body as _, Frame};

    use super::*;
    use crate::Readiness;

    /// A stream of trailers alone.
    #[derive(Default)]
    struct Ends(bool);

    impl http_body::Body for Ends {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let trailers = Status::ok("").into_http::<()>().into_parts().0.headers;
            Poll::Ready((!std::mem::replace(&mut self.0, true)).then(|| Ok(Frame::trailers(trailers))))
        }
    }

    #[tokio::test]
    async fn a_call_whose_status_is_told_has_no_place_any_more() {
        let readiness = Readiness::default();
        readiness.set_ready();
        let calls = Calls {
            metrics: Arc::new(Metrics::new("here")),
            gate: Gate::new(readiness, 1),
            callers: Callers::Connections,
            timeout: None,
        };
        let mut service =
            calls.layer(tower::service_fn(|_: Request<()>| ready(Ok(Response::new(Ends::default())))));
        let mut call = async || {
            let response = service.call(Request::new(())).await.unwrap_or_else(|never| match never {});
            let refused = Status::from_header_map(response.headers()).map(|status| status.code());
            (refused, response.into_body())
        };
        let (first, mut body) = call().await;
        assert_eq!(first, None);
        assert_eq!(call().await.0, Some(Code::ResourceExhausted));
        let trailers = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap().unwrap();
        assert!(trailers.is_trailers());
        assert_eq!(call().await.0, None);
        drop(body);
    }
}
