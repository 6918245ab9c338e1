//! The windows that are being decoded (continuous batching). Windows join and leave between decode steps. A step
//! computes one row, and thus writes one token, for each unfinished block of a window. A block is the run of text
//! tokens that one latent stands for.

use std::collections::HashSet;

use c3_cascade::{DecodeSession, Decoder};
use c3_node::load::{DeviceLoad, KvCacheGuard};
use c3_node::queue::{Dequeued, RunningGuard};
use c3_node::{CallError, Counter};
use c3_server::principal::Principal;
use tokio::sync::oneshot;

use crate::fair_queue::FairQueue;
use crate::job::{DecodeJob, Decoded, call_error};

/// The windows that are being decoded.
#[derive(Default)]
pub(crate) struct RunningBatch {
    /// Oldest first.
    windows: Vec<Window>,
    fair_queue: FairQueue,
}

struct Window {
    session: DecodeSession,
    principal: Principal,
    /// Maximum rows of a step, one per block.
    step_rows: usize,
    /// Rows of the latents; 0 after the window's first step, which computes them in addition to `step_rows`.
    prefill_rows: usize,
    reply: oneshot::Sender<Result<Decoded, CallError>>,
    running: RunningGuard,
    kv_cache: KvCacheGuard,
}

/// Size of a decode step that succeeded.
pub(crate) struct Step {
    pub(crate) windows: usize,
    /// Number of tokens that the step wrote.
    pub(crate) tokens: usize,
}

impl RunningBatch {
    pub(crate) fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Returns the number of KV cache rows that all windows need together at their last steps, where they need the
    /// most.
    pub(crate) fn kv_rows(&self) -> usize {
        self.windows.iter().map(|window| window.session.kv_rows()).sum()
    }

    /// Returns the number of rows of a step in which all windows take part. Excludes the rows of latents.
    pub(crate) fn step_rows(&self) -> usize {
        self.windows.iter().map(|window| window.step_rows).sum()
    }

    /// Returns the principals that have windows in the batch.
    pub(crate) fn principals(&self) -> HashSet<Principal> {
        self.windows.iter().map(|window| window.principal).collect()
    }

    /// Adds a window. If decoding it cannot start, answers its call with the error.
    pub(crate) fn admit(&mut self, dequeued: Dequeued<DecodeJob>, decoder: &Decoder, load: &DeviceLoad) {
        let Dequeued { job: DecodeJob { window, principal, reply }, running } = dequeued;
        let (step_rows, prefill_rows) = (decoder.step_rows(&window.task), window.latents.count);
        match decoder.start(window) {
            Ok(session) => {
                let kv_cache = load.use_kv_cache((session.kv_rows() * decoder.kv_row_bytes()) as u64);
                let window = Window { session, principal, step_rows, prefill_rows, reply, running, kv_cache };
                self.windows.push(window);
            }
            // Here and below, `send` fails only if the call was cancelled. Then no one needs the result.
            Err(error) => drop(reply.send(Err(call_error(error)))),
        }
    }

    /// Drops the windows of cancelled calls.
    pub(crate) fn drop_cancelled(&mut self) {
        self.windows.retain(|window| !window.reply.is_closed());
    }

    /// Writes one token in every unfinished block of the windows that the fair queue chooses. If the step fails, the
    /// sessions of these windows are inconsistent. In this case, the method answers their calls with the error, removes
    /// the windows and returns `None`.
    pub(crate) fn step(&mut self, decoder: &Decoder, shared_rows: usize) -> Option<Step> {
        let tokens_before = self.tokens();
        let rows = |window: &Window| (window.principal, window.step_rows + window.prefill_rows);
        let rows = Vec::from_iter(self.windows.iter().map(rows));
        let chosen = self.fair_queue.choose(&rows, shared_rows);
        let takes_part = self.windows.iter_mut().zip(&chosen).filter(|(_, chosen)| **chosen);
        let mut sessions = Vec::from_iter(takes_part.map(|(window, _)| {
            window.prefill_rows = 0;
            &mut window.session
        }));
        let windows = sessions.len();
        if let Err(error) = decoder.step(&mut sessions) {
            let (error, mut chosen) = (call_error(error), chosen.into_iter());
            for window in self.windows.extract_if(.., |_| chosen.next().unwrap_or(true)) {
                drop(window.reply.send(Err(error.clone())));
            }
            return None;
        }
        Some(Step { windows, tokens: self.tokens() - tokens_before })
    }

    /// Removes finished windows, adds them to `counter` and answers their calls. The answer is sent last. When a caller
    /// receives it, the node's counters include the window, and the node's load no longer includes it.
    pub(crate) fn finish(&mut self, counter: &Counter) {
        for window in self.windows.extract_if(.., |window| window.session.done()) {
            let Window { mut session, reply, running, kv_cache, .. } = window;
            let (text, tokens) = (session.take_text(), session.tokens());
            counter.add(1, tokens);
            drop((session, running, kv_cache));
            drop(reply.send(Ok(Decoded { text, tokens })));
        }
    }

    fn tokens(&self) -> usize {
        self.windows.iter().map(|window| window.session.tokens()).sum()
    }
}
