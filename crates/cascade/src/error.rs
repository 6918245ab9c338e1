//! What can go wrong in the network.

/// What can go wrong in the network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller gave something that the network cannot take.
    #[error("{0}")]
    InvalidInput(String),
    /// The checkpoint cannot be served; says what to do.
    #[error("{0}")]
    Checkpoint(String),
    /// The device that was asked for is not there; says what to do.
    #[error("{0}")]
    Device(String),
    /// A computation failed.
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
