//! SIGINT and SIGTERM as one cancellation.

use tokio_util::sync::CancellationToken;

/// A token that is cancelled on SIGINT or SIGTERM. Must run inside a tokio runtime.
pub fn shutdown_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let signalled = token.clone();
    let asked_to_stop = asked_to_stop();
    tokio::spawn(async move {
        asked_to_stop.await;
        tracing::info!("asked to stop");
        signalled.cancel();
    });
    token
}

#[cfg(unix)]
fn asked_to_stop() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    // Registered here, not in the task: a signal that comes before the task first runs is not lost.
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT may be handled by any program");
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM may be handled by any program");
    async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
async fn asked_to_stop() {
    tokio::signal::ctrl_c().await.expect("Ctrl-C may be handled by any program");
}
