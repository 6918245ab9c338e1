//! Sketches of the windows of a shard: their hashed words, computed when the shard is written.

use c3_search::{Sketch, TermKey, WindowText};
use c3_store::shard::{ShardLatents, Sketches};

/// Maximum bytes of the sketch of a window of [`WINDOW_TOKENS`] tokens: 3.5 % of its latents at 20 tokens per latent.
/// Windows with fewer tokens get less in proportion.
const SKETCH_BYTES_MAX: usize = 350;
const WINDOW_TOKENS: usize = 640;
/// Bytes that each sketch may have, because shorter ones would find little.
const SKETCH_BYTES_MIN: usize = 100;

/// Key of a tenant's terms.
#[derive(Clone, Debug)]
pub(crate) struct SketchKey {
    pub(crate) key: TermKey,
    /// Id of the secret from which the key is derived.
    pub(crate) secret: u32,
}

/// Returns the sketches of the windows of a shard. `text` is the text of the shard. None if the windows do not begin and
/// end at characters, as in some imported documents.
pub(crate) fn sketches(text: &str, latents: &ShardLatents, key: &SketchKey) -> Sketches {
    let windows = latents.windows.iter().map(|window| {
        let tokens = window.group.tokens() as usize;
        let limit = (tokens * SKETCH_BYTES_MAX / WINDOW_TOKENS).max(SKETCH_BYTES_MIN);
        WindowText { bytes: window.bytes.start as usize..window.bytes.end as usize, limit }
    });
    let windows = Vec::from_iter(windows);
    let is_cut = |window: &WindowText| text.get(window.bytes.clone()).is_none();
    if windows.iter().any(is_cut) || windows.last().is_none_or(|last| last.bytes.end != text.len()) {
        return Sketches::default();
    }
    let windows = Sketch::of_windows(text, &windows, &key.key);
    Sketches { secret: key.secret, windows: windows.iter().map(|sketch| sketch.encode().into()).collect() }
}
