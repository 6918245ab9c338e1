//! The layer that admits calls: not before the server is ready, not while it drains, and a bounded number at once.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    Kind, Readiness,
    body::{Watch, watched},
};

/// What a caller that finds all places taken waits before it tries again.
const RETRY_AFTER_MS: u64 = 1000;

/// Who may come in.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    readiness: Readiness,
    calls: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new(readiness: Readiness, calls_max: usize) -> Self {
        Self { readiness, calls: Arc::new(Semaphore::new(calls_max)) }
    }
}

/// Admits a call, whose place is taken until its stream ends, or refuses it.
pub(crate) async fn admit(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    if let Err(status) = gate.readiness.check() {
        return status.into_http();
    }
    // Cheap, and how a caller learns that a node is busy: never refused for being busy.
    if request.uri().path().ends_with("/Describe") {
        return next.run(request).await;
    }
    match gate.calls.try_acquire_owned() {
        Ok(place) => watched(next.run(request).await, place),
        Err(_) => Kind::Full { retry_after_ms: RETRY_AFTER_MS }
            .status("all of the server's places for calls are taken: try again later")
            .into_http(),
    }
}

impl Watch for OwnedSemaphorePermit {}
