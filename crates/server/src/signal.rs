//! Cancellation on SIGINT or SIGTERM.

use tokio_util::sync::CancellationToken;

/// Exit code that shells report for a program that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Returns a token that is cancelled on SIGINT or SIGTERM, or on Ctrl-C outside Unix. A second signal exits the program
/// immediately. Must be called inside a tokio runtime.
pub fn shutdown_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let signalled = token.clone();
    let mut signals = signals();
    tokio::spawn(async move {
        signals.next().await;
        tracing::info!("shutdown requested");
        signalled.cancel();
        signals.next().await;
        exit_at_once();
    });
    token
}

#[expect(clippy::exit, reason = "a second signal asks to skip the drain")]
fn exit_at_once() -> ! {
    tracing::warn!("shutdown requested again: exiting at once");
    std::process::exit(INTERRUPTED)
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
fn signals() -> Signals {
    use tokio::signal::unix::{SignalKind, signal};
    // Registered here rather than in the task, so that a signal that arrives before the task runs is not lost.
    Signals {
        interrupt: signal(SignalKind::interrupt()).expect("any program may handle SIGINT"),
        terminate: signal(SignalKind::terminate()).expect("any program may handle SIGTERM"),
    }
}

#[cfg(unix)]
impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
fn signals() -> Signals {
    Signals
}

#[cfg(not(unix))]
impl Signals {
    async fn next(&mut self) {
        tokio::signal::ctrl_c().await.expect("any program may handle Ctrl-C");
    }
}
