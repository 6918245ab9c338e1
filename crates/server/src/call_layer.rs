//! The layer around every call, gRPC or HTTP: trace span, access control, admission, deadline and metrics.
//!
//! It is one layer rather than four, because each layer boxes a future and a body for every call.

use std::convert::Infallible;
use std::future::{Future, poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{Method, header};
use axum::response::Response;
use c3_tls::PeerIdentity;
use tower::{Layer, Service};

use crate::access::{Access, Caller, Denied, Identity, Requirement};
use crate::admission::{Admission, Permit};
use crate::call::{Call, Protocol};
use crate::call_body::CallBody;
use crate::error::ServiceError;
use crate::metrics::Metrics;
use crate::principal::PrincipalSource;
use crate::rejection::Rejection;
use crate::slow_request;
use crate::throttle::Throttle;
use crate::web_access::WebAccess;

/// Limit on the log lines of calls by foreign peers.
static FOREIGN_PEERS: Throttle<()> = Throttle::new();

/// Layer that wraps every call.
#[derive(Clone, Debug)]
pub(crate) struct CallLayer {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) admission: Admission,
    pub(crate) principal_source: PrincipalSource,
    pub(crate) web_access: Arc<WebAccess>,
    /// `None`: every caller is the tenant `default`.
    pub(crate) access: Option<Access>,
    /// Names in the certificates of the peers that may call; `None` accepts all peers.
    pub(crate) peers: Option<Arc<[String]>>,
    /// Maximum duration of a call; `None` for no limit.
    pub(crate) timeout: Option<Duration>,
    /// Time after which a call is ended whose caller sends its request too slowly; `None` for no limit.
    pub(crate) request_stall: Option<Duration>,
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CallService { layer: self.clone(), inner }
    }
}

/// A service that admits calls, enforces their deadlines and counts them.
#[derive(Clone, Debug)]
pub(crate) struct CallService<S> {
    layer: CallLayer,
    inner: S,
}

impl<S> Service<Request> for CallService<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static> + Clone + Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let prepared = self.layer.access.as_ref().and_then(|access| access.control.prepare(request.headers()));
        let Some(prepared) = prepared else { return self.begin(request) };
        // This service is the one that is ready; the clone is not.
        let inner = self.inner.clone();
        let mut service = Self { layer: self.layer.clone(), inner: std::mem::replace(&mut self.inner, inner) };
        Box::pin(async move {
            prepared.await;
            service.begin(request).await
        })
    }
}

type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// Reason why a call does not reach its handler.
enum Refusal {
    Rejected(Rejection),
    Denied(Box<Denied>),
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Self::Denied(Box::new(denied))
    }
}

impl<S> CallService<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>,
{
    fn begin(&mut self, mut request: Request) -> ResponseFuture {
        let CallLayer { metrics, principal_source, timeout, request_stall, .. } = &self.layer;
        let (mut call, checked) = Call::begin(metrics, &request, *principal_source, *timeout);
        let admitted = checked.map_err(Refusal::from).and_then(|()| self.layer.admit(&mut call, &mut request));
        match admitted {
            Ok(Some(permit)) => call.hold(permit),
            Ok(None) => {}
            Err(refusal) => {
                let response = match refusal {
                    Refusal::Rejected(rejection) => reject(&call, rejection),
                    Refusal::Denied(denied) => denied.response(call.protocol()),
                };
                return Box::pin(ready(Ok(respond(call, response))));
            }
        }
        let request = match (call.permit(), request_stall) {
            (Some(permit), Some(end)) => {
                let permit = Arc::clone(permit);
                request.map(|body| Body::new(slow_request::RequestBody::new(body, permit, *end)))
            }
            _ => request,
        };
        let response = self.inner.call(request);
        Box::pin(async move {
            let mut response = pin!(response);
            let response = poll_fn(|cx| {
                // A response that is ready wins over a deadline that just passed.
                match call.scope(|| response.as_mut().poll(cx)) {
                    Poll::Pending => call.poll_rejection(cx).map(|rejection| Ok(reject(&call, rejection))),
                    ready => ready,
                }
            });
            let response = response.await?;
            Ok(respond(call, response))
        })
    }
}

