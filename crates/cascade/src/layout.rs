//! Windows, latents, position ids and blocks of the two checkpoint layouts.
//!
//! - *Published* (the paper's weights): position ids count up from 0 in both stages. Every window has the same number
//!   of latents and a single block.
//! - *Aligned* (ours, after Enhanced Position Layout, arXiv 2409.14364): each latent represents a span of `ratio`
//!   tokens. In the compressor, the latent's query has the position id of the last token in the span; in the decoder,
//!   the latent has the position id at which the span starts. A block has `ratio` tokens, and its slots do not attend
//!   to the slots of other blocks.
//!
//! A *slot* is a row of the decoder that predicts one text token. Slot `i` predicts token `i` of the window.

use std::ops::Range;

/// Assignment of position ids.
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
    /// Returns true if every window has `latent_token_len` latents, however short the window is.
    pub(crate) fn fixed_latents(&self) -> bool {
        self.positions == PositionLayout::Published
    }

    /// Divides `tokens` tokens into windows of at most `latent_token_len * ratio` tokens. Lengths differ by 1 at most.
    pub(crate) fn windows(&self, tokens: usize, ratio: usize) -> Vec<Range<usize>> {
        let count = tokens.div_ceil(self.latent_token_len * ratio);
        let bound = |i: usize| i * (tokens / count) + i.min(tokens % count);
        (0..count).map(|i| bound(i)..bound(i + 1)).collect()
    }

    /// Returns the number of latents of a window of `tokens` tokens.
    pub(crate) fn latents(&self, tokens: usize, ratio: usize) -> usize {
        if self.fixed_latents() { self.latent_token_len } else { tokens.div_ceil(ratio) }
    }

    /// Returns the position ids of the compressor's input: `tokens` text tokens, `<img>`, then the queries.
    pub(crate) fn compress_positions(&self, tokens: usize, ratio: usize) -> Vec<u32> {
        let latents = self.latents(tokens, ratio);
        let query = |i: usize| match self.positions {
            PositionLayout::Published => tokens + 1 + i,
            PositionLayout::Aligned => ((i + 1) * ratio).min(tokens) - 1,
        };
        (0..=tokens).chain((0..latents).map(query)).map(|p| p as u32).collect()
    }

    /// Returns the position ids of the decoder's prompt: prefix, then latents, then suffix.
    pub(crate) fn prompt_positions(&self, prompt: &PromptShape) -> Vec<u32> {
        let &PromptShape { prefix, latents, suffix, ratio } = prompt;
        match self.positions {
            PositionLayout::Published => (0..(prefix + latents + suffix) as u32).collect(),
            PositionLayout::Aligned => {
                let latent = |i| prefix + suffix + i * ratio;
                let positions = (0..prefix).chain((0..latents).map(latent)).chain(prefix..prefix + suffix);
                positions.map(|p| p as u32).collect()
            }
        }
    }

    /// Returns the position id of slot 0, which is also the position id of the prompt's last token.
    pub(crate) fn first_slot_position(&self, prompt: &PromptShape) -> usize {
        match self.positions {
            PositionLayout::Published => prompt.prefix + prompt.latents + prompt.suffix - 1,
            PositionLayout::Aligned => prompt.prefix + prompt.suffix - 1,
        }
    }

    /// Returns the number of text tokens per block in a window of `tokens` tokens. The last block may have fewer.
    pub(crate) fn block_len(&self, tokens: usize, ratio: usize) -> usize {
        match self.positions {
            PositionLayout::Published => tokens,
            PositionLayout::Aligned => ratio,
        }
    }
}

/// Lengths in tokens of the three parts of a decoder prompt, and the ratio of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PromptShape {
    pub(crate) prefix: usize,
    pub(crate) latents: usize,
    pub(crate) suffix: usize,
    pub(crate) ratio: usize,
}

/// Row order of a prompt and its blocks: all prompt rows, then slot 0 of every block, then slot 1 of every block, ….
///
/// A decoding step therefore appends consecutive rows, and verification computes the same rows in one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// Number of prompt rows.
    pub(crate) prompt: usize,
    /// Number of text tokens in the window.
    pub(crate) tokens: usize,
    /// Text tokens per block. The last block may have fewer.
    pub(crate) block: usize,
}

impl Blocks {
    /// Returns the number of blocks.
    pub(crate) fn count(&self) -> usize {
        self.tokens.div_ceil(self.block)
    }

    /// Returns the number of decoding steps: the number of tokens in the longest block.
    pub(crate) fn steps(&self) -> usize {
        self.block.min(self.tokens)
    }

    /// Returns the number of tokens in the last block.
    fn last_len(&self) -> usize {
        self.tokens - (self.count() - 1) * self.block
    }

    /// Returns the number of blocks that have a slot at `step`. Only the last block can lack one.
    pub(crate) fn active(&self, step: usize) -> usize {
        if step < self.last_len() { self.count() } else { self.count() - 1 }
    }

    /// Returns the row of the slot of `block` at `step`.
    pub(crate) fn row(&self, block: usize, step: usize) -> usize {
        self.prompt + step * self.count() + block - step.saturating_sub(self.last_len())
    }

    /// Returns the slots of all blocks at `step`, in row order.
    pub(crate) fn slots(&self, step: usize) -> impl Iterator<Item = usize> + use<> {
        let block = self.block;
        (0..self.active(step)).map(move |b| b * block + step)
    }

    /// Returns the block and the step of the slot at `row`. `row` must not be a prompt row.
    pub(crate) fn locate(&self, row: usize) -> (usize, usize) {
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
        fn windows_cover_the_text_and_are_even(tokens in 0usize..20_000, ratio in 8usize..=80) {
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
        fn rows_are_consecutive_step_by_step(prompt in 0usize..100, tokens in 1usize..3000, block in 1usize..100) {
            let blocks = Blocks { prompt, tokens, block };
            let mut next = prompt;
            let mut slots = Vec::new();
            for step in 0..blocks.steps() {
                for b in 0..blocks.active(step) {
                    prop_assert_eq!(blocks.row(b, step), next);
                    prop_assert_eq!(blocks.locate(next), (b, step));
                    next += 1;
                }
                slots.extend(blocks.slots(step));
            }
            slots.sort_unstable();
            prop_assert_eq!(slots, (0..tokens).collect::<Vec<_>>());
        }
    }

    #[test]
    fn aligned_positions_follow_the_spans_of_latents() {
        // 45 tokens at ratio 20: 3 latents, the last one for 5 tokens.
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
