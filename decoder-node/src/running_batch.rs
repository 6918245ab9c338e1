//! The windows that are being decoded: they join and leave between steps.

use std::collections::HashSet;

use c3_cascade::{Decoder, Decoding};
use c3_node::{
    Counter,
    queue::{Running, Taken},
    status,
};
use c3_server::caller::Caller;
use tokio::sync::oneshot;
use tonic::Status;

use crate::{
    job::{DecodeJob, Decoded},
    turns::Turns,
};

/// The windows that are being decoded.
#[derive(Default)]
pub(crate) struct Live {
    /// Oldest first.
    windows: Vec<Window>,
    turns: Turns,
}

struct Window {
    decoding: Decoding,
    caller: Caller,
    step_rows: usize,
    /// Rows of the latents, which its first step reads as well.
    latents_due: usize,
    reply: oneshot::Sender<Result<Decoded, Status>>,
    /// Counts the window as running for as long as it is here.
    place: Running,
}

/// What a step did.
pub(crate) struct Step {
    /// Windows that it went through.
    pub(crate) windows: usize,
    /// Tokens that it wrote.
    pub(crate) tokens: usize,
}

impl Live {
    pub(crate) fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Rows of keys and values that all windows hold at their end.
    pub(crate) fn kv_rows(&self) -> usize {
        self.windows.iter().map(|window| window.decoding.kv_rows()).sum()
    }

    /// Rows of a step in which all windows take part.
    pub(crate) fn step_rows(&self) -> usize {
        self.windows.iter().map(|window| window.step_rows).sum()
    }

    /// Whose windows there are.
    pub(crate) fn callers(&self) -> HashSet<Caller> {
        self.windows.iter().map(|window| window.caller).collect()
    }

    /// Lets a window in, or tells its caller why not.
    pub(crate) fn join(&mut self, taken: Taken<DecodeJob>, decoder: &Decoder) {
        let Taken { job: DecodeJob { window, caller, reply }, place } = taken;
        let (step_rows, latents_due) = (decoder.step_rows(&window.task), window.latents.count);
        match decoder.start(window) {
            Ok(decoding) => {
                self.windows.push(Window { decoding, caller, step_rows, latents_due, reply, place })
            }
            // A caller that left meanwhile misses nothing, here and below.
            Err(error) => drop(reply.send(Err(status(&error)))),
        }
    }

    /// Drops the windows whose callers left.
    pub(crate) fn drop_gone(&mut self) {
        self.windows.retain(|window| !window.reply.is_closed());
    }

    /// Writes one token in every block of the windows whose turn it is. A step that fails leaves none of them whole:
    /// their callers are told, and may try another node.
    pub(crate) fn step(&mut self, decoder: &Decoder, shared_rows: usize) -> Option<Step> {
        let before = self.tokens();
        let rows = |window: &Window| (window.caller, window.step_rows + window.latents_due);
        let rows = Vec::from_iter(self.windows.iter().map(rows));
        let chosen = self.turns.next(&rows, shared_rows);
        let takes_part = self.windows.iter_mut().zip(&chosen).filter(|(_, chosen)| **chosen);
        let mut live = Vec::from_iter(takes_part.map(|(window, _)| {
            window.latents_due = 0;
            &mut window.decoding
        }));
        let windows = live.len();
        if let Err(error) = decoder.step(&mut live) {
            let mut chosen = chosen.into_iter();
            for window in self.windows.extract_if(.., |_| chosen.next().unwrap_or(true)) {
                drop(window.reply.send(Err(status(&error))));
            }
            return None;
        }
        Some(Step { windows, tokens: self.tokens() - before })
    }

    /// Counts the windows that are done, lets them go and answers them, in this order: who has an answer finds its
    /// window counted, and its place free.
    pub(crate) fn finish(&mut self, counter: &Counter) {
        for window in self.windows.extract_if(.., |window| window.decoding.done()) {
            let Window { mut decoding, reply, place, .. } = window;
            let (text, tokens) = (decoding.take_text(), decoding.tokens());
            counter.add(1, tokens);
            drop((decoding, place));
            drop(reply.send(Ok(Decoded { text, tokens })));
        }
    }

    fn tokens(&self) -> usize {
        self.windows.iter().map(|window| window.decoding.tokens()).sum()
    }
}
