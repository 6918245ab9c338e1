//! Limit on the tests that run programs at the same time.
//!
//! The programs compute on every core. `cargo test` runs one test per core, so that without a limit tests would miss
//! their timeouts on machines with many cores. nextest starts a process for each test and has its own limit in
//! `.config/nextest.toml`.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use anyhow::Result;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Maximum number of tests with running programs.
const TESTS_MAX: usize = 2;

static TESTS: Semaphore = Semaphore::const_new(TESTS_MAX);

thread_local! {
    /// Permit of the test that runs on this thread.
    static PERMIT: RefCell<Weak<SemaphorePermit<'static>>> = const { RefCell::new(Weak::new()) };
}

/// A test's permit, held by everything that it starts.
pub(crate) type Permit = Arc<SemaphorePermit<'static>>;

/// Waits until this test may start programs. All programs of a test share one permit, because a test that waited for a
/// second one could deadlock with another test.
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
