//! Second stage: decodes latents to text, or verifies them: compares the predicted tokens with the true tokens.

mod session;

use std::sync::Arc;

use candle_core::Tensor;

use crate::chat::{self, Generation};
use crate::checkpoint::{Checkpoint, Source, Stage};
use crate::layout::Layout;
use crate::network::{KvCache, Pattern, Projector, Qwen2, Sequence};
use crate::options::Options;
use crate::prompt::{Prompt, RECONSTRUCT, WindowLayout, WindowSize};
use crate::tokenizer::Tokenizer;
use crate::{Error, StageInfo};
pub use session::{DecodeSession, DecodeWindow, Task};

/// Second stage of a cascade: the main model and the projector.
pub struct Decoder {
    network: Qwen2,
    projector: Projector,
    layout: Layout,
    tokenizer: Arc<Tokenizer>,
    reconstruct_prompt: Prompt,
    /// KV cache of the prompt prefix. All windows share the prefix.
    prefix_cache: KvCache,
    pad_id: u32,
    end_ids: Vec<u32>,
    non_text_ids: Vec<u32>,
    info: StageInfo,
}

/// A latent group, `[count][width]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Latents {
    /// `count * width` floats in row-major order.
    pub values: Vec<f32>,
    /// Number of latents.
    pub count: usize,
    /// Width of a latent, d₁.
    pub width: usize,
}

/// A window to verify.
#[derive(Clone, Copy, Debug)]
pub struct VerifyWindow<'a> {
    /// Latents with exactly the values that readers will decode: after the rounding of the codec.
    pub latents: &'a Latents,
    /// Token ids of the true text.
    pub tokens: &'a [u32],
    /// Text tokens per latent.
    pub ratio: usize,
}

/// Result of verifying one token by teacher forcing: the decoder predicts the token after the true tokens before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenVerdict {
    /// Predicted id: the text token with the largest logit; the smallest such id on a tie.
    pub predicted: u32,
    /// True if the prediction is the true token.
    pub correct: bool,
    /// Logit margin: the logit of the true token minus the largest logit of any other text token.
    pub margin: f32,
}

impl Decoder {
    /// Loads the decoder of a checkpoint, after checking the hash of every file. Fails with [`Error::Device`] if the
    /// device does not support `options`, with [`Error::Checkpoint`] or [`Error::Candle`] if a file is unusable.
    pub fn load(source: Source<'_>, options: &Options) -> Result<Self, Error> {
        let mut checkpoint = Checkpoint::open(source, Stage::Decoder, options)?;
        let (weight, bias) = checkpoint.projector()?;
        let network = Qwen2::load(&mut checkpoint, options)?;
        let (out, latent_width) = weight.dims2()?;
        if out != network.hidden() || bias.dims() != [out] {
            return Err(Error::checkpoint(format!(
                "the projector has {out} outputs, which does not match the network"
            )));
        }
        let tokenizer = checkpoint.tokenizer.clone();
        let reconstruct_prompt = Prompt::new(&tokenizer, RECONSTRUCT)?;
        let mut prefix_cache = network.new_cache();
        let positions: Vec<u32> = (0..reconstruct_prompt.prefix.len() as u32).collect();
        let rows = Sequence { cache: &mut prefix_cache, rows: positions.len(), pattern: Pattern::Causal };
        network.forward(network.embed(&reconstruct_prompt.prefix)?, &positions, &mut [rows])?;
        Ok(Self {
            info: checkpoint.info(latent_width, network.arithmetic()),
            projector: network.projector(network.convert(weight)?, network.convert(bias)?)?,
            layout: checkpoint.layout,
            reconstruct_prompt,
            prefix_cache,
            pad_id: tokenizer.special("<imgpad>")?,
            end_ids: checkpoint.end_ids,
            non_text_ids: tokenizer.non_text_ids(),
            tokenizer,
            network,
        })
    }

    /// Properties of the stage.
    pub fn info(&self) -> &StageInfo {
        &self.info
    }

