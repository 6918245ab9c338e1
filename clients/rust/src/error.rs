//! What can go wrong in a call.

use std::time::Duration;

use c3_types::Invalid;
use tonic::{Code, Status};

/// Metadata of a refused call: when to try again.
const RETRY_AFTER_MS: &str = "retry-after-ms";

/// What can go wrong in a call. Each message is one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be one.
    #[error("`{url}` is not the URL of a gateway; write it as http://HOST:PORT")]
    Url {
        /// As given.
        url: String,
    },
    /// Nobody answers at the address.
    #[error("no gateway answers at {url} ({reason}); start one with `c3 serve`, or give the address of one")]
    Connect {
        /// As given.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// The caller's own text could not be read. The call was cancelled; nothing was stored.
    #[error("the text cannot be read: {0}")]
    Read(std::io::Error),
    /// The gateway refused the call or failed in it.
    #[error("{message}")]
    Call {
        /// The kind, as gRPC names it.
        code: Code,
        /// What is wrong and what to do.
        message: String,
        /// When to try again, where the gateway says.
        retry_after: Option<Duration>,
    },
    /// The gateway's answer does not hold what it must.
    #[error("the gateway's answer is not valid: {0}")]
    Answer(#[from] Invalid),
}

impl Error {
    /// The gRPC code, where the gateway answered.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Call { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// An answer without something that it must have.
    pub(crate) fn missing(field: &'static str) -> Self {
        Self::Answer(Invalid::new(field, "must be given"))
    }

    /// What is said where `url` cannot be reached.
    pub(crate) fn connect(url: &str, error: &tonic::transport::Error) -> Self {
        // The outermost message is always "transport error"; the innermost says why.
        let mut reason: &dyn std::error::Error = error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        Self::Connect { url: url.to_owned(), reason: reason.to_string() }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let retry_after = status.metadata().get(RETRY_AFTER_MS);
        let retry_after = retry_after.and_then(|ms| ms.to_str().ok()?.parse().ok());
        let message = match status.message() {
            "" => format!("the call failed: {}", status.code()),
            message => message.replace('\n', " "),
        };
        // What has a source was made on this side: the connection closed under the call.
        let broken = status.code() == Code::Internal && std::error::Error::source(&status).is_some();
        let code = if broken { Code::Unavailable } else { status.code() };
        Self::Call { code, message, retry_after: retry_after.map(Duration::from_millis) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_code_and_when_to_try_again() {
        let mut status = Status::resource_exhausted("the queue is full");
        status.metadata_mut().insert(RETRY_AFTER_MS, "250".parse().unwrap());
        let error = Error::from(status);
        assert_eq!(error.code(), Some(Code::ResourceExhausted));
        assert_eq!(error.to_string(), "the queue is full");
        let Error::Call { retry_after, .. } = error else { panic!("{error:?}") };
        assert_eq!(retry_after, Some(Duration::from_millis(250)));
    }

    #[test]
    fn messages_are_one_line_even_where_the_server_says_nothing() {
        assert!(!Error::from(Status::unavailable("a\nb")).to_string().contains('\n'));
        assert!(Error::from(Status::aborted("")).to_string().starts_with("the call failed: "));
    }
}
