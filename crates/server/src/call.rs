//! One call, gRPC or HTTP, from its arrival to the last byte of its response.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use opentelemetry::{KeyValue, trace};
use tonic::{Code, Status};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::access::{Access, Caller, Lease, Requirement, Scope};
use crate::admission::Permit;
use crate::audit::{self, AuditLog};
use crate::deadline::{self, Deadline};
use crate::error::{ErrorKind, code_name};
use crate::metrics::Metrics;
use crate::principal::{Principal, PrincipalSource};
use crate::propagation;
use crate::rejection::Rejection;

/// Method label of calls that match no route. Callers choose the path, and each new path would add a time series.
const UNKNOWN_METHOD: &str = "_OTHER";

/// Protocol of a call, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    Http,
}

impl Protocol {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let is_grpc = |value: &[u8]| value.starts_with(b"application/grpc");
        if headers.get(CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes())) { Self::Grpc } else { Self::Http }
    }

    /// Returns the name in metrics and traces.
    fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

/// Final status of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Grpc(Code),
    Http(StatusCode),
}

impl Outcome {
    /// Returns the code in metrics and traces: `NOT_FOUND` for gRPC, `404` for HTTP.
    fn code(self) -> Cow<'static, str> {
        match self {
            Self::Grpc(code) => code_name(code).into(),
            Self::Http(status) => status.as_str().to_owned().into(),
        }
    }

    fn error_kind(self) -> Option<ErrorKind> {
        match self {
            Self::Grpc(Code::Ok) => None,
            Self::Grpc(code) => Some(ErrorKind::from_code(code)),
            Self::Http(status) if status.is_client_error() || status.is_server_error() => {
                Some(ErrorKind::from_http_status(status))
            }
            Self::Http(_) => None,
        }
    }

    /// Returns whether OpenTelemetry's conventions count the outcome as an error of the server.
    fn is_server_error(self) -> bool {
        match self {
            Self::Grpc(code) => matches!(
                code,
                Code::Unknown
                    | Code::DeadlineExceeded
                    | Code::Unimplemented
                    | Code::Internal
                    | Code::Unavailable
                    | Code::DataLoss
            ),
            Self::Http(status) => status.is_server_error(),
        }
    }
}

/// A call in flight. Metrics count it when it is dropped: after its last byte, or when its caller cancels.
pub(crate) struct Call {
    metrics: Arc<Metrics>,
    method: String,
    protocol: Protocol,
    /// Status in the head of an HTTP response; it becomes the outcome when the body ends.
    http_status: StatusCode,
    outcome: Option<Outcome>,
    span: Span,
    started: Instant,
    deadline: Option<Deadline>,
    principal: Principal,
    permit: Option<Arc<Permit>>,
    revoked: Option<Pin<Box<dyn Future<Output = Rejection> + Send>>>,
    /// `None` without access control, for an open method, and for a caller without valid credentials.
    caller: Option<Arc<Caller>>,
    lease: Option<Lease>,
    /// Log to which the call is written when it ends, and the path of an HTTP request.
    audit: Option<(Arc<AuditLog>, String)>,
}

impl Call {
    /// Begins a call. Also returns the reason to reject it if its deadline is malformed.
    pub(crate) fn begin(
        metrics: &Arc<Metrics>,
        request: &Request,
        source: PrincipalSource,
        timeout: Option<Duration>,
    ) -> (Self, Result<(), Rejection>) {
        let protocol = Protocol::of(request.headers());
        let method = method(request, protocol);
        metrics.call_began();
        let (requested, checked) = match protocol {
            Protocol::Grpc => (deadline::grpc_timeout(request.headers()), Ok(())),
            Protocol::Http => match deadline::request_timeout(request.headers()) {
                Ok(requested) => (requested, Ok(())),
                Err(rejection) => (None, Err(rejection)),
            },
        };
        let call = Self {
            metrics: Arc::clone(metrics),
            span: span(&method, protocol, request.headers()),
            method,
            protocol,
            http_status: StatusCode::OK,
            outcome: None,
            started: Instant::now(),
            deadline: Deadline::earlier(requested, timeout),
            principal: Principal::from_request(request, source),
            permit: None,
            revoked: None,
            caller: None,
            lease: None,
            audit: None,
        };
        (call, checked)
    }

