//! Kinds of errors, and the one map between them and gRPC status.
//!
//! Each crate has its own error enum, which names its [`Kind`] through [`Fault`]; nothing else decides on status codes.

use std::{
    error::Error,
    hash::{BuildHasher, Hasher, RandomState},
};

use tonic::{Code, Status, metadata::MetadataValue};

/// Metadata of a RESOURCE_EXHAUSTED status: milliseconds after which to try again.
pub const RETRY_AFTER_MS: &str = "retry-after-ms";

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The call is wrong and stays wrong: INVALID_ARGUMENT.
    InvalidInput,
    /// No place at the moment: RESOURCE_EXHAUSTED, with `retry-after-ms` in the metadata.
    Full {
        /// When a place is likely to be free.
        retry_after_ms: u64,
    },
    /// Loading, draining, or no node reachable: UNAVAILABLE.
    Unavailable,
    /// Over its time: DEADLINE_EXCEEDED.
    Late,
    /// No such document: NOT_FOUND.
    NotFound,
    /// Somebody else was faster: ABORTED.
    Conflict,
    /// Latents, or a request, of another model: FAILED_PRECONDITION.
    WrongModel,
    /// What is stored does not hold its checksum or hash: DATA_LOSS.
    DataLoss,
    /// The caller left: CANCELLED.
    Gone,
    /// Ours: INTERNAL, opaque outside, logged with an id inside.
    Internal,
}

impl Kind {
    /// The status of this kind with a message that says what to do.
    ///
    /// For [`Kind::Internal`] the message goes to the log with an id, and only the id goes to the caller.
    pub fn status(self, message: impl Into<String>) -> Status {
        let message = message.into();
        match self {
            Self::Internal => {
                let id = format!("{:016x}", RandomState::new().build_hasher().finish());
                tracing::error!(error.id = %id, "{message}");
                Status::internal(format!("internal error {id}: see the server's log"))
            }
            Self::Full { retry_after_ms } => {
                let mut status = Status::resource_exhausted(message);
                status.metadata_mut().insert(RETRY_AFTER_MS, MetadataValue::from(retry_after_ms));
                status
            }
            _ => Status::new(self.code(), message),
        }
    }

    /// The kind of a status that a server, or the transport to it, answered.
    pub fn of(status: &Status) -> Self {
        match status.code() {
            Code::ResourceExhausted => Self::Full { retry_after_ms: retry_after_ms(status) },
            // What has a source was made on this side: the connection closed under the call.
            Code::Internal if status.source().is_some() => Self::Unavailable,
            code => Self::of_code(code),
        }
    }

    /// The name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::Full { .. } => "full",
            Self::Unavailable => "unavailable",
            Self::Late => "late",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::WrongModel => "wrong_model",
            Self::DataLoss => "data_loss",
            Self::Gone => "gone",
            Self::Internal => "internal",
        }
    }

    pub(crate) fn of_code(code: Code) -> Self {
        match code {
            Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented | Code::AlreadyExists => {
                Self::InvalidInput
            }
            Code::ResourceExhausted => Self::Full { retry_after_ms: RETRY_AFTER_DEFAULT_MS },
            // No server of ours answers UNKNOWN: it is how a broken connection looks to a call in flight.
            Code::Unavailable | Code::Unknown => Self::Unavailable,
            Code::Aborted => Self::Conflict,
            Code::DeadlineExceeded => Self::Late,
            Code::NotFound => Self::NotFound,
            Code::FailedPrecondition => Self::WrongModel,
            Code::DataLoss => Self::DataLoss,
            Code::Cancelled => Self::Gone,
            Code::Ok | Code::Internal | Code::PermissionDenied | Code::Unauthenticated => Self::Internal,
        }
    }

    fn code(self) -> Code {
        match self {
            Self::InvalidInput => Code::InvalidArgument,
            Self::Full { .. } => Code::ResourceExhausted,
            Self::Unavailable => Code::Unavailable,
            Self::Late => Code::DeadlineExceeded,
            Self::NotFound => Code::NotFound,
            Self::Conflict => Code::Aborted,
            Self::WrongModel => Code::FailedPrecondition,
            Self::DataLoss => Code::DataLoss,
            Self::Gone => Code::Cancelled,
            Self::Internal => Code::Internal,
        }
    }
}

/// An error that knows its kind.
pub trait Fault: std::error::Error {
    /// What a caller can do about it.
    fn kind(&self) -> Kind;

    /// The status that a caller sees.
    fn status(&self) -> Status {
        self.kind().status(self.to_string())
    }
}

/// Assumed where a RESOURCE_EXHAUSTED status names no time, as when a message is over its size.
const RETRY_AFTER_DEFAULT_MS: u64 = 1000;

fn retry_after_ms(status: &Status) -> u64 {
    let given = status.metadata().get(RETRY_AFTER_MS).and_then(|value| value.to_str().ok());
    given.and_then(|digits| digits.parse().ok()).unwrap_or(RETRY_AFTER_DEFAULT_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Kind; 10] = [
        Kind::InvalidInput,
        Kind::Full { retry_after_ms: 250 },
        Kind::Unavailable,
        Kind::Late,
        Kind::NotFound,
        Kind::Conflict,
        Kind::WrongModel,
        Kind::DataLoss,
        Kind::Gone,
        Kind::Internal,
    ];

    #[test]
    fn every_kind_survives_the_wire() {
        for kind in ALL {
            assert_eq!(Kind::of(&kind.status("why")), kind);
        }
    }

    #[test]
    fn full_says_when_to_come_back() {
        let status = Kind::Full { retry_after_ms: 250 }.status("queue is full");
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.metadata().get(RETRY_AFTER_MS).unwrap(), "250");
    }

    #[test]
    fn internal_is_opaque_and_has_an_id_of_its_own() {
        let (one, other) = (Kind::Internal.status("password"), Kind::Internal.status("password"));
        assert!(!one.message().contains("password"));
        assert_ne!(one.message(), other.message());
    }

    #[test]
    fn a_broken_connection_is_worth_another_node() {
        assert_eq!(Kind::of(&Status::unknown("h2 protocol error")), Kind::Unavailable);
    }
}
