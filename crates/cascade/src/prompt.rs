//! Decoder prompts, and the layout of a window: the prompt and the text slots after it.

use crate::Error;
use crate::layout::{Blocks, Layout, PositionLayout, PromptShape};
use crate::tokenizer::Tokenizer;

/// Prompt to reconstruct the text. The checkpoints were trained with it.
pub(crate) const RECONSTRUCT: &str = "Repeat the text: ";
/// Everything before the latents: system message and start of the user message.
const PREFIX: &str = "<|im_start|>system\nYou should follow the instructions carefully and explain your answers in detail.<|im_end|><|im_start|>user\n<img>";

/// Token ids of a prompt before and after the latents.
#[derive(Clone)]
pub(crate) struct Prompt {
    pub(crate) prefix: Vec<u32>,
    pub(crate) suffix: Vec<u32>,
}

impl Prompt {
    /// Applies the chat template to `prompt`. Special tokens in `prompt` are recognised.
    pub(crate) fn new(tokenizer: &Tokenizer, prompt: &str) -> Result<Self, Error> {
        let suffix = format!("</img>\n{prompt}<|im_end|><|im_start|>assistant\n");
        Ok(Self { prefix: tokenizer.prompt(PREFIX)?, suffix: tokenizer.prompt(&suffix)? })
    }

    /// Returns all ids: prefix, `latents` times `pad` in place of the latents, suffix.
    pub(crate) fn ids(&self, pad: u32, latents: usize) -> Vec<u32> {
        let pads = std::iter::repeat_n(pad, latents);
        self.prefix.iter().copied().chain(pads).chain(self.suffix.iter().copied()).collect()
    }
}

/// Numbers of latents and text tokens in a window, and its ratio in text tokens per latent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowSize {
    pub(crate) latents: usize,
    pub(crate) tokens: usize,
    pub(crate) ratio: usize,
}

/// Layout of a window in the decoder: the shape of the prompt and the text slots after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct WindowLayout {
    pub(crate) prompt: PromptShape,
    pub(crate) blocks: Blocks,
    /// Input token of the first slot of each block.
    start_id: u32,
    /// Position id of slot 0.
    first_position: usize,
}

impl WindowLayout {
    /// Lays out a window after `prompt`. `pad_id` is the id of `<imgpad>`. Fails with [`Error::InvalidInput`] if the
    /// window has no tokens, too many for its ratio, or not the number of latents that `layout` requires.
    pub(crate) fn new(layout: &Layout, prompt: &Prompt, pad_id: u32, window: WindowSize) -> Result<Self, Error> {
        let WindowSize { latents, tokens, ratio } = window;
        if tokens == 0 || ratio == 0 || tokens > layout.latent_token_len * ratio {
            let max = layout.latent_token_len * ratio;
            return Err(Error::input(format!("{tokens} tokens at ratio {ratio}: a window has 1 to {max}")));
        }
        let expected = layout.latents(tokens, ratio);
        if latents != expected {
            return Err(Error::input(format!(
                "{latents} latents for {tokens} tokens at ratio {ratio}: expected {expected}"
            )));
        }
        let shape = PromptShape { prefix: prompt.prefix.len(), latents: expected, suffix: prompt.suffix.len(), ratio };
        let length = shape.prefix + shape.latents + shape.suffix;
        // In the published layout, the last token of the prompt predicts the first text token: this token is slot 0.
        let (rows, start_id) = match layout.positions {
            PositionLayout::Aligned => (length, pad_id),
            PositionLayout::Published => (length - 1, prompt.suffix[shape.suffix - 1]),
        };
        let blocks = Blocks { prompt: rows, tokens, block: layout.block_len(tokens, ratio) };
        Ok(Self { prompt: shape, blocks, start_id, first_position: layout.first_slot_position(&shape) })
    }

    /// Returns the position ids of the prompt rows after the prefix.
    pub(crate) fn prompt_positions(&self, layout: &Layout) -> Vec<u32> {
        let mut positions = layout.prompt_positions(&self.prompt);
        positions.truncate(self.blocks.prompt);
        positions.split_off(self.prompt.prefix)
    }

    /// Returns the tokens of `suffix` that are prompt rows: all of them, except the last in the published layout, which
    /// is slot 0.
    pub(crate) fn suffix_rows(&self, suffix: &[u32]) -> Vec<u32> {
        suffix[..self.blocks.prompt - self.prompt.prefix - self.prompt.latents].to_vec()
    }

    /// Returns the input token of a slot: the previous text token, or `start_id` in the first slot of a block.
    pub(crate) fn input_token(&self, slot: usize, tokens: &[u32]) -> u32 {
        if slot.is_multiple_of(self.blocks.block) { self.start_id } else { tokens[slot - 1] }
    }

    /// Returns the position id of a slot.
    pub(crate) fn slot_position(&self, slot: usize) -> u32 {
        (self.first_position + slot) as u32
    }
}
