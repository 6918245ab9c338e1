//! Why a store cannot do its work just now, as far as callers can know and do something about it.

use std::error::Error;
use std::io::{self, ErrorKind};

/// Why a store cannot do its work just now. Each says what to do, and nothing that is secret: no path, no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// A disk or a quota is used up.
    #[error(
        "the store is full: free space on its disk, or delete documents and run `c3 gc`; what is stored can be read"
    )]
    Full,
    /// It may be read and not written.
    #[error("the store is read-only: make it writable again; what is stored can be read")]
    ReadOnly,
    /// The gateway's user, or its credentials, may not.
    #[error("the store denies access: let the gateway's user, or its credentials, read and write it")]
    AccessDenied,
    /// No answer, or none that helps.
    #[error("the store does not answer: try again")]
    NoResponse,
}

impl Unavailable {
    /// What an error means to callers; `None` where they can do nothing about it.
    pub fn of(error: &object_store::Error) -> Option<Self> {
        use object_store::Error as Stored;
        if let Stored::PermissionDenied { .. } | Stored::Unauthenticated { .. } = error {
            return Some(Self::AccessDenied);
        }
        let outermost: &(dyn Error + 'static) = error;
        let causes = std::iter::successors(Some(outermost), |&error| error.source());
        let kind = causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind).last();
        match kind {
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => Some(Self::Full),
            Some(ErrorKind::ReadOnlyFilesystem) => Some(Self::ReadOnly),
            Some(ErrorKind::PermissionDenied) => Some(Self::AccessDenied),
            Some(ErrorKind::TimedOut | ErrorKind::StaleNetworkFileHandle) => Some(Self::NoResponse),
            // What a cloud's client still says after all its tries: 429, 5xx, a time-out, or nobody there.
            _ => matches!(error, Stored::Generic { store, .. } if !FOLDERS.contains(store))
                .then_some(Self::NoResponse),
        }
    }
}

/// What errors of a local folder are marked with, by `object_store` and by us.
const FOLDERS: [&str; 2] = ["LocalFileSystem", crate::object::FOLDER];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(store: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Option<Unavailable> {
        Unavailable::of(&object_store::Error::Generic { store, source: source.into() })
    }

    #[test]
    fn what_callers_can_do_something_about_is_told_apart() {
        let system = |code| of("LocalFileSystem", io::Error::from_raw_os_error(code));
        let [no_space, read_only, denied, broken] = [28, 30, 13, 5];
        assert_eq!(system(no_space), Some(Unavailable::Full));
        assert_eq!(system(read_only), Some(Unavailable::ReadOnly));
        assert_eq!(system(denied), Some(Unavailable::AccessDenied));
        assert_eq!(system(broken), None);
        assert_eq!(of("S3", "503 after 10 tries"), Some(Unavailable::NoResponse));
        let path = "documents".to_owned();
        let refused = object_store::Error::PermissionDenied { path, source: "403".into() };
        assert_eq!(Unavailable::of(&refused), Some(Unavailable::AccessDenied));
    }
}
