//! What waits for the model, and what its callers get.

use c3_cascade::{DecodeWindow, Latents, Task, TokenVerdict, VerifyWindow, chat};
use c3_node::queue;
use c3_server::caller::Caller;
use tokio::sync::oneshot;
use tonic::Status;

/// Work for the model.
pub(crate) enum Job {
    Decode(DecodeJob),
    Verify(VerifyJob),
}

/// A window to write back, or to answer a prompt about.
pub(crate) struct DecodeJob {
    pub(crate) window: DecodeWindow,
    pub(crate) caller: Caller,
    pub(crate) reply: oneshot::Sender<Result<Decoded, Status>>,
}

/// A decoded window.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) text: Vec<u8>,
    pub(crate) tokens: usize,
}

/// A window whose tokens are to be held against what the decoder would write.
pub(crate) struct VerifyJob {
    pub(crate) window: Truth,
    pub(crate) caller: Caller,
    pub(crate) reply: oneshot::Sender<Result<Verified, Status>>,
}

/// A window and its true tokens.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) latents: Latents,
    pub(crate) tokens: Vec<u32>,
    pub(crate) ratio: usize,
}

impl Truth {
    pub(crate) fn borrow(&self) -> VerifyWindow<'_> {
        VerifyWindow { latents: &self.latents, tokens: &self.tokens, ratio: self.ratio }
    }
}

/// A verified window.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) tokens: Vec<u32>,
    pub(crate) verdicts: Vec<TokenVerdict>,
}

impl queue::Job for Job {
    fn tokens(&self) -> usize {
        match self {
            Self::Decode(job) => job.tokens(),
            Self::Verify(job) => job.tokens(),
        }
    }

    fn caller(&self) -> Caller {
        match self {
            Self::Decode(job) => job.caller,
            Self::Verify(job) => job.caller,
        }
    }

    fn is_gone(&self) -> bool {
        match self {
            Self::Decode(job) => job.reply.is_closed(),
            Self::Verify(job) => job.is_gone(),
        }
    }
}

impl queue::Job for VerifyJob {
    fn tokens(&self) -> usize {
        self.window.tokens.len()
    }

    fn caller(&self) -> Caller {
        self.caller
    }

    fn is_gone(&self) -> bool {
        self.reply.is_closed()
    }
}

impl DecodeJob {
    /// Text tokens that it writes at the most.
    fn tokens(&self) -> usize {
        match &self.window.task {
            Task::Reconstruct { tokens, .. } => *tokens,
            Task::Generate { tokens_max: 0, .. } => chat::TOKENS_MAX,
            Task::Generate { tokens_max, .. } => *tokens_max,
        }
    }

    /// Rows of keys and values that it is going to hold, but for the prompt's words: nearly what
    /// [`c3_cascade::Decoding::kv_rows`] says once it has begun.
    pub(crate) fn kv_rows(&self) -> usize {
        self.window.latents.count + self.tokens()
    }
}
