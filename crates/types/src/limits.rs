//! Sizes that hold for every server and client.

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
