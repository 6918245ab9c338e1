//! The two-stage network of Context Cascade Compression (arXiv 2511.15244) in candle: tensors in, tensors out.
//!
//! A [`Compressor`] turns a window of tokens into latents; a [`Decoder`] turns latents into text, or checks what it
//! would write against the truth. Both run the same Qwen2 network, load the same checkpoints (the published layout and
//! our own, dense and GGUF) and differ only in what they feed it. Nothing here knows a runtime or a wire.
//!
//! The data flows like this:
//!
//! ```text
//! Source -> checkpoint (files, manifest, config, weights) -> network
//! text -> tokenizer -> layout (windows, positions, blocks) -> network -> latents          compressor
//! latents -> projector -> prompt -> network -> logits -> tokens -> tokenizer -> text      decoder, decoding, chat
//! ```

pub mod chat;
mod checkpoint;
mod compressor;
mod decoder;
mod decoding;
mod device;
mod error;
mod info;
mod layout;
mod network;
mod prompt;
mod tokenizer;

pub use checkpoint::{Manifest, Source, StageFiles};
pub use compressor::{Compressor, TokenWindow};
pub use decoder::{Decoder, Latents, TokenVerdict, VerifyWindow};
pub use decoding::{DecodeWindow, Decoding, Task};
pub use device::{DeviceChoice, Kernels, Options, Precision};
pub use error::Error;
pub use info::StageInfo;

/// The kernels by themselves, for `cargo bench`: no part of what the crate promises.
#[doc(hidden)]
pub mod bench {
    pub use crate::network::host::bench::{PEAK_MACS, Product, peak};
}
