//! Single flight: equal work asked for by several callers at once is done once.

use std::hash::Hash;

use c3_server::caller;
use dashmap::{DashMap, Entry};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

/// The result that all callers of a flight get.
type Flight<V> = Shared<BoxFuture<'static, V>>;

/// Work under way, by key. The map holds a flight weakly: it lives as long as a caller waits for it, whoever began it,
/// and is aborted when the last caller leaves.
pub(crate) struct SingleFlight<K: Eq + Hash, V> {
    flights: DashMap<K, WeakShared<BoxFuture<'static, V>>>,
}

impl<K: Eq + Hash + Clone, V: Clone + Send + Sync + 'static> SingleFlight<K, V> {
    /// Nothing under way.
    pub(crate) fn new() -> Self {
        Self { flights: DashMap::new() }
    }

    /// The result of the flight with this key: the one under way, or else `work`, begun now as a task of its own (so
    /// that a caller who does not poll holds up nobody). `gone` makes the result of a task that panicked.
    pub(crate) async fn run<W>(&self, key: K, work: W, gone: fn() -> V) -> V
    where
        W: Future<Output = V> + Send + 'static,
    {
        let flight = match self.flights.entry(key.clone()) {
            Entry::Occupied(mut entry) => entry.get().upgrade().unwrap_or_else(|| {
                let (flight, weak) = begin(work, gone);
                entry.insert(weak);
                flight
            }),
            Entry::Vacant(entry) => {
                let (flight, weak) = begin(work, gone);
                entry.insert(weak);
                flight
            }
        };
        let landing = Landing { flights: &self.flights, key, flight: Some(flight.clone()) };
        let result = flight.await;
        drop(landing);
        result
    }
}

fn begin<V, W>(work: W, gone: fn() -> V) -> (Flight<V>, WeakShared<BoxFuture<'static, V>>)
where
    V: Clone + Send + Sync + 'static,
    W: Future<Output = V> + Send + 'static,
{
    // For who asked first, whoever else waits for it.
    let task = AbortOnDropHandle::new(tokio::spawn(caller::carried(work.in_current_span())));
    let flight = task.map(move |joined| joined.unwrap_or_else(|_| gone())).boxed().shared();
    let weak = flight.downgrade().expect("it was not polled yet");
    (flight, weak)
}

/// Forgets a flight when its last caller leaves.
struct Landing<'a, K: Eq + Hash, V: Clone> {
    flights: &'a DashMap<K, WeakShared<BoxFuture<'static, V>>>,
    key: K,
    flight: Option<Flight<V>>,
}

impl<K: Eq + Hash, V: Clone> Drop for Landing<'_, K, V> {
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
        begun: AtomicU32,
        go: Notify,
        started: Notify,
    }

    impl Work {
        async fn run(self: Arc<Self>) -> u32 {
            let run = self.begun.fetch_add(1, Ordering::SeqCst);
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
        while flights
            .flights
            .get("key")
            .and_then(|weak| weak.upgrade())
            .is_none_or(|f| f.strong_count() < Some(4))
        {
            tokio::task::yield_now().await;
        }
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        work.go.notify_one();
        assert_eq!(second.await.unwrap(), 0);
        assert_eq!(work.begun.load(Ordering::SeqCst), 1);
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
