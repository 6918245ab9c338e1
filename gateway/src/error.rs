//! Errors of the gateway: [`StartError`] for the program, [`Error`] for a request.

use std::mem::{Discriminant, discriminant};

use c3_access::quota::QuotaExceeded;
use c3_routing::Error as RoutingError;
use c3_server::throttle::Throttle;
use c3_server::{ErrorKind, Problem, ServiceError};
use c3_store::{Error as StoreError, OpenError, Unavailable};
use c3_types::{DocumentId, DocumentName, Invalid};
use tonic::Status;

/// Retry delay for a full store, in milliseconds. It is long, because an operator has to free space first.
const STORE_FULL_RETRY_AFTER_MS: u64 = 30_000;
/// Retry delay while no file descriptor is free, in milliseconds. By then the server has closed idle connections.
const NO_DESCRIPTOR_RETRY_AFTER_MS: u64 = 1_000;

/// Limits the rate of log lines about an unavailable store, separately for each reason.
static UNAVAILABLE_LINES: Throttle<Discriminant<Unavailable>> = Throttle::new();

/// Reason that the gateway cannot start, or stops without a shutdown request. The message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is out of its range.
    #[error("{flag}: {problem}")]
    Setting {
        /// The flag.
        flag: &'static str,
        /// The mistake and the accepted values.
        problem: String,
    },
    /// The store or the shared cache cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The access file or the settings for tokens are wrong.
    #[error(transparent)]
    Access(#[from] c3_access::StartError),
    /// The nodes cannot be watched.
    #[error(transparent)]
    Routing(#[from] c3_routing::StartError),
    /// Certificates, keys or CAs cannot be used.
    #[error("{0}")]
    Tls(String),
    /// The server failed.
    #[error("{0}")]
    Serve(String),
}

/// Reason that a request fails. Cheap to clone, because each of the requests that share a failed piece of work gets a
/// copy of the error.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A field of the request is invalid.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The caller's stream ended with an error.
    #[error("the request stream ended with an error ({})", .0.message())]
    Inbound(Status),
    /// The body of an HTTP request ended with an error, usually because the caller is gone.
    #[error("the request's body ended early ({0}): send it again")]
    Body(String),
    /// The text exceeds the maximum size of a document.
    #[error("bytes: must be at most {max}, but the document has at least {bytes}: split the document")]
    TooLarge {
        /// Minimum size of the text, in bytes.
        bytes: u64,
        /// Maximum size, in bytes.
        max: u64,
    },
    /// The range does not lie within the document.
    #[error("range: {range} exceeds the document, which has {size} {unit}")]
    OutOfRange {
        /// The requested range.
        range: String,
        /// Size of the document.
        size: u64,
        /// Unit of the range and the size: `bytes`, `lines` or `windows`.
        unit: &'static str,
    },
    /// Several ids begin with the prefix that the caller gave.
    #[error("id: `{prefix}` is a prefix of several ids, add digits: {}{}", candidates.join(", "), more(.complete))]
    AmbiguousPrefix {
        prefix: String,
        /// Ids that begin with the prefix.
        candidates: Vec<String>,
        /// False if there are more of them.
        complete: bool,
    },
    /// No stored document has this id, or an id with this prefix.
    #[error("no document {0} is stored here")]
    NotFound(String),
    /// No document has this name.
    #[error("no document has the name {0}")]
    NameNotFound(DocumentName),
    /// The document that a name points at was deleted or has expired. The name then counts as unset.
    #[error("name {name} pointed at document {id}, which was deleted or has expired: set the name again")]
    NamedDocumentDeleted {
        name: DocumentName,
        /// The document at which the name pointed.
        id: DocumentId,
    },
    /// The current version of a name, or of a document's labels, is not the one that the caller expected.
    #[error("{subject} changed meanwhile ({}): read the current value and try again", current_token(.token.as_deref()))]
    VersionMismatch {
        /// Description of the name or of the labels.
        subject: String,
        /// Token of the current version; `None` if the name or the labels are unset.
        token: Option<String>,
    },
    /// The document is stored, but its name or labels could not be set.
    #[error("document {id} is stored, but its name or labels could not be set: {source}")]
    NotNamed {
        id: DocumentId,
        /// The reason why the name or labels could not be set.
        source: Box<Error>,
    },
    /// Another request replaced the document during this one.
    #[error("document {0} was changed meanwhile: try again")]
    Changed(DocumentId),
    /// A call on a node failed.
    #[error(transparent)]
    Routing(#[from] RoutingError),
    /// The checkpoint does not support the request.
    #[error("{0}")]
    Unsupported(String),
    /// Stored data is missing or damaged, or a decoded text does not match its hash.
    #[error("{0}")]
    DataLoss(String),
    /// Garbage collection or a shutdown interfered with the request. The caller can retry.
    #[error("{0}")]
    Retry(String),
    /// The store is unavailable at the moment.
    #[error(transparent)]
    Store(Unavailable),
    /// A quota of the tenant is used up.
    #[error(transparent)]
    Quota(#[from] QuotaExceeded),
    /// An error of the gateway itself.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// Returns the error for a task that panicked.
    pub(crate) fn panicked() -> Self {
        Self::Internal("a task panicked".to_owned())
    }

    /// Converts a store error about `part` of a document. Missing or damaged data becomes [`Error::DataLoss`].
    pub(crate) fn of_document(id: DocumentId, part: &str, error: &StoreError) -> Self {
        match error {
            StoreError::Missing { .. } | StoreError::Damaged { .. } => {
                Self::DataLoss(format!("document {id}, {part}: {error}; put the text again to repair the document"))
            }
            error => Self::from(error.clone()),
        }
    }
}

impl ServiceError for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) | Self::AmbiguousPrefix { .. } => ErrorKind::InvalidArgument,
            Self::Body(_) => ErrorKind::Cancelled,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::OutOfRange { .. } => ErrorKind::OutOfRange,
            Self::Inbound(status) => ErrorKind::from_status(status),
            Self::NotFound(_) | Self::NameNotFound(_) | Self::NamedDocumentDeleted { .. } => ErrorKind::NotFound,
            Self::VersionMismatch { .. } => ErrorKind::PreconditionFailed,
            Self::NotNamed { source, .. } => source.kind(),
            Self::Changed(_) | Self::Retry(_) => ErrorKind::Unavailable,
            Self::Routing(error) => error.kind(),
            Self::Unsupported(_) => ErrorKind::WrongModel,
            Self::DataLoss(_) => ErrorKind::DataLoss,
            Self::Store(Unavailable::Full) => ErrorKind::Overloaded { retry_after_ms: STORE_FULL_RETRY_AFTER_MS },
            Self::Store(Unavailable::NoDescriptor) => {
                ErrorKind::Overloaded { retry_after_ms: NO_DESCRIPTOR_RETRY_AFTER_MS }
            }
            Self::Store(_) => ErrorKind::Unavailable,
            Self::Quota(exceeded) => exceeded.kind(),
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    fn is_final(&self) -> bool {
        match self {
            Self::Routing(error) => error.is_final(),
            Self::Store(reason) => *reason != Unavailable::Full,
            Self::NotNamed { source, .. } => source.is_final(),
            _ => false,
        }
    }

    fn describe(&self, problem: Problem) -> Problem {
        match self {
            Self::Invalid(invalid) => invalid.describe(problem),
            Self::AmbiguousPrefix { candidates, .. } => problem.with("candidates", candidates.as_slice()),
            Self::TooLarge { max, .. } => problem.with("bytes_max", *max),
            Self::OutOfRange { size, unit, .. } => problem.with(unit, *size),
            Self::VersionMismatch { token, .. } => problem.with("token", token.as_deref()),
            Self::NotNamed { id, source } => source.describe(problem).with("id", id.to_string()),
            _ => problem,
        }
    }
}

