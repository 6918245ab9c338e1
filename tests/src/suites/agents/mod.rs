//! Suite of what agents use: the MCP server with real clients, the archive of sessions, and the examples.

pub(super) mod access;
mod archive;
mod bad_input;
mod clients;
mod start;
pub mod table;
