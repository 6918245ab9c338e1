//! Background load: clients that put texts, get texts and check every text that they get.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use c3_client::{ByteRange, Client, WriteOptions};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::harness::gateway_api::{GatewayApi, id_of};

/// Length of each client's cycle of calls: one put, and gets for the rest.
const PUT_EVERY: usize = 4;
/// Maximum number of error messages that [`LoadReport::failures`] returns.
const TOLD: usize = 5;

/// Documents and settings of a load.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Ids and texts of stored documents.
    documents: Arc<Vec<(String, String)>>,
    /// Number of puts started so far. Each put text begins with this number, which makes the text unique.
    puts: Arc<AtomicUsize>,
    /// Length of each client's cycle of calls: one put, and gets for the rest. If 0, all calls are gets.
    put_every: usize,
    ratio: u32,
}

/// Results of all calls of a load.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// Number of successful calls.
    pub succeeded: usize,
    /// Error messages of failed calls.
    pub failed: Vec<String>,
    /// Number of reads that returned a wrong text.
    pub wrong: usize,
    /// Durations of successful gets.
    pub gets: Vec<Duration>,
    /// Ids and texts of acknowledged puts.
    pub acknowledged: Vec<(String, String)>,
}

/// Client that a load makes its calls with.
#[derive(Clone, Debug)]
pub enum LoadClient {
    /// gRPC without retries, so that every error is counted.
    Raw(GatewayApi),
    /// The public client library, which retries idempotent calls.
    Public(Client),
}

impl LoadClient {
    async fn put(&self, text: &str, ratio: u32) -> Result<String, String> {
        match self {
            Self::Raw(api) => {
                let put = api.put_at(text.as_bytes(), ratio).await.map_err(describe)?;
                put.document.map(|document| id_of(&document)).ok_or_else(|| "no document".to_owned())
            }
            Self::Public(client) => {
                let options = WriteOptions { ratio: Some(ratio), ..WriteOptions::default() };
                let stored = client.put_text(text.to_owned(), &options).await.map_err(|error| error.to_string())?;
                Ok(stored.document.id.to_string())
            }
        }
    }

    async fn get(&self, id: &str) -> Result<Vec<u8>, String> {
        match self {
            Self::Raw(api) => Ok(api.get(id).await.map_err(describe)?.text),
            Self::Public(client) => {
                let text = async { client.get(id, ByteRange::default()).await?.try_collect::<Vec<_>>().await };
                Ok(text.await.map_err(|error: c3_client::Error| error.to_string())?.concat())
            }
        }
    }
}

