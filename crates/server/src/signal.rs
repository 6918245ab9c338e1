//! Signals that ask a program to end: SIGHUP, SIGINT and SIGTERM, or Ctrl-C outside Unix.

#[cfg(unix)]
use std::task::Poll;

use tokio_util::sync::CancellationToken;

/// Base of exit codes: for a program that a signal ended, shells report 128 plus the signal's number.
const EXIT_CODE_BASE: u8 = 128;

/// Returns a token that is cancelled by the first signal. A second signal exits the program immediately. Must be called
/// inside a tokio runtime.
pub fn shutdown_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let signalled = token.clone();
    let mut signals = Signals::listen();
    tokio::spawn(async move {
        signals.next().await;
        tracing::info!("shutdown requested");
        signalled.cancel();
        exit_at_once(signals.next().await);
    });
    token
}

#[expect(clippy::exit, reason = "a second signal asks to skip the drain")]
fn exit_at_once(code: u8) -> ! {
    tracing::warn!("shutdown requested again: exiting at once");
    std::process::exit(code.into())
}

/// Listens to the signals. They no longer end the program by themselves, even after this value is dropped.
#[derive(Debug)]
pub struct Signals {
    #[cfg(unix)]
    streams: Vec<(u8, tokio::signal::unix::Signal)>,
}

#[cfg(unix)]
impl Signals {
    /// Starts to listen. If the program was started with SIGHUP ignored, as by nohup, SIGHUP stays ignored. Must be
    /// called inside a tokio runtime.
    pub fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let hangup = (!ignores_hangup()).then(SignalKind::hangup);
        let kinds = hangup.into_iter().chain([SignalKind::interrupt(), SignalKind::terminate()]);
        let listen = |kind: SignalKind| {
            let code = EXIT_CODE_BASE + u8::try_from(kind.as_raw_value()).expect("these signals have small numbers");
            (code, signal(kind).expect("any program may handle these signals"))
        };
        Self { streams: kinds.map(listen).collect() }
    }

    /// Waits for the next signal. Returns the exit code that shells report for a program that this signal ended.
    pub async fn next(&mut self) -> u8 {
        std::future::poll_fn(|context| {
            for (code, stream) in &mut self.streams {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*code);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Returns true if the program was started with SIGHUP ignored, or if this is unknown.
#[cfg(unix)]
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Bit 0 stands for SIGHUP, which is signal 1.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & 1 == 1)
}

#[cfg(not(unix))]
impl Signals {
    /// Starts to listen.
    pub fn listen() -> Self {
        Self {}
    }

    /// Waits for the next Ctrl-C. Returns the exit code that shells report for a program that Ctrl-C ended.
    pub async fn next(&mut self) -> u8 {
        tokio::signal::ctrl_c().await.expect("any program may handle Ctrl-C");
        EXIT_CODE_BASE + 2
    }
}
