//! Garbage collection, the consistency check, and the list of interrupted uploads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_stream::try_stream;
use c3_types::{FsckEvent, FsckMode, SweepSummary, Upload};
use futures::{Stream, TryStreamExt, pin_mut};
use tokio::time::MissedTickBehavior;

use crate::error::Error;
use crate::state::{Gateway, SharedGateway};

impl Gateway {
    /// Removes objects that nothing refers to and that are older than `grace`, or the configured grace period.
    pub(crate) async fn collect_garbage(&self, grace: Option<Duration>) -> Result<SweepSummary, Error> {
        let _guard = self.gc_lock.lock().await;
        let start = Instant::now();
        let summary = self.store.sweep(grace.unwrap_or(self.config.gc_grace())).await;
        self.metrics.store.sweep(start.elapsed(), summary.as_ref().ok());
        let summary = summary?;
        tracing::info!(?summary, "garbage collection finished");
        Ok(summary)
    }

    /// Collects garbage at a fixed interval, forever.
    pub(crate) async fn run_gc_every(self: Arc<Self>, interval: Duration) {
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.collect_garbage(None).await {
                tracing::error!(%error, "garbage collection failed, the next run continues");
            }
        }
    }

    /// Returns the interrupted uploads that can be resumed, by name.
    pub(crate) async fn uploads(&self) -> Result<Vec<Upload>, Error> {
        let sessions = self.store.uploads().await?;
        let uploads = sessions.into_iter().map(|session| Upload {
            bytes_done: session.manifest.bytes(),
            tokens_done: session.manifest.shards.iter().map(|shard| shard.tokens).sum(),
            expires_unix_ms: session.manifest.expires_unix_ms.unwrap_or_default(),
            name: session.name,
            options: session.options,
        });
        Ok(uploads.collect())
    }
}

/// Reads every object and reports faults. The summary is the last event.
pub(crate) fn fsck(gateway: SharedGateway, mode: FsckMode) -> impl Stream<Item = Result<FsckEvent, Error>> + Send {
    try_stream! {
        let events = c3_store::fsck::check(&gateway.store, mode);
        pin_mut!(events);
        while let Some(event) = events.try_next().await? {
            yield event;
        }
    }
}
