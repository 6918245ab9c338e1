//! The server over streamable HTTP.

use std::sync::Arc;

use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::server::McpServer;

/// Maximum bytes of a request. A longer text is stored over the other APIs.
const REQUEST_BYTES_MAX: usize = 16 << 20;

/// HTTP service of the server.
pub type HttpService = StreamableHttpService<McpServer, LocalSessionManager>;

/// Returns the server as an HTTP service for one path, without access control: the gateway checks hosts, origins and
/// keys before. Calls are made over `channel` with the key of each request. Sessions, which only clients of protocol
/// versions before 2026-07-28 have, end with `stopped`. They hold no state of the agent, so they are not bound to a key.
pub fn http(channel: &Channel, stopped: CancellationToken) -> HttpService {
    let server = McpServer::of_channel(channel.clone());
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .disable_allowed_origins()
        .with_max_request_body_bytes(REQUEST_BYTES_MAX)
        .with_cancellation_token(stopped);
    StreamableHttpService::new(move || Ok(server.clone()), Arc::new(LocalSessionManager::default()), config)
}