impl CallLayer {
    /// Checks host, peer, credentials, quotas and capacity, in this order, so that callers without credentials take no
    /// capacity.
    fn admit(&self, call: &mut Call, request: &mut Request) -> Result<Option<Arc<Permit>>, Refusal> {
        self.web_access.check(request)?;
        check_peer(request, self.peers.as_deref())?;
        self.authorize(call, request)?;
        if call.protocol() == Protocol::Http && is_grpc_route(request) {
            return Err(Rejection::NotGrpc.into());
        }
        Ok(self.admission.admit(request)?)
    }

    /// Puts the caller into the request, unless its method is open. Without access control, the caller is
    /// [`Identity::anonymous`].
    fn authorize(&self, call: &mut Call, request: &mut Request) -> Result<(), Denied> {
        let caller = match &self.access {
            None => Some(Arc::new(Caller::new(Identity::anonymous()))),
            // The browser sends no credentials with the request that asks whether a page may call.
            Some(_) if request.method() == Method::OPTIONS => None,
            Some(access) => authenticate(access, call, request)?,
        };
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        Ok(())
    }
}

/// Checks credentials, scope and quotas. Returns `None` if the method is open.
fn authenticate(access: &Access, call: &mut Call, request: &Request) -> Result<Option<Arc<Caller>>, Denied> {
    let is_served = request.extensions().get::<MatchedPath>().is_some();
    let requirement = match is_served {
        true => (access.requirement)(&call.required_method(request)),
        // Answers with "not found", but only to callers with credentials.
        false => Some(Requirement::Key),
    };
    if requirement == Some(Requirement::Open) {
        return Ok(None);
    }
    let identity = access.control.authenticate(request.method(), request.headers())?;
    let caller = Arc::new(Caller::new(identity));
    // From here on, the call counts as one of the caller, also if it is refused.
    call.audit_to(access, requirement, request);
    call.set_caller(Arc::clone(&caller));
    access.check_scope(&caller.identity, requirement, request.headers())?;
    call.set_lease(access.control.begin(&caller.identity)?);
    Ok(Some(caller))
}

/// Fails if only certain peers may call, and the certificate of the request's peer has none of their names.
fn check_peer(request: &Request, accepted: Option<&[String]>) -> Result<(), Rejection> {
    let Some(accepted) = accepted else { return Ok(()) };
    let peer = request.extensions().get::<PeerIdentity>().ok_or(Rejection::NoPeerCertificate)?;
    if peer.has_any(accepted) {
        return Ok(());
    }
    let names = if peer.names().is_empty() { "no name".to_owned() } else { peer.names().join(", ") };
    let accepted = accepted.join(", ");
    if let Some(suppressed) = FOREIGN_PEERS.permit(()) {
        tracing::warn!(names, accepted, suppressed, "refused a call: the caller's certificate has another name");
    }
    Err(Rejection::ForeignPeer { names, accepted })
}

/// Returns whether the request matched the route of a gRPC service. Such a route would answer an HTTP request with
/// status 200.
fn is_grpc_route(request: &Request) -> bool {
    request.extensions().get::<MatchedPath>().is_some_and(|path| path.as_str().ends_with("/{*rest}"))
}

/// Returns the response to a call that the server rejects, in the call's protocol.
fn reject(call: &Call, rejection: Rejection) -> Response {
    match call.protocol() {
        Protocol::Grpc => rejection.status().into_http(),
        Protocol::Http => rejection.problem().into_response().map(Body::from),
    }
}

/// Moves the call into the response's body, so that the call lasts until the body ends.
fn respond(mut call: Call, mut response: Response) -> Response {
    // The connection releases the permit if the response stalls.
    if let Some(permit) = call.permit() {
        response.extensions_mut().insert(Arc::clone(permit));
    }
    call.respond(response.status(), response.headers());
    response.headers_mut().extend(call.lease_headers());
    let length = response.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    response.map(|body| Body::new(CallBody::new(body, length, call)))
}

#[cfg(test)]
mod tests {
    use axum::body::{Bytes, HttpBody};
    use axum::http::{HeaderValue, StatusCode};
    use futures::StreamExt;
    use http_body::Frame;
    use tonic::{Code, Status};

