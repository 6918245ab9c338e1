//! The default cascade, c3-mini, as bytes inside the program.
//!
//! Each program takes the feature of the stage that it serves, so that a node carries only its own files.

/// A file of the model: its name in the checkpoint and its bytes.
pub type File = (&'static str, &'static [u8]);

/// The compressor's files, with the cascade's manifest.
#[cfg(feature = "compressor")]
pub fn compressor_files() -> &'static [File] {
    &[
        ("cascade.json", include_bytes!("../../../models/c3-mini/cascade.json")),
        ("compressor.gguf", include_bytes!("../../../models/c3-mini/compressor.gguf")),
        ("query.safetensors", include_bytes!("../../../models/c3-mini/query.safetensors")),
        ("tokenizer.json", include_bytes!("../../../models/c3-mini/tokenizer.json")),
    ]
}

/// The decoder's files, with the cascade's manifest.
#[cfg(feature = "decoder")]
pub fn decoder_files() -> &'static [File] {
    &[
        ("cascade.json", include_bytes!("../../../models/c3-mini/cascade.json")),
        ("decoder.gguf", include_bytes!("../../../models/c3-mini/decoder.gguf")),
        ("projector.safetensors", include_bytes!("../../../models/c3-mini/projector.safetensors")),
        ("tokenizer.json", include_bytes!("../../../models/c3-mini/tokenizer.json")),
    ]
}