    /// Holds the permit until the call ends.
    pub(crate) fn hold(&mut self, permit: Arc<Permit>) {
        self.revoked = Some(Box::pin(permit.revoked()));
        self.permit = Some(permit);
    }

    /// Returns the method whose requirement applies. HEAD is served as GET.
    pub(crate) fn required_method(&self, request: &Request) -> Cow<'_, str> {
        match self.method.strip_prefix("HEAD ") {
            Some(route) if request.method() == Method::HEAD => format!("GET {route}").into(),
            _ => self.method.as_str().into(),
        }
    }

    /// Records the call in the audit log when it ends, if its method deletes or maintains.
    pub(crate) fn audit_to(&mut self, access: &Access, requirement: Option<Requirement>, request: &Request) {
        let is_audited = matches!(requirement, Some(Requirement::Scope(Scope::Delete | Scope::Admin)));
        let log = access.audit.clone().filter(|_| is_audited);
        self.audit = log.map(|log| (log, request.uri().path().to_owned()));
    }

    /// Sets the caller. The principal becomes the tenant, so nodes divide their time fairly among tenants.
    pub(crate) fn set_caller(&mut self, caller: Arc<Caller>) {
        self.principal = Principal::of_tenant(&caller.identity.tenant);
        self.span.set_attribute("c3.tenant", caller.identity.tenant.to_string());
        self.span.set_attribute("c3.key", caller.identity.name.clone());
        self.caller = Some(caller);
    }

    /// Holds a share of the tenant's quotas until the call ends.
    pub(crate) fn set_lease(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// Returns the headers that tell what is left of the quotas.
    pub(crate) fn lease_headers(&mut self) -> Vec<(HeaderName, HeaderValue)> {
        self.lease.as_mut().map(|lease| std::mem::take(&mut lease.headers)).unwrap_or_default()
    }

    pub(crate) fn permit(&self) -> Option<&Arc<Permit>> {
        self.permit.as_ref()
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Runs `work` in the call's span, under its deadline, for its principal.
    pub(crate) fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        let work = || self.principal.scope(|| self.span.in_scope(work));
        Deadline::scope(self.deadline.as_ref(), work)
    }

    /// Becomes ready when the server must end the call: at its deadline, or when its permit is revoked.
    pub(crate) fn poll_rejection(&mut self, cx: &mut Context<'_>) -> Poll<Rejection> {
        if let Some(Poll::Ready(rejection)) = self.deadline.as_mut().map(|deadline| deadline.poll(cx)) {
            return Poll::Ready(rejection);
        }
        self.revoked.as_mut().map_or(Poll::Pending, |revoked| revoked.as_mut().poll(cx))
    }

    /// Records a response's head. A call that fails before its stream begins ends here.
    pub(crate) fn respond(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.protocol = Protocol::of(headers);
        self.http_status = status;
        if self.protocol == Protocol::Http && (status.is_client_error() || status.is_server_error()) {
            self.end(Outcome::Http(status));
        }
        self.trailers(headers);
    }

    /// Records trailers, which end a gRPC call.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        if self.protocol == Protocol::Grpc
            && let Some(status) = Status::from_header_map(trailers)
        {
            self.end(Outcome::Grpc(status.code()));
        }
    }

    /// Records the end of the body, which ends an HTTP call.
    pub(crate) fn end_of_body(&mut self) {
        if self.protocol == Protocol::Http && self.outcome.is_none() {
            self.end(Outcome::Http(self.http_status));
        }
    }

    /// Records an error that ends the body early, and thus ends the call.
    pub(crate) fn body_failed(&mut self, kind: ErrorKind) {
        self.end(match self.protocol {
            Protocol::Grpc => Outcome::Grpc(kind.grpc_code()),
            Protocol::Http => Outcome::Http(kind.http_status()),
        });
    }

    /// Records the outcome. Releases the permit immediately, because the caller may send its next call as soon as it
    /// has read the outcome.
    fn end(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
        self.revoked = None;
        if let Some(lease) = &mut self.lease {
            lease.guard = Box::new(());
        }
        self.permit.take().inspect(|permit| permit.release());
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.outcome.is_none() {
            self.body_failed(ErrorKind::Cancelled);
        }
        let Some(outcome) = self.outcome else { return };
        let duration = self.started.elapsed();
        let error = outcome.error_kind().map(|kind| KeyValue::new("error.type", kind.as_str()));
        match outcome {
            Outcome::Grpc(code) => self.span.set_attribute("rpc.response.status_code", code_name(code)),
            Outcome::Http(status) => {
                self.span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
            }
        }
        if let Some(error) = &error {
            self.span.set_attribute(error.key.clone(), error.value.clone());
        }
        if outcome.is_server_error() {
            self.span.set_status(trace::Status::error(""));
        }
        let seconds = duration.as_secs_f64();
        self.span.in_scope(|| tracing::debug!(outcome = %outcome.code(), seconds, "call ended"));
        if let (Some((log, path)), Some(caller)) = (&self.audit, &self.caller) {
            let path = (self.protocol == Protocol::Http).then_some(path.as_str());
            log.record(&audit::Entry {
                time: audit::now(),
                tenant: caller.identity.tenant.as_str(),
                key: &caller.identity.name,
                method: &self.method,
                subject: caller.subject().or(path),
                outcome: &outcome.code(),
            });
        }
        let is_unknown = outcome == Outcome::Grpc(Code::Unimplemented);
        let method = if is_unknown { UNKNOWN_METHOD.to_owned() } else { std::mem::take(&mut self.method) };
        let mut attributes = vec![
            KeyValue::new("rpc.system.name", self.protocol.as_str()),
            KeyValue::new("rpc.method", method),
            KeyValue::new("rpc.response.status_code", outcome.code()),
        ];
        attributes.extend(error);
        if let Some(caller) = &self.caller {
            self.metrics.tenant_call(&caller.identity.tenant, outcome.code());
        }
        self.span.in_scope(|| self.metrics.call_ended(attributes, duration));
    }
}

