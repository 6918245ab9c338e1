//! Keeps the index of a tenant up to date: adds what this gateway writes at once, and reads the store again and again for
//! what other gateways write and delete.

use std::collections::HashSet;
use std::sync::Weak;
use std::time::{Duration, Instant};

use c3_store::Error as StoreError;
use c3_store::manifest::{LocatedVersion, Manifest};
use c3_store::search::DocumentSketches;
use c3_types::DocumentId;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::sleep;

use crate::error::Error;
use crate::search_index::{Change, Changes, Reading};
use crate::state::Gateway;

/// Minimum time between two readings of the store.
const PAUSE_MIN: Duration = Duration::from_secs(10);
/// Minimum time between two readings, in units of the duration of the last one, so that a large store is not read all
/// the time.
const PAUSE_FACTOR: u32 = 5;
/// Time without a search after which the store is read rarely: tenants who do not search should not cost requests.
const IDLE_AFTER: Duration = Duration::from_secs(600);
const IDLE_PAUSE: Duration = Duration::from_secs(600);
/// Time after which a reading that failed is repeated.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// Documents that are listed at once.
const PAGE_SIZE: usize = 10_000;
/// Documents whose sketches are read concurrently.
const READS_IN_FLIGHT: usize = 16;

/// Follows the store of a tenant until its state is dropped.
pub(crate) async fn follow(gateway: Weak<Gateway>, mut changes: Changes) {
    loop {
        let Some(open) = gateway.upgrade() else { return };
        let started = Instant::now();
        let read = open.read_store().await;
        let is_idle = open.search.set_idle_after(IDLE_AFTER);
        let pause = match read {
            Ok(()) if is_idle => IDLE_PAUSE,
            Ok(()) => PAUSE_MIN.max(started.elapsed() * PAUSE_FACTOR),
            Err(error) => {
                tracing::warn!(%error, "the search index cannot be brought up to date, trying again");
                RETRY_PAUSE
            }
        };
        open.measure_index().await;
        drop(open);
        let paused = sleep(pause);
        tokio::pin!(paused);
        loop {
            let change = tokio::select! {
                () = &mut paused => break,
                change = changes.next() => change,
            };
            let id = match change {
                Some(Change::Written(id)) => id,
                Some(Change::Wanted) => break,
                None => return,
            };
            let Some(open) = gateway.upgrade() else { return };
            if let Err(error) = open.add_written(id).await {
                tracing::warn!(%id, %error, "a document cannot be added to the search index yet");
            }
            open.search.processed();
            open.measure_index().await;
        }
    }
}

impl Gateway {
    /// Adds all new versions of documents in the store to the index, and removes documents that are gone.
    async fn read_store(&self) -> Result<(), Error> {
        let reading = self.search.begin().await;
        let mut stored = HashSet::new();
        let mut after = None;
        loop {
            let page = self.store.documents("", after, PAGE_SIZE).await?;
            after = page.keys().next_back().copied();
            let is_last = page.len() < PAGE_SIZE;
            stored.extend(page.keys().copied());
            let adds = Vec::from_iter(page.into_iter().map(|(id, located)| self.add_listed(id, located, reading)));
            stream::iter(adds).buffer_unordered(READS_IN_FLIGHT).try_collect::<()>().await?;
            if is_last {
                break;
            }
        }
        self.search.end(reading, |id| stored.contains(id)).await;
        self.search.set_complete();
        Ok(())
    }

    /// Records the size of the index.
    async fn measure_index(&self) {
        if let Ok(index) = self.search.index(&self.store).await {
            self.metrics.search_index(index.windows(), index.memory_bytes());
        }
    }

    async fn add_listed(&self, id: DocumentId, located: LocatedVersion, reading: Reading) -> Result<(), Error> {
        if self.search.has(&id, located.version).await {
            return Ok(());
        }
        match self.listed(id, located).await {
            Ok(manifest) => self.add(&manifest.value, reading).await,
            // It was deleted meanwhile, or fsck reports it.
            Err(StoreError::Missing { .. } | StoreError::Damaged { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Adds a document that this gateway has written.
    async fn add_written(&self, id: DocumentId) -> Result<(), Error> {
        let reading = self.search.begin().await;
        match self.store.manifest(id).await {
            Ok(manifest) => self.add(&manifest.value, reading).await,
            Err(StoreError::Missing { .. } | StoreError::Damaged { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn add(&self, manifest: &Manifest, reading: Reading) -> Result<(), Error> {
        let sketches = match self.search.key(&self.store).await? {
            Some(key) if manifest.is_searchable => self.store.sketches(manifest, key.secret).await,
            _ => Ok(DocumentSketches::default()),
        };
        match sketches {
            Ok(sketches) => self.search.add(&self.store, manifest, sketches, reading).await,
            // Another version has replaced this one; the next reading finds it.
            Err(StoreError::Missing { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
