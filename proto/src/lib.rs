//! The `c3.v1` protocol: generated code, and conversions between its messages and the types of `c3-types`.
//!
//! [`FromWire`] checks a message and makes a domain type of it, or an [`Invalid`](c3_types::Invalid) that names the
//! field. [`ToWire`] cannot fail. Neither decides on a status: servers map errors to gRPC and HTTP.

mod convert;

pub use convert::{FromWire, ToWire};

/// Generated messages, clients and servers.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod pb {
    tonic::include_proto!("c3.v1");
    /// Every descriptor of `c3.v1`, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/c3_descriptor.bin"));
}
