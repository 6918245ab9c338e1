//! Who is admitted: nobody before the server is ready or while it drains, and a bounded number at once, of which no
//! caller has more than its share once they are scarce.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use http::Request;
use tonic::Status;

use crate::{
    Kind, Readiness,
    caller::{Caller, InFlight},
};

/// What a caller that finds all places taken waits before it tries again.
const RETRY_AFTER_MS: u64 = 1000;

/// Who may come in.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    readiness: Readiness,
    places: Arc<Places>,
}

impl Gate {
    pub(crate) fn new(readiness: Readiness, calls_max: usize) -> Self {
        Self { readiness, places: Arc::new(Places { most: calls_max, taken: Mutex::default() }) }
    }

    /// A place for a call, where it needs one, or why there is none.
    pub(crate) fn admit<B>(&self, request: &Request<B>) -> Result<Option<Place>, Status> {
        // Cheap, and how a caller learns that a node is busy or about to stop: never refused for being busy.
        if request.uri().path().ends_with("/Describe") {
            return self.readiness.check_for_more().map(|()| None);
        }
        self.readiness.check()?;
        let caller = Caller::connection(request);
        self.places.take(caller).map_err(|what| {
            Kind::Full { retry_after_ms: RETRY_AFTER_MS }.status(format!("{what}: try again later"))
        })?;
        let lost = Box::pin(self.readiness.clone().end_of_calls());
        Ok(Some(Place { places: Arc::clone(&self.places), caller, lost }))
    }
}

#[derive(Debug)]
struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_caller: InFlight,
}

impl Places {
    /// Takes a place, or says what is lacking. While half of the places are free anybody may have them; then only who has
    /// less than an equal share.
    fn take(&self, caller: Caller) -> Result<(), &'static str> {
        let mut taken = self.lock();
        let mine = taken.by_caller.of(caller);
        let callers = taken.by_caller.callers() + usize::from(mine == 0);
        if taken.all >= self.most {
            return Err("all of the server's places for calls are taken");
        }
        if 2 * taken.all >= self.most && mine >= self.most.div_ceil(callers) {
            return Err("this connection has its share of the server's places for calls");
        }
        taken.all += 1;
        taken.by_caller.begin(caller);
        Ok(())
    }

    fn give_back(&self, caller: Caller) {
        let mut taken = self.lock();
        taken.all -= 1;
        taken.by_caller.end(caller);
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Nothing panics while it holds the lock.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's place, which it loses where the server stalls, or stops before the call ends.
pub(crate) struct Place {
    places: Arc<Places>,
    caller: Caller,
    lost: Pin<Box<dyn Future<Output = Status> + Send>>,
}

impl Place {
    pub(crate) fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        self.lost.as_mut().poll(cx)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.give_back(self.caller);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLERS: [Caller; 2] = [Caller(1), Caller(2)];

    #[test]
    fn one_caller_alone_has_all_places_and_gives_way_to_another() {
        let places = Places { most: 8, taken: Mutex::default() };
        let [greedy, other] = CALLERS;
        (0..8).for_each(|_| places.take(greedy).unwrap());
        assert!(places.take(other).unwrap_err().contains("all"));
        places.give_back(greedy);
        places.take(other).unwrap();
        for _ in 0..3 {
            // What the one gives back goes to the other until each has its share.
            places.give_back(greedy);
            assert!(places.take(greedy).unwrap_err().contains("share"));
            places.take(other).unwrap();
        }
        places.give_back(greedy);
        places.take(greedy).unwrap();
        assert!(places.take(other).is_err());
        (0..4).for_each(|_| CALLERS.into_iter().for_each(|caller| places.give_back(caller)));
        let taken = places.lock();
        assert!(taken.all == 0 && taken.by_caller.callers() == 0);
    }
}
