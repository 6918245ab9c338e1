//! The reindex job of a tenant: adds sketches to all documents that lack them, in the background.
//!
//! The job decodes one shard (part of a document) at a time, and only while the decoders have almost nothing else to
//! do. It belongs to the gateway, not to the call that started it, and runs until it has examined every document or the
//! gateway shuts down. Its state is in memory only. A new job skips what has sketches already, so it continues there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use c3_routing::RequestClass;
use c3_server::ServiceError;
use c3_store::Error as StoreError;
use c3_store::manifest::{Manifest, ShardEntry};
use c3_store::object::version::Version;
use c3_types::{DocumentId, ReindexJob, ReindexState};
use tokio::time::sleep;
use tracing::Instrument;

use super::reindex::{ShardReindex, search_is_off, unverified};
use crate::error::Error;
use crate::ingest::document::replace;
use crate::sketches::SketchKey;
use crate::state::SharedGateway;

/// Interval at which a job that must wait tries again, and pause after a document that failed: if the store is
/// unavailable, not all documents should fail at once.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Time after which the sketches of a long document are saved before the document is done. Less is lost when the
/// gateway stops, and garbage collection does not find them unreferenced.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);
/// Documents that are listed at once.
const PAGE_SIZE: usize = 10_000;

/// Starts the tenant's reindex job, unless it runs already. Returns its state. Fails if search is turned off.
pub(crate) fn start(gateway: &SharedGateway) -> Result<ReindexJob, Error> {
    if !gateway.search.is_on() {
        return Err(search_is_off());
    }
    let Some(started) = gateway.reindex.try_begin() else { return Ok(gateway.reindex.job()) };
    let (job, stop) = (Job { gateway: Arc::clone(gateway) }, gateway.reindex.stop().clone());
    tokio::spawn(async move { stop.run_until_cancelled(job.run()).await });
    Ok(started)
}

/// A running job. Dropping it ends the job.
struct Job {
    gateway: SharedGateway,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.update(|job| job.state = ReindexState::Ended);
    }
}

impl Job {
    async fn run(self) {
        let documents = self.documents().await;
        tracing::info!(documents = documents.len(), "reindexing of all documents started");
        self.update(|job| {
            job.documents = documents.len() as u64;
            // Listing may have failed at first.
            job.last_problem = None;
        });
        for (id, version) in documents {
            if self.gateway.store.is_shredded() {
                break;
            }
            // A trace of its own for each document, since a job may take days.
            let span = tracing::info_span!(parent: None, "reindex", %id);
            match self.reindex(id, version).instrument(span).await {
                Ok(true) => self.update(|job| job.reindexed += 1),
                Ok(false) => self.update(|job| job.skipped += 1),
                Err(error @ Error::NotFound(_)) => {
                    tracing::warn!(%id, %error, "a document was deleted or expired before it was reindexed");
                    self.update(|job| job.skipped += 1);
                }
                Err(error @ (Error::Changed(_) | Error::Unsupported(_))) => {
                    tracing::warn!(%id, %error, "a document is not reindexed");
                    self.update(|job| {
                        job.skipped += 1;
                        job.last_problem = Some(error.to_string());
                    });
                }
                Err(error) => {
                    self.update(|job| job.failed += 1);
                    self.pause_after(&error, "a document cannot be reindexed").await;
                }
            }
        }
        let ReindexJob { reindexed, skipped, failed, windows, .. } = self.gateway.reindex.job();
        tracing::info!(reindexed, skipped, failed, windows, "reindexing of all documents ended");
    }

    /// Returns the current versions of all documents. Tries again until the store can be listed.
    async fn documents(&self) -> Vec<(DocumentId, Version)> {
        loop {
            match self.list().await {
                Ok(documents) => return documents,
                Err(_) if self.gateway.store.is_shredded() => return Vec::new(),
                Err(error) => self.pause_after(&error, "documents cannot be listed for reindexing, trying again").await,
            }
        }
    }

    async fn list(&self) -> Result<Vec<(DocumentId, Version)>, Error> {
        let mut documents = Vec::new();
        loop {
            let after = documents.last().map(|&(id, _)| id);
            let page = self.gateway.store.documents("", after, PAGE_SIZE).await?;
            let is_last = page.len() < PAGE_SIZE;
            documents.extend(page.into_iter().map(|(id, located)| (id, located.version)));
            if is_last {
                return Ok(documents);
            }
        }
    }

