//! Code shared by both nodes. Knows neither the stages nor the neural network.
//!
//! ```text
//! a stage's gRPC service -> Node (the loaded model) -> Queue -> the model's thread -> answers
//! ```
//!
//! - [`NodeServer`]: node lifecycle. The thread loads and warms the model, the server serves calls, both end together.
//! - [`Node`]: the handle that calls and the thread share.
//! - [`queue`]: the bounded admission queue between calls and the thread.
//! - [`batch`]: batches of jobs that compute together.
//! - [`model_thread`]: the thread.
//! - [`NodeArgs`], [`ModelInfo`], [`Counters`]: the operator's settings, the model's properties, work done.

mod announce;
mod args;
pub mod batch;
mod counters;
mod error;
mod model_info;
pub mod model_thread;
mod node;
pub mod queue;
mod server;

pub use args::NodeArgs;
pub use counters::{Counter, Counters};
pub use error::{CallError, Error};
pub use model_info::{ModelInfo, saturating_u32};
pub use node::{Loaded, Node};
pub use server::{NodeServer, Role};