/// Names the method in metrics and traces: `c3.v1.Gateway/Stat` for gRPC, `GET /v1/documents/{id}` for HTTP.
fn method(request: &Request, protocol: Protocol) -> String {
    match (protocol, request.extensions().get::<MatchedPath>()) {
        (Protocol::Grpc, _) => request.uri().path().trim_start_matches('/').to_owned(),
        (Protocol::Http, Some(path)) => format!("{} {}", request.method(), path.as_str()),
        (Protocol::Http, None) => UNKNOWN_METHOD.to_owned(),
    }
}

fn span(method: &str, protocol: Protocol, headers: &HeaderMap) -> Span {
    // At debug level to keep spans out of the default log: formatting a span takes 5 % of a small call's time.
    let span = tracing::debug_span!("call", otel.name = method, otel.kind = "server");
    // Setting a parent fails if traces are off. Attributes would then have no effect.
    if !span.is_disabled() && span.set_parent(propagation::extract(headers)).is_ok() {
        // Attribute names of OpenTelemetry's semantic conventions for gRPC and HTTP servers.
        match protocol {
            Protocol::Grpc => {
                span.set_attribute("rpc.system.name", protocol.as_str());
                span.set_attribute("rpc.method", method.to_owned());
            }
            Protocol::Http => {
                let (verb, route) = method.split_once(' ').unwrap_or(("", method));
                span.set_attribute("http.request.method", verb.to_owned());
                span.set_attribute("http.route", route.to_owned());
            }
        }
    }
    span
}
