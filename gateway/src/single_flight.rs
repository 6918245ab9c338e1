//! Single flight: if several requests need the same work at the same time, it runs once, and all get its result.

use std::hash::Hash;

use c3_server::principal;
use dashmap::{DashMap, Entry};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

type Flight<V> = Shared<BoxFuture<'static, V>>;
type WeakFlight<V> = WeakShared<BoxFuture<'static, V>>;

/// Work in flight, by key.
///
/// The map has only weak references, so a flight is aborted when the last request that waits for it is dropped.
pub(crate) struct SingleFlight<K: Eq + Hash, V> {
    flights: DashMap<K, WeakFlight<V>>,
}

impl<K: Eq + Hash + Clone, V: Clone + Send + Sync + 'static> SingleFlight<K, V> {
    pub(crate) fn new() -> Self {
        Self { flights: DashMap::new() }
    }

    /// Waits for the flight with this key and returns its result. If there is none, starts `work` as a new flight.
    ///
    /// A flight is a separate task, so a caller that stops polling does not delay other callers. If the task panics,
    /// the result is `panicked()`.
    pub(crate) async fn run<W>(&self, key: K, work: W, panicked: fn() -> V) -> V
    where
        W: Future<Output = V> + Send + 'static,
    {
        let flight = match self.flights.entry(key.clone()) {
            Entry::Occupied(mut entry) => entry.get().upgrade().unwrap_or_else(|| {
                let (flight, weak) = start(work, panicked);
                entry.insert(weak);
                flight
            }),
            Entry::Vacant(entry) => {
                let (flight, weak) = start(work, panicked);
                entry.insert(weak);
                flight
            }
        };
        let guard = FlightGuard { flights: &self.flights, key, flight: Some(flight.clone()) };
        let result = flight.await;
        drop(guard);
        result
    }
}

fn start<V, W>(work: W, panicked: fn() -> V) -> (Flight<V>, WeakFlight<V>)
where
    V: Clone + Send + Sync + 'static,
    W: Future<Output = V> + Send + 'static,
{
    // The nodes attribute the work to the principal of the first caller.
    let task = AbortOnDropHandle::new(tokio::spawn(principal::inherit(work.in_current_span())));
    let flight = task.map(move |joined| joined.unwrap_or_else(|_| panicked())).boxed().shared();
    let weak = flight.downgrade().expect("a future that was not polled yet can be downgraded");
    (flight, weak)
}

/// Removes a flight from the map once its last caller has the result or is dropped.
struct FlightGuard<'a, K: Eq + Hash, V: Clone> {
    flights: &'a DashMap<K, WeakFlight<V>>,
    key: K,
    flight: Option<Flight<V>>,
}

impl<K: Eq + Hash, V: Clone> Drop for FlightGuard<'_, K, V> {
    fn drop(&mut self) {
        self.flight = None;
        self.flights.remove_if(&self.key, |_, weak| weak.upgrade().is_none());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[derive(Default)]
    struct Work {
        runs: AtomicU32,
        go: Notify,
        started: Notify,
    }

    impl Work {
        async fn run(self: Arc<Self>) -> u32 {
            let run = self.runs.fetch_add(1, Ordering::SeqCst);
            self.started.notify_one();
            self.go.notified().await;
            run
        }
    }

    #[tokio::test]
    async fn work_survives_the_caller_that_began_it() {
        let (flights, work) = (Arc::new(SingleFlight::new()), Arc::new(Work::default()));
        let call = || {
            let (flights, work) = (Arc::clone(&flights), Arc::clone(&work));
            tokio::spawn(async move { flights.run("key", work.run(), || 99).await })
        };
        let first = call();
        work.started.notified().await;
        let second = call();
        while flights.flights.get("key").and_then(|weak| weak.upgrade()).is_none_or(|f| f.strong_count() < Some(4)) {
            tokio::task::yield_now().await;
        }
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        work.go.notify_one();
        assert_eq!(second.await.unwrap(), 0);
        assert_eq!(work.runs.load(Ordering::SeqCst), 1);
        assert!(flights.flights.is_empty());
    }

    #[tokio::test]
    async fn work_nobody_waits_for_is_aborted_and_forgotten() {
        let (flights, work) = (Arc::new(SingleFlight::new()), Arc::new(Work::default()));
        let waiting = {
            let (flights, work) = (Arc::clone(&flights), Arc::clone(&work));
            tokio::spawn(async move { flights.run("key", work.run(), || 99).await })
        };
        work.started.notified().await;
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        assert!(flights.flights.is_empty());
        while Arc::strong_count(&work) > 1 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_panic_reaches_every_caller_as_a_result() {
        let flights = SingleFlight::new();
        assert_eq!(flights.run("key", async { panic!("work panics") }, || 99).await, 99);
    }
}
