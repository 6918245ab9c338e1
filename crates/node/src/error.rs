//! Why the node stops, and how a failed computation looks to a caller.

use c3_server::{Kind, server};
use tonic::Status;

use crate::worker;

/// Why the node does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model cannot be served.
    #[error(transparent)]
    Model(#[from] c3_cascade::Error),
    /// The model contradicts the protocol.
    #[error("the model cannot be served ({0}): take a checkpoint of a supported layout")]
    Unsupported(#[from] c3_proto::Invalid),
    /// There is no model.
    #[error("no model: name the folder of its files with --model, or build with the feature embedded-model")]
    NoModel,
    /// The model's thread failed.
    #[error(transparent)]
    Worker(#[from] worker::Error),
    /// The server failed.
    #[error(transparent)]
    Server(#[from] server::Error),
}

/// How a failed computation looks to a caller.
pub fn status(error: &c3_cascade::Error) -> Status {
    let kind = match error {
        c3_cascade::Error::InvalidInput(_) => Kind::InvalidInput,
        _ => Kind::Internal,
    };
    kind.status(error.to_string())
}
