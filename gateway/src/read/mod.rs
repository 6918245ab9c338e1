//! Read pipelines: store, latents, text.
//!
//! [`document`] streams a document's text, [`latents`] its latents, [`mod@decompress`] decodes latents that the caller
//! brings. All text passes [`window`], which verifies it.

pub(crate) mod decompress;
pub(crate) mod document;
pub(crate) mod latents;
mod window;
