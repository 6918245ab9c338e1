//! The running batch of continuous batching: windows join and leave between decode steps.

use std::collections::HashSet;

use c3_cascade::{DecodeSession, Decoder};
use c3_node::{
    CallError, Counter,
    queue::{Dequeued, RunningGuard},
};
use c3_server::principal::Principal;
use tokio::sync::oneshot;

use crate::{
    fair_queue::FairQueue,
    job::{DecodeJob, Decoded, call_error},
};

/// The windows being decoded.
#[derive(Default)]
pub(crate) struct RunningBatch {
    /// Oldest first.
    windows: Vec<Window>,
    fair_queue: FairQueue,
}

struct Window {
    session: DecodeSession,
    principal: Principal,
    step_rows: usize,
    /// Rows of the latents, which the window's first step computes in addition to its own; 0 after that step.
    prefill_rows: usize,
    reply: oneshot::Sender<Result<Decoded, CallError>>,
    running: RunningGuard,
}

/// Size of a decode step.
pub(crate) struct Step {
    pub(crate) windows: usize,
    /// Number of tokens that it wrote.
    pub(crate) tokens: usize,
}

impl RunningBatch {
    pub(crate) fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Returns the number of rows that the windows together hold in the KV cache once they are done.
    pub(crate) fn kv_rows(&self) -> usize {
        self.windows.iter().map(|window| window.session.kv_rows()).sum()
    }

    /// Returns the rows of a step in which all windows take part.
    pub(crate) fn step_rows(&self) -> usize {
        self.windows.iter().map(|window| window.step_rows).sum()
    }

    /// Returns the principals that have windows in the batch.
    pub(crate) fn principals(&self) -> HashSet<Principal> {
        self.windows.iter().map(|window| window.principal).collect()
    }

    /// Adds a window, or answers it with the reason why it cannot start.
    pub(crate) fn admit(&mut self, dequeued: Dequeued<DecodeJob>, decoder: &Decoder) {
        let Dequeued { job: DecodeJob { window, principal, reply }, running } = dequeued;
        let (step_rows, prefill_rows) = (decoder.step_rows(&window.task), window.latents.count);
        match decoder.start(window) {
            Ok(session) => {
                let window = Window { session, principal, step_rows, prefill_rows, reply, running };
                self.windows.push(window);
            }
            // Sending fails if the call was cancelled, here and below.
            Err(error) => drop(reply.send(Err(call_error(error)))),
        }
    }

    /// Drops the windows of cancelled calls.
    pub(crate) fn drop_cancelled(&mut self) {
        self.windows.retain(|window| !window.reply.is_closed());
    }

    /// Writes one token in every block of the windows that the fair queue chooses. Returns `None` if the step fails. A
    /// failed step leaves the sessions of these windows inconsistent, so they are answered with the error and dropped.
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

    /// Removes, counts and answers the windows that are done. The answer comes last, so that the caller's next call
    /// sees its window counted and no longer running.
    pub(crate) fn finish(&mut self, counter: &Counter) {
        for window in self.windows.extract_if(.., |window| window.session.done()) {
            let Window { mut session, reply, running, .. } = window;
            let (text, tokens) = (session.take_text(), session.tokens());
            counter.add(1, tokens);
            drop((session, running));
            drop(reply.send(Ok(Decoded { text, tokens })));
        }
    }

    fn tokens(&self) -> usize {
        self.windows.iter().map(|window| window.session.tokens()).sum()
    }
}
