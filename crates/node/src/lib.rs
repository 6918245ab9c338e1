//! What both nodes share, and nothing of what a single stage does.
//!
//! ```text
//! a stage's grpc -> Node (what is served, or that it loads) -> Queue -> the model's thread -> answers
//! ```
//!
//! - [`run()`]: a node's life: the thread loads and warms the model, the server takes calls, both end together.
//! - [`Node`]: the handle between calls and thread.
//! - [`queue`]: the bounded, token-weighted queue between them.
//! - [`batch`]: computing what was taken side by side.
//! - [`worker`]: the thread.
//! - [`Settings`], [`ModelFacts`], [`Counters`]: what an operator sets, what the model says, what was done.

mod announce;
pub mod batch;
mod counters;
mod error;
mod facts;
mod handle;
pub mod queue;
mod run;
mod settings;
pub mod worker;

pub use counters::{Counter, Counters};
pub use error::{Error, status};
pub use facts::{ModelFacts, count};
pub use handle::{Node, Served};
pub use run::{Role, run};
pub use settings::Settings;
