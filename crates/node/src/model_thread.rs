//! A named thread for the model. It loads the model, warms it up and computes. Thus only one thread submits work to the
//! device, and no tokio thread blocks.

use std::io;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Maximum time at shutdown for the model to finish its last batch.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Failure of a model's thread.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The thread could not be started.
    #[error("cannot start the model's thread ({0}): allow this program more threads")]
    Start(#[from] io::Error),
    /// The thread pool could not be started.
    #[error("cannot start the model's thread pool ({0}): pass a smaller number with --threads")]
    Pool(#[from] rayon::ThreadPoolBuildError),
    /// The thread panicked. The panic's message is on stderr.
    #[error("the model's thread panicked: report the message on stderr")]
    Panicked,
}

/// A handle on the running thread of a model.
#[derive(Debug)]
pub struct ModelThread<E> {
    result: oneshot::Receiver<Result<(), E>>,
}

impl<E: Send + 'static> ModelThread<E> {
    /// Starts the thread `name`, which runs `work` in a pool of `threads` threads (`None`: one per core). `ended` is
    /// cancelled when `work` returns, fails or panics.
    pub fn start(
        name: &'static str,
        threads: Option<usize>,
        ended: CancellationToken,
        work: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) -> Result<Self, Error> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or_default());
        let pool = pool.thread_name(move |number| format!("{name}-{number}")).build()?;
        let (sender, result) = oneshot::channel();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _ended = ended.drop_guard();
            let result = pool.install(work);
            // Sending fails if the program did not wait for the thread.
            let _ = sender.send(result);
        })?;
        Ok(Self { result })
    }

    /// Waits up to 10 seconds for the thread and returns the result of its work. A thread that does not end in time is
    /// abandoned: `join` returns `Ok(Ok(()))`, and the thread ends with the program.
    pub async fn join(self) -> Result<Result<(), E>, Error> {
        match tokio::time::timeout(JOIN_TIMEOUT, self.result).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) => Err(Error::Panicked),
            Err(_) => {
                tracing::warn!("the model did not finish its last batch in time");
                Ok(Ok(()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(work: impl FnOnce() -> Result<(), String> + Send + 'static) -> (ModelThread<String>, CancellationToken) {
        let ended = CancellationToken::new();
        (ModelThread::start("test", Some(1), ended.clone(), work).unwrap(), ended)
    }

    #[tokio::test]
    async fn a_failure_ends_the_server_and_is_reported() {
        let (thread, ended) = start(|| Err("no model".to_owned()));
        ended.cancelled().await;
        assert_eq!(thread.join().await.unwrap(), Err("no model".to_owned()));
    }

    #[tokio::test]
    async fn a_panic_ends_the_server_and_is_reported() {
        let (thread, ended) = start(|| panic!("on purpose"));
        ended.cancelled().await;
        assert!(matches!(thread.join().await, Err(Error::Panicked)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_thread_is_left_behind() {
        let (release, stuck) = std::sync::mpsc::channel::<()>();
        let (thread, ended) = start(move || {
            let _ = stuck.recv();
            Ok(())
        });
        assert_eq!(thread.join().await.unwrap(), Ok(()));
        assert!(!ended.is_cancelled());
        drop(release);
    }
}
