//! The default cascade, c3-mini, embedded in the program.
//!
//! The features `compressor` and `decoder` select the stages whose files are embedded. A node thus contains only
//! the files of its own stage.

/// A file of the checkpoint: its name and its contents.
pub type File = (&'static str, &'static [u8]);

/// Returns the compressor's files and the cascade manifest.
#[cfg(feature = "compressor")]
pub fn compressor_files() -> &'static [File] {
    &[
        ("cascade.json", include_bytes!("../../../models/c3-mini/cascade.json")),
        ("compressor.gguf", include_bytes!("../../../models/c3-mini/compressor.gguf")),
        ("query.safetensors", include_bytes!("../../../models/c3-mini/query.safetensors")),
        ("tokenizer.json", include_bytes!("../../../models/c3-mini/tokenizer.json")),
    ]
}

/// Returns the decoder's files and the cascade manifest.
#[cfg(feature = "decoder")]
pub fn decoder_files() -> &'static [File] {
    &[
        ("cascade.json", include_bytes!("../../../models/c3-mini/cascade.json")),
        ("decoder.gguf", include_bytes!("../../../models/c3-mini/decoder.gguf")),
        ("projector.safetensors", include_bytes!("../../../models/c3-mini/projector.safetensors")),
        ("tokenizer.json", include_bytes!("../../../models/c3-mini/tokenizer.json")),
    ]
}