fn more(complete: &bool) -> &'static str {
    if *complete { "" } else { ", and more" }
}

fn current_token(token: Option<&str>) -> String {
    token.map_or_else(|| "no value is set now".to_owned(), |token| format!("current token: {token}"))
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Collected { .. } | StoreError::ShuttingDown => Self::Retry(error.to_string()),
            StoreError::Unavailable { reason, .. } => {
                // The backend's message may contain paths and addresses, so it is logged and not sent to the caller.
                if let Some(suppressed) = UNAVAILABLE_LINES.permit(discriminant(&reason)) {
                    tracing::error!(%error, suppressed, "the store is unavailable");
                }
                Self::Store(reason)
            }
            error => Self::Internal(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tonic::Code;

    use super::*;

    fn status(os_error: i32) -> Status {
        let path = "/srv/secret-folder".to_owned();
        let source = Box::new(io::Error::new(io::Error::from_raw_os_error(os_error).kind(), path));
        let error = object_store::Error::Generic { store: "LocalFileSystem", source };
        Error::from(StoreError::from(error)).status()
    }

    #[test]
    fn store_errors_say_what_to_do_and_reveal_no_path() {
        let [no_space, read_only, denied, broken] = [28, 30, 13, 5].map(status);
        assert_eq!((no_space.code(), read_only.code()), (Code::ResourceExhausted, Code::Unavailable));
        assert_eq!((denied.code(), broken.code()), (Code::Unavailable, Code::Internal));
        assert_eq!(no_space.metadata().get("retry-after-ms").unwrap(), "30000");
        for status in [no_space, read_only, denied, broken] {
            assert!(!status.message().contains("secret"), "{status}");
        }
    }

    #[test]
    fn a_lack_of_file_descriptors_is_retried() {
        let source = Box::new(io::Error::from_raw_os_error(24));
        let error = object_store::Error::Generic { store: "LocalFileSystem", source };
        let status = Error::from(StoreError::from(error)).status();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.metadata().get("retry-after-ms").unwrap(), "1000");
    }
}