    use super::*;
    use crate::Readiness;
    use crate::metrics::render;

    /// A gRPC stream of trailers alone, or a stream that never ends.
    enum Stream {
        Trailers,
        Ended,
        Endless,
    }

    impl HttpBody for Stream {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match *self {
                Self::Endless => return Poll::Pending,
                Self::Ended => return Poll::Ready(None),
                Self::Trailers => *self = Self::Ended,
            }
            let trailers = Status::ok("").into_http::<()>().into_parts().0.headers;
            Poll::Ready(Some(Ok(Frame::trailers(trailers))))
        }
    }

    fn layer(role: &'static str, timeout: Option<Duration>) -> CallLayer {
        let readiness = Readiness::default();
        readiness.set_ready();
        CallLayer {
            metrics: Arc::new(Metrics::new(role)),
            admission: Admission::new(readiness, 1, &[]),
            principal_source: PrincipalSource::Connection,
            web_access: Arc::default(),
            access: None,
            peers: None,
            timeout,
            request_stall: None,
        }
    }

    async fn call<S>(service: &mut S, request: Request) -> Response
    where
        S: Service<Request, Response = Response, Error = Infallible>,
    {
        service.call(request).await.unwrap_or_else(|never| match never {})
    }

    const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

    fn grpc_request() -> Request {
        let request = Request::post("/c3.v1.Gateway/Stat").header(header::CONTENT_TYPE, GRPC);
        request.body(Body::empty()).unwrap()
    }

    fn grpc_response(stream: Stream) -> Response {
        let response = Response::builder().header(header::CONTENT_TYPE, GRPC);
        response.body(Body::new(stream)).unwrap()
    }

    fn http_request() -> Request {
        Request::get("/v1/documents").body(Body::empty()).unwrap()
    }

    fn code(response: &Response) -> Option<Code> {
        Status::from_header_map(response.headers()).map(|status| status.code())
    }

    async fn frame(body: &mut Body) -> Option<Result<Frame<Bytes>, axum::Error>> {
        poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
    }

    #[tokio::test]
    async fn a_grpc_call_frees_its_permit_with_its_trailers() {
        let mut service = layer("grpc-permit", None)
            .layer(tower::service_fn(|_: Request| ready(Ok(grpc_response(Stream::Trailers)))));
        let first = call(&mut service, grpc_request()).await;
        assert_eq!(code(&first), None);
        assert_eq!(code(&call(&mut service, grpc_request()).await), Some(Code::ResourceExhausted));
        let mut body = first.into_body();
        assert!(frame(&mut body).await.unwrap().unwrap().is_trailers());
        assert_eq!(code(&call(&mut service, grpc_request()).await), None);
        drop(body);
        let metrics = render().unwrap();
        for (code, calls) in [("OK", 1), ("RESOURCE_EXHAUSTED", 1), ("CANCELLED", 1)] {
            let code = format!(r#"rpc_method="c3.v1.Gateway/Stat",rpc_response_status_code="{code}""#);
            let counts = |line: &&str| {
                let of_role =
                    line.starts_with("rpc_server_call_duration_seconds_count") && line.contains("grpc-permit");
                of_role && line.contains(&code) && line.ends_with(&format!(" {calls}"))
            };
            assert!(metrics.lines().any(|line| counts(&line)), "{code} in\n{metrics}");
        }
    }

    #[tokio::test]
    async fn an_http_call_frees_its_permit_at_the_end_of_its_body() {
        let mut service = layer("http-permit", None)
            .layer(tower::service_fn(|_: Request| ready(Ok(Response::new(Body::from("text"))))));
        let first = call(&mut service, http_request()).await;
        let refused = call(&mut service, http_request()).await;
        assert_eq!((first.status(), refused.status()), (StatusCode::OK, StatusCode::TOO_MANY_REQUESTS));
        assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
        let mut body = first.into_body();
        assert_eq!(frame(&mut body).await.unwrap().unwrap().into_data().unwrap(), "text");
        assert_eq!(call(&mut service, http_request()).await.status(), StatusCode::OK);
        drop((body, refused));
        let metrics = render().unwrap();
        let count = "rpc_server_call_duration_seconds_count";
        for labels in [
            r#"role="http-permit",rpc_method="_OTHER",rpc_response_status_code="200""#,
            r#"error_type="overloaded",role="http-permit",rpc_method="_OTHER",rpc_response_status_code="429""#,
            r#"error_type="cancelled",role="http-permit",rpc_method="_OTHER",rpc_response_status_code="499""#,
        ] {
            let expected = format!("{count}{{{labels},rpc_system_name=\"http\"}} 1\n");
            assert!(metrics.contains(&expected), "{expected} in\n{metrics}");
        }
    }

    /// A response that streams the four bytes of `text` and never ends, but states this length.
    fn streamed(length: u64) -> Response {
        let text = futures::stream::iter([Ok::<_, Infallible>("text")]).chain(futures::stream::pending());
        Response::builder().header(header::CONTENT_LENGTH, length).body(Body::from_stream(text)).unwrap()
    }

    #[tokio::test]
    async fn a_body_ends_with_the_last_byte_of_the_stated_length() {
        for (role, length, status) in [("whole-length", 4, "200"), ("part-of-length", 5, "499")] {
            let mut service = layer(role, None).layer(tower::service_fn(move |_: Request| ready(Ok(streamed(length)))));
            let mut body = call(&mut service, http_request()).await.into_body();
            assert_eq!(frame(&mut body).await.unwrap().unwrap().into_data().unwrap(), "text");
            assert_eq!(body.is_end_stream(), length == 4);
            drop(body);
            let labels = format!(r#"role="{role}",rpc_method="_OTHER",rpc_response_status_code="{status}""#);
            let metrics = render().unwrap();
            assert!(metrics.contains(&labels), "{labels} in\n{metrics}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_ends_a_stream_with_trailers_in_grpc_and_with_an_error_in_http() {
        let timeout = Some(Duration::from_secs(1));
        let mut grpc = layer("grpc-deadline", timeout)
            .layer(tower::service_fn(|_: Request| ready(Ok(grpc_response(Stream::Endless)))));
        let mut body = call(&mut grpc, grpc_request()).await.into_body();
        let trailers = frame(&mut body).await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(Status::from_header_map(&trailers).unwrap().code(), Code::DeadlineExceeded);

        let mut http = layer("http-deadline", timeout)
            .layer(tower::service_fn(|_: Request| ready(Ok(Response::new(Body::new(Stream::Endless))))));
        let mut body = call(&mut http, http_request()).await.into_body();
        assert!(frame(&mut body).await.unwrap().unwrap_err().to_string().contains("1000 ms"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_http_caller_sets_a_deadline_and_a_malformed_one_is_refused() {
        let mut service = layer("http-timeout", None)
            .layer(tower::service_fn(|_: Request| std::future::pending::<Result<Response, Infallible>>()));
        let mut request = |value: &'static str| {
            let mut request = http_request();
            request.headers_mut().insert("request-timeout", HeaderValue::from_static(value));
            service.call(request)
        };
        let begun = tokio::time::Instant::now();
        for (value, millis) in [("2", 2000), ("250ms", 250), ("0.5", 500)] {
            let begun = tokio::time::Instant::now();
            assert_eq!(request(value).await.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
            assert_eq!(begun.elapsed().as_millis(), millis, "{value}");
        }
        for malformed in ["soon", "-1", "", "NaN", "inf"] {
            assert_eq!(request(malformed).await.unwrap().status(), StatusCode::BAD_REQUEST, "{malformed}");
        }
        assert_eq!(begun.elapsed().as_millis(), 2750);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_before_the_response_is_reported_in_the_protocol_of_the_request() {
        let mut service = layer("no-response", Some(Duration::from_secs(1)))
            .layer(tower::service_fn(|_: Request| std::future::pending::<Result<Response, Infallible>>()));
        assert_eq!(code(&call(&mut service, grpc_request()).await), Some(Code::DeadlineExceeded));
        assert_eq!(call(&mut service, http_request()).await.status(), StatusCode::GATEWAY_TIMEOUT);
    }
}
