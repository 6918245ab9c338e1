//! Group commit: the manifests of small documents from concurrent puts (writes of documents) are written together, as
//! the records of one pack. A manifest that no other joins in time becomes an object of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::Error;
use crate::object::{Objects, PutOutcome, Space, key};
use crate::pack::format::Record;
use crate::pack::index::PackIndex;

/// Maximum records of a pack that this task writes, and capacity of its queue.
const RECORDS_MAX: usize = 256;
/// Time that the first record of a pack waits for more records, multiplied by the number of puts in progress. The more
/// puts there are, the longer each takes, and the more of them can share the pack.
const WAIT_PER_PUT: Duration = Duration::from_millis(10);
/// Maximum time that the first record of a pack waits for further records.
const WAIT_MAX: Duration = Duration::from_secs(2);

type Reply = oneshot::Sender<Result<PutOutcome, Error>>;

/// Handle of the task that writes small documents. The task ends once the handle is dropped and the queue is empty.
pub(crate) struct GroupCommit {
    queue: mpsc::Sender<(Record, Reply)>,
    puts_in_progress: Arc<AtomicUsize>,
}

/// Guard that counts a put, of a document of any size, as in progress. Dropping the guard ends this.
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

    /// Counts a put as in progress until the returned guard is dropped. While several puts are in progress, small
    /// documents wait for each other.
    pub(crate) fn begin(&self) -> PutInProgress {
        self.puts_in_progress.fetch_add(1, Ordering::Relaxed);
        PutInProgress(Arc::clone(&self.puts_in_progress))
    }

    /// Writes a record durably, in a pack or as an object. Writes no object if its key exists. If the caller drops the
    /// future, the record may still be written.
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
            // Drops the records whose callers have stopped waiting.
            batch.retain(|(_, reply)| !reply.is_closed());
            self.write(batch).await;
        }
    }

    async fn write(&self, batch: Vec<(Record, Reply)>) {
        let (records, replies): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let written = match &records[..] {
            [] => return,
            [alone] => {
                let key = key::manifest(alone.id, alone.version);
                self.objects.write(&key, alone.object.clone(), Space::Free).await
            }
            _ => self.packs.put(records, Space::Free).await.map(|bytes| PutOutcome::Created { bytes }),
        };
        for reply in replies {
            // Fails if the caller has stopped waiting meanwhile. That does not undo the write.
            let _ = reply.send(written.clone());
        }
    }
}
