//! Second stage: decodes latents to text, or verifies them: compares the predicted tokens with the true tokens.

mod session;

use std::sync::Arc;

use rayon::prelude::*;

use crate::chat::{self, Generation};
use crate::checkpoint::{Checkpoint, Source, Stage};
use crate::layout::Layout;
use crate::network::{self, Argmax, Input, InputLayer, KvCache, KvCapacity, Network, Pattern, Sequence};
use crate::options::Options;
use crate::prompt::{Prompt, RECONSTRUCT, WindowLayout, WindowSize};
use crate::tokenizer::Tokenizer;
use crate::{Error, StageInfo};
pub use session::{DecodeSession, DecodeWindow, Task};

/// Second stage of a cascade: the main model and the projector.
pub struct Decoder {
    network: Box<dyn Network>,
    layout: Layout,
    tokenizer: Arc<Tokenizer>,
    reconstruct_prompt: Prompt,
    /// KV cache of the prompt prefix. All windows share the prefix.
    prefix_cache: KvCache,
    pad_id: u32,
    end_ids: Vec<u32>,
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
        let (out, latent_width) = weight.dims2()?;
        if out != checkpoint.network.hidden || bias.dims() != [out] {
            return Err(Error::checkpoint(format!(
                "the projector has {out} outputs, which does not match the network"
            )));
        }
        let tokenizer = checkpoint.tokenizer.clone();
        let (weight, bias) = (weight.flatten_all()?.to_vec1()?, bias.to_vec1()?);
        let input = InputLayer::Projector { weight, bias };
        let network = network::load(&mut checkpoint, input, tokenizer.non_text_ids(), options)?;
        let reconstruct_prompt = Prompt::new(&tokenizer, RECONSTRUCT)?;
        let prefix = &reconstruct_prompt.prefix;
        let mut prefix_cache = network.cache(KvCapacity::causal(prefix.len()), None)?;
        network.hidden(&mut [Sequence {
            cache: &mut prefix_cache,
            input: vec![Input::Tokens(prefix.clone())],
            positions: (0..prefix.len() as u32).collect(),
            pattern: Pattern::Causal,
            outputs: 0,
        }])?;
        Ok(Self {
            info: checkpoint.info(latent_width, network.arithmetic()),
            layout: checkpoint.layout,
            reconstruct_prompt,
            prefix_cache,
            pad_id: tokenizer.special("<imgpad>")?,
            end_ids: checkpoint.end_ids,
            tokenizer,
            network,
        })
    }

    /// Fails with [`Error::Gpu`] if the device has failed: the program must restart to use it again.
    pub fn check_device(&self) -> Result<(), Error> {
        self.network.check_device()
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
        // On a GPU, thousands of rows per window are prepared in about the time that the GPU computes them.
        let prepared = windows.par_iter().map(|window| PreparedWindow::new(self, window));
        let prepared: Vec<PreparedWindow> = prepared.collect::<Result<_, _>>()?;
        let mut caches = Vec::with_capacity(windows.len());
        for PreparedWindow { layout, .. } in &prepared {
            caches.push(self.network.cache(KvCapacity::blocks(layout.blocks), Some(&self.prefix_cache))?);
        }
        let (mut pass, mut layouts) = (Vec::with_capacity(windows.len()), Vec::with_capacity(windows.len()));
        let mut targets = Vec::new();
        for ((window, prepared), cache) in windows.iter().zip(prepared).zip(&mut caches) {
            let PreparedWindow { layout, ids, positions, targets: own_targets } = prepared;
            targets.extend(own_targets);
            pass.push(Sequence {
                cache,
                input: vec![
                    Input::Latents(&window.latents.values),
                    Input::Tokens(layout.suffix_rows(&self.reconstruct_prompt.suffix)),
                    Input::Tokens(ids),
                ],
                positions,
                pattern: Pattern::blocks(layout.blocks),
                outputs: window.tokens.len(),
            });
            layouts.push(layout);
        }
        let argmax = self.network.argmax(&mut pass, Some(&targets))?;
        let mut rest = argmax.as_slice();
        let mut of_windows = Vec::with_capacity(windows.len());
        for window in windows {
            let (own, others) = rest.split_at(window.tokens.len());
            of_windows.push(own);
            rest = others;
        }
        let work = of_windows.into_par_iter().zip(windows).zip(&layouts);
        Ok(work.map(|((argmax, window), layout)| verdicts_of(argmax, window.tokens, layout)).collect())
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
        self.check_shape(latents)?;
        self.network.project(&latents.values)
    }

    /// Returns the logits that follow the chat-formatted `prompt`, one per vocabulary id, without the n-gram ban of the
    /// chat. Fails with [`Error::InvalidInput`] if latents have the wrong shape.
    pub fn prompt_logits(&self, prompt: &str, latents: &Latents) -> Result<Vec<f32>, Error> {
        self.check_shape(latents)?;
        let suffix = Prompt::new(&self.tokenizer, prompt)?.suffix;
        let rows = latents.count + suffix.len();
        let capacity = KvCapacity::causal(self.prefix_cache.rows() + rows);
        let mut cache = self.network.cache(capacity, Some(&self.prefix_cache))?;
        let positions = (cache.rows() as u32..).take(rows).collect();
        self.network.logits(&mut [Sequence {
            cache: &mut cache,
            input: vec![Input::Latents(&latents.values), Input::Tokens(suffix)],
            positions,
            pattern: Pattern::Causal,
            outputs: 1,
        }])
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

    fn check_shape(&self, Latents { values, count, width }: &Latents) -> Result<(), Error> {
        let expected = self.info.latent_width;
        if *width == expected && values.len() == count * width {
            return Ok(());
        }
        let given = values.len();
        Err(Error::input(format!("{given} values for {count} latents of width {width}: expected {count} x {expected}")))
    }
}

