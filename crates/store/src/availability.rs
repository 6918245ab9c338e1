//! Availability errors: causes of failed requests on which an operator or a caller can act.

use std::error::Error;
use std::io::{self, ErrorKind};

/// Cause of a failed store request. Callers may see the messages, so they contain no paths or addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The disk or a quota is full.
    #[error(
        "the store is full: free space on its disk, or delete documents and run `c3 gc --grace 0`; documents can still \
         be read"
    )]
    Full,
    /// The file system is mounted read-only.
    #[error("the store is read-only: make it writable again; documents can still be read")]
    ReadOnly,
    /// The gateway's user or credentials lack permission.
    #[error("the store denies access: give the gateway's user or credentials permission to read and write the store")]
    AccessDenied,
    /// The process or the system has no free file descriptor.
    #[error("the gateway has too many open files: try again, or raise its limit (`ulimit -n`)")]
    NoDescriptor,
    /// Requests time out, or the backend keeps failing.
    #[error("the store does not answer: try again")]
    NoResponse,
    /// A key of the store is missing, or cannot be unwrapped at the moment.
    #[error("the store cannot be decrypted: see the gateway's log")]
    NoKey,
    /// The keys of the store were destroyed.
    #[error("the keys of this store were destroyed, so nothing in it can be read")]
    Shredded,
    /// The folder or bucket that was opened is gone, as after an unmount.
    #[error("the store has vanished: mount or restore it, or restart the gateway to begin an empty store")]
    Vanished,
    /// The folder now contains a store whose identity differs from that of the opened store.
    #[error("another store is in the place of the one that was opened: mount that one, or restart the gateway")]
    Replaced,
}

/// Backend name in errors of this crate's own file operations. Errors of `object_store` name `LocalFileSystem` instead.
pub(crate) const FOLDER: &str = "folder";

/// Error numbers ENFILE and EMFILE, for which the standard library has no stable kind.
const NO_DESCRIPTOR: [i32; 2] = [23, 24];

const FOLDER_BACKENDS: [&str; 2] = ["LocalFileSystem", FOLDER];

impl Unavailable {
    /// Returns the cause of a backend error; `None` if no variant describes it.
    pub(crate) fn classify(error: &object_store::Error) -> Option<Self> {
        use object_store::Error as Backend;
        if let Backend::PermissionDenied { .. } | Backend::Unauthenticated { .. } = error {
            return Some(Self::AccessDenied);
        }
        let outermost: &(dyn Error + 'static) = error;
        let causes = std::iter::successors(Some(outermost), |&error| error.source());
        let system = causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).last();
        if system.and_then(io::Error::raw_os_error).is_some_and(|number| NO_DESCRIPTOR.contains(&number)) {
            return Some(Self::NoDescriptor);
        }
        match system.map(io::Error::kind) {
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => Some(Self::Full),
            Some(ErrorKind::ReadOnlyFilesystem) => Some(Self::ReadOnly),
            Some(ErrorKind::PermissionDenied) => Some(Self::AccessDenied),
            Some(ErrorKind::TimedOut | ErrorKind::StaleNetworkFileHandle) => Some(Self::NoResponse),
            // A cloud's client returns `Generic` after its own retries of 429, 5xx, timeouts or refused connections.
            _ => matches!(error, Backend::Generic { store, .. } if !FOLDER_BACKENDS.contains(store))
                .then_some(Self::NoResponse),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(store: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Option<Unavailable> {
        Unavailable::classify(&object_store::Error::Generic { store, source: source.into() })
    }

    #[test]
    fn errors_that_callers_can_act_on_are_classified() {
        let system = |code| classify("LocalFileSystem", io::Error::from_raw_os_error(code));
        let [no_space, read_only, denied, broken] = [28, 30, 13, 5];
        assert_eq!(system(no_space), Some(Unavailable::Full));
        assert_eq!(system(read_only), Some(Unavailable::ReadOnly));
        assert_eq!(system(denied), Some(Unavailable::AccessDenied));
        assert_eq!(system(broken), None);
        assert_eq!([23, 24].map(system), [Some(Unavailable::NoDescriptor); 2]);
        assert_eq!(classify("S3", "503 after 10 attempts"), Some(Unavailable::NoResponse));
        let path = "documents".to_owned();
        let refused = object_store::Error::PermissionDenied { path, source: "403".into() };
        assert_eq!(Unavailable::classify(&refused), Some(Unavailable::AccessDenied));
    }
}
