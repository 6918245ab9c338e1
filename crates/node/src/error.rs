//! Errors that stop the node, and errors of a single call.

use c3_server::{ErrorKind, ServiceError, server};
use c3_types::Invalid;

use crate::model_thread;

/// Milliseconds after which a retry is likely to find memory: several batches of a GPU have ended by then.
const OUT_OF_MEMORY_RETRY_AFTER_MS: u64 = 1000;

/// Error that keeps a node from serving or stops it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model cannot be loaded or run.
    #[error(transparent)]
    Model(Box<dyn std::error::Error + Send + Sync>),
    /// The model's properties contradict the protocol.
    #[error("the model cannot be served ({0}): use a checkpoint of a supported layout")]
    Unsupported(#[from] Invalid),
    /// No model is given, and the program embeds none.
    #[error("no model is given: pass the folder of its files with --model, or build with the feature embedded-model")]
    NoModel,
    /// The model's thread failed.
    #[error(transparent)]
    Thread(#[from] model_thread::Error),
    /// The server failed.
    #[error(transparent)]
    Server(#[from] server::Error),
}

impl Error {
    /// Wraps an error from loading or running the model.
    pub fn model(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Model(Box::new(error))
    }
}

/// Error that a call, or one of its jobs, fails with.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallError {
    /// A field of the request is invalid.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The model rejects the input.
    #[error("{0}")]
    Input(String),
    /// The request or its latents are for another model.
    #[error("{0}")]
    WrongModel(String),
    /// The jobs do not fit into the queue.
    #[error("{queued_tokens} of {tokens_max} text tokens are queued already: try again later, or try another node")]
    QueueFull {
        /// Text tokens that wait.
        queued_tokens: usize,
        /// Maximum number of text tokens that may wait.
        tokens_max: usize,
        /// Milliseconds after which a retry is likely to succeed.
        retry_after_ms: u64,
    },
    /// The model is not loaded yet.
    #[error("the model is loading: try again later")]
    Loading,
    /// The node is stopping and drops the jobs in its queue.
    #[error("the node is stopping: try another node")]
    Stopping,
    /// The device has no memory left for the job.
    #[error("{0}")]
    OutOfMemory(String),
    /// The device failed. The node ends, so that it can be restarted.
    #[error("the node's device failed ({0}): try another node")]
    Device(String),
    /// Internal error of the node.
    #[error("{0}")]
    Internal(String),
}

impl ServiceError for CallError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) | Self::Input(_) => ErrorKind::InvalidArgument,
            Self::WrongModel(_) => ErrorKind::WrongModel,
            &Self::QueueFull { retry_after_ms, .. } => ErrorKind::Overloaded { retry_after_ms },
            Self::OutOfMemory(_) => ErrorKind::Overloaded { retry_after_ms: OUT_OF_MEMORY_RETRY_AFTER_MS },
            Self::Loading | Self::Stopping | Self::Device(_) => ErrorKind::Unavailable,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }
}
