//! Size limits of the protocol, for every server and client.

/// Maximum bytes of a gRPC message. It also limits latent groups, because the maxima of latents and width alone would
/// allow larger groups.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Maximum bytes of text that a client or gateway sends in one message of a text stream.
pub const TEXT_PIECE_BYTES_MAX: usize = 64 << 10;
/// Maximum bytes of a shard, the part of a document that a node compresses as a unit.
pub const SHARD_BYTES_MAX: usize = 16 << 10;
/// Maximum number of latents in a latent group.
pub const LATENTS_MAX: u32 = 1024;
/// Maximum width of a latent.
pub const WIDTH_MAX: u32 = 65_536;
/// Maximum magnitude of a value of a latent. Hidden states of real networks are thousands of times smaller; with larger
/// values, sums of the decoder could become infinite.
pub const LATENT_MAGNITUDE_MAX: f32 = 1e6;
/// Maximum text tokens of a window, the part of a shard that one latent group stands for. It equals the maximum bytes
/// of a shard, because a token has at least one byte.
pub const WINDOW_TOKENS_MAX: u32 = SHARD_BYTES_MAX as u32;
