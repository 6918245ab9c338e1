//! Callers at work while something is done to the system: each puts texts and reads them, and checks every answer.

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

use crate::calls::{Calls, id_of};

/// Of so many calls of a caller one is a put, where nothing else is said.
const PUT_EVERY: usize = 4;
/// Failures that are told word by word.
const TOLD: usize = 5;

/// What the callers work on.
#[derive(Clone, Debug)]
pub struct Work {
    /// Documents that are stored, with their texts.
    documents: Arc<Vec<(String, String)>>,
    /// Puts so far: no text is put twice.
    puts: Arc<AtomicUsize>,
    /// Of so many calls of a caller one is a put; 0: none.
    put_every: usize,
    ratio: u32,
}

/// What callers saw.
#[derive(Debug, Default)]
pub struct Tally {
    /// Calls that ended well.
    pub well: usize,
    /// What the others ended with.
    pub failed: Vec<String>,
    /// Texts that were not what was put.
    pub wrong: usize,
    /// How long the gets took.
    pub gets: Vec<Duration>,
    /// Texts that were acknowledged, with their ids.
    pub acknowledged: Vec<(String, String)>,
}

/// How a caller calls.
#[derive(Clone, Debug)]
pub enum Caller {
    /// As the protocol has it: what fails is seen.
    Bare(Calls),
    /// By the public client, which tries again what is safe.
    Client(Client),
}

impl Caller {
    async fn put(&self, text: &str, ratio: u32) -> Result<String, String> {
        match self {
            Self::Bare(calls) => {
                let put = calls.put_at(text.as_bytes(), ratio).await.map_err(told)?;
                put.document.map(|document| id_of(&document)).ok_or_else(|| "no document".to_owned())
            }
            Self::Client(client) => {
                let options = WriteOptions { ratio: Some(ratio), ..WriteOptions::default() };
                let stored =
                    client.put_text(text.to_owned(), &options).await.map_err(|error| error.to_string())?;
                Ok(stored.document.id.to_string())
            }
        }
    }

    async fn get(&self, id: &str) -> Result<Vec<u8>, String> {
        match self {
            Self::Bare(calls) => Ok(calls.get(id).await.map_err(told)?.text),
            Self::Client(client) => {
                let text =
                    async { client.get(id, ByteRange::default()).await?.try_collect::<Vec<_>>().await };
                Ok(text.await.map_err(|error: c3_client::Error| error.to_string())?.concat())
            }
        }
    }
}

fn told(status: Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// Callers that run until they are told to end.
#[derive(Debug)]
pub struct Load {
    stop: CancellationToken,
    /// Calls that ended so far.
    ended: Arc<AtomicUsize>,
    callers: Vec<JoinHandle<Tally>>,
}

impl Work {
    /// Stores the parts of a text that are read later.
    pub async fn prepare(calls: &Calls, text: &str, documents: usize, bytes: usize) -> anyhow::Result<Self> {
        const RATIO: u32 = 20;
        ensure!(text.len() > documents + bytes, "the text is too short");
        let store = async |number: usize| -> anyhow::Result<_> {
            let from = text.floor_char_boundary(number * (text.len() - bytes) / documents);
            let part = &text[from..text.floor_char_boundary(from + bytes)];
            let put = calls.put_at(part.as_bytes(), RATIO).await?;
            Ok((id_of(&put.document.context("no document")?), part.to_owned()))
        };
        // One after another: not every gateway lets several wait.
        let stored = stream::iter(0..documents).then(store).try_collect().await?;
        Ok(Self { documents: Arc::new(stored), puts: Arc::default(), put_every: PUT_EVERY, ratio: RATIO })
    }

    /// The same without puts.
    pub fn of_gets(self) -> Self {
        Self { put_every: 0, ..self }
    }

    /// The documents with their texts.
    pub fn documents(&self) -> &[(String, String)] {
        &self.documents
    }

    /// Starts so many callers. Of each four calls one is a put.
    pub fn start(&self, by: &Caller, callers: usize) -> Load {
        let (stop, ended) = (CancellationToken::new(), Arc::<AtomicUsize>::default());
        let caller = |number: usize| {
            let (work, stop, ended, by) = (self.clone(), stop.clone(), Arc::clone(&ended), by.clone());
            tokio::spawn(async move { work.call(&by, number, &ended, &stop).await })
        };
        Load { callers: (0..callers).map(caller).collect(), ended, stop }
    }

    async fn call(&self, by: &Caller, caller: usize, ended: &AtomicUsize, stop: &CancellationToken) -> Tally {
        let mut tally = Tally::default();
        for turn in caller.. {
            if stop.is_cancelled() {
                break;
            }
            match turn.checked_rem(self.put_every) {
                Some(0) => self.put(by, &mut tally).await,
                _ => self.get(by, turn, &mut tally).await,
            }
            ended.fetch_add(1, Ordering::Relaxed);
        }
        tally
    }

    async fn put(&self, by: &Caller, tally: &mut Tally) {
        let number = self.puts.fetch_add(1, Ordering::Relaxed);
        let (_, like) = &self.documents[number % self.documents.len()];
        let text = format!("{number}. {like}");
        match by.put(&text, self.ratio).await {
            Ok(id) => {
                tally.well += 1;
                tally.acknowledged.push((id, text));
            }
            Err(said) => tally.failed.push(format!("put: {said}")),
        }
    }

    async fn get(&self, by: &Caller, turn: usize, tally: &mut Tally) {
        // A step that no number of documents divides, so that callers do not read the same.
        let (id, text) = &self.documents[turn.wrapping_mul(7919) % self.documents.len()];
        let begun = Instant::now();
        match by.get(id).await {
            Ok(got) if got == text.as_bytes() => {
                tally.well += 1;
                tally.gets.push(begun.elapsed());
            }
            Ok(_) => tally.wrong += 1,
            Err(said) => tally.failed.push(format!("get: {said}")),
        }
    }
}

impl Load {
    /// Calls that ended so far, however they did.
    pub fn ended(&self) -> usize {
        self.ended.load(Ordering::Relaxed)
    }

    /// Lets every caller end the call that it is in.
    pub async fn end(self) -> anyhow::Result<Tally> {
        self.stop.cancel();
        let mut all = Tally::default();
        for caller in self.callers {
            let tally = caller.await?;
            all.well += tally.well;
            all.wrong += tally.wrong;
            all.failed.extend(tally.failed);
            all.gets.extend(tally.gets);
            all.acknowledged.extend(tally.acknowledged);
        }
        Ok(all)
    }
}

impl Tally {
    /// How often calls failed, and some of what they said.
    pub fn failures(&self) -> (usize, &[String]) {
        (self.failed.len(), &self.failed[..self.failed.len().min(TOLD)])
    }

    /// Documents that were acknowledged and do not come back as they were put.
    pub async fn lost(&self, calls: &Calls) -> Vec<String> {
        let mut lost = Vec::new();
        for (id, text) in &self.acknowledged {
            match calls.get(id).await {
                Ok(got) if got.text == text.as_bytes() => {}
                Ok(_) => lost.push(format!("{id} is another text")),
                Err(status) => lost.push(format!("{id}: {}", status.message())),
            }
        }
        lost
    }
}

/// The 99th percentile, in seconds.
pub fn p99(times: &[Duration]) -> f64 {
    percentile(times, 99)
}

/// The median, in seconds.
pub fn p50(times: &[Duration]) -> f64 {
    percentile(times, 50)
}

fn percentile(times: &[Duration], percent: usize) -> f64 {
    let mut sorted = Vec::from_iter(times.iter().map(Duration::as_secs_f64));
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
