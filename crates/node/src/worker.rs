//! A model's own named thread: it loads the model, warms it and computes, so that one thread submits to the device and
//! none of tokio's is ever held up.

use std::{io, time::Duration};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// How long a program that stops waits for the model to leave its last batch.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a model's thread failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("cannot start the model's thread ({0}): allow this program more threads")]
    Start(#[from] io::Error),
    /// Its pool of threads could not be started.
    #[error("cannot start the model's pool of threads ({0}): ask for fewer with --threads")]
    Pool(#[from] rayon::ThreadPoolBuildError),
    /// A panic, which the log shows.
    #[error("the model's thread panicked: see the log, and report it")]
    Panicked,
}

/// A model's thread that runs.
#[derive(Debug)]
pub struct Worker<E> {
    result: oneshot::Receiver<Result<(), E>>,
}

impl<E: Send + 'static> Worker<E> {
    /// Starts the thread `name`, whose parallel work uses `threads` threads (`None`: one for each core). `ended` is
    /// cancelled when `work` returns, fails or panics.
    pub fn start(
        name: &'static str,
        threads: Option<usize>,
        ended: CancellationToken,
        work: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) -> Result<Self, Error> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or_default());
        let pool = pool.thread_name(move |number| format!("{name}-{number}")).build()?;
        let (send, result) = oneshot::channel();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _ended = ended.drop_guard();
            let result = pool.install(work);
            // Nobody listens any more where the program would not wait.
            let _ = send.send(result);
        })?;
        Ok(Self { result })
    }

    /// Waits for the thread's end and says how its work ended. One that is held up in a batch is left behind: it ends
    /// with the program.
    pub async fn end(self) -> Result<Result<(), E>, Error> {
        match tokio::time::timeout(END_TIMEOUT, self.result).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) => Err(Error::Panicked),
            Err(_) => {
                tracing::warn!("the model did not leave its last batch in time");
                Ok(Ok(()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(
        work: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> (Worker<String>, CancellationToken) {
        let ended = CancellationToken::new();
        (Worker::start("test", Some(1), ended.clone(), work).unwrap(), ended)
    }

    #[tokio::test]
    async fn a_failure_ends_the_server_and_is_told() {
        let (worker, ended) = start(|| Err("no model".to_owned()));
        ended.cancelled().await;
        assert_eq!(worker.end().await.unwrap(), Err("no model".to_owned()));
    }

    #[tokio::test]
    async fn a_panic_ends_the_server_and_is_told() {
        let (worker, ended) = start(|| panic!("on purpose"));
        ended.cancelled().await;
        assert!(matches!(worker.end().await, Err(Error::Panicked)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_is_held_up_is_left_behind() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (worker, ended) = start(move || {
            let _ = held.recv();
            Ok(())
        });
        assert_eq!(worker.end().await.unwrap(), Ok(()));
        assert!(!ended.is_cancelled());
        drop(release);
    }
}