/// A window to verify, with its rows after the latents. The rows of slots are in the order of [`WindowLayout::blocks`].
struct PreparedWindow {
    layout: WindowLayout,
    /// Input token of each slot.
    ids: Vec<u32>,
    /// Position ids of all rows of the pass.
    positions: Vec<u32>,
    /// True token of each slot.
    targets: Vec<u32>,
}

impl PreparedWindow {
    /// Checks and prepares a window. Fails with [`Error::InvalidInput`], see [`Decoder::verify`].
    fn new(decoder: &Decoder, window: &VerifyWindow<'_>) -> Result<Self, Error> {
        decoder.text(window.tokens)?;
        decoder.check_shape(window.latents)?;
        let layout = decoder.window_layout(window.latents, window.tokens.len(), window.ratio)?;
        let slots = || (0..layout.blocks.steps()).flat_map(|step| layout.blocks.slots(step));
        let mut positions = layout.prompt_positions(&decoder.layout);
        positions.extend(slots().map(|slot| layout.slot_position(slot)));
        Ok(Self {
            ids: slots().map(|slot| layout.input_token(slot, window.tokens)).collect(),
            positions,
            targets: slots().map(|slot| window.tokens[slot]).collect(),
            layout,
        })
    }
}

/// Returns verdicts in text order. `argmax` has an entry per slot, in the row order of [`WindowLayout::blocks`].
fn verdicts_of(argmax: &[Argmax], tokens: &[u32], layout: &WindowLayout) -> Vec<TokenVerdict> {
    let slots = (0..layout.blocks.steps()).flat_map(|step| layout.blocks.slots(step));
    let mut verdicts = vec![TokenVerdict { predicted: 0, correct: false, margin: 0.0 }; tokens.len()];
    for (slot, argmax) in slots.zip(argmax) {
        let correct = argmax.id == tokens[slot];
        let other = if correct { argmax.runner_up } else { argmax.logit };
        verdicts[slot] = TokenVerdict { predicted: argmax.id, correct, margin: argmax.target - other };
    }
    verdicts
}
