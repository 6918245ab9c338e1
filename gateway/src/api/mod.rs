//! The public surfaces. They convert requests to domain calls and results back, and decide nothing.

pub(crate) mod grpc;
