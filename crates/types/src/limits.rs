//! Size limits of the protocol, for every server and client.

/// Maximum bytes of a gRPC message. It exceeds the largest shard text and the largest f32 latent group.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Maximum bytes of text that a client or gateway puts into one message of a text stream.
pub const TEXT_PIECE_BYTES_MAX: usize = 64 << 10;
/// Maximum bytes of a shard.
pub const SHARD_BYTES_MAX: usize = 16 << 10;
/// Maximum latents of a group.
pub const LATENTS_MAX: u32 = 1024;
/// Maximum width of a latent.
pub const WIDTH_MAX: u32 = 65_536;
/// Maximum text tokens of a window. A token has at least one byte of its shard.
pub const WINDOW_TOKENS_MAX: u32 = SHARD_BYTES_MAX as u32;
