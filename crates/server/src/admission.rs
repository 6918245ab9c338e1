//! Admission control: refuses calls while the server is not ready, bounds concurrent calls, and divides permits among
//! connections.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Request;

use crate::Readiness;
use crate::principal::{InFlightCounts, Principal};
use crate::rejection::Rejection;

/// A connection gets another permit only while it holds fewer than this multiple of the free permits (a dynamic
/// threshold after Choudhury and Hahne). One connection alone can therefore hold three quarters of all permits, and two
/// can hold three sevenths each. Unless there are very few permits, some stay free for a newcomer, even if the first
/// connection took its share while all permits were free.
const SHARE_OF_FREE: usize = 3;

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
    pub(crate) fn admit<B>(&self, request: &Request<B>) -> Result<Option<Arc<Permit>>, Rejection> {
        // Load balancers learn from probes that a server is busy or about to stop, so probes need no permit.
        if self.probe_paths.contains(&request.uri().path()) {
            return self.readiness.check_probe().map(|()| None);
        }
        self.readiness.check()?;
        let connection = Principal::connection(request);
        self.permits.acquire(connection)?;
        let (permits, readiness) = (Arc::clone(&self.permits), self.readiness.clone());
        Ok(Some(Arc::new(Permit { permits, readiness, connection, released: AtomicBool::new(false) })))
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
    /// Calls without a permit whose callers send their requests slowly. At most as many as there are permits.
    slow: usize,
}

impl Permits {
    fn acquire(&self, connection: Principal) -> Result<(), Rejection> {
        let mut acquired = self.lock();
        let free = self.max - acquired.total;
        if free == 0 {
            return Err(Rejection::AtCapacity);
        }
        if acquired.by_connection.count(connection) >= SHARE_OF_FREE * free {
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

    fn acquire_slow(&self) -> bool {
        let mut acquired = self.lock();
        let is_free = acquired.slow < self.max;
        acquired.slow += usize::from(is_free);
        is_free
    }

    fn lock(&self) -> MutexGuard<'_, Acquired> {
        // No code that holds this lock panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's permit, released on drop unless it was released before.
#[derive(Debug)]
pub(crate) struct Permit {
    permits: Arc<Permits>,
    readiness: Readiness,
    connection: Principal,
    released: AtomicBool,
}

impl Permit {
    /// Releases the permit, although the call may go on.
    pub(crate) fn release(&self) {
        if !self.released.swap(true, Ordering::Relaxed) {
            self.permits.release(self.connection);
        }
    }

    /// Releases the permit of a call whose caller sends its request slowly, and returns a slot among the slow calls.
    /// Returns `None` if there are as many slow calls as permits: the call must then end.
    pub(crate) fn release_slow(&self) -> Option<SlowSlot> {
        let slot = self.permits.acquire_slow().then(|| SlowSlot { permits: Arc::clone(&self.permits) });
        self.release();
        slot
    }

    /// Waits until the server stalls or the drain timeout passes: the call must then end early. Returns the reason.
    pub(crate) fn revoked(&self) -> impl Future<Output = Rejection> + Send + use<> {
        self.readiness.clone().revoked()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.release();
    }
}

/// Slot of a slow call, released on drop.
#[derive(Debug)]
pub(crate) struct SlowSlot {
    permits: Arc<Permits>,
}

impl Drop for SlowSlot {
    fn drop(&mut self) {
        self.permits.lock().slow -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greedy_connection_leaves_room_and_gives_way_to_others() {
        let permits = Permits { max: 8, state: Mutex::default() };
        let [greedy, other, newcomer] = [1, 2, 3].map(Principal);
        let take_all = |connection| std::iter::from_fn(|| permits.acquire(connection).ok()).count();
        assert_eq!(take_all(greedy), 6);
        assert_eq!(permits.acquire(greedy), Err(Rejection::ShareExceeded));
        assert_eq!(take_all(other), 2);
        assert_eq!(permits.acquire(newcomer), Err(Rejection::AtCapacity));
        // A released permit goes to the other connection, and the next one to a newcomer: both now have their share.
        permits.release(greedy);
        assert_eq!(permits.acquire(greedy), Err(Rejection::ShareExceeded));
        permits.acquire(other).unwrap();
        permits.release(greedy);
        assert_eq!([greedy, other].map(|one| permits.acquire(one)), [const { Err(Rejection::ShareExceeded) }; 2]);
        permits.acquire(newcomer).unwrap();
        let held = [[greedy; 4].as_slice(), &[other; 3], &[newcomer]].concat();
        held.into_iter().for_each(|connection| permits.release(connection));
        let acquired = permits.lock();
        assert!(acquired.total == 0 && acquired.by_connection.principals() == 0);
    }

    #[test]
    fn a_permit_is_released_once() {
        let readiness = Readiness::default();
        readiness.set_ready();
        let admission = Admission::new(readiness, 1, &[]);
        let admit = || admission.admit(&Request::get("/").body(()).unwrap());
        let stalled = admit().unwrap().unwrap();
        assert!(admit().is_err());
        stalled.release();
        let next = admit().unwrap();
        drop(stalled);
        assert!(admit().is_err());
        drop(next);
        assert!(admit().is_ok());
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
