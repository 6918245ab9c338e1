//! Connections of servers and clients: each writes once a turn of its task.
//!
//! HTTP/2 flushes after every frame of data and again after the trailers that follow it, and each flush is a packet and a
//! system call. Here what the calls of a connection send between two turns of its task goes out together.

mod connect;
mod turns;

pub use connect::Connector;
pub use turns::{ByTurns, by_turns};
