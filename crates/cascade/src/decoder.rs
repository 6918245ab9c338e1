//! The second stage: latents to text, and what it would write held against the truth.

use std::sync::Arc;

use candle_core::Tensor;

use crate::chat::{self, Generation};
use crate::checkpoint::{Checkpoint, Source, Stage};
use crate::decoding::{self, DecodeWindow, Decoding, Task};
use crate::device::Options;
use crate::layout::Layout;
use crate::network::{KvCache, Pattern, Projector, Qwen2, Sequence};
use crate::prompt::{Frame, Prompt, REPEAT};
use crate::tokenizer::Tokenizer;
use crate::{Error, StageInfo};

/// The second stage of a cascade: the main model and the projector.
pub struct Decoder {
    pub(crate) network: Qwen2,
    projector: Projector,
    pub(crate) layout: Layout,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) repeat: Prompt,
    /// Keys and values of the prompt's prefix, which every window shares.
    pub(crate) prefix: KvCache,
    pub(crate) pad: u32,
    end_ids: Vec<u32>,
    pub(crate) not_text: Vec<u32>,
    info: StageInfo,
}

/// A tensor of latents, row after row.
#[derive(Clone, Debug, PartialEq)]
pub struct Latents {
    /// `count * width` floats.
    pub values: Vec<f32>,
    /// Number of latents.
    pub count: usize,
    /// Width of a latent, d₁.
    pub width: usize,
}

/// A window to verify.
#[derive(Clone, Copy, Debug)]
pub struct VerifyWindow<'a> {
    /// Its latents as they will be decoded.
    pub latents: &'a Latents,
    /// Its true tokens.
    pub tokens: &'a [u32],
    /// Text tokens a latent.
    pub ratio: usize,
}

/// What the decoder, fed the true text so far, makes of one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenVerdict {
    /// The token that it would write: the largest logit among text, the smallest id where equal.
    pub written: u32,
    /// Whether that is the true one.
    pub right: bool,
    /// Logit of the true token less that of the best other.
    pub margin: f32,
}

impl Decoder {
    /// Loads the decoder of a checkpoint; every file of it is checked first.
    pub fn load(source: Source<'_>, options: &Options) -> Result<Self, Error> {
        let mut checkpoint = Checkpoint::open(source, Stage::Decoder, options)?;
        let (weight, bias) = checkpoint.projector()?;
        let network = Qwen2::load(&mut checkpoint)?;
        let (out, latent_width) = weight.dims2()?;
        if out != network.hidden() || bias.dims() != [out] {
            return Err(Error::checkpoint(format!(
                "the projector writes {out} values, the network reads others"
            )));
        }
        let tokenizer = checkpoint.tokenizer.clone();
        let repeat = Prompt::new(&tokenizer, REPEAT)?;
        let mut prefix = network.cache();
        let positions: Vec<u32> = (0..repeat.prefix.len() as u32).collect();
        let rows = Sequence { cache: &mut prefix, rows: positions.len(), pattern: Pattern::Causal };
        network.forward(network.embed(&repeat.prefix)?, &positions, &mut [rows])?;
        Ok(Self {
            info: checkpoint.info(latent_width),
            projector: network.projector(weight, bias)?,
            layout: checkpoint.layout,
            repeat,
            prefix,
            pad: tokenizer.special("<imgpad>")?,
            end_ids: checkpoint.end_ids,
            not_text: tokenizer.not_text(),
            tokenizer,
            network,
        })
    }

    /// What this stage says of itself.
    pub fn info(&self) -> &StageInfo {
        &self.info
    }

