//! Jobs for the model, and their results.

use c3_cascade::{DecodeWindow, Latents, Task, TokenVerdict, VerifyWindow, chat};
use c3_node::{CallError, Operation, queue};
use c3_server::principal::Principal;
use tokio::sync::oneshot;

/// A job for the model.
pub(crate) enum Job {
    Decode(DecodeJob),
    Verify(VerifyJob),
}

/// Job that reconstructs the text of a window, or answers a prompt about it.
pub(crate) struct DecodeJob {
    pub(crate) window: DecodeWindow,
    pub(crate) principal: Principal,
    pub(crate) reply: oneshot::Sender<Result<Decoded, CallError>>,
}

/// Text of a window, or answer to a prompt about it, with the number of its tokens.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) text: Vec<u8>,
    pub(crate) tokens: usize,
}

/// Job that compares the true tokens of a window with the decoder's predictions.
pub(crate) struct VerifyJob {
    pub(crate) window: TrueWindow,
    pub(crate) principal: Principal,
    pub(crate) reply: oneshot::Sender<Result<Verified, CallError>>,
}

/// A window's latents and true tokens.
#[derive(Debug)]
pub(crate) struct TrueWindow {
    pub(crate) latents: Latents,
    pub(crate) tokens: Vec<u32>,
    pub(crate) ratio: usize,
}

impl TrueWindow {
    pub(crate) fn borrow(&self) -> VerifyWindow<'_> {
        VerifyWindow { latents: &self.latents, tokens: &self.tokens, ratio: self.ratio }
    }
}

/// True tokens of a window, with a verdict for each.
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

    fn operation(&self) -> Operation {
        match self {
            Self::Decode(_) => Operation::Decode,
            Self::Verify(job) => job.operation(),
        }
    }

    fn principal(&self) -> Principal {
        match self {
            Self::Decode(job) => job.principal,
            Self::Verify(job) => job.principal,
        }
    }

    fn is_cancelled(&self) -> bool {
        match self {
            Self::Decode(job) => job.reply.is_closed(),
            Self::Verify(job) => job.is_cancelled(),
        }
    }
}

impl queue::Job for VerifyJob {
    fn tokens(&self) -> usize {
        self.window.tokens.len()
    }

    fn operation(&self) -> Operation {
        Operation::Verify
    }

    fn principal(&self) -> Principal {
        self.principal
    }

    fn is_cancelled(&self) -> bool {
        self.reply.is_closed()
    }
}

impl DecodeJob {
    /// Returns the maximum number of tokens that the decoder writes for the job.
    fn tokens(&self) -> usize {
        match &self.window.task {
            Task::Reconstruct { tokens, .. } => *tokens,
            Task::Generate { tokens_max: 0, .. } => chat::TOKENS_MAX,
            Task::Generate { tokens_max, .. } => *tokens_max,
        }
    }

    /// Estimates the rows that the job needs in the KV cache, one for each latent and token. The estimate excludes the
    /// prompt's tokens; [`c3_cascade::DecodeSession::kv_rows`] includes them once the job runs.
    pub(crate) fn kv_rows(&self) -> usize {
        self.window.latents.count + self.tokens()
    }
}

/// Converts a model error to a call error.
pub(crate) fn call_error(error: c3_cascade::Error) -> CallError {
    match error {
        c3_cascade::Error::InvalidInput(problem) => CallError::Input(problem),
        error @ c3_cascade::Error::OutOfDeviceMemory => CallError::OutOfMemory(error.to_string()),
        c3_cascade::Error::Gpu(problem) => CallError::Device(problem),
        error => CallError::Internal(error.to_string()),
    }
}
