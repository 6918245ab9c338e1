//! The `c3.v1` protocol: generated code, and conversions between its messages and the types of `c3-types`.
//!
//! [`FromWire`] checks a message and converts it to a domain type, or returns an [`Invalid`](c3_types::Invalid) that
//! names the wrong field. [`ToWire`] converts in the other direction and cannot fail. The servers choose the status
//! codes of errors.

mod convert;
#[cfg(test)]
mod fuzz;

pub use convert::{FromWire, ToWire};

/// Generated messages, clients and servers.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod pb {
    tonic::include_proto!("c3.v1");
    /// Encoded `FileDescriptorSet` of all `.proto` files, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/c3_descriptor.bin"));
}