    /// Decodes token ids to bytes. Fails with [`Error::InvalidInput`] if an id is not a text token.
    pub fn text(&self, tokens: &[u32]) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        for &id in tokens {
            let bytes = self.tokenizer.text(id);
            text.extend(bytes.ok_or_else(|| Error::input(format!("token id {id} is not a text token")))?);
        }
        Ok(text)
    }

    /// Verifies windows in one teacher-forced pass. Returns one verdict per token of each window, in text order. The
    /// verdicts of a window do not depend on the other windows. Fails with [`Error::InvalidInput`] if latents have the
    /// wrong shape, a window has no tokens or too many for its ratio, or an id is not a text token.
    pub fn verify(&self, windows: &[VerifyWindow<'_>]) -> Result<Vec<Vec<TokenVerdict>>, Error> {
        if windows.is_empty() {
            return Ok(Vec::new());
        }
        let mut layouts = Vec::with_capacity(windows.len());
        let mut inputs = Vec::with_capacity(2 * windows.len()); // prompt and slots per window
        let mut positions = Vec::new();
        for window in windows {
            self.text(window.tokens)?;
            let layout = self.window_layout(window.latents, window.tokens.len(), window.ratio)?;
            let slots = || (0..layout.blocks.steps()).flat_map(|step| layout.blocks.slots(step));
            let ids: Vec<u32> = slots().map(|slot| layout.input_token(slot, window.tokens)).collect();
            inputs.extend([
                layout.prompt_rows(&self.prompt_input(&self.reconstruct_prompt, window.latents)?)?,
                self.network.embed(&ids)?,
            ]);
            positions.extend(layout.prompt_positions(&self.layout));
            positions.extend(slots().map(|slot| layout.slot_position(slot)));
            layouts.push(layout);
        }
        let mut caches: Vec<_> = windows.iter().map(|_| self.prefix_cache.clone()).collect();
        let mut sequences: Vec<_> = caches
            .iter_mut()
            .zip(&layouts)
            .map(|(cache, WindowLayout { blocks, .. })| Sequence {
                cache,
                rows: blocks.prompt + blocks.tokens - self.prefix_cache.rows(),
                pattern: Pattern::blocks(*blocks),
            })
            .collect();
        let hidden = self.network.forward(Tensor::cat(&inputs, 0)?, &positions, &mut sequences)?;
        let mut first = 0;
        let mut verdicts = Vec::with_capacity(windows.len());
        for (window, layout) in windows.iter().zip(&layouts) {
            first += layout.blocks.prompt - self.prefix_cache.rows();
            let rows = hidden.narrow(0, first, layout.blocks.tokens)?;
            verdicts.push(self.verdicts(&rows, window.tokens, layout)?);
            first += layout.blocks.tokens;
        }
        Ok(verdicts)
    }

    /// Bytes per row of the KV cache, summed over all layers.
    pub fn kv_row_bytes(&self) -> usize {
        self.network.kv_row_bytes()
    }

    /// Maximum rows that a window adds to a decoding step, one per block. Excludes the prompt rows of its first step.
    pub fn step_rows(&self, task: &Task) -> usize {
        match task {
            Task::Reconstruct { tokens, ratio, .. } => tokens.div_ceil(self.layout.block_len(*tokens, *ratio).max(1)),
            Task::Generate { .. } => 1,
        }
    }

    /// Creates the session that decodes a window; [`Self::step`] runs the network. Fails with [`Error::InvalidInput`]
    /// if latents have the wrong shape, the window has no tokens or too many for its ratio, a correction is not a text
    /// token, the checkpoint takes no prompt, or the prompt is not accepted (see [`Self::generation`]).
    pub fn start(&self, window: DecodeWindow) -> Result<DecodeSession, Error> {
        DecodeSession::new(self, window)
    }

    /// Runs one decoding step: adds one token to every incomplete block or answer of all unfinished sessions.
    pub fn step(&self, sessions: &mut [&mut DecodeSession]) -> Result<(), Error> {
        session::step(self, sessions)
    }

    /// Projects latents to the decoder's hidden states, `[count][hidden]`. Fails with [`Error::InvalidInput`] if
    /// latents have the wrong shape.
    pub fn projected(&self, latents: &Latents) -> Result<Vec<f32>, Error> {
        Ok(self.project(latents)?.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1()?)
    }

    /// Returns the logits that follow the chat-formatted `prompt`, one per vocabulary id, without the n-gram ban of the
    /// chat. Fails with [`Error::InvalidInput`] if latents have the wrong shape.
    pub fn prompt_logits(&self, prompt: &str, latents: &Latents) -> Result<Vec<f32>, Error> {
        let input = self.prompt_input(&Prompt::new(&self.tokenizer, prompt)?, latents)?;
        let rows = input.dim(0)?;
        let mut cache = self.prefix_cache.clone();
        let positions: Vec<u32> = (cache.rows() as u32..).take(rows).collect();
        let sequence = Sequence { cache: &mut cache, rows, pattern: Pattern::Causal };
        let hidden = self.network.forward(input, &positions, &mut [sequence])?;
        self.network.logits(&hidden.narrow(0, rows - 1, 1)?)
    }

    /// Creates the state of a chat answer to `prompt` with `latents` latents. A `tokens_max` of 0 means
    /// [`chat::TOKENS_MAX`]. Fails with [`Error::InvalidInput`] if `prompt` has not as many `<img>` as `</img>`.
    pub fn generation(&self, prompt: &str, latents: usize, tokens_max: usize) -> Result<Generation, Error> {
        let ids = Prompt::new(&self.tokenizer, prompt)?.ids(self.pad_id, latents);
        chat::check_prompt(&ids, &self.tokenizer)?;
        Generation::new(ids, tokens_max, self.end_ids.clone(), self.tokenizer.clone())
    }

    fn window_layout(&self, latents: &Latents, tokens: usize, ratio: usize) -> Result<WindowLayout, Error> {
        let size = WindowSize { latents: latents.count, tokens, ratio };
        WindowLayout::new(&self.layout, &self.reconstruct_prompt, self.pad_id, size)
    }

    /// Returns the input hidden states of a prompt without its prefix: the projected latents, then the suffix.
    fn prompt_input(&self, prompt: &Prompt, latents: &Latents) -> Result<Tensor, Error> {
        Ok(Tensor::cat(&[self.project(latents)?, self.network.embed(&prompt.suffix)?], 0)?)
    }

    fn project(&self, latents: &Latents) -> Result<Tensor, Error> {
        self.check_shape(latents)?;
        self.projector.forward(&latents.values, latents.count)
    }

    fn check_shape(&self, Latents { values, count, width }: &Latents) -> Result<(), Error> {
        let expected = self.info.latent_width;
        if *width == expected && values.len() == count * width {
            return Ok(());
        }
        let given = values.len();
        Err(Error::input(format!("{given} values for {count} latents of width {width}: expected {count} x {expected}")))
    }

    /// Returns verdicts in text order. `hidden` has a row per slot, in the order of [`WindowLayout::blocks`].
    fn verdicts(&self, hidden: &Tensor, tokens: &[u32], layout: &WindowLayout) -> Result<Vec<TokenVerdict>, Error> {
        let slots: Vec<usize> = (0..layout.blocks.steps()).flat_map(|step| layout.blocks.slots(step)).collect();
        let truth: Vec<u32> = slots.iter().map(|&slot| tokens[slot]).collect();
        let argmax = self.network.argmax(hidden, &self.non_text_ids, Some(&truth))?;
        let mut verdicts = vec![TokenVerdict { predicted: 0, correct: false, margin: 0.0 }; tokens.len()];
        for ((slot, truth), argmax) in slots.into_iter().zip(truth).zip(argmax) {
            let correct = argmax.id == truth;
            let other = if correct { argmax.runner_up } else { argmax.logit };
            verdicts[slot] = TokenVerdict { predicted: argmax.id, correct, margin: argmax.target - other };
        }
        Ok(verdicts)
    }
}
