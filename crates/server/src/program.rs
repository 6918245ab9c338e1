//! Skeleton of a server's `main`: telemetry → listener → run → drain. Every error is one line on stderr.

use std::fmt::{self, Display};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::str::FromStr;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::net::{TcpListener, lookup_host};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::printable::Printable;
use crate::shutdown_signal;
use crate::telemetry::{Telemetry, TelemetryConfig};

/// Maximum time by which work that cannot be cancelled may delay the exit.
const RUNTIME_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum default number of threads that serve calls. They have little work, and the allocator keeps memory for each
/// thread. For a document of a million tokens, a gateway used 214 MB with 16 threads and 122 MB with 2, and took
/// equally long.
const IO_THREADS_MAX: usize = 8;
/// Maximum threads for blocking work, which is mostly the store's files. Enough to keep a disk busy; each thread that
/// has read or written shards keeps up to a few megabytes.
const BLOCKING_THREADS_MAX: usize = 8;

/// Address to listen on: `HOST:PORT`, where the host is an IP address or a name.
#[derive(Clone, Debug)]
pub struct ListenAddress(String);

impl FromStr for ListenAddress {
    type Err = &'static str;

    fn from_str(address: &str) -> Result<Self, Self::Err> {
        let is_valid = |(host, port): (&str, &str)| !host.is_empty() && port.parse::<u16>().is_ok();
        if address.rsplit_once(':').is_some_and(is_valid) {
            Ok(Self(address.to_owned()))
        } else {
            Err("must be HOST:PORT, for example 127.0.0.1:7300")
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self(address.to_string())
    }
}

impl Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
/// Minimum number of free file descriptors at the start. With fewer than 5, the runtime would panic.
#[cfg(unix)]
const DESCRIPTORS_MIN: usize = 8;

/// Reason why a program cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program listens on the address.
    #[error("{0} is in use: stop the program that listens there, or choose another address with --listen")]
    InUse(ListenAddress),
    /// Any other failure.
    #[error("cannot listen on {address} ({source}): choose another address with --listen")]
    Other {
        /// The requested address.
        address: ListenAddress,
        /// The system's error.
        source: io::Error,
    },
}

/// Listens on `address`. If the host is a name with several IP addresses, listens on one of them. Prefers IPv4, as
/// clients of `localhost` expect.
pub async fn bind(address: &ListenAddress) -> Result<TcpListener, BindError> {
    let listen = async {
        let mut resolved = Vec::from_iter(lookup_host(&address.0).await?);
        resolved.sort_by_key(SocketAddr::is_ipv6);
        TcpListener::bind(resolved.as_slice()).await
    };
    listen.await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(address.clone()),
        _ => BindError::Other { address: address.clone(), source },
    })
}

/// Starts the threads that serve calls, by default one per core but at most [`IO_THREADS_MAX`]. Fails if too few file
/// descriptors are free.
pub fn runtime(io_threads: Option<NonZeroUsize>) -> io::Result<Runtime> {
    #[cfg(unix)]
    require_descriptors()?;
    let cores = || available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = io_threads.map_or_else(|| cores().min(IO_THREADS_MAX), NonZeroUsize::get);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(threads).max_blocking_threads(BLOCKING_THREADS_MAX).enable_all().build()
}

#[cfg(unix)]
fn require_descriptors() -> io::Result<()> {
    use std::os::fd::AsFd;
    let stdin = io::stdin();
    let free: io::Result<Vec<_>> = (0..DESCRIPTORS_MIN).map(|_| stdin.as_fd().try_clone_to_owned()).collect();
    match free {
        Ok(_) => Ok(()),
        Err(error) => Err(io::Error::other(format!(
            "fewer than {DESCRIPTORS_MIN} file descriptors are free ({error}): raise the limit with `ulimit -n`"
        ))),
    }
}

/// Runs one server as a program. Returns exit code 0 after a drain; otherwise 1, with `error: …` on stderr.
pub fn run<E, F>(
    role: &'static str,
    telemetry: &TelemetryConfig,
    io_threads: Option<NonZeroUsize>,
    listen: &ListenAddress,
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
    let _ = writeln!(io::stderr(), "error: {}", Printable(error));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_can_be_listened_on() {
        let address = |text: &str| text.parse::<ListenAddress>();
        let listener = bind(&address("localhost:0").unwrap()).await.unwrap();
        assert!(listener.local_addr().unwrap().ip().is_loopback());
        for malformed in ["7300", ":7300", "localhost", "localhost:", "localhost:http", "localhost:70000"] {
            assert!(address(malformed).is_err(), "{malformed}");
        }
    }
}
