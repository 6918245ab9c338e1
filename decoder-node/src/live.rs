//! The windows that are being decoded: they join and leave between steps.

use c3_cascade::{Decoder, Decoding};
use c3_node::{
    Counter,
    queue::{Running, Taken},
    status,
};
use tokio::sync::oneshot;
use tonic::Status;

use crate::job::{DecodeJob, Decoded};

/// The windows that are being decoded.
#[derive(Default)]
pub(crate) struct Live(Vec<Window>);

struct Window {
    decoding: Decoding,
    step_rows: usize,
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
        self.0.is_empty()
    }

    /// Rows of keys and values that all windows hold at their end.
    pub(crate) fn kv_rows(&self) -> usize {
        self.0.iter().map(|window| window.decoding.kv_rows()).sum()
    }

    /// Rows that a step computes at the most.
    pub(crate) fn step_rows(&self) -> usize {
        self.0.iter().map(|window| window.step_rows).sum()
    }

    /// Lets a window in, or tells its caller why not.
    pub(crate) fn join(&mut self, taken: Taken<DecodeJob>, decoder: &Decoder) {
        let Taken { job: DecodeJob { window, reply }, place } = taken;
        let step_rows = decoder.step_rows(&window.task);
        match decoder.start(window) {
            Ok(decoding) => self.0.push(Window { decoding, step_rows, reply, place }),
            // A caller that left meanwhile misses nothing, here and below.
            Err(error) => drop(reply.send(Err(status(&error)))),
        }
    }

    /// Drops the windows whose callers left.
    pub(crate) fn drop_gone(&mut self) {
        self.0.retain(|window| !window.reply.is_closed());
    }

    /// Writes one token in every block of every window. A step that fails leaves no window whole: all callers are
    /// told, and may try another node.
    pub(crate) fn step(&mut self, decoder: &Decoder) -> Option<Step> {
        let before = self.tokens();
        let mut live: Vec<&mut Decoding> = self.0.iter_mut().map(|window| &mut window.decoding).collect();
        if let Err(error) = decoder.step(&mut live) {
            for window in self.0.drain(..) {
                drop(window.reply.send(Err(status(&error))));
            }
            return None;
        }
        Some(Step { windows: self.0.len(), tokens: self.tokens() - before })
    }

    /// Counts the windows that are done, lets them go and answers them, in this order: who has an answer finds its
    /// window counted, and its place free.
    pub(crate) fn finish(&mut self, counter: &Counter) {
        for window in self.0.extract_if(.., |window| window.decoding.done()) {
            let Window { mut decoding, reply, place, .. } = window;
            let (text, tokens) = (decoding.take_text(), decoding.tokens());
            counter.add(1, tokens);
            drop((decoding, place));
            drop(reply.send(Ok(Decoded { text, tokens })));
        }
    }

    fn tokens(&self) -> usize {
        self.0.iter().map(|window| window.decoding.tokens()).sum()
    }
}
