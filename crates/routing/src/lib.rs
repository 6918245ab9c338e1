//! Routing of stage calls to compressor and decoder nodes: discovery, health checks, balancing, retries, circuit
//! breaking, outlier ejection and load shedding.
//!
//! [`Router`] is the entry point. `discovery` keeps the list of nodes and `health` checks each node. `stage_client`
//! makes calls through `dispatch`: `balance` picks a node, `breaker` and `outlier` exclude bad nodes, and `retry`
//! limits the attempts. `backlog` estimates how long new work would wait, and refuses requests that would wait too
//! long.

mod backlog;
mod balance;
mod breaker;
mod discovery;
mod dispatch;
mod error;
mod health;
mod metrics;
mod node;
mod outlier;
mod retry;
mod router;
mod stage_client;

pub use backlog::RequestClass;
pub use discovery::Announcement;
pub use error::{Error, StartError};
pub use node::{Node, NodeSelector};
pub use router::{Router, RoutingConfig};
pub use stage_client::{CompressJob, CompressedWindow, GenerateJob, ReconstructJob, StageResponse, VerifyJob};
