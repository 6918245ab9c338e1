//! What can go wrong: [`Error`] stops the program, a [`Failure`] answers a request.

use c3_proto::{DocumentId, DocumentName, Fingerprint, Invalid, Stage};
use c3_server::Kind;
use tonic::Status;

use crate::store::StoreError;
use crate::store::trouble::Trouble;

/// When to try again where the store is full: somebody has to make room.
const MAKE_ROOM_MS: u64 = 30_000;

/// Why the gateway does not run. The message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting does not hold what it must.
    #[error("{setting}: {problem}")]
    Setting {
        /// The flag.
        setting: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The data folder cannot be used.
    #[error(
        "data folder {folder} is not writable ({reason}): give another with --data, or change its permissions"
    )]
    Data {
        /// The folder, or the address of the store.
        folder: String,
        /// What the system says.
        reason: String,
    },
    /// The server failed.
    #[error("{0}")]
    Serve(String),
}

/// Why a request is refused or fails. Callers that share one flight share its failure.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The request does not hold what it must.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The caller's stream broke off.
    #[error("the request broke off ({})", .0.message())]
    Inbound(Status),
    /// No such document.
    #[error("no document {0} is stored here")]
    NotFound(String),
    /// No such name.
    #[error("no document has the name {0}")]
    NoName(DocumentName),
    /// The name's document is gone, and the name with it.
    #[error("name {name} told of document {id}, which was deleted")]
    NameGone {
        /// The name.
        name: DocumentName,
        /// The document that it told of.
        id: DocumentId,
    },
    /// A name or labels are not what the caller expects.
    #[error("{what} changed meanwhile: {}; look again and decide", now(.there.as_deref()))]
    Unexpected {
        /// The name, or whose labels.
        what: String,
        /// Token of what is there.
        there: Option<String>,
    },
    /// A document is stored, and is not called what it was to be called.
    #[error("document {id} is stored, but without its name or labels: {why}")]
    NotNamed {
        /// The document.
        id: DocumentId,
        /// Why not.
        why: Box<Failure>,
    },
    /// It is not the document any more that the request began with.
    #[error("document {0} was changed meanwhile: try again")]
    Changed(DocumentId),
    /// No node of a stage does it.
    #[error("no {wanted} answers; tried {tried}")]
    NoNode {
        /// The stage and what else it must be.
        wanted: String,
        /// Addresses with what each said.
        tried: String,
    },
    /// A node finds the request wrong: another would, too.
    #[error("{message}")]
    Refused {
        /// What is wrong with it.
        kind: Kind,
        /// What the node says.
        message: String,
    },
    /// Nodes of the stage refuse for want of room.
    #[error("every {stage} is full: try again in {retry_after_ms} ms")]
    Full {
        /// The stage.
        stage: Stage,
        /// When to try again.
        retry_after_ms: u64,
    },
    /// More waits for nodes than is worked off soon.
    #[error("{tokens} text tokens wait for nodes already: try again in {retry_after_ms} ms, or add nodes")]
    Busy {
        /// Text tokens.
        tokens: u64,
        /// When to try again.
        retry_after_ms: u64,
    },
    /// Nodes of the stage did not answer in time.
    #[error("no {stage} answered in time; tried {tried}")]
    Late {
        /// The stage.
        stage: Stage,
        /// Addresses with what each said.
        tried: String,
    },
    /// Latents are not of the model that is served.
    #[error("the latents are of {stage} {given}, served is {served}")]
    WrongModel {
        /// The stage whose fingerprints differ.
        stage: Stage,
        /// Fingerprint of what was given.
        given: Fingerprint,
        /// Fingerprint that is served.
        served: String,
    },
    /// The checkpoint cannot do what is asked.
    #[error("{0}")]
    Unsupported(String),
    /// What is stored, or what comes back, is not what was put.
    #[error("{0}")]
    DataLoss(String),
    /// The store is not as it was when the request began: another try finds it so.
    #[error("{0}")]
    Again(String),
    /// The store cannot do it just now.
    #[error(transparent)]
    Store(Trouble),
    /// Ours.
    #[error("{0}")]
    Internal(String),
}

impl Failure {
    /// What a task that panicked answers with.
    pub(crate) fn gone() -> Self {
        Self::Internal("a task panicked".to_owned())
    }

    /// A failure of the store while it reads or writes `what` of a document.
    pub(crate) fn of_document(id: DocumentId, what: &str, error: &StoreError) -> Self {
        match error {
            StoreError::Missing { .. } | StoreError::Damaged { .. } => {
                Self::DataLoss(format!("document {id}, {what}: {error}; put its text again to repair it"))
            }
            error => Self::from(error.clone()),
        }
    }
}

impl c3_server::Fault for Failure {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid(_) => Kind::InvalidInput,
            Self::Inbound(status) => Kind::of(status),
            Self::NotFound(_) | Self::NoName(_) | Self::NameGone { .. } => Kind::NotFound,
            Self::Unexpected { .. } => Kind::Conflict,
            Self::NotNamed { why, .. } => c3_server::Fault::kind(why.as_ref()),
            Self::NoNode { .. } | Self::Changed(_) => Kind::Unavailable,
            Self::Refused { kind, .. } => *kind,
            Self::Full { retry_after_ms, .. } | Self::Busy { retry_after_ms, .. } => {
                Kind::Full { retry_after_ms: *retry_after_ms }
            }
            Self::Late { .. } => Kind::Late,
            Self::WrongModel { .. } | Self::Unsupported(_) => Kind::WrongModel,
            Self::DataLoss(_) => Kind::DataLoss,
            Self::Store(Trouble::Full) => Kind::Full { retry_after_ms: MAKE_ROOM_MS },
            Self::Store(Trouble::ReadOnly | Trouble::Denied | Trouble::Silent) => Kind::Unavailable,
            Self::Again(_) => Kind::Unavailable,
            Self::Internal(_) => Kind::Internal,
        }
    }
}

/// What is there, for a message.
fn now(there: Option<&str>) -> String {
    there.map_or_else(|| "there is none".to_owned(), |token| format!("its token is {token}"))
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Swept { .. } | StoreError::Ended => Self::Again(error.to_string()),
            StoreError::Unable { trouble, .. } => {
                // What the system or the cloud says is for whoever runs the gateway, and may hold its addresses.
                tracing::error!(%error, "the store cannot do its work");
                Self::Store(trouble)
            }
            error => Self::Internal(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use c3_server::Fault;
    use tonic::Code;

    use super::*;

    fn status(system: i32) -> Status {
        let path = "/srv/secret-folder".to_owned();
        let source = Box::new(io::Error::new(io::Error::from_raw_os_error(system).kind(), path));
        let error = object_store::Error::Generic { store: "LocalFileSystem", source };
        Failure::from(StoreError::from(error)).status()
    }

    #[test]
    fn a_store_that_fails_says_what_to_do_and_no_path() {
        let [no_space, read_only, denied, broken] = [28, 30, 13, 5].map(status);
        assert_eq!((no_space.code(), read_only.code()), (Code::ResourceExhausted, Code::Unavailable));
        assert_eq!((denied.code(), broken.code()), (Code::Unavailable, Code::Internal));
        assert_eq!(no_space.metadata().get("retry-after-ms").unwrap(), "30000");
        for status in [no_space, read_only, denied, broken] {
            assert!(!status.message().contains("secret"), "{status}");
        }
    }
}
