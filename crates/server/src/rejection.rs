//! Reasons why a server itself refuses a call or ends it early.

use std::time::Duration;

use crate::error::{ErrorKind, RETRY_AFTER_DEFAULT_MS, ServiceError};

/// Reason why the server itself refuses a call or ends it early, regardless of the call's protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejection {
    #[error("the server is loading: try again later")]
    Loading,
    #[error("the server's device hangs: try another server")]
    Stalled,
    #[error("the server is stopping: try another server")]
    Stopping,
    #[error("the server serves as many calls as it can: try again later")]
    AtCapacity,
    #[error("this connection uses its full share of the server's concurrent calls: try again later")]
    ShareExceeded,
    #[error("this path serves gRPC only: send application/grpc")]
    NotGrpc,
    #[error("the header Request-Timeout is malformed: give seconds, such as 2 or 0.5, or a duration such as 250ms")]
    MalformedTimeout,
    #[error("this host name is not served: use localhost or an IP address, or start the server with --allowed-hosts")]
    ForeignHost,
    #[error("pages of this origin may not call the server: start it with --cors-origins to allow them")]
    ForeignOrigin,
    #[error("a client certificate is required: call with --tls-cert and --tls-key")]
    NoPeerCertificate,
    #[error("the caller's certificate is for {names}, but only {accepted} may call: see --tls-peer")]
    ForeignPeer { names: String, accepted: String },
    #[error("the call exceeded its timeout of {} ms", .timeout.as_millis())]
    DeadlineExceeded { timeout: Duration },
}

impl ServiceError for Rejection {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Loading | Self::Stalled | Self::Stopping => ErrorKind::Unavailable,
            Self::AtCapacity | Self::ShareExceeded => ErrorKind::Overloaded { retry_after_ms: RETRY_AFTER_DEFAULT_MS },
            Self::NotGrpc | Self::MalformedTimeout => ErrorKind::InvalidArgument,
            Self::ForeignHost | Self::ForeignOrigin | Self::ForeignPeer { .. } => ErrorKind::PermissionDenied,
            Self::NoPeerCertificate => ErrorKind::Unauthenticated,
            Self::DeadlineExceeded { .. } => ErrorKind::DeadlineExceeded,
        }
    }
}
