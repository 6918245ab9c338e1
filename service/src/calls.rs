//! The layer that sees every call: its span, whose parent is the caller's, and its numbers.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::HeaderMap;
use tonic::{Code, Status};
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::{
    body::{Watch, watched},
    metrics::Metrics,
    propagation,
};

/// Traces and counts a call until its last byte, or until its caller leaves.
pub(crate) async fn observe(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let method = request.uri().path().trim_start_matches('/').to_owned();
    let span = span(&method, request.headers());
    let mut outcome = Outcome { metrics, method, span, started: Instant::now(), code: None };
    let response = next.run(request).instrument(outcome.span.clone()).await;
    // A call that fails before its stream begins has its status in the headers.
    outcome.ended(response.headers());
    watched(response, outcome)
}

fn span(method: &str, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!("rpc", otel.name = method, otel.kind = "server");
    // Fails where traces are off: there is no parent to set then, and what follows does nothing. Log lines name the call
    // by its method alone, so the rest is no field: each would be written out for every call.
    if span.set_parent(propagation::extract(headers)).is_ok() {
        let (service, name) = method.split_once('/').unwrap_or((method, ""));
        // OpenTelemetry's names for server spans of gRPC.
        span.set_attribute("rpc.system", "grpc");
        span.set_attribute("rpc.service", service.to_owned());
        span.set_attribute("rpc.method", name.to_owned());
    }
    span
}

/// How a call ended; told when the call is dropped, whatever the reason.
struct Outcome {
    metrics: Arc<Metrics>,
    method: String,
    span: Span,
    started: Instant,
    code: Option<Code>,
}

impl Watch for Outcome {
    fn span(&self) -> Span {
        self.span.clone()
    }

    fn ended(&mut self, trailers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(trailers) {
            self.code = Some(status.code());
        }
    }
}

impl Drop for Outcome {
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