    /// Logs and notes the problem, and waits.
    async fn pause_after(&self, error: &Error, message: &str) {
        tracing::warn!(%error, "{message}");
        // The status hides the details of internal errors from callers.
        let problem = error.status().message().to_owned();
        self.update(|job| {
            job.last_problem = Some(problem);
            job.state = ReindexState::Waiting;
        });
        sleep(RETRY_INTERVAL).await;
        self.update(|job| job.state = ReindexState::Running);
    }

    /// Adds the missing sketches of a document. Returns false if it lacks none.
    async fn reindex(&self, id: DocumentId, version: Version) -> Result<bool, Error> {
        let gateway = &self.gateway;
        if gateway.search.has_all_sketches(&id, version).await {
            return Ok(false);
        }
        let key = gateway.search.key(&gateway.store).await?.ok_or_else(search_is_off)?;
        let mut document = match gateway.store.manifest(id).await {
            Ok(manifest) => manifest.value,
            Err(StoreError::Missing { .. }) => return Err(Error::NotFound(id.to_string())),
            Err(error) => return Err(Error::of_document(id, "its manifest", &error)),
        };
        if document.verification.is_none() {
            return Err(unverified(id));
        }
        let shards = std::mem::take(&mut document.shards);
        let mut work = DocumentReindex { job: self, document, shards, key, is_changed: false, unsaved: None };
        let done = work.run().await;
        // Keeps what was done before an error.
        let saved = if work.unsaved.is_some() || done.is_ok() { work.finish().await } else { Ok(()) };
        done.and(saved)?;
        Ok(work.is_changed)
    }

    fn update(&self, change: impl FnOnce(&mut ReindexJob)) {
        let job = self.gateway.reindex.update(change);
        let left = if job.is_active() { job.documents.saturating_sub(job.done()) } else { 0 };
        self.gateway.metrics.reindex_documents(left);
    }
}

/// Sketches that no stored version of the document has.
struct Unsaved {
    since: Instant,
    windows: u64,
}

/// Reindexing of one document by a job.
struct DocumentReindex<'a> {
    job: &'a Job,
    /// Current manifest of the document, without its shards.
    document: Manifest,
    shards: Vec<ShardEntry>,
    key: SketchKey,
    /// True if a new version of the document was stored.
    is_changed: bool,
    unsaved: Option<Unsaved>,
}

impl DocumentReindex<'_> {
    /// Adds the missing sketches of all shards, one after another.
    async fn run(&mut self) -> Result<(), Error> {
        let mut start = 0;
        for index in 0..self.shards.len() {
            if !self.shard(index, start).is_done().await? {
                self.wait_for_turn().await?;
                let (entry, windows) = self.shard(index, start).run().await?;
                self.shards[index] = entry;
                if windows > 0 {
                    self.unsaved.get_or_insert_with(|| Unsaved { since: Instant::now(), windows: 0 }).windows +=
                        windows;
                }
            }
            start += self.shards[index].bytes();
        }
        Ok(())
    }

    fn shard(&self, index: usize, start: u64) -> ShardReindex {
        ShardReindex {
            gateway: Arc::clone(&self.job.gateway),
            document: self.document.clone(),
            key: self.key.clone(),
            start,
            entry: self.shards[index].clone(),
        }
    }

    /// Waits until the decoders have almost nothing else to do, and the tenant's quota has tokens to spare. Meanwhile
    /// saves what is due.
    async fn wait_for_turn(&mut self) -> Result<(), Error> {
        loop {
            if self.unsaved.as_ref().is_some_and(|unsaved| unsaved.since.elapsed() >= SAVE_INTERVAL) {
                self.save().await?;
            }
            let Err(refused) = self.job.gateway.admit(RequestClass::Background) else { break };
            tracing::debug!(%refused, "reindexing waits");
            self.job.update(|job| job.state = ReindexState::Waiting);
            sleep(RETRY_INTERVAL).await;
        }
        self.job.update(|job| job.state = ReindexState::Running);
        Ok(())
    }

    /// Saves what is left, and lets search find the document even if it was left out of search.
    async fn finish(&mut self) -> Result<(), Error> {
        match self.unsaved.is_some() || !self.document.is_searchable {
            true => self.save().await,
            false => Ok(()),
        }
    }

    /// Replaces the document by a version with the sketches that were made so far.
    async fn save(&mut self) -> Result<(), Error> {
        let new = Manifest { shards: self.shards.clone(), is_searchable: true, ..self.document.clone() };
        self.document = replace(&self.job.gateway, &self.document, new).await?.value;
        self.shards = std::mem::take(&mut self.document.shards);
        self.is_changed = true;
        let windows = self.unsaved.take().map_or(0, |unsaved| unsaved.windows);
        self.job.update(|job| job.windows += windows);
        self.job.gateway.search.written(self.document.id);
        Ok(())
    }
}
