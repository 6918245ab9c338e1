//! Admission control: refuses calls while the server is not ready, bounds concurrent calls, and divides scarce permits
//! evenly among connections.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use http::Request;

use crate::{
    Readiness,
    error::Rejection,
    principal::{InFlightCounts, Principal},
};

/// Decides whether a call is served.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    readiness: Readiness,
    permits: Arc<Permits>,
    probe_paths: &'static [&'static str],
}

impl Admission {
    /// Admits up to `calls_max` concurrent calls. Calls on `probe_paths` need no permit.
    pub(crate) fn new(readiness: Readiness, calls_max: usize, probe_paths: &'static [&'static str]) -> Self {
        Self { readiness, permits: Arc::new(Permits { max: calls_max, state: Mutex::default() }), probe_paths }
    }

    /// Returns a permit for the call, or `None` if it needs none.
    pub(crate) fn admit<B>(&self, request: &Request<B>) -> Result<Option<Permit>, Rejection> {
        // Load balancers learn from probes that a server is busy or about to stop, so probes need no permit.
        if self.probe_paths.contains(&request.uri().path()) {
            return self.readiness.check_probe().map(|()| None);
        }
        self.readiness.check()?;
        let connection = Principal::connection(request);
        self.permits.acquire(connection)?;
        let revoked = Box::pin(self.readiness.clone().revoked());
        Ok(Some(Permit { permits: Arc::clone(&self.permits), connection, revoked }))
    }
}

#[derive(Debug)]
struct Permits {
    max: usize,
    state: Mutex<Acquired>,
}

#[derive(Debug, Default)]
struct Acquired {
    total: usize,
    by_connection: InFlightCounts,
}

impl Permits {
    /// Takes a permit. While more than half of the permits are free, any connection may take one. Otherwise a
    /// connection may only take one while it has less than an equal share of all permits.
    fn acquire(&self, connection: Principal) -> Result<(), Rejection> {
        let mut acquired = self.lock();
        let own = acquired.by_connection.count(connection);
        let connections = acquired.by_connection.principals() + usize::from(own == 0);
        if acquired.total >= self.max {
            return Err(Rejection::AtCapacity);
        }
        if 2 * acquired.total >= self.max && own >= self.max.div_ceil(connections) {
            return Err(Rejection::ShareExceeded);
        }
        acquired.total += 1;
        acquired.by_connection.add(connection);
        Ok(())
    }

    fn release(&self, connection: Principal) {
        let mut acquired = self.lock();
        acquired.total -= 1;
        acquired.by_connection.remove(connection);
    }

    fn lock(&self) -> MutexGuard<'_, Acquired> {
        // No code that holds this lock panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's permit, released on drop. It is revoked when the server stalls or the drain timeout passes.
pub(crate) struct Permit {
    permits: Arc<Permits>,
    connection: Principal,
    revoked: Pin<Box<dyn Future<Output = Rejection> + Send>>,
}

impl Permit {
    pub(crate) fn poll_revoked(&mut self, cx: &mut Context<'_>) -> Poll<Rejection> {
        self.revoked.as_mut().poll(cx)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.release(self.connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECTIONS: [Principal; 2] = [Principal(1), Principal(2)];

    #[test]
    fn one_connection_may_take_all_permits_and_gives_way_to_another() {
        let permits = Permits { max: 8, state: Mutex::default() };
        let [greedy, other] = CONNECTIONS;
        (0..8).for_each(|_| permits.acquire(greedy).unwrap());
        assert_eq!(permits.acquire(other), Err(Rejection::AtCapacity));
        permits.release(greedy);
        permits.acquire(other).unwrap();
        for _ in 0..3 {
            // Released permits go to the other connection until both have their share.
            permits.release(greedy);
            assert_eq!(permits.acquire(greedy), Err(Rejection::ShareExceeded));
            permits.acquire(other).unwrap();
        }
        permits.release(greedy);
        permits.acquire(greedy).unwrap();
        assert!(permits.acquire(other).is_err());
        (0..4).for_each(|_| CONNECTIONS.into_iter().for_each(|connection| permits.release(connection)));
        let acquired = permits.lock();
        assert!(acquired.total == 0 && acquired.by_connection.principals() == 0);
    }

    #[test]
    fn a_probe_needs_no_permit_but_fails_once_the_server_announces_its_end() {
        let readiness = Readiness::default();
        let admission = Admission::new(readiness.clone(), 1, &["/c3.v1.Decoder/Describe"]);
        let admit = |path| admission.admit(&Request::get(path).body(()).unwrap());
        let rejection = |path| admit(path).map(drop).unwrap_err();
        assert_eq!(rejection("/c3.v1.Decoder/Describe"), Rejection::Loading);
        readiness.set_ready();
        let call = admit("/c3.v1.Decoder/Decode").unwrap();
        assert!(call.is_some());
        assert_eq!(rejection("/c3.v1.Decoder/Decode"), Rejection::AtCapacity);
        assert!(admit("/c3.v1.Decoder/Describe").unwrap().is_none());
        drop(call);
        readiness.set_shutdown_announced();
        assert!(admit("/c3.v1.Decoder/Decode").is_ok());
        assert_eq!(rejection("/c3.v1.Decoder/Describe"), Rejection::Stopping);
    }
}
