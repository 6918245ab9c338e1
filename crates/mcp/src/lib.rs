//! MCP server (Model Context Protocol): lets agents store, recall and find the documents of a gateway.
//!
//! ```text
//! http  ──┐                ┌─ tools      store, recall, find, forget, stats
//!         ├─ McpServer ────┤                                                 ──▶ c3-client ──▶ gateway
//! stdio ──┘                └─ resources  c3://documents/…, c3://names/…
//! ```
//!
//! The server makes calls like any other client of the gateway, with the key of the agent. So access control, quotas
//! and the audit log of the gateway apply, and the same code serves a gateway's own port and `c3 mcp`. The crate `rmcp`
//! speaks the protocol, in versions up to 2026-07-28.

mod call;
mod error;
mod files;
mod http;
mod resources;
mod server;
mod stdio;
mod summary;
mod text;
mod tools;

pub use crate::files::{Files, FilesError};
pub use crate::http::{HttpService, http};
pub use crate::server::McpServer;
pub use crate::stdio::serve_stdio;
