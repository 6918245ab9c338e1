//! Code shared by the compressor and decoder nodes. Nothing here is specific to one stage or the network.
//!
//! ```text
//! a stage's gRPC service -> Node (the loaded model) -> Queue -> the model's thread -> answers
//! ```
//!
//! - [`NodeServer`]: lifecycle of a node, which loads and warms the model, serves calls and drains.
//! - [`Node`]: the handle that calls and the model's thread share.
//! - [`queue`]: the bounded admission queue between calls and the model's thread.
//! - [`batch`]: batches of jobs that the model computes together.
//! - [`load`]: how busy the device is, and how fast it computes.
//! - [`model_thread`]: the model's thread.
//! - [`NodeArgs`], [`ModelInfo`], [`Counters`]: the operator's settings, the model's properties, counters of work.

mod announce;
mod args;
pub mod batch;
mod counters;
mod error;
pub mod load;
mod metrics;
mod model_info;
pub mod model_thread;
mod node;
mod operation;
pub mod queue;
mod server;

pub use args::NodeArgs;
pub use counters::{Counter, Counters};
pub use error::{CallError, Error};
pub use model_info::{ModelInfo, saturating_u32};
pub use node::{Loaded, Node};
pub use operation::Operation;
pub use server::{NodeServer, Role};
