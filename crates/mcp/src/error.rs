//! Errors of tools and resources. Each says what the agent can do.

use c3_client::Error as ClientError;
use c3_types::Invalid;
use tonic::Code;

/// Error of a tool or resource, in one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The arguments cannot be used.
    #[error("{0}")]
    Argument(String),
    /// No document matches the reference.
    #[error("{0}")]
    NotFound(String),
    /// The gateway refused the call, or cannot be reached.
    #[error("{}", advice(.0))]
    Gateway(#[from] ClientError),
    /// A file cannot be read.
    #[error("{0}")]
    File(#[from] crate::files::FilesError),
}

impl Error {
    pub(crate) fn argument(problem: impl Into<String>) -> Self {
        Self::Argument(problem.into())
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Argument(invalid.to_string())
    }
}

/// Returns the message of an error, followed by what to do.
fn advice(error: &ClientError) -> String {
    let remedy = match (error, error.code()) {
        (ClientError::Connect { .. }, _) | (_, Some(Code::Unavailable | Code::Unknown)) => {
            "The store cannot be reached now. Nothing is lost: try again in a moment, or tell the user"
        }
        (_, Some(Code::ResourceExhausted)) => "Try again later",
        (_, Some(Code::Unauthenticated)) => "Tell the user: the API key is missing or not valid",
        (_, Some(Code::PermissionDenied)) => "Tell the user: the API key does not allow this",
        _ => return error.to_string(),
    };
    format!("{error}. {remedy}.")
}
