//! Where everything stands: windows, latents, position ids and blocks of the two checkpoint layouts.
//!
//! *Published*: the paper's own weights. Positions 0, 1, 2, … in both stages, a fixed number of latents, a window is one
//! block. *Aligned*: ours (after Enhanced Position Layout, arXiv 2409.14364). Each query stands where its span of text
//! ends, each latent where its span begins, and a window's blocks of `ratio` tokens never see each other.

use std::ops::Range;

/// How a checkpoint places its positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PositionLayout {
    Published,
    Aligned,
}

/// A checkpoint's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) positions: PositionLayout,
    /// Latents of a full window.
    pub(crate) latent_token_len: usize,
}

impl Layout {
    /// Whether every window has `latent_token_len` latents, however short.
    pub(crate) fn fixed_latents(&self) -> bool {
        self.positions == PositionLayout::Published
    }

    /// Cuts `tokens` into windows of at most `latent_token_len * ratio`, as even in length as can be.
    pub(crate) fn windows(&self, tokens: usize, ratio: usize) -> Vec<Range<usize>> {
        let count = tokens.div_ceil(self.latent_token_len * ratio);
        let bound = |i: usize| i * (tokens / count) + i.min(tokens % count);
        (0..count).map(|i| bound(i)..bound(i + 1)).collect()
    }

    /// Number of latents of a window.
    pub(crate) fn latents(&self, tokens: usize, ratio: usize) -> usize {
        if self.fixed_latents() { self.latent_token_len } else { tokens.div_ceil(ratio) }
    }

    /// Position ids of the compressor's input: text, `<img>`, queries.
    pub(crate) fn compress_positions(&self, tokens: usize, ratio: usize) -> Vec<u32> {
        let latents = self.latents(tokens, ratio);
        let query = |i: usize| match self.positions {
            PositionLayout::Published => tokens + 1 + i,
            PositionLayout::Aligned => ((i + 1) * ratio).min(tokens) - 1,
        };
        (0..=tokens).chain((0..latents).map(query)).map(|p| p as u32).collect()
    }

    /// Position ids of the decoder's prompt: prefix, latents, suffix.
    pub(crate) fn prompt_positions(&self, prompt: &PromptShape) -> Vec<u32> {
        let &PromptShape { prefix, latents, suffix, ratio } = prompt;
        match self.positions {
            PositionLayout::Published => (0..(prefix + latents + suffix) as u32).collect(),
            PositionLayout::Aligned => {
                let latent = |i| prefix + suffix + i * ratio;
                let places = (0..prefix).chain((0..latents).map(latent)).chain(prefix..prefix + suffix);
                places.map(|p| p as u32).collect()
            }
        }
    }

    /// Position id of text slot 0: that of the prompt's last token, which predicts the first.
    pub(crate) fn first_slot_position(&self, prompt: &PromptShape) -> usize {
        match self.positions {
            PositionLayout::Published => prompt.prefix + prompt.latents + prompt.suffix - 1,
            PositionLayout::Aligned => prompt.prefix + prompt.suffix - 1,
        }
    }

    /// Text tokens of a block.
    pub(crate) fn block_len(&self, tokens: usize, ratio: usize) -> usize {
        match self.positions {
            PositionLayout::Published => tokens,
            PositionLayout::Aligned => ratio,
        }
    }
}

/// Lengths of a decoder's prompt, in tokens, and the window's ratio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PromptShape {
    pub(crate) prefix: usize,
    pub(crate) latents: usize,
    pub(crate) suffix: usize,
    pub(crate) ratio: usize,
}

/// A prompt and the blocks of text slots behind it, in the order in which they are computed and cached: all rows of the
/// prompt, then slot 0 of every block, slot 1 of every block, and so on. So a step of decoding appends one run of rows,
/// and a verification computes the same rows in the same order at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// Rows of the prompt.
    pub(crate) prompt: usize,
    /// Text tokens of the window.
    pub(crate) tokens: usize,
    /// Text tokens of a block; the last block may have fewer.
    pub(crate) block: usize,
}

impl Blocks {
    /// Number of blocks.
    pub(crate) fn count(&self) -> usize {
        self.tokens.div_ceil(self.block)
    }

