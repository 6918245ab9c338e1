//! Callers that put new texts and get them back. Counts right texts, refusals and failures.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::RATIO;
use crate::harness::cluster::Cluster;
use crate::harness::fixtures::stretch;
use crate::harness::gateway_api::{GatewayApi, id_of};

/// Maximum time to wait for texts to come back.
const LIMIT: Duration = Duration::from_secs(120);

/// Callers that each put a new text, get it back and compare it, again and again. They do not retry.
pub struct Callers {
    stop: CancellationToken,
    /// Number of texts that came back.
    right: Arc<watch::Sender<usize>>,
    tasks: Vec<JoinHandle<Outcomes>>,
}

/// Outcomes of all calls.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// Texts that came back.
    pub right: usize,
    /// Gets that returned another text.
    pub wrong: usize,
    /// Messages of calls that were refused with RESOURCE_EXHAUSTED.
    pub refused: Vec<String>,
    /// Messages of calls that failed otherwise.
    pub failed: Vec<String>,
}

impl Callers {
    /// Starts `count` callers, each with its own connection. Their texts are parts of `books` of about `bytes` bytes,
    /// with a number in each line that makes them unique.
    pub fn start(cluster: &Cluster, books: &str, bytes: usize, count: usize) -> Result<Self> {
        let (stop, right) = (CancellationToken::new(), Arc::<watch::Sender<usize>>::default());
        let books = Arc::<str>::from(books);
        let mut tasks = Vec::new();
        for caller in 0..count {
            let (api, books, stop, right) = (cluster.api()?, Arc::clone(&books), stop.clone(), Arc::clone(&right));
            tasks.push(tokio::spawn(async move {
                let mut outcomes = Outcomes::default();
                let numbers = (caller..).step_by(count);
                for number in numbers.take_while(|_| !stop.is_cancelled()) {
                    let lines = stretch(&books, number, bytes).split_inclusive('\n');
                    let text: String = lines.map(|line| format!("{number} {line}")).collect();
                    outcomes.record(put_and_get(&api, &text).await, &right);
                }
                outcomes
            }));
        }
        Ok(Self { stop, right, tasks })
    }

    /// Waits until `texts` more texts have come back.
    pub async fn progress(&self, texts: usize) -> Result<()> {
        let mut right = self.right.subscribe();
        let enough = *right.borrow() + texts;
        timeout(LIMIT, right.wait_for(|right| *right >= enough)).await??;
        Ok(())
    }

    /// Waits until every caller has got back the text that it is putting now. Returns all outcomes.
    pub async fn end(self) -> Result<Outcomes> {
        self.stop.cancel();
        let mut all = Outcomes::default();
        for task in self.tasks {
            let Outcomes { right, wrong, refused, failed } = task.await?;
            all.right += right;
            all.wrong += wrong;
            all.refused.extend(refused);
            all.failed.extend(failed);
        }
        Ok(all)
    }
}

impl Outcomes {
    fn record(&mut self, identical: Result<bool, Status>, right: &watch::Sender<usize>) {
        let message = |status: &Status| format!("{:?}: {}", status.code(), status.message());
        match identical {
            Ok(true) => {
                self.right += 1;
                right.send_modify(|right| *right += 1);
            }
            Ok(false) => self.wrong += 1,
            Err(status) if status.code() == Code::ResourceExhausted => self.refused.push(message(&status)),
            Err(status) => self.failed.push(message(&status)),
        }
    }
}

/// Returns whether the text came back.
pub async fn put_and_get(api: &GatewayApi, text: &str) -> Result<bool, Status> {
    let put = api.put_at(text.as_bytes(), RATIO as u32).await?;
    let document = put.document.ok_or_else(|| Status::internal("no document"))?;
    Ok(api.get(&id_of(&document)).await?.text == text.as_bytes())
}
