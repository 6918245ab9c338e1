//! What the decoder reads before the text, and how the text's slots follow it.

use candle_core::Tensor;

use crate::layout::{Blocks, Layout, PositionLayout, PromptShape};
use crate::tokenizer::Tokenizer;
use crate::{Error, Latents};

/// The prompt that the checkpoints were trained to reconstruct text with.
pub(crate) const REPEAT: &str = "Repeat the text: ";
const PREFIX: &str = "<|im_start|>system\nYou should follow the instructions carefully and explain your answers in detail.<|im_end|><|im_start|>user\n<img>";

/// Token ids of a prompt, before and behind the place of the latents.
#[derive(Clone)]
pub(crate) struct Prompt {
    pub(crate) prefix: Vec<u32>,
    pub(crate) suffix: Vec<u32>,
}

impl Prompt {
    /// The chat template round `prompt`, special tokens recognised.
    pub(crate) fn new(tokenizer: &Tokenizer, prompt: &str) -> Result<Self, Error> {
        let suffix = format!("</img>\n{prompt}<|im_end|><|im_start|>assistant\n");
        Ok(Self { prefix: tokenizer.prompt(PREFIX)?, suffix: tokenizer.prompt(&suffix)? })
    }

    /// All ids, with `pad` in the places of `latents` latents.
    pub(crate) fn ids(&self, pad: u32, latents: usize) -> Vec<u32> {
        let pads = std::iter::repeat_n(pad, latents);
        self.prefix.iter().copied().chain(pads).chain(self.suffix.iter().copied()).collect()
    }
}

/// A window as the decoder reads it: the prompt's shape and the text slots behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) prompt: PromptShape,
    pub(crate) blocks: Blocks,
    /// What the first slot of each block reads.
    start: u32,
    first_position: usize,
}

impl Frame {
    /// The frame of a window of `tokens` tokens. Errors: a number of latents that `tokens` and `ratio` do not give.
    pub(crate) fn new(
        layout: &Layout,
        prompt: &Prompt,
        pad: u32,
        latents: &Latents,
        tokens: usize,
        ratio: usize,
    ) -> Result<Self, Error> {
        if tokens == 0 || ratio == 0 || tokens > layout.latent_token_len * ratio {
            let most = layout.latent_token_len * ratio;
            return Err(Error::input(format!("a window at {ratio}x has 1 to {most} tokens, {tokens} given")));
        }
        let expected = layout.latents(tokens, ratio);
        if latents.count != expected {
            let given = latents.count;
            return Err(Error::input(format!(
                "{given} latents for {tokens} tokens at {ratio}x, not {expected}"
            )));
        }
        let shape = PromptShape {
            prefix: prompt.prefix.len(),
            latents: expected,
            suffix: prompt.suffix.len(),
            ratio,
        };
        let whole = shape.prefix + shape.latents + shape.suffix;
        // In the published layout the prompt's last token is what predicts the first of the text: it is slot 0.
        let (rows, start) = match layout.positions {
            PositionLayout::Aligned => (whole, pad),
            PositionLayout::Published => (whole - 1, prompt.suffix[shape.suffix - 1]),
        };
        let blocks = Blocks { prompt: rows, tokens, block: layout.block_len(tokens, ratio) };
        Ok(Self { prompt: shape, blocks, start, first_position: layout.first_slot_position(&shape) })
    }

    /// Position ids of the prompt's rows behind its prefix.
    pub(crate) fn prompt_positions(&self, layout: &Layout) -> Vec<u32> {
        let mut positions = layout.prompt_positions(&self.prompt);
        positions.truncate(self.blocks.prompt);
        positions.split_off(self.prompt.prefix)
    }

    /// The prompt's rows behind its prefix, of `whole`, which holds all such tokens: `[rows, hidden]`.
    pub(crate) fn prompt_rows(&self, whole: &Tensor) -> Result<Tensor, Error> {
        Ok(whole.narrow(0, 0, self.blocks.prompt - self.prompt.prefix)?)
    }

    /// What slot `slot` reads, where the text so far is `tokens`.
    pub(crate) fn reads(&self, slot: usize, tokens: &[u32]) -> u32 {
        if slot.is_multiple_of(self.blocks.block) { self.start } else { tokens[slot - 1] }
    }

    /// Position id of slot `slot`.
    pub(crate) fn slot_position(&self, slot: usize) -> u32 {
        (self.first_position + slot) as u32
    }
}
