//! Tasks that do parts of a request. They make progress even while nobody polls the request, and are aborted when it is
//! dropped.

use c3_server::{deadline, principal};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::error::Error;

/// Spawns part of a request as a task, so that calls on nodes finish even while a slow caller does not read the
/// response.
///
/// The task inherits the request's span, deadline and principal. Dropping the returned future aborts the task. Panics
/// become errors.
pub(crate) fn spawn<T, W>(work: W) -> impl Future<Output = Result<T, Error>> + Send
where
    T: Send + 'static,
    W: Future<Output = Result<T, Error>> + Send + 'static,
{
    let work = principal::inherit(deadline::inherit(work.in_current_span()));
    let task = AbortOnDropHandle::new(tokio::spawn(work));
    async { task.await.unwrap_or_else(|_| Err(Error::panicked())) }
}
