//! The read pipelines: store → latents → text.
//!
//! [`document`] streams a document's text, [`latents`] its latents as they are; [`oneshot`] decodes what the caller
//! brings. All text passes [`window`], which proves it.

pub(crate) mod document;
pub(crate) mod latents;
pub(crate) mod oneshot;
pub(crate) mod window;
