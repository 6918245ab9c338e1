//! Small documents that are put at the same time go into one pack; a lone one becomes an object by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::Error;
use crate::object::key;
use crate::object::{Objects, PutOutcome};
use crate::pack::format::Record;
use crate::pack::index::PackIndex;

/// Most documents of a pack that is written at once.
const RECORDS_MAX: usize = 256;
/// How long the first document of a pack waits for others, for each text that is being put: the more there are, the longer
/// each takes in any case, and the more come together.
const WAIT_EACH: Duration = Duration::from_millis(10);
/// The longest that it waits.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// A record that was written: whether it has its name, or another had it before.
type Answer = oneshot::Sender<Result<PutOutcome, Error>>;

/// Where small documents are handed in.
pub struct GroupCommit {
    queue: mpsc::Sender<(Record, Answer)>,
    /// Puts under way, whatever their size.
    under_way: Arc<AtomicUsize>,
}

/// A put that is under way.
pub struct PutInProgress(Arc<AtomicUsize>);

impl Drop for PutInProgress {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl GroupCommit {
    /// Writes what is handed in, until the handle is dropped.
    pub fn start(objects: Arc<Objects>, packs: Arc<PackIndex>) -> Self {
        let (queue, waiting) = mpsc::channel(RECORDS_MAX);
        let under_way = Arc::new(AtomicUsize::new(0));
        let writer = Writer { objects, packs, waiting, under_way: Arc::clone(&under_way) };
        tokio::spawn(writer.run());
        Self { queue, under_way }
    }

    /// A put begins. While others are under way, small documents wait a little for them.
    pub fn begin(&self) -> PutInProgress {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        PutInProgress(Arc::clone(&self.under_way))
    }

    /// Makes a record durable.
    pub async fn put(&self, record: Record) -> Result<PutOutcome, Error> {
        let (answer, written) = oneshot::channel();
        let ended = || Error::ShuttingDown;
        self.queue.send((record, answer)).await.map_err(|_| ended())?;
        written.await.unwrap_or_else(|_| Err(ended()))
    }
}

struct Writer {
    objects: Arc<Objects>,
    packs: Arc<PackIndex>,
    waiting: mpsc::Receiver<(Record, Answer)>,
    under_way: Arc<AtomicUsize>,
}

impl Writer {
    async fn run(mut self) {
        while let Some(first) = self.waiting.recv().await {
            let mut batch = vec![first];
            let begun = Instant::now();
            loop {
                let under_way = self.under_way.load(Ordering::Relaxed);
                if batch.len() >= under_way.min(RECORDS_MAX) {
                    break;
                }
                let wait = WAIT_EACH.saturating_mul(u32::try_from(under_way).unwrap_or(u32::MAX));
                let deadline = begun + wait.min(WAIT_MAX);
                match timeout_at(deadline, self.waiting.recv()).await {
                    Ok(Some(next)) => batch.push(next),
                    Ok(None) | Err(_) => break,
                }
            }
            // Callers that left want nothing written.
            batch.retain(|(_, answer)| !answer.is_closed());
            self.write(batch).await;
        }
    }

    async fn write(&self, batch: Vec<(Record, Answer)>) {
        let (records, answers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let written = match &records[..] {
            [] => return,
            [alone] => {
                self.objects.write(&key::manifest(alone.id, alone.version), alone.object.clone()).await
            }
            _ => self.packs.put(records).await.map(|bytes| PutOutcome::Created { bytes }),
        };
        for answer in answers {
            // A caller that left meanwhile has a document that it was not told of.
            let _ = answer.send(written.clone());
        }
    }
}
