//! The process's limit on file descriptors.

/// Limit that is assumed if the system reports none.
const UNLIMITED: u64 = 1 << 20;

/// Raises the soft limit on file descriptors to the hard limit, and returns the limit. Many systems set a soft limit of
/// 1024 for the sake of programs that use `select`.
#[cfg(unix)]
pub(crate) fn raise_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if let Err(error) = &raised {
        tracing::debug!(%error, "the limit on file descriptors stays as it is");
    }
    let limit = if raised.is_ok() { maximum } else { current };
    limit.unwrap_or(UNLIMITED).min(UNLIMITED) as usize
}

/// Returns the limit on file descriptors.
#[cfg(not(unix))]
pub(crate) fn raise_limit() -> usize {
    UNLIMITED as usize
}
