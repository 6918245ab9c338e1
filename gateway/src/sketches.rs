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

/// Returns the sketches of the windows of a shard. `text` is the text of the shard. A window may end within a character,
/// since a token may: the character then belongs to the window in which it begins. None if the windows do not cover the
/// text.
pub(crate) fn sketches(text: &str, latents: &ShardLatents, key: &SketchKey) -> Sketches {
    let windows = latents.windows.iter().map(|window| {
        let tokens = window.group.tokens() as usize;
        let limit = (tokens * SKETCH_BYTES_MAX / WINDOW_TOKENS).max(SKETCH_BYTES_MIN);
        let [start, end] = [window.bytes.start, window.bytes.end].map(|at| text.ceil_char_boundary(at as usize));
        WindowText { bytes: start..end, limit }
    });
    let windows = Vec::from_iter(windows);
    if latents.windows.last().is_none_or(|last| last.bytes.end as usize != text.len()) {
        return Sketches::default();
    }
    let windows = Sketch::of_windows(text, &windows, &key.key);
    Sketches { secret: key.secret, windows: windows.iter().map(|sketch| sketch.encode().into()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::windows;

    #[test]
    fn a_character_belongs_to_the_window_in_which_it_begins() {
        // The windows have 60 bytes each, so the first one ends within a character.
        let latents = ShardLatents { windows: windows(&[20, 20]) };
        let text = format!("a{}b", "灯".repeat(39)) + "c";
        let key = SketchKey { key: TermKey::derive(&[1; 32]), secret: 9 };
        let made = sketches(&text, &latents, &key);
        assert_eq!((made.secret, made.windows.len()), (9, 2));
        assert!(made.windows.iter().all(|sketch| Sketch::decode(sketch).is_ok_and(|sketch| sketch.length() > 0)));
        assert_eq!(sketches("too short", &latents, &key), Sketches::default());
    }
}
