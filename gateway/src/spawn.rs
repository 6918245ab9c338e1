//! Work that goes on while nobody polls it, and stops when nobody wants it.

use c3_server::{caller, deadline};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::error::Failure;

/// Runs `work` of the current call as a task of its own: a caller who does not read what came before it holds no place on
/// a node. Dropping the result aborts it.
pub(crate) fn begin<T, W>(work: W) -> impl Future<Output = Result<T, Failure>> + Send
where
    T: Send + 'static,
    W: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let work = caller::carried(deadline::carried(work.in_current_span()));
    let task = AbortOnDropHandle::new(tokio::spawn(work));
    async { task.await.unwrap_or_else(|_| Err(Failure::gone())) }
}