    /// Bytes that tokens stand for. Errors: an id that is not text.
    pub fn text(&self, tokens: &[u32]) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        for &id in tokens {
            let bytes = self.tokenizer.text(id);
            text.extend(bytes.ok_or_else(|| Error::input(format!("token id {id} is not text")))?);
        }
        Ok(text)
    }

    /// Checks each window's tokens against what the decoder would write: one verdict a token, in the text's order.
    /// A window's verdicts do not depend on the others. Errors: latents of a wrong shape, ids that are not text.
    pub fn verify(&self, windows: &[VerifyWindow<'_>]) -> Result<Vec<Vec<TokenVerdict>>, Error> {
        let mut frames = Vec::with_capacity(windows.len());
        let mut inputs = Vec::with_capacity(2 * windows.len()); // prompt, then slots, of each window
        let mut positions = Vec::new();
        for window in windows {
            self.text(window.tokens)?;
            let frame = self.frame(window.latents, window.tokens.len(), window.ratio)?;
            let slots = || (0..frame.blocks.steps()).flat_map(|step| frame.blocks.slots(step));
            let ids: Vec<u32> = slots().map(|slot| frame.reads(slot, window.tokens)).collect();
            inputs.extend([
                frame.prompt_rows(&self.prompt_input(&self.repeat, window.latents)?)?,
                self.network.embed(&ids)?,
            ]);
            positions.extend(frame.prompt_positions(&self.layout));
            positions.extend(slots().map(|slot| frame.slot_position(slot)));
            frames.push(frame);
        }
        let Some(_) = inputs.first() else { return Ok(Vec::new()) };
        let mut caches: Vec<_> = windows.iter().map(|_| self.prefix.clone()).collect();
        let mut sequences: Vec<_> = caches
            .iter_mut()
            .zip(&frames)
            .map(|(cache, f)| Sequence {
                cache,
                rows: f.blocks.prompt + f.blocks.tokens - self.prefix.rows(),
                pattern: Pattern::blocks(f.blocks),
            })
            .collect();
        let hidden = self.network.forward(Tensor::cat(&inputs, 0)?, &positions, &mut sequences)?;
        let mut first = 0;
        let mut verdicts = Vec::with_capacity(windows.len());
        for (window, frame) in windows.iter().zip(&frames) {
            first += frame.blocks.prompt - self.prefix.rows();
            let rows = hidden.narrow(0, first, frame.blocks.tokens)?;
            verdicts.push(self.verdicts(&rows, window.tokens, frame)?);
            first += frame.blocks.tokens;
        }
        Ok(verdicts)
    }

    /// Bytes that a row of keys and values takes in memory, all layers together.
    pub fn kv_row_bytes(&self) -> usize {
        self.network.kv_row_bytes()
    }

    /// Rows that each step of a window has: one a block, where it reconstructs.
    pub fn step_rows(&self, task: &Task) -> usize {
        match task {
            Task::Reconstruct { tokens, ratio, .. } => {
                tokens.div_ceil(self.layout.block_len(*tokens, *ratio).max(1))
            }
            Task::Generate { .. } => 1,
        }
    }

    /// Begins to decode a window; nothing is computed before the first [`Self::step`]. Errors: latents of a wrong
    /// shape, corrections that are not text, a prompt where the checkpoint takes none.
    pub fn start(&self, window: DecodeWindow) -> Result<Decoding, Error> {
        Decoding::new(self, window)
    }

    /// Writes one token in every block of every window that is not done.
    pub fn step(&self, live: &mut [&mut Decoding]) -> Result<(), Error> {
        decoding::step(self, live)
    }

    /// What the network reads in the latents' place: `count × hidden`, row after row.
    pub fn projected(&self, latents: &Latents) -> Result<Vec<f32>, Error> {
        Ok(self.project(latents)?.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1()?)
    }

    /// Logits at the end of `prompt`, one a vocabulary id, before the published chat does anything to them.
    pub fn prompt_logits(&self, prompt: &str, latents: &Latents) -> Result<Vec<f32>, Error> {
        let input = self.prompt_input(&Prompt::new(&self.tokenizer, prompt)?, latents)?;
        let rows = input.dim(0)?;
        let mut cache = self.prefix.clone();
        let positions: Vec<u32> = (cache.rows() as u32..).take(rows).collect();
        let sequence = Sequence { cache: &mut cache, rows, pattern: Pattern::Causal };
        let hidden = self.network.forward(input, &positions, &mut [sequence])?;
        self.network.logits(&hidden.narrow(0, rows - 1, 1)?)
    }

    /// A generation as the published chat runs it, behind `prompt` with `latents` latents in it. Errors: where the
    /// published code raises.
    pub fn generation(&self, prompt: &str, latents: usize, tokens_max: usize) -> Result<Generation, Error> {
        let ids = Prompt::new(&self.tokenizer, prompt)?.ids(self.pad, latents);
        chat::check_prompt(&ids, &self.tokenizer)?;
        Generation::new(ids, tokens_max, self.end_ids.clone(), self.tokenizer.clone())
    }

    pub(crate) fn frame(&self, latents: &Latents, tokens: usize, ratio: usize) -> Result<Frame, Error> {
        Frame::new(&self.layout, &self.repeat, self.pad, latents, tokens, ratio)
    }

    /// Hidden states that the network reads for a prompt behind its prefix: latents, suffix.
    pub(crate) fn prompt_input(&self, prompt: &Prompt, latents: &Latents) -> Result<Tensor, Error> {
        Ok(Tensor::cat(&[self.project(latents)?, self.network.embed(&prompt.suffix)?], 0)?)
    }

    fn project(&self, latents: &Latents) -> Result<Tensor, Error> {
        let Latents { values, count, width } = latents;
        if *width != self.info.latent_width || values.len() != count * width {
            let own = self.info.latent_width;
            return Err(Error::input(format!("latents of width {width} given, this cascade's have {own}")));
        }
        self.projector.forward(values, *count)
    }

    /// Verdicts in the text's order on `hidden`, the slots' rows in the order of the blocks' steps.
    fn verdicts(&self, hidden: &Tensor, tokens: &[u32], frame: &Frame) -> Result<Vec<TokenVerdict>, Error> {
        let slots: Vec<usize> = (0..frame.blocks.steps()).flat_map(|step| frame.blocks.slots(step)).collect();
        let truth: Vec<u32> = slots.iter().map(|&slot| tokens[slot]).collect();
        let best = self.network.best(hidden, &self.not_text, Some(&truth))?;
        let mut verdicts = vec![TokenVerdict { written: 0, right: false, margin: 0.0 }; tokens.len()];
        for ((slot, truth), best) in slots.into_iter().zip(truth).zip(best) {
            let right = best.id == truth;
            let other = if right { best.second } else { best.logit };
            verdicts[slot] = TokenVerdict { written: best.id, right, margin: best.truth - other };
        }
        Ok(verdicts)
    }
}
