//! Read pipelines: store, latents, text.
//!
//! [`document`] streams a document's text, [`lines`] some of its lines, and [`latents`] its latents. [`mod@decompress`]
//! decodes latents that the caller sends. [`window`] decodes all text and verifies it. Only answers to prompts, and the
//! drafts of [`draft`], are not verified.

pub(crate) mod decompress;
pub(crate) mod document;
pub(crate) mod draft;
pub(crate) mod latents;
pub(crate) mod lines;
mod window;
