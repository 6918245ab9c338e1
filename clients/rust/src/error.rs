//! Errors of calls.

use std::time::Duration;

use c3_tls::{explain_status, is_refusal, tls_problem};
use c3_types::Invalid;
use tonic::{Code, Status};

/// Metadata key in the status of a refused call: the delay before a retry, in milliseconds.
const RETRY_AFTER_MS: &str = "retry-after-ms";
/// Metadata key of retry pushback (gRFC A6). A gateway sends it only with a value that forbids retries.
const RETRY_PUSHBACK_MS: &str = "grpc-retry-pushback-ms";

/// Error of a call, or of connecting. Each message is one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The string is not a valid URL of a gateway.
    #[error("`{url}` is not the URL of a gateway; write it as http://HOST:PORT or https://HOST:PORT")]
    Url {
        /// The URL as given.
        url: String,
    },
    /// No gateway can be reached. If several were given, this is the error of the first.
    #[error("no gateway answers at {url} ({reason}); start one with `c3 serve`, or give the address of one")]
    Connect {
        /// The URL as given.
        url: String,
        /// Innermost error of the connection attempt.
        reason: String,
    },
    /// The API key is malformed, or must not be sent to the gateway. The message does not contain the key.
    #[error("{0}")]
    ApiKey(String),
    /// A gateway is reached, but the certificate of one side is not valid for the other, or TLS fails otherwise.
    #[error("cannot connect to {url}: {reason}")]
    Tls {
        /// The URL as given.
        url: String,
        /// Description of the problem and its remedy.
        reason: String,
    },
    /// The caller's text could not be read. If the call had begun, it was cancelled. No document was stored.
    #[error("the text cannot be read: {0}")]
    Read(std::io::Error),
    /// The gateway refused the call, the call failed, or the connection was lost during the call.
    #[error("{message}")]
    Call {
        /// gRPC status code.
        code: Code,
        /// Message of the gRPC status, with line breaks replaced by spaces.
        message: String,
        /// Request of the gateway about a retry.
        retry: RetryRequest,
    },
    /// The gateway's response is not valid.
    #[error("the gateway's response is not valid: {0}")]
    Response(#[from] Invalid),
}

/// Request of a gateway about the retry of a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryRequest {
    /// The gateway requested nothing, or did not answer.
    None,
    /// A retry should wait for this time.
    After(Duration),
    /// A retry is pointless: the gateway itself has waited and retried for as long as its settings allow.
    Never,
}

impl RetryRequest {
    fn of(status: &Status) -> Self {
        let retry_after = status.metadata().get(RETRY_AFTER_MS);
        match retry_after.and_then(|ms| ms.to_str().ok()?.parse().ok()) {
            _ if status.metadata().contains_key(RETRY_PUSHBACK_MS) => Self::Never,
            Some(ms) => Self::After(Duration::from_millis(ms)),
            None => Self::None,
        }
    }
}

impl Error {
    /// Returns the gRPC status code if this is [`Self::Call`], else `None`.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Call { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Returns the error of a response that lacks a required field.
    pub(crate) fn missing(field: &'static str) -> Self {
        Self::Response(Invalid::new(field, "is missing"))
    }

    /// Converts the error of a connection attempt to `url`.
    pub(crate) fn connect(url: &str, error: &tonic::transport::Error) -> Self {
        if let Some(reason) = tls_problem(error) {
            return Self::Tls { url: url.to_owned(), reason: reason.to_owned() };
        }
        // The outermost message is always "transport error"; the innermost gives the reason.
        let mut reason: &dyn std::error::Error = error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        Self::Connect { url: url.to_owned(), reason: reason.to_string() }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let retry = RetryRequest::of(&status);
        let message = match explain_status(&status) {
            message if message.is_empty() => format!("the call failed: {}", status.code()),
            message => message.replace('\n', " "),
        };
        // A status that has a source comes from tonic, not from the gateway: the connection closed during the call.
        let is_local = std::error::Error::source(&status).is_some();
        let code = match status.code() {
            // The gateway refuses this client's certificate, so a retry would be refused too.
            _ if is_local && is_refusal(&message) => Code::Unauthenticated,
            Code::Internal if is_local => Code::Unavailable,
            code => code,
        };
        Self::Call { code, message, retry }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_code_and_retry_delay() {
        let mut status = Status::resource_exhausted("the queue is full");
        status.metadata_mut().insert(RETRY_AFTER_MS, "250".parse().unwrap());
        let error = Error::from(status);
        assert_eq!(error.code(), Some(Code::ResourceExhausted));
        assert_eq!(error.to_string(), "the queue is full");
        let Error::Call { retry, .. } = error else { panic!("{error:?}") };
        assert_eq!(retry, RetryRequest::After(Duration::from_millis(250)));
    }

    #[test]
    fn messages_are_one_line_even_if_the_status_has_none() {
        assert!(!Error::from(Status::unavailable("a\nb")).to_string().contains('\n'));
        assert!(Error::from(Status::aborted("")).to_string().starts_with("the call failed: "));
    }
}
