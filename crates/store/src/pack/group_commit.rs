//! Group commit: small documents of concurrent puts share a pack. A lone one becomes an object of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::Error;
use crate::object::{Objects, PutOutcome, key};
use crate::pack::format::Record;
use crate::pack::index::PackIndex;

/// Maximum records of a pack, and capacity of the queue.
const RECORDS_MAX: usize = 256;
/// Time that the first record waits for others, for each put in progress. More puts take longer each, and more of them
/// can share a pack.
const WAIT_PER_PUT: Duration = Duration::from_millis(10);
/// Maximum time that the first record waits.
const WAIT_MAX: Duration = Duration::from_secs(2);

type Reply = oneshot::Sender<Result<PutOutcome, Error>>;

/// Handle of the task that writes small documents. The task ends when the handle is dropped.
pub(crate) struct GroupCommit {
    queue: mpsc::Sender<(Record, Reply)>,
    puts_in_progress: Arc<AtomicUsize>,
}

/// Guard that counts a put, of any size, as in progress.
pub struct PutInProgress(Arc<AtomicUsize>);

impl Drop for PutInProgress {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl GroupCommit {
    /// Starts the task.
    pub(crate) fn start(objects: Arc<Objects>, packs: Arc<PackIndex>) -> Self {
        let (queue, records) = mpsc::channel(RECORDS_MAX);
        let puts_in_progress = Arc::new(AtomicUsize::new(0));
        let writer = Writer { objects, packs, records, puts_in_progress: Arc::clone(&puts_in_progress) };
        tokio::spawn(writer.run());
        Self { queue, puts_in_progress }
    }

    /// Counts a put as in progress. While there are several, small documents wait for each other.
    pub(crate) fn begin(&self) -> PutInProgress {
        self.puts_in_progress.fetch_add(1, Ordering::Relaxed);
        PutInProgress(Arc::clone(&self.puts_in_progress))
    }

    /// Writes a record. It is durable on return. If the caller stops waiting, the record may or may not be written.
    pub(crate) async fn put(&self, record: Record) -> Result<PutOutcome, Error> {
        let (reply, written) = oneshot::channel();
        self.queue.send((record, reply)).await.map_err(|_| Error::ShuttingDown)?;
        written.await.unwrap_or(Err(Error::ShuttingDown))
    }
}

struct Writer {
    objects: Arc<Objects>,
    packs: Arc<PackIndex>,
    records: mpsc::Receiver<(Record, Reply)>,
    puts_in_progress: Arc<AtomicUsize>,
}

impl Writer {
    async fn run(mut self) {
        while let Some(first) = self.records.recv().await {
            let mut batch = vec![first];
            let start = Instant::now();
            loop {
                let in_progress = self.puts_in_progress.load(Ordering::Relaxed);
                if batch.len() >= in_progress.min(RECORDS_MAX) {
                    break;
                }
                let wait = WAIT_PER_PUT.saturating_mul(u32::try_from(in_progress).unwrap_or(u32::MAX));
                match timeout_at(start + wait.min(WAIT_MAX), self.records.recv()).await {
                    Ok(Some(next)) => batch.push(next),
                    Ok(None) | Err(_) => break,
                }
            }
            // The callers of the others have stopped waiting.
            batch.retain(|(_, reply)| !reply.is_closed());
            self.write(batch).await;
        }
    }

    async fn write(&self, batch: Vec<(Record, Reply)>) {
        let (records, replies): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let written = match &records[..] {
            [] => return,
            [alone] => self.objects.write(&key::manifest(alone.id, alone.version), alone.object.clone()).await,
            _ => self.packs.put(records).await.map(|bytes| PutOutcome::Created { bytes }),
        };
        for reply in replies {
            // Fails if the caller has stopped waiting; its document is stored all the same.
            let _ = reply.send(written.clone());
        }
    }
}
