//! Errors of the crate.

/// Failure to load or run a stage.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller's input is invalid.
    #[error("{0}")]
    InvalidInput(String),
    /// The checkpoint cannot be loaded. The message says what to do.
    #[error("{0}")]
    Checkpoint(String),
    /// The requested device, precision or instruction set is not available. The message says what to do.
    #[error("{0}")]
    Device(String),
    /// The GPU has no memory left for the KV cache or for a pass.
    #[error(
        "the GPU has no memory left: lower --kv-cache-size or --batch-tokens-max, or end other programs on this GPU"
    )]
    OutOfDeviceMemory,
    /// The GPU reported an error. After most of them, the program must restart to use the GPU again.
    #[error("the GPU reported an error: {0}")]
    Gpu(String),
    /// A tensor operation failed.
    #[error("computation failed: {0}")]
    Candle(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn input(problem: impl Into<String>) -> Self {
        Self::InvalidInput(problem.into())
    }

    pub(crate) fn checkpoint(problem: impl Into<String>) -> Self {
        Self::Checkpoint(problem.into())
    }
}
