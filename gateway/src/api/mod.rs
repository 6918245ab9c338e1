//! Transports. They convert requests to domain calls, and results to responses. They contain no domain logic.

pub(crate) mod grpc;
pub(crate) mod http;
