//! The layer that admits calls: not before the server is ready, not while it drains, and a bounded number at once.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

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
    // Cheap, and how a caller learns that a node is busy or about to stop: never refused for being busy.
    if request.uri().path().ends_with("/Describe") {
        return match gate.readiness.check_for_more() {
            Ok(()) => next.run(request).await,
            Err(status) => status.into_http(),
        };
    }
    if let Err(status) = gate.readiness.check() {
        return status.into_http();
    }
    match gate.calls.try_acquire_owned() {
        Ok(place) => {
            let mut place = Place { _place: place, stalled: Box::pin(gate.readiness.stalled()) };
            tokio::select! {
                biased;
                response = next.run(request) => watched(response, place),
                status = &mut place.stalled => status.into_http(),
            }
        }
        Err(_) => Kind::Full { retry_after_ms: RETRY_AFTER_MS }
            .status("all of the server's places for calls are taken: try again later")
            .into_http(),
    }
}

/// A call's place, which it loses where the server stalls.
struct Place {
    _place: OwnedSemaphorePermit,
    stalled: Pin<Box<dyn Future<Output = Status> + Send>>,
}

impl Watch for Place {
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        self.stalled.as_mut().poll(cx)
    }
}
