//! Skeleton of a server's `main`: telemetry → listener → run → drain. Every error is one line on stderr.

use std::{
    fmt::Display, io, net::SocketAddr, num::NonZeroUsize, process::ExitCode, thread::available_parallelism,
    time::Duration,
};

use tokio::{net::TcpListener, runtime::Runtime};
use tokio_util::sync::CancellationToken;

use crate::{
    printable::Printable,
    shutdown_signal,
    telemetry::{Telemetry, TelemetryConfig},
};

/// Maximum time by which work that cannot be cancelled may delay the exit.
const RUNTIME_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum default number of threads that serve calls. They have little work, and the allocator keeps memory for each:
/// for a document of a million tokens a gateway used 214 MB with 16 threads and 122 MB with 2, and took equally long.
const IO_THREADS_MAX: usize = 8;

/// Reason why a program cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program listens on the address.
    #[error("{0} is in use: stop the program that listens there, or choose another address with --listen")]
    InUse(SocketAddr),
    /// Any other failure.
    #[error("cannot listen on {address} ({source}): choose another address with --listen")]
    Other {
        /// The requested address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
}

/// Listens on `address`.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(address),
        _ => BindError::Other { address, source },
    })
}

fn runtime(io_threads: Option<NonZeroUsize>) -> io::Result<Runtime> {
    let cores = || available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = io_threads.map_or_else(|| cores().min(IO_THREADS_MAX), NonZeroUsize::get);
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
}

/// Runs one server as a program. Returns exit code 0 after a drain; otherwise 1, with `error: …` on stderr.
pub fn run<E, F>(
    role: &'static str,
    telemetry: &TelemetryConfig,
    io_threads: Option<NonZeroUsize>,
    listen: SocketAddr,
    server: impl FnOnce(TcpListener, CancellationToken) -> F,
) -> ExitCode
where
    E: Display,
    F: Future<Output = Result<(), E>>,
{
    let runtime = match runtime(io_threads) {
        Ok(runtime) => runtime,
        Err(error) => return failed(error),
    };
    let code = runtime.block_on(async {
        let telemetry = match Telemetry::start(role, telemetry) {
            Ok(telemetry) => telemetry,
            Err(error) => return failed(error),
        };
        let shutdown = shutdown_signal();
        let code = match bind(listen).await {
            Ok(listener) => server(listener, shutdown).await.map_or_else(failed, |()| ExitCode::SUCCESS),
            Err(error) => failed(error),
        };
        telemetry.shutdown().await;
        code
    });
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_TIMEOUT);
    code
}

fn failed(error: impl Display) -> ExitCode {
    eprintln!("error: {}", Printable(error));
    ExitCode::FAILURE
}
