//! Code that all servers of C3 Serve share. Nothing here is specific to one role.
//!
//! - [`program`]: skeleton of a `main`: telemetry → listener → run → drain.
//! - [`arguments`], [`units`]: parser of command lines, and flag values with a unit.
//! - [`server`]: serves a role's routes with the call layer, health, reflection, `/metrics` and the graceful drain.
//! - [`health`]: the gRPC health service, `/livez` and `/readyz`.
//! - [`error`], [`problem`]: error kinds and their maps to gRPC and HTTP status codes; problem details over HTTP.
//! - [`access`], [`audit`]: callers, scopes and quotas; log of administrative and destructive calls.
//! - [`web_access`]: hosts and origins from which calls are accepted.
//! - [`readiness`]: lifecycle of a server, which health and admission follow.
//! - [`principal`], [`deadline`]: the caller that a call is made for, and the time by which the call must end.
//! - [`tls`]: TLS settings of a program.
//! - [`telemetry`], [`propagation`], [`metrics`]: logs, traces and metrics.
//! - [`throttle`], [`printable`]: limit on repeated log lines, and display of text that is safe to print.

// `eprintln!` panics if standard error cannot be written.
#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod access;
mod activity;
mod admission;
pub mod arguments;
pub mod audit;
mod call;
mod call_body;
mod call_layer;
mod cancellations;
mod connections;
pub mod deadline;
mod descriptors;
pub mod error;
#[cfg(test)]
mod fuzz;
mod handshake;
pub mod health;
mod in_process;
pub mod metrics;
pub mod principal;
pub mod printable;
pub mod problem;
pub mod program;
pub mod propagation;
pub mod readiness;
mod rejection;
pub mod server;
mod signal;
mod slow_request;
mod stall;
pub mod telemetry;
pub mod throttle;
pub mod tls;
pub mod units;
pub mod web_access;

pub use access::Access;
pub use c3_tls::{ClientAuth, Credentials, PeerIdentity};
pub use error::{ErrorKind, ServiceError};
pub use health::StageHealth;
pub use in_process::{InProcessListener, in_process};
pub use problem::Problem;
pub use readiness::Readiness;
pub use server::{Server, ServerArgs, serve};
pub use signal::{Signals, shutdown_signal};
pub use web_access::WebAccess;
