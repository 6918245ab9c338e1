//! Garbage collection, the consistency check, and the list of uploads.

use std::time::{Duration, Instant};

use async_stream::try_stream;
use c3_store::upload_session::UploadSession;
use c3_types::{FsckEvent, FsckMode, SweepSummary, Upload};
use futures::{Stream, TryStreamExt, pin_mut};

use crate::error::Error;
use crate::ingest::upload::saved_options;
use crate::state::{Gateway, SharedGateway};

impl Gateway {
    /// Runs garbage collection with this grace period; `None`: the configured one. Waits while another run is active.
    pub(crate) async fn collect_garbage(&self, grace: Option<Duration>) -> Result<SweepSummary, Error> {
        let _guard = self.gc_lock.lock().await;
        let start = Instant::now();
        let summary = self.store.sweep(grace.unwrap_or(self.config.gc_grace.0)).await;
        self.metrics.store.sweep(start.elapsed(), summary.as_ref().ok());
        let summary = summary?;
        self.measure_store().await;
        tracing::info!(
            pending_deletes = summary.pending_deletes,
            removed = summary.removed,
            removed_bytes = summary.removed_bytes,
            expired = summary.expired,
            packed = summary.packed,
            unreadable = summary.unreadable,
            "garbage collection finished"
        );
        Ok(summary)
    }

    /// Records the size of the store in the metrics and for the tenant's quota, and warns of foreign entries in it. A
    /// failure is logged.
    pub(crate) async fn measure_store(&self) {
        let written = self.quotas.as_ref().map(|quotas| quotas.begin_measurement());
        match self.store.size().await {
            Ok(size) => {
                self.metrics.store.size(size);
                if let (Some(quotas), Some(written)) = (&self.quotas, written) {
                    quotas.measured(size.bytes, written);
                }
            }
            Err(error) => tracing::warn!(%error, "cannot measure the store"),
        }
    }

    /// Returns the unexpired upload sessions in order of name. Fails if the options of any session cannot be decoded.
    pub(crate) async fn uploads(&self) -> Result<Vec<Upload>, Error> {
        let sessions = self.store.uploads().await?;
        let upload = |session: UploadSession| {
            Ok(Upload {
                bytes_done: session.manifest.bytes(),
                tokens_done: session.manifest.shards.iter().map(|shard| shard.tokens).sum(),
                expires_unix_ms: session.manifest.expires_unix_ms.unwrap_or_default(),
                options: saved_options(&session)?,
                name: session.name,
            })
        };
        sessions.into_iter().map(upload).collect()
    }
}

/// Checks every object and reports faults. Repair mode also repairs them if possible. The last event is the summary.
pub(crate) fn fsck(gateway: SharedGateway, mode: FsckMode) -> impl Stream<Item = Result<FsckEvent, Error>> + Send {
    try_stream! {
        let events = c3_store::fsck::check(&gateway.store, mode);
        pin_mut!(events);
        while let Some(event) = events.try_next().await? {
            yield event;
        }
    }
}
