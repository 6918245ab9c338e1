//! Loading → ready ⇄ stalled → settling → draining → over. gRPC health and admission follow it.

use std::sync::Arc;

use tokio::sync::watch;
use tonic::Status;

use crate::Kind;

/// Where a server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Loading,
    Ready,
    /// What it computes on does not come back: calls are refused, and those in flight end.
    Stalled,
    /// It is asked to stop, and says so to whoever asks how it is; calls are still taken from those who do not know.
    Settling,
    Draining,
    /// Calls in flight had their time and end.
    Over,
}

/// A handle on whether a server takes calls; clones speak of the same server.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<State>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State::Loading)))
    }
}

impl Readiness {
    /// The server takes calls from now on, unless it drains already.
    pub fn set_ready(&self) {
        self.0.send_if_modified(|state| {
            let loading = *state == State::Loading;
            if loading {
                *state = State::Ready;
            }
            loading
        });
    }

    /// Whether what the server computes on hangs, as a device may. Calls are refused for as long as it does.
    pub fn set_stalled(&self, stalled: bool) {
        let [from, to] =
            if stalled { [State::Ready, State::Stalled] } else { [State::Stalled, State::Ready] };
        self.0.send_if_modified(|state| {
            let changes = *state == from;
            if changes {
                *state = to;
            }
            changes
        });
    }

    /// UNAVAILABLE where callers are to look elsewhere, whether or not calls are still taken.
    pub(crate) fn check_for_more(&self) -> Result<(), Status> {
        match *self.0.borrow() {
            State::Settling => Err(stopping()),
            _ => self.check(),
        }
    }

    /// UNAVAILABLE unless the server takes calls.
    pub fn check(&self) -> Result<(), Status> {
        match *self.0.borrow() {
            State::Ready | State::Settling => Ok(()),
            State::Stalled => Err(stalled()),
            State::Loading => Err(Kind::Unavailable.status("the server is loading: try again later")),
            State::Draining | State::Over => Err(stopping()),
        }
    }

    pub(crate) fn set_settling(&self) {
        self.0.send_replace(State::Settling);
    }

    pub(crate) fn set_draining(&self) {
        self.0.send_replace(State::Draining);
    }

    pub(crate) fn set_over(&self) {
        self.0.send_replace(State::Over);
    }

    /// Waits until calls in flight are to end, and says why.
    pub(crate) async fn end_of_calls(self) -> Status {
        let mut states = self.0.subscribe();
        let ends = |state: &State| matches!(state, State::Stalled | State::Over);
        // Never errs: this handle keeps the sender.
        let state = states.wait_for(ends).await.map_or(State::Over, |state| *state);
        if state == State::Stalled { stalled() } else { stopping() }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }
}

fn stopping() -> Status {
    Kind::Unavailable.status("the server is stopping: try another")
}

fn stalled() -> Status {
    Kind::Unavailable.status("what the server computes on hangs: try another")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_drains_never_becomes_ready_again() {
        let readiness = Readiness::default();
        assert!(readiness.check().unwrap_err().message().contains("loading"));
        readiness.set_ready();
        assert!(readiness.check().is_ok());
        readiness.set_settling();
        assert!(readiness.check().is_ok() && readiness.check_for_more().is_err());
        readiness.set_draining();
        readiness.set_ready();
        readiness.set_stalled(false);
        assert!(readiness.check().unwrap_err().message().contains("stopping"));
    }

    #[tokio::test]
    async fn a_server_that_stalls_ends_its_calls_and_takes_some_again_when_it_goes_on() {
        let readiness = Readiness::default();
        readiness.set_ready();
        let in_flight = tokio::spawn(readiness.clone().end_of_calls());
        readiness.set_stalled(true);
        assert!(in_flight.await.unwrap().message().contains("hangs"));
        assert!(readiness.check().is_err());
        readiness.set_stalled(false);
        assert!(readiness.check().is_ok());
    }
}