fn describe(status: Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// Running clients.
#[derive(Debug)]
pub struct Load {
    stop: CancellationToken,
    /// Number of calls that ended.
    ended: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<LoadReport>>,
}

impl Workload {
    /// Stores `documents` parts of `text` as documents. Each part has about `bytes` bytes, and their beginnings are
    /// equally spaced. Parts may overlap.
    pub async fn prepare(api: &GatewayApi, text: &str, documents: usize, bytes: usize) -> anyhow::Result<Self> {
        const RATIO: u32 = 20;
        ensure!(text.len() > documents + bytes, "the text is too short");
        let store = async |number: usize| -> anyhow::Result<_> {
            let from = text.floor_char_boundary(number * (text.len() - bytes) / documents);
            let part = &text[from..text.floor_char_boundary(from + bytes)];
            let put = api.put_at(part.as_bytes(), RATIO).await?;
            Ok((id_of(&put.document.context("no document")?), part.to_owned()))
        };
        // Stores one part after another, because some gateways under test have short queues.
        let stored = stream::iter(0..documents).then(store).try_collect().await?;
        Ok(Self { documents: Arc::new(stored), puts: Arc::default(), put_every: PUT_EVERY, ratio: RATIO })
    }

    /// Disables puts.
    pub fn of_gets(self) -> Self {
        Self { put_every: 0, ..self }
    }

    /// Returns the ids and texts of the documents.
    pub fn documents(&self) -> &[(String, String)] {
        &self.documents
    }

    /// Starts `clients` concurrent clients. Each makes one call after another until [`Load::end`].
    pub fn start(&self, by: &LoadClient, clients: usize) -> Load {
        let (stop, ended) = (CancellationToken::new(), Arc::<AtomicUsize>::default());
        let caller = |number: usize| {
            let (work, stop, ended, by) = (self.clone(), stop.clone(), Arc::clone(&ended), by.clone());
            tokio::spawn(async move { work.call(&by, number, &ended, &stop).await })
        };
        Load { clients: (0..clients).map(caller).collect(), ended, stop }
    }

    async fn call(&self, by: &LoadClient, caller: usize, ended: &AtomicUsize, stop: &CancellationToken) -> LoadReport {
        let mut report = LoadReport::default();
        for turn in caller.. {
            if stop.is_cancelled() {
                break;
            }
            match turn.checked_rem(self.put_every) {
                Some(0) => self.put(by, &mut report).await,
                _ => self.get(by, turn, &mut report).await,
            }
            ended.fetch_add(1, Ordering::Relaxed);
        }
        report
    }

    async fn put(&self, by: &LoadClient, report: &mut LoadReport) {
        let number = self.puts.fetch_add(1, Ordering::Relaxed);
        let (_, like) = &self.documents[number % self.documents.len()];
        let text = format!("{number}. {like}");
        match by.put(&text, self.ratio).await {
            Ok(id) => {
                report.succeeded += 1;
                report.acknowledged.push((id, text));
            }
            Err(error) => report.failed.push(format!("put: {error}")),
        }
    }

    async fn get(&self, by: &LoadClient, turn: usize, report: &mut LoadReport) {
        // The stride is a prime, so that a client reads all documents in turn.
        let (id, text) = &self.documents[turn.wrapping_mul(7919) % self.documents.len()];
        let started = Instant::now();
        match by.get(id).await {
            Ok(got) if got == text.as_bytes() => {
                report.succeeded += 1;
                report.gets.push(started.elapsed());
            }
            Ok(_) => report.wrong += 1,
            Err(error) => report.failed.push(format!("get: {error}")),
        }
    }
}

impl Load {
    /// Returns the number of calls that ended, with any result.
    pub fn ended(&self) -> usize {
        self.ended.load(Ordering::Relaxed)
    }

    /// Waits until every client has finished its current call, and merges the clients' reports.
    pub async fn end(self) -> anyhow::Result<LoadReport> {
        self.stop.cancel();
        let mut all = LoadReport::default();
        for caller in self.clients {
            let report = caller.await?;
            all.succeeded += report.succeeded;
            all.wrong += report.wrong;
            all.failed.extend(report.failed);
            all.gets.extend(report.gets);
            all.acknowledged.extend(report.acknowledged);
        }
        Ok(all)
    }
}

impl LoadReport {
    /// Returns the number of failed calls and at most [`TOLD`] of their error messages.
    pub fn failures(&self) -> (usize, &[String]) {
        (self.failed.len(), &self.failed[..self.failed.len().min(TOLD)])
    }

    /// Reads the documents of all acknowledged puts. Returns one line for each read that fails or returns a wrong text.
    pub async fn lost(&self, api: &GatewayApi) -> Vec<String> {
        let mut lost = Vec::new();
        for (id, text) in &self.acknowledged {
            match api.get(id).await {
                Ok(got) if got.text == text.as_bytes() => {}
                Ok(_) => lost.push(format!("{id} is another text")),
                Err(status) => lost.push(format!("{id}: {}", status.message())),
            }
        }
        lost
    }
}

/// Returns the 99th percentile in seconds, or NaN if there are no values.
pub fn p99(times: &[Duration]) -> f64 {
    percentile(times, 99)
}

/// Returns the median in seconds, or NaN if there are no values.
pub fn p50(times: &[Duration]) -> f64 {
    percentile(times, 50)
}

fn percentile(times: &[Duration], percent: usize) -> f64 {
    let mut sorted = Vec::from_iter(times.iter().map(Duration::as_secs_f64));
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
