//! Code that all servers of C3 Serve share. Nothing here is specific to one role.
//!
//! - [`program`]: skeleton of a `main`: telemetry → listener → run → drain.
//! - [`arguments`], [`units`]: parser of command lines, and flag values with a unit.
//! - [`server`]: serves a role's routes with the call layer, health, reflection, `/metrics` and the graceful drain.
//! - [`error`]: error kinds and their maps to gRPC and HTTP status codes.
//! - [`readiness`]: lifecycle of a server, which health and admission follow.
//! - [`principal`], [`deadline`]: the caller that a call is made for, and the time by which the call must end.
//! - [`telemetry`], [`propagation`], [`metrics`]: logs, traces and metrics.
//! - [`throttle`], [`printable`]: limit on repeated log lines, and text that is safe to print.

mod admission;
pub mod arguments;
mod call;
mod call_body;
mod call_layer;
pub mod deadline;
pub mod error;
pub mod metrics;
pub mod principal;
pub mod printable;
pub mod program;
pub mod propagation;
pub mod readiness;
pub mod server;
mod signal;
pub mod telemetry;
pub mod throttle;
pub mod units;

pub use error::{ErrorKind, ServiceError};
pub use readiness::Readiness;
pub use server::{Server, ServerArgs, serve};
pub use signal::shutdown_signal;
