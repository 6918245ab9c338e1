//! Errors of routing: [`StartError`] at start, [`Error`] for a request.

use std::io;

use c3_server::{ErrorKind, ServiceError};
use c3_types::{Fingerprint, Invalid, Stage};

/// Reason that routing cannot start. The message is one line that says what to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address of a node is malformed.
    #[error("{flag}: `{address}` is not http://HOST:PORT or https://HOST:PORT ({problem})")]
    Address {
        /// Flag for addresses of this stage.
        flag: &'static str,
        /// The address as given.
        address: String,
        /// Description of the mistake.
        problem: String,
    },
    /// The thread of the health checks could not be started.
    #[error("cannot start the thread of the health checks ({0}): allow this program more threads")]
    HealthThread(#[from] io::Error),
}

/// Reason that a stage call, a query about the nodes or an announcement fails.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request names an unknown cascade, or names no cascade although several are served.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// No suitable node became ready in time, or no node answered although the call was retried.
    #[error("no {wanted} answers; tried {tried}")]
    NoNode {
        /// The stage, and the arithmetic (order and precision of computation) if the call needs a certain one.
        wanted: String,
        /// Addresses of the stage, each with the reason why its node did not answer.
        tried: String,
    },
    /// A node rejected the request. Another node would reject it too, so there is no retry.
    #[error("{message}")]
    Rejected {
        /// Kind of the node's error.
        kind: ErrorKind,
        /// Message of the node's error.
        message: String,
    },
    /// Suitable nodes were still full when the call timeout had passed.
    #[error("every {stage} is full: try again in {retry_after_ms} ms")]
    NodesFull {
        /// The stage.
        stage: Stage,
        /// Milliseconds after which a retry makes sense.
        retry_after_ms: u64,
    },
    /// A new request would wait too long for a node, so the gateway refuses it.
    #[error(
        "new work would wait {wait_seconds:.1} s for a {stage}: try again in {retry_after_ms} ms, or add {stage} nodes"
    )]
    Shed {
        /// The stage that is overloaded.
        stage: Stage,
        /// Expected wait.
        wait_seconds: f64,
        /// Milliseconds after which a retry makes sense.
        retry_after_ms: u64,
    },
    /// Every attempt exceeded the call timeout.
    #[error("no {stage} answered in time; tried {tried}")]
    DeadlineExceeded {
        /// The stage.
        stage: Stage,
        /// Addresses of the stage, each with the reason why its node did not answer.
        tried: String,
    },
    /// No node serves the model that the request needs.
    #[error("the request needs {stage} {given}, but {served} is served")]
    WrongModel {
        /// The stage whose fingerprint differs.
        stage: Stage,
        /// Fingerprint that the request needs.
        given: Fingerprint,
        /// Fingerprints that are served.
        served: String,
    },
    /// A node's announcement is refused.
    #[error("{0}")]
    AnnouncementRefused(String),
    /// A node announces an address that its certificate does not cover, or has no certificate.
    #[error("{0}")]
    AnnouncementForbidden(String),
    /// A node violates the protocol in a way that a retry cannot fix.
    #[error("{0}")]
    Internal(String),
}

impl ServiceError for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::InvalidArgument,
            Self::NoNode { .. } => ErrorKind::Unavailable,
            Self::Rejected { kind, .. } => *kind,
            Self::NodesFull { retry_after_ms, .. } | Self::Shed { retry_after_ms, .. } => {
                ErrorKind::Overloaded { retry_after_ms: *retry_after_ms }
            }
            Self::DeadlineExceeded { .. } => ErrorKind::DeadlineExceeded,
            Self::WrongModel { .. } | Self::AnnouncementRefused(_) => ErrorKind::WrongModel,
            Self::AnnouncementForbidden(_) => ErrorKind::PermissionDenied,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    fn is_final(&self) -> bool {
        matches!(self, Self::NoNode { .. })
    }
}
