//! The two-stage network of Context Cascade Compression (arXiv 2511.15244).
//!
//! A [`Compressor`] turns a window of text tokens into latents. A [`Decoder`] turns latents into text, or compares its
//! predictions with the true text. Both stages use the same implementation of Qwen2, with their own weights. Both load
//! the published checkpoint layout (safetensors) and our own (GGUF). The crate has no async runtime and no wire format.
//!
//! Data flow:
//!
//! ```text
//! Source -> checkpoint (files, manifest, config, weights) -> network
//! text -> tokenizer -> layout (windows, positions, blocks) -> network -> latents            compressor
//! latents -> projector -> prompt -> network -> logits -> tokens -> tokenizer -> text        decoder, chat
//! ```

pub mod chat;
mod checkpoint;
mod compressor;
mod decoder;
mod error;
mod info;
mod layout;
mod network;
mod options;
mod prompt;
mod tokenizer;

pub use checkpoint::{Manifest, Source, StageFiles};
pub use compressor::{Compressor, TokenWindow};
pub use decoder::{DecodeSession, DecodeWindow, Decoder, Latents, Task, TokenVerdict, VerifyWindow};
pub use error::Error;
pub use info::StageInfo;
pub use options::{DeviceChoice, Dtype, Kernels, Options};

/// Single kernels for `cargo bench`. Not part of the public API.
#[doc(hidden)]
pub mod bench {
    pub use crate::network::cpu::bench::{Gemm, PEAK_MACS, peak};
}
