//! SIGINT and SIGTERM as one cancellation.

use tokio_util::sync::CancellationToken;

/// What a shell says of a program that a SIGINT ended.
const INTERRUPTED: i32 = 130;

/// A token that is cancelled on SIGINT or SIGTERM; a second signal ends the program at once. Must run inside a tokio
/// runtime.
pub fn shutdown_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let signalled = token.clone();
    let mut signals = signals();
    tokio::spawn(async move {
        signals.next().await;
        tracing::info!("asked to stop");
        signalled.cancel();
        signals.next().await;
        end_at_once();
    });
    token
}

#[expect(clippy::exit, reason = "who asks twice does not want to wait for anything")]
fn end_at_once() -> ! {
    tracing::warn!("asked to stop again: ends at once");
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
    // Registered here, not in the task: a signal that comes before the task first runs is not lost.
    Signals {
        interrupt: signal(SignalKind::interrupt()).expect("SIGINT may be handled by any program"),
        terminate: signal(SignalKind::terminate()).expect("SIGTERM may be handled by any program"),
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
        tokio::signal::ctrl_c().await.expect("Ctrl-C may be handled by any program");
    }
}
