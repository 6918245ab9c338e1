//! What every server of C3 Serve shares, and nothing of what a single one does.
//!
//! The parts:
//! - [`program`]: the skeleton of a `main`: telemetry → listener → run → drain; every error is one line.
//! - [`server`]: the one builder with all layers, health, reflection, `/metrics` and the graceful drain.
//! - [`readiness`]: loading → ready → draining, and the gRPC health that follows it.
//! - [`error`]: kinds of errors, and the one map from them to gRPC status.
//! - [`caller`]: for whom a call is made, also where a gateway asks a node for somebody.
//! - [`deadline`]: when a call is over, and that what it asks of others ends with it.
//! - [`telemetry`], [`propagation`], [`metrics`]: logs, traces and numbers.

mod admission;
mod body;
pub mod caller;
mod calls;
pub mod deadline;
mod dispatch;
pub mod error;
pub mod metrics;
pub mod program;
pub mod propagation;
pub mod readiness;
pub mod server;
mod signal;
pub mod telemetry;

pub use dispatch::GrpcServer;
pub use error::{Fault, Kind};
pub use readiness::Readiness;
pub use server::{Server, ServerArgs, serve};
pub use signal::shutdown_signal;