    /// Number of steps: tokens of the longest block.
    pub(crate) fn steps(&self) -> usize {
        self.block.min(self.tokens)
    }

    /// Tokens of the last block.
    fn last_len(&self) -> usize {
        self.tokens - (self.count() - 1) * self.block
    }

    /// Blocks that have a token at `step`: the first so many.
    pub(crate) fn live(&self, step: usize) -> usize {
        if step < self.last_len() { self.count() } else { self.count() - 1 }
    }

    /// Row of the slot at `step` of `block`.
    pub(crate) fn row(&self, block: usize, step: usize) -> usize {
        self.prompt + step * self.count() + block - step.saturating_sub(self.last_len())
    }

    /// Numbers in the text of the slots of `step`, in row order.
    pub(crate) fn slots(&self, step: usize) -> impl Iterator<Item = usize> + use<> {
        let block = self.block;
        (0..self.live(step)).map(move |b| b * block + step)
    }

    /// Block and step of the slot at `row`, which is past the prompt.
    pub(crate) fn place(&self, row: usize) -> (usize, usize) {
        let (slot, last) = (row - self.prompt, self.last_len());
        let whole = last * self.count();
        if slot < whole {
            return (slot % self.count(), slot / self.count());
        }
        let rest = self.count() - 1;
        ((slot - whole) % rest, last + (slot - whole) / rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALIGNED: Layout = Layout { positions: PositionLayout::Aligned, latent_token_len: 32 };
    const PUBLISHED: Layout = Layout { positions: PositionLayout::Published, latent_token_len: 8 };

    proptest! {
        #[test]
        fn windows_join_to_the_text_and_are_even(tokens in 0usize..20_000, ratio in 8usize..=80) {
            let windows = ALIGNED.windows(tokens, ratio);
            let joined: Vec<usize> = windows.iter().cloned().flatten().collect();
            prop_assert_eq!(joined, (0..tokens).collect::<Vec<_>>());
            let lengths: Vec<usize> = windows.iter().map(Range::len).collect();
            if let (Some(most), Some(least)) = (lengths.iter().max(), lengths.iter().min()) {
                prop_assert!(most - least <= 1 && *most <= 32 * ratio);
                prop_assert_eq!(windows.len(), tokens.div_ceil(32 * ratio));
            }
        }

        #[test]
        fn rows_count_up_step_by_step(prompt in 0usize..100, tokens in 1usize..3000, block in 1usize..100) {
            let blocks = Blocks { prompt, tokens, block };
            let mut next = prompt;
            let mut slots = Vec::new();
            for step in 0..blocks.steps() {
                for b in 0..blocks.live(step) {
                    prop_assert_eq!(blocks.row(b, step), next);
                    prop_assert_eq!(blocks.place(next), (b, step));
                    next += 1;
                }
                slots.extend(blocks.slots(step));
            }
            slots.sort_unstable();
            prop_assert_eq!(slots, (0..tokens).collect::<Vec<_>>());
        }
    }

    #[test]
    fn aligned_positions_tie_latents_to_their_spans() {
        // 45 tokens at 20x: 3 latents, the last for 5 tokens.
        let positions = ALIGNED.compress_positions(45, 20);
        assert_eq!(positions[43..], [43, 44, 45, 19, 39, 44]);
        let prompt = PromptShape { prefix: 2, latents: 3, suffix: 1, ratio: 20 };
        assert_eq!(ALIGNED.prompt_positions(&prompt), [0, 1, 3, 23, 43, 2]);
        assert_eq!(ALIGNED.first_slot_position(&prompt), 2);
    }

    #[test]
    fn published_positions_count_up() {
        assert_eq!(PUBLISHED.compress_positions(2, 20), (0..11).collect::<Vec<_>>());
        let prompt = PromptShape { prefix: 2, latents: 8, suffix: 3, ratio: 20 };
        assert_eq!(PUBLISHED.prompt_positions(&prompt), (0..13).collect::<Vec<_>>());
        assert_eq!(PUBLISHED.first_slot_position(&prompt), 12);
    }
}
