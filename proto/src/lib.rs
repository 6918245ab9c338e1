//! The `c3.v1` protocol.
//!
//! [`pb`] is the generated code. Beside it stand the *validated domain types*: whatever arrives from outside becomes
//! one of them, or an [`Invalid`] that names the field, before anything is allocated for it. Nothing here knows the
//! network or a transport.

mod codec;
mod correction;
mod description;
mod hash;
mod invalid;
mod labels;
mod latents;
mod name;
mod options;
mod range;
mod upload;
mod window;

/// Generated messages, clients and servers.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod pb {
    tonic::include_proto!("c3.v1");
    /// Every descriptor of `c3.v1`, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/c3_descriptor.bin"));
}

/// Sizes that hold for every server and client of the protocol.
pub mod limits {
    /// Most bytes of one gRPC message. Holds the largest shard's text and the largest f32 latent group with room.
    pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
    /// Most bytes of text in one message of a long text.
    pub const TEXT_PIECE_BYTES_MAX: usize = 64 << 10;
    /// Most bytes of one shard.
    pub const SHARD_BYTES_MAX: usize = 16 << 10;
    /// Most latents of a group.
    pub const LATENTS_MAX: u32 = 1024;
    /// Largest width of a latent.
    pub const WIDTH_MAX: u32 = 65_536;
    /// Most text tokens of a window: a token is at least a byte of its shard.
    pub const WINDOW_TOKENS_MAX: u32 = SHARD_BYTES_MAX as u32;
}

pub use codec::LatentCodec;
pub use correction::{Correction, Corrections};
pub use description::{CascadeName, Description, Stage};
pub use hash::{DocumentId, Fingerprint, IdPrefix, ShardHash, WindowHash};
pub use invalid::Invalid;
pub use labels::{Label, Labels};
pub use latents::{LatentGroup, Provenance};
pub use name::{DocumentName, DocumentRef, Expected, Namespace, PutName};
pub use options::{AutoBound, AutoRatio, Base, RatioRange, WriteOptions};
pub use range::ByteRange;
pub use upload::UploadName;
pub use window::Window;
