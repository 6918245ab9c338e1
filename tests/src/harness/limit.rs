//! Limit on the number of tests that run programs concurrently.
//!
//! Every program computes on all cores, and `cargo test` runs one test per core. Without this limit, tests would time
//! out on machines with many cores. The limit covers the tests of one process. nextest starts a process for each test
//! and has its own limit in `.config/nextest.toml`.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use anyhow::Result;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Maximum number of tests whose programs run concurrently.
const TESTS_MAX: usize = 2;

static TESTS: Semaphore = Semaphore::const_new(TESTS_MAX);

thread_local! {
    /// Permit of the test that runs on this thread. Empty once all programs of the test have ended.
    static PERMIT: RefCell<Weak<SemaphorePermit<'static>>> = const { RefCell::new(Weak::new()) };
}

/// Permit of a test. Each program of the test has a clone; dropping the last clone releases the permit.
pub(crate) type Permit = Arc<SemaphorePermit<'static>>;

/// Waits until the test on this thread may start programs. All programs of a test share one permit: if each needed its
/// own, two tests could wait forever for each other's permits.
pub(crate) async fn permit() -> Result<Permit> {
    if let Some(permit) = PERMIT.with_borrow(Weak::upgrade) {
        return Ok(permit);
    }
    let permit = Arc::new(TESTS.acquire().await?);
    PERMIT.set(Arc::downgrade(&permit));
    Ok(permit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_test_has_one_permit() {
        let permits = [permit().await.unwrap(), permit().await.unwrap(), permit().await.unwrap()];
        assert!(permits.iter().all(|permit| Arc::ptr_eq(permit, &permits[0])));
        assert!(TESTS.available_permits() < TESTS_MAX);
    }
}
