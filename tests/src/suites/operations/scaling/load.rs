//! Load of a scaling drill: writes and reads at given rates, regardless of how long they take.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail};
use futures::future::try_join_all;
use tokio::time::sleep;

use super::TICK;
use super::pool::Pool;
use crate::harness::gateway_api::{GatewayApi, id_of};

/// Share of the time of the only compressor and the only decoder that the load takes before it grows.
const BUSY: f64 = 0.5;
/// Size of a text in bytes: some 140 tokens.
const TEXT_BYTES: usize = 500;
/// Calls in flight, and their rounds, that measure the speed of the nodes.
const CALIBRATION: [usize; 2] = [6, 3];

/// Texts that differ from each other.
pub(super) struct Texts(pub(super) String);

impl Texts {
    fn get(&self, number: usize) -> Vec<u8> {
        let start = self.0.floor_char_boundary(number * TEXT_BYTES % (self.0.len() - 2 * TEXT_BYTES));
        let end = self.0.floor_char_boundary(start + TEXT_BYTES);
        format!("{number} {}", &self.0[start..end]).into_bytes()
    }
}

/// A call of the load.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) begun: Instant,
    pub(super) took: Duration,
    /// `None` if the call succeeded with the right result.
    pub(super) error: Option<String>,
}

/// Writes and reads at given rates, regardless of how long they take.
pub(super) struct Load {
    api: GatewayApi,
    /// Documents to read, with their texts.
    documents: Vec<(String, Vec<u8>)>,
    /// Writes and reads per second before the load grows.
    pub(super) rates: [f64; 2],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Factors of the rates of writes and reads.
    factors: [f64; 2],
    /// Number of calls that have begun.
    begun: usize,
    calls: Vec<Call>,
}

impl Load {
    /// Measures the speed of one node of each stage. Chooses rates that keep the decoder busy for the share [`BUSY`] of
    /// the time, and the compressor for at most that share. Writes take at most the share `verify_busy` of the
    /// decoder's time.
    pub(super) async fn calibrated(api: GatewayApi, texts: &Texts, pools: &[Pool], verify_busy: f64) -> Result<Self> {
        let [calls, rounds] = CALIBRATION;
        let (mut documents, mut tokens) = (Vec::new(), 0);
        for round in 0..rounds {
            let texts = (round * calls..(round + 1) * calls).map(|number| texts.get(number));
            let put = async |text: Vec<u8>| -> Result<_> {
                let document = api.put_at(&text, 20).await?.document.context("no document")?;
                Ok((document.tokens, (id_of(&document), text)))
            };
            for (count, document) in try_join_all(texts.map(put)).await? {
                tokens += count;
                documents.push(document);
            }
        }
        for documents in documents.chunks(calls) {
            try_join_all(documents.iter().map(|(id, _)| api.get(id))).await?;
        }
        let tokens = tokens as f64 / documents.len() as f64;
        let [compressor, decoder] = [pools[0].describe().await?, pools[1].describe().await?];
        let rates =
            [compressor.compress_tokens_per_second, decoder.verify_tokens_per_second, decoder.decode_tokens_per_second];
        let [compress, verify, decode] = rates.map(|rate| tokens / rate);
        let writes = (BUSY / compress).min(verify_busy / verify);
        let reads = (BUSY - writes * verify) / decode;
        Ok(Self { api, documents, rates: [writes, reads], state: Mutex::default() })
    }

    /// Makes calls until the future is dropped.
    pub(super) async fn run(self: Arc<Self>, texts: Arc<Texts>) {
        let (mut due, mut last) = ([0.0, 0.0], Instant::now());
        let mut number = self.documents.len();
        loop {
            sleep(TICK).await;
            let (passed, factors) = (last.elapsed().as_secs_f64(), self.state().factors);
            last = Instant::now();
            for (kind, due) in due.iter_mut().enumerate() {
                *due += passed * self.rates[kind] * factors[kind];
                while *due >= 1.0 {
                    *due -= 1.0;
                    number += 1;
                    let text = (kind == 0).then(|| texts.get(number));
                    self.state().begun += 1;
                    tokio::spawn(Arc::clone(&self).call(number, text));
                }
            }
        }
    }

    /// Stores the text, or reads and compares one of the documents, and records the call.
    async fn call(self: Arc<Self>, number: usize, text: Option<Vec<u8>>) {
        let begun = Instant::now();
        let result = match text {
            Some(text) => self.api.put_at(&text, 20).await.map(drop).map_err(Error::from),
            None => {
                let (id, text) = &self.documents[number % self.documents.len()];
                let got = self.api.get(id).await.map_err(Error::from);
                got.and_then(|got| match got.text == *text {
                    true => Ok(()),
                    false => bail!("the text of {id} is wrong"),
                })
            }
        };
        let call = Call { begun, took: begun.elapsed(), error: result.err().map(|error| format!("{error:#}")) };
        self.state().calls.push(call);
    }

    /// Multiplies the rates of writes and reads from now on.
    pub(super) fn set_factors(&self, factors: [f64; 2]) {
        self.state().factors = factors;
    }

    /// Returns the number of calls that have not ended.
    pub(super) fn in_flight(&self) -> usize {
        let state = self.state();
        state.begun - state.calls.len()
    }

    /// Returns the calls that have ended.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
